import { randomUUID } from "node:crypto";
import type { Courier, PublishResult } from "../couriers/courier";
import { reasonOf } from "../errors";
import { attemptsMade } from "../message/attempts";
import { STATUS } from "../message/lifecycle";
import { ANY_GROUP, type Message } from "../message/message";
import { queueTargetOf, queueTargetOfMessage, settledByConfirm } from "../message/queue-target";
import type { Clock } from "../platform/clock";
import type { Metrics } from "../telemetry/metrics";
import type { MessageSpans, SendSpan } from "../telemetry/open-telemetry/message-spans";
import { NO_BODY } from "../wire/check";
import { HEADER, headersOf, WIRE_VERSION } from "../wire/envelope";
import type { Queues } from "../wire/names";
import { delayOf, encodePlan, ownPlanOf, sharedPlanOf } from "../wire/plan";
import { RECEIPT_TYPE, type ReceiptItem } from "../wire/receipt";
import { CheckBatches, type WaitingCheck } from "./check-batches";
import type { Subscriptions } from "./subscriptions";

/** One attempt for one group. */
export interface Step {
  group: string;
  attempt: number;
  /** Of a message that is in order: which turn of its key in the group it is. */
  turn?: number | undefined;
}

export interface PublisherOptions {
  /** Of this node. */
  store?: { readonly id: string | undefined } | undefined;
  /** Checks in one message, at most. @default 1 */
  checkBatch?: number;
  /** Undefined = no OpenTelemetry. */
  spans?: MessageSpans | undefined;
}

/** Turns messages into publishes; the first publish and every resend go through here. */
export class MessagePublisher {
  readonly #store: PublisherOptions["store"];
  readonly #spans: PublisherOptions["spans"];
  #planned: { message: Message; createdAt: Date; text: string } | undefined;
  readonly #checks: CheckBatches;

