import { ReliableRetryableError, reasonOf } from "../errors";
import type { PublishResult } from "../couriers/courier";
import type { Logger } from "../platform/logger";
import { encodePlan, rowOf } from "../wire/check";
import { describeError, headersOf, serialize } from "../wire/envelope";
import type { Message, Source } from "../message/message";
import { RESEND_ACTION, UNKNOWN, type ResendAnswer, type ResendRequest } from "../wire/resend";
import type { Queues } from "../message/pattern";
import { queueTargetOf } from "../message/queue-target";
import type { MessagePublisher, Step } from "../outbound/message-publisher";
import type { Store } from "../stores/store";

/** Nobody answered: not counted against any limit. */
export type ProducerAnswer = ResendAnswer | { answer: "unreachable"; reason: string };

export type Call = (action: string, params: unknown, options: { timeout?: number }) => Promise<unknown>;

/** Moleculer's errors for "there is nobody, or nobody answers". */
const UNREACHABLE = new Set([
  "SERVICE_NOT_FOUND",
  "SERVICE_NOT_AVAILABLE",
  "REQUEST_TIMEOUT",
  "REQUEST_SKIPPED",
  "REQUEST_REJECTED",
  "QUEUE_FULL",
  "BROKER_DISCONNECTED",
  "RELIABLE_NOT_STARTED",
  "RELIABLE_STOPPED",
  "RELIABLE_UNAVAILABLE"
]);

/**
 * The callback service's side: has the producer asked, and has it send again; for one that cannot be asked (`copies`)
 * it sends itself.
 */
export class ProducerClient {
  /** Producers that do not answer; said once. */
  readonly #silent = new Set<string>();

  constructor(
    readonly parts: {
      call: Call;
      copies: Pick<ProducerHandler, "answer">;
      queueOf(group: string, event: string): string | undefined;
      queues: Queues;
      askTimeoutMs: number;
      logger: Logger;
    }
  ) {}

  /** Whether the business write of an intent happened. */
  ask(message: Message): Promise<ProducerAnswer> {
    return this.#call(message, { steps: [], question: message.intent ?? "barrier" });
  }

  /** Has the message and its next check sent again, to these groups. */
  resend(message: Message, steps: Step[]): Promise<ProducerAnswer> {
    const { queueOf } = this.parts;
    return this.#call(message, {
      steps: steps.map(step => ({ ...step, queue: queueOf(step.group, message.event) ?? null })),
      round: (message.round ?? 1) + 1
    });
  }

  async #call(message: Message, rest: Pick<ResendRequest, "steps" | "question" | "round">): Promise<ProducerAnswer> {
    const { call, copies, queues, askTimeoutMs } = this.parts;
    const headers = headersOf(
      message,
      1,
      [],
      message.strategy === "callback" ? queues.callbackReceipts : queues.receipts,
      encodePlan(message)
    );
    const request: ResendRequest = {
      id: message._id,
      event: message.event,
      headers,
      body: message.body.toString("base64"),
      ...(message.source && { source: message.source }),
      ...rest
    };
    if (message.resend === "copy")
      return copies
        .answer(request)
        .catch((error: unknown): ProducerAnswer => ({ answer: "error", error: describeError(error) }));
    try {
      const answer = (await call(`${message.producer}.${RESEND_ACTION}`, request, {
        timeout: askTimeoutMs
      })) as ResendAnswer;
      this.#silent.delete(message.producer);
      return answer;
    } catch (error) {
      const { type } = error as { type?: string };
      if (
        (type && UNREACHABLE.has(type)) ||
        /Timeout|NotFound|NotAvailable|Disconnected/.test((error as Error).name ?? "")
      )
        return this.#unreachable(message.producer, error);
      return { answer: "error", error: describeError(error) };
    }
  }

  #unreachable(producer: string, error: unknown): ProducerAnswer {
    const reason = reasonOf(error);
    if (!this.#silent.has(producer))
      this.parts.logger.warn(
        `Reliable: nobody answers for the producer '${producer}' (${reason}); it is asked again. Messages of strategy 'callback' and intents need a Moleculer transporter between its node and this one.`
      );
    this.#silent.add(producer);
    return { answer: "unreachable", reason };
  }
}