  constructor(
    readonly courier: Courier,
    /** A node without a store knows no groups and publishes to the exchange only. */
    readonly subscriptions: Subscriptions | undefined,
    readonly queues: Queues,
    readonly nodeID: string,
    readonly metrics: Metrics,
    readonly clock: Clock,
    { store, checkBatch = 1, spans }: PublisherOptions = {}
  ) {
    this.#store = store;
    this.#spans = spans;
    this.#checks = new CheckBatches({
      publish: (delayMs, publication) => courier.publish({ ...publication, to: { queue: queues.checks, delayMs } }),
      maxItems: checkBatch
    });
  }

  /**
   * Publishes once per step, straight to the group's queue, so that each group has its own proof; ANY_GROUP goes to the
   * exchange, which could route one that is in order to a group whose turn it is not. A group without a known queue
   * counts as returned.
   */
  async toGroups(message: Message, steps: Step[]): Promise<PublishResult[]> {
    return Promise.all(
      steps.map((step): Promise<PublishResult> => {
        const { group, attempt } = step;
        if (group === ANY_GROUP)
          return message.order
            ? Promise.resolve({ outcome: "returned", reason: "it is in order, and goes to known groups alone" })
            : this.toAll(message, attempt);
        const queue = queueTargetOf(group)?.queue ?? this.subscriptions?.queueOf(group, message.event);
        if (!queue) return Promise.resolve({ outcome: "returned", reason: `no queue is known for group ${group}` });
        return this.toQueue(message, queue, step);
      })
    );
  }

  toQueue(message: Message, queue: string, step: Step): Promise<PublishResult> {
    if (queueTargetOf(step.group)) return this.#toForeign(message, queue, step);
    return this.#publish(message, { queue }, step.attempt, [step.group], step.turn);
  }

  /**
   * A missing queue is declared, as moleculer-amqp-queue does. If its workers send no receipts, the broker's confirm is
   * taken as one.
   */
  async #toForeign(message: Message, queue: string, { group, attempt, turn }: Step): Promise<PublishResult> {
    const byConfirm = settledByConfirm(group);
    const started = this.clock.monotonic();
    // It was confirmed before. Only the receipt was lost, and the job must not be done again.
    if (!byConfirm || !confirmedBefore(message, group, attempt)) {
      const publish = () => this.#publish(message, { queue }, attempt, [group], turn);
      let result = await publish();
      if (result.outcome === "returned") {
        const failed = await this.courier.declare({ name: queue, foreign: true }).then(() => undefined, reasonOf);
        result =
          failed === undefined ? await publish() : { outcome: "returned", reason: `${result.reason}; ${failed}` };
      }
      if (result.outcome !== "confirmed" || !byConfirm) return result;
    }
    const echo = message.strategy === "callback" && {
      echo: { event: message.event, producer: message.producer, plan: encodePlan(message) }
    };
    const item: ReceiptItem = {
      id: message._id,
      outcome: "handled",
      attempt,
      durationMs: Math.round(this.clock.monotonic() - started),
      ...echo
    };
    const body = Buffer.from(JSON.stringify({ v: WIRE_VERSION, group, nodeID: this.nodeID, items: [item] }));
    await this.courier.publish({
      to: { queue: this.#receipts(message) },
      messageId: randomUUID(),
      type: RECEIPT_TYPE,
      headers: {},
      body
    });
    return { outcome: "confirmed" };
  }

  /** The delayed check of strategy `callback`: with those of other messages that go out at this time. */
  check(message: Message, round: number): Promise<PublishResult> {
    return new Promise((resolve, reject) => this.checkThen(message, round, resolve, reject));
  }

  /** The same without a promise: every emit of `callback` makes one. Exactly one of both is called, once. */
  checkThen(
    message: Message,
    round: number,
    answered: (result: PublishResult) => void,
    failed: (error: Error) => void
  ): void {
    const headers = headersOf(message, round, message.groups ?? [], this.#receipts(message));
    headers[HEADER.round] = round;
    if (message.status === STATUS.intended) headers[HEADER.intent] = message.intent;
    const check: WaitingCheck = {
      id: message._id,
      event: message.event,
      at: message.createdAt.getTime(),
      // A source has it.
      body: message.source ? NO_BODY : message.body,
      headers,
      plan: sharedPlanOf(message),
      own: ownPlanOf(message),
      producer: message.producer,
      echo: this.#planOf(message),
      bytes: 0,
      answered,
      failed
    };
    this.#checks.add(delayOf(message, round), check);
  }

  /**
   * Publishes once to the exchange, which routes it to every bound group. A confirm proves that at least one queue took
   * it.
   */
  toAll(message: Message, attempt: number): Promise<PublishResult> {
    const foreign = queueTargetOfMessage(message);
    if (foreign) return this.toQueue(message, foreign.queue, { group: foreign.group, attempt });
    return this.#publish(message, { event: message.event }, attempt, message.waiting);
  }

  /** Where the confirm settles the message, its consumer owes no receipt. */
  #addressed(
    message: Message,
    attempt: number,
    groups: string[],
    toAll: boolean,
    turn: number | undefined
  ): Record<string, unknown> {
    const headers = this.#headers(message, attempt, groups, toAll, turn);
    if (groups.some(settledByConfirm)) {
      delete headers[HEADER.receipt];
      delete headers[HEADER.echo];
    }
    return headers;
  }

  #publish(
    message: Message,
    to: { event: string } | { queue: string },
    attempt: number,
    groups: string[],
    turn?: number
  ): Promise<PublishResult> {
    const { _id: messageId, event: type, body, producer: appId } = message;
    const span = this.#spans?.send(message, to, attempt, "queue" in to ? groups[0] : undefined);
    const publishing = this.courier
      .publish({
        to,
        messageId,
        type,
        body,
        headers: this.#addressed(message, attempt, groups, "event" in to, turn),
        appId
      })
      .catch(unsendable);
    return this.metrics.sink || span ? this.#timed(publishing, type, span) : publishing;
  }

  async #timed(publishing: Promise<PublishResult>, event: string, span: SendSpan | undefined): Promise<PublishResult> {
    const started = this.clock.monotonic();
    const result = await publishing;
    span?.end(result);
    if (result.outcome === "confirmed") this.metrics.time("confirm.time", this.clock.monotonic() - started, event);
    return result;
  }

  #headers(
    message: Message,
    attempt: number,
    groups: string[],
    toAll: boolean,
    turn: number | undefined
  ): Record<string, unknown> {
    const isCallback = message.strategy === "callback";
    // Where the row of a message of `callback` will lie is not known yet.
    const rest = isCallback ? { echo: this.#planOf(message), toAll } : { store: this.#store?.id, toAll, turn };
    return headersOf(message, attempt, groups, this.#receipts(message), rest);
  }

  /** An emit needs the plan twice in a row, for the check and for the message. */
  #planOf(message: Message): string {
    const { createdAt } = message;
    if (this.#planned?.message !== message || this.#planned.createdAt !== createdAt)
      this.#planned = { message, createdAt, text: encodePlan(message) };
    return this.#planned.text;
  }

  #receipts(message: Message): string {
    return message.strategy === "callback" ? this.queues.callbackReceipts : this.queues.receipts;
  }
}

/** The headers are too large: it can never be sent, so that it ends as `dead` and is seen. */
function unsendable(error: unknown): PublishResult {
  return { outcome: "refused", reason: reasonOf(error) };
}

/** The row says that it was confirmed. A message of strategy `callback` has no row that could say so. */
function confirmedBefore(message: Message, group: string, attempt: number): boolean {
  return (
    message.strategy === "outbox" && attemptsMade(message, group) >= attempt && (message.spent[group] ?? 0) < attempt
  );
}