/** The producer's side. Rejects with RELIABLE_UNAVAILABLE where it cannot say now. */
export class ProducerHandler {
  constructor(
    readonly parts: {
      publisher: MessagePublisher;
      store: Store | undefined;
      call: Call;
      askTimeoutMs: number;
      maxPayloadBytes: number;
      prefix: string;
      sendsJobs: boolean;
    }
  ) {}

  async answer(request: ResendRequest): Promise<ResendAnswer> {
    return request.question ? this.#happened(request, request.question) : this.#send(request);
  }

  /** The fence comes before the question: what has not happened when it is asked cannot happen afterwards unseen. */
  async #happened(request: ResendRequest, question: "source" | "barrier"): Promise<ResendAnswer> {
    const { store } = this.parts;
    const fence = store?.features.transactions ? await store.fence(request.id) : undefined;
    if (question === "barrier" || !request.source) {
      if (!fence)
        return { answer: "unknown", reason: "the producer's node has no MongoDB to look for the barrier row in" };
      return fence === "committed" ? { answer: "yes" } : { answer: "no" };
    }
    const asked = await this.#source(request, request.source);
    // The business write is proven by its own transaction, whatever the source says of it.
    if (fence === "committed" && asked.answer === "no")
      return {
        answer: "error",
        error: { name: "SourceMissing", message: "the barrier row says it happened, the source returns nothing" }
      };
    return asked;
  }

  async #send(request: ResendRequest): Promise<ResendAnswer> {
    const { publisher } = this.parts;
    let body = Buffer.from(request.body, "base64");
    if (request.source) {
      const asked = await this.#source(request, request.source);
      if (asked.answer !== "yes") return asked;
      body = Buffer.from(asked.body ?? "", "base64");
    }
    if (!body.length)
      return {
        answer: "error",
        error: { name: "NoPayload", message: "neither a payload nor a source is known of it", code: "NO_PAYLOAD" }
      };
    const message = rowOf(
      { messageId: request.id, type: request.event, headers: request.headers, body },
      () => request.steps.map(step => step.group),
      new Date()
    );
    // The check first: should this process die in between, it comes again.
    const check = request.round ? await publisher.check(message, request.round) : undefined;
    const results = await Promise.all(request.steps.map(step => this.#publish(message, step)));
    return { answer: "sent", results, ...(check && { check }) };
  }

  #publish(message: Message, { queue, group, attempt }: ResendRequest["steps"][number]): Promise<PublishResult> {
    const { publisher, prefix, sendsJobs } = this.parts;
    if (queue === null)
      return group === "*"
        ? publisher.toAll(message, attempt)
        : Promise.resolve({ outcome: "returned", reason: `no queue is known for group ${group}` });
    // The request comes over the transporter: it may name queues of groups only.
    if (!queue.startsWith(`${prefix}.on.`) && !(sendsJobs && queueTargetOf(group)?.queue === queue))
      return Promise.resolve({ outcome: "returned", reason: `${queue} is no group's queue` });
    return publisher.toQueue(message, queue, { group, attempt });
  }

  /** yes with the payload, no, unknown, or error. */
  async #source({ id, event }: ResendRequest, { action, params }: Source): Promise<ResendAnswer> {
    const { call, askTimeoutMs, maxPayloadBytes } = this.parts;
    try {
      const payload = await call(action, params ?? {}, { timeout: askTimeoutMs });
      if (payload === null || payload === undefined) return { answer: "no" };
      if (payload === UNKNOWN) return { answer: "unknown", reason: `'${action}' cannot say yet` };
      return { answer: "yes", body: serialize(event, payload, maxPayloadBytes).toString("base64") };
    } catch (error) {
      const { type, retryable } = error as { type?: string; retryable?: boolean };
      // It may be starting or overloaded. A source that never comes ends at the limit: the producer has answered.
      if (retryable && type === "REQUEST_TIMEOUT")
        throw new ReliableRetryableError(
          "RELIABLE_UNAVAILABLE",
          `The source '${action}' of message ${id} did not answer in time.`,
          { id, action },
          error
        );
      return { answer: "error", error: describeError(error) };
    }
  }
}
