import { randomUUID } from "node:crypto";
import { Batcher } from "../async/batcher";
import { type Deadline, withTimeout } from "../async/deadline";
import { WaitGroup } from "../async/wait-group";
import type { Consumption, Courier, Delivery } from "../couriers/courier";
import { ReliableError, ReliableRetryableError, reasonOf } from "../errors";
import { announceParked, toParkedMessage } from "../inbound/parked-messages";
import { backoffMs } from "../message/backoff";
import { isExact, matches, namesGroup } from "../message/pattern";
import type { ConsumerOptions } from "../options/options";
import type { Logger } from "../platform/logger";
import type { Store } from "../stores/store";
import type { Metrics } from "../telemetry/metrics";
import { ANNOUNCEMENT_TYPE, type Announcement } from "../wire/announcement";
import { type Envelope, HEADER, parseEnvelope, WIRE_VERSION } from "../wire/envelope";
import { Unreadable } from "../wire/json";
import type { Queues } from "../wire/names";
import type { ReceiptItem } from "../wire/receipt";
import { ReceiptSender } from "./receipt-sender";
import { settle } from "./settle";

/** Before an announcement that the broker did not take is repeated. */
const ANNOUNCE_RETRY = { initialMs: 200, maxMs: 10_000, jitter: "half" } as const;
/**
 * Announcements are repeated so that `seenAt` tells living groups from retired ones, and a restored store learns of
 * them.
 */
const ANNOUNCE_EVERY_MS = 10 * 60_000;

export interface HandlerExtras {
  /** MongoDB session of the inbox transaction, with `inbox: "transaction"`. */
  session?: unknown;
}

/** How the handler of an event ended. `rejected`: it was not reached. */
export interface HandlerEnd {
  error?: unknown;
  rejected?: boolean;
}

export interface ConsumerSpec {
  pattern: string;
  group: string;
  queue: string;
  bindings: string[];
  service: string;
  options: ConsumerOptions;
  /** Never rejects: an error is part of the end. */
  handle(envelope: Envelope, extras: HandlerExtras, delivery: Delivery): Promise<HandlerEnd>;
  /**
   * A queue of somebody else: declared as it is, not announced; what comes without a receipt's address is a plain
   * message.
   */
  foreign?: { plain(delivery: Delivery): Promise<PlainEnd>; close(): void };
}

/**
 * How the handler of a plain message ended: what it wants done at the broker, or that it failed. `gone`: the message is
 * not ours any more.
 */
export type PlainEnd = { act: "ack" | "gone" } | { act: "nack"; requeue: boolean } | { error: unknown };

export interface ConsumerParts {
  courier: Courier;
  /** For the inbox; a node without a store has none. */
  store: Store | undefined;
  queues: Queues;
  metrics: Metrics;
  logger: Logger;
  nodeID: string;
  /** A failure that nobody waits for. */
  onError(error: unknown, module: string): void;
}

/**
 * Two services of one group handle the same event by turns, so their options must agree. Throws RELIABLE_BAD_CONSUMER.
 */
export function assertSameOptions(
  { group, pattern, options, service }: ConsumerSpec,
  consumers: Iterable<Consumer>
): void {
  for (const { spec: other } of consumers) {
    if (other.group !== group || other.pattern !== pattern) continue;
    const differs = (Object.keys(options) as (keyof ConsumerOptions)[]).find(
      name => other.options[name] !== options[name]
    );
    if (!differs) continue;
    throw new ReliableError(
      "RELIABLE_BAD_CONSUMER",
      `The services '${other.service}' and '${service}' both handle '${pattern}' in group '${group}', with different '${differs}' (${other.options[differs]} and ${options[differs]}).`,
      { option: differs, group, event: pattern, services: [other.service, service] }
    );
  }
}

/**
 * One group's handler on one queue. A delivery is acked only after its receipt is confirmed, and the receipt is sent
 * only after the handler's promise has settled:
 *
 *   process dies before the handler ended      unacked: the broker delivers it again
 *   … after the handler, before the inbox row  the same: handled twice (this is the window `inbox: "transaction"` closes)
 *   … after the inbox row, before the receipt  delivered again, recognised, answered without the handler
 *   … after the receipt, before the ack        the same; the second receipt changes nothing
 */
export class Consumer {
  readonly receipts: ReceiptSender;
  readonly #lookups: Batcher<string, boolean>;
  readonly #records: Batcher<string, void>;
  /** Ids in the handler's hands, so that two copies in one process wait for each other. */
  readonly #running = new Map<string, Promise<void>>();
  #consumption: Consumption | undefined;
  #stopping = false;
  #timer: NodeJS.Timeout | undefined;
  #unsubscribe: (() => void) | undefined;
  readonly #active = new WaitGroup(error => this.#failed(error, `a delivery of ${this.spec.queue} stays unacked`));
  #plainFailures = 0;

  constructor(
    readonly spec: ConsumerSpec,
    readonly parts: ConsumerParts
  ) {
    const { store } = parts;
    this.receipts = new ReceiptSender(parts, spec.group, spec.queue);
    this.#lookups = new Batcher({
      maxItems: 500,
      write: async ids => {
        const handled = (await store?.inboxHandled(spec.group, ids)) ?? new Set();
        return ids.map(id => handled.has(id));
      }
    });
    this.#records = new Batcher({
      maxItems: 500,
      write: async ids => (await store?.inboxAdd(spec.group, ids, new Date()), [])
    });
  }

  get inbox(): boolean | "transaction" {
    return this.parts.store ? this.spec.options.inbox : false;
  }

  get inFlight(): number {
    return this.#active.count;
  }

  /**
   * Declares the queue, announces the group, then consumes: a message that reaches the queue belongs to a group the
   * store is told of. Rejects when the queue exists with other arguments; waits in the background while the broker is
   * away.
   */
  async start(): Promise<void> {
    const { courier, logger } = this.parts;
    const { queue, bindings, options, pattern, group } = this.spec;
    const declared = this.spec.foreign
      ? { name: queue, foreign: true }
      : { name: queue, bindings, deliveryLimit: options.deliveryLimit, deadLetterTo: this.parts.queues.parked };
    await courier.declare({ name: this.parts.queues.parked });
    await courier.declare({ name: this.parts.queues.announcements });
    await courier.declare(declared);
    this.parts.metrics.begin(["parked"], { queue });
    const begin = async () => {
      await this.#announce();
      if (this.#stopping) return;
      this.#consumption = await courier.consume({
        queue: declared,
        prefetch: options.maxInFlight,
        onDelivery: delivery => this.#active.track(this.#process(delivery))
      });
      logger.info(`Reliable: group ${group} consumes '${pattern}' (${queue}).`);
      if (this.#stopping) await this.#consumption.close();
    };
    if (courier.ready) await begin();
    else
      void begin().catch(error =>
        this.#stopping ? undefined : this.#failed(error, `group ${group} cannot consume '${pattern}'`)
      );
    // Before its start was through.
    if (this.#stopping) return;
    this.#unsubscribe = courier.on("ready", () => void this.#announce(1));
    this.#timer = setInterval(() => void this.#announce(1), ANNOUNCE_EVERY_MS).unref();
  }

  /**
   * No further deliveries; handlers finish, receipts are confirmed, deliveries acked, until the deadline. What is left
   * comes again elsewhere.
   */
  async stop(deadline: Deadline): Promise<void> {
    this.#stopping = true;
    clearInterval(this.#timer);
    this.#unsubscribe?.();
    await this.#consumption?.cancel(deadline.toClose);
    await withTimeout(
      this.#active.idle().then(() => this.receipts.idle()),
      deadline.left
    );
    this.receipts.stop();
    await this.#consumption?.close(deadline.toClose);
    this.spec.foreign?.close();
  }

  #failed(error: unknown, what: string): void {
    this.parts.logger.error(`Reliable: ${what}: ${reasonOf(error)}`);
    this.parts.onError(error, "consumer");
  }

  async #announce(maxTries = Infinity): Promise<void> {
    if (this.spec.foreign) return;
    const { courier, queues, nodeID } = this.parts;
    const { pattern, group, queue, service } = this.spec;
    const announcement: Announcement = { v: WIRE_VERSION, pattern, group, queue, nodeID, service };
    const body = Buffer.from(JSON.stringify(announcement));
    for (let tries = 1; !this.#stopping; tries++) {
      const { outcome } = await courier.publish({
        to: { queue: queues.announcements },
        messageId: randomUUID(),
        type: ANNOUNCEMENT_TYPE,
        headers: {},
        body
      });
      if (outcome === "confirmed" || tries >= maxTries) return;
      await new Promise<void>(resolve => {
        const unsubscribe = courier.on("ready", () => done());
        const timer = setTimeout(() => done(), backoffMs(ANNOUNCE_RETRY, tries));
        const done = () => {
          unsubscribe();
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  async #process(delivery: Delivery): Promise<void> {
    const { pattern, foreign } = this.spec;
    if (foreign && delivery.headers[HEADER.receipt] === undefined)
      return this.#plain(delivery, foreign.plain(delivery));
    let envelope: Envelope;
    try {
      envelope = parseEnvelope(delivery);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      return this.#park(delivery, error.message);
    }
    if (!foreign && !matches(envelope.event, pattern)) {
      if (isExact(pattern))
        return this.#park(delivery, `its type is '${envelope.event}', and this queue is for '${pattern}' alone`);
      // The binding may cover more than the pattern (see `bindingKey`): nobody expects a receipt of this group then.
      this.parts.metrics.count("ignored");
      this.parts.logger.debug(
        `Reliable: '${envelope.event}' (${envelope.id}) came into ${delivery.queue}, whose pattern it does not match; it is acked.`
      );
      return this.receipts.ack(delivery);
    }
    if (envelope.only && !envelope.only.some(name => namesGroup(name, this.spec.group)))
      return this.receipts.ack(delivery);
    if (!this.inbox) return this.#run(delivery, envelope);

    const once = () => this.#once(delivery, envelope);
    const before = this.#running.get(envelope.id);
    const mine = before ? before.then(once, once) : once();
    this.#running.set(envelope.id, mine);
    try {
      await mine;
    } finally {
      if (this.#running.get(envelope.id) === mine) this.#running.delete(envelope.id);
    }
  }

  /** Nobody sends it again but the broker, so what failed goes back into its queue, after a pause. */
  async #plain(delivery: Delivery, handling: Promise<PlainEnd>): Promise<void> {
    const end = await handling;
    if ("error" in end) {
      this.#failed(
        end.error,
        `the handler of a message without a receipt's address in ${this.spec.queue} failed, the message goes back`
      );
      await new Promise(resolve => setTimeout(resolve, backoffMs(ANNOUNCE_RETRY, ++this.#plainFailures)).unref());
    } else this.#plainFailures = 0;
    if ("error" in end || end.act === "nack") delivery.nack("error" in end || end.requeue);
    // For the marks; what was given back is not acked.
    this.receipts.ack(delivery);
  }

  async #once(delivery: Delivery, envelope: Envelope): Promise<void> {
    if (await this.#handledBefore(envelope.id)) {
      this.#answerAgain(delivery, envelope);
      return;
    }
    await this.#run(delivery, envelope);
  }

  /** Without an answer of the store the message waits here, unacked: handling it might be the second time. */
  async #handledBefore(id: string): Promise<boolean> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#lookups.add(id);
      } catch (error) {
        if (this.#stopping) throw error;
        await new Promise(resolve => setTimeout(resolve, backoffMs(ANNOUNCE_RETRY, tries)));
      }
    }
  }

  #answerAgain(delivery: Delivery, envelope: Envelope): void {
    this.parts.metrics.duplicate(envelope.event, this.spec.group);
    this.receipts.send({
      address: envelope.receipt,
      item: echoing(envelope, delivery, settle(envelope, {}, 0)),
      delivery
    });
  }

  async #run(delivery: Delivery, envelope: Envelope): Promise<void> {
    const { group, options } = this.spec;
    const started = performance.now();
    const work =
      this.inbox === "transaction" ? this.#inTransaction(envelope, delivery) : this.spec.handle(envelope, {}, delivery);
    let timer: NodeJS.Timeout | undefined;
    const end = await new Promise<HandlerEnd | "duplicate" | "timeout">((resolve, reject) => {
      timer = setTimeout(resolve, options.handlerTimeoutMs, "timeout");
      work.then(resolve, reject);
    });
    clearTimeout(timer);
    if (end === "timeout") {
      const error = new ReliableRetryableError(
        "RELIABLE_HANDLER_TIMEOUT",
        `The handler of '${envelope.event}' in group ${group} did not answer within ${options.handlerTimeoutMs} ms.`,
        { id: envelope.id, event: envelope.event, group }
      );
      this.#settle(envelope, { error }, started, delivery);
      // It may still come to an end; handled stays handled, and says so late.
      void work.then(async late => {
        if (late !== "duplicate" && late.error === undefined) await this.#handled(envelope, started);
      });
      return;
    }
    if (end === "duplicate") return this.#answerAgain(delivery, envelope);
    if (end.error !== undefined) return this.#settle(envelope, end, started, delivery);
    await this.#handled(envelope, started, delivery);
  }

  async #handled(envelope: Envelope, started: number, delivery?: Delivery): Promise<void> {
    if (this.inbox === true) {
      // The receipt matters more than the row: without the row a duplicate may be handled again, without the receipt
      // there will be one. Given up by a stop there is no receipt either: it comes again, and the closed store is
      // nobody's trouble.
      await this.#records
        .add(envelope.id)
        .catch(
          error =>
            this.receipts.stopped || this.#failed(error, `the inbox of group ${this.spec.group} could not be written`)
        );
    }
    this.#settle(envelope, {}, started, delivery);
  }

  #settle(envelope: Envelope, end: HandlerEnd, started: number, delivery?: Delivery): void {
    const { metrics } = this.parts;
    const item = echoing(envelope, delivery, settle(envelope, end, performance.now() - started));
    if (item.outcome === "handled") metrics.handled(envelope.event, this.spec.group);
    else metrics.failed(envelope.event, this.spec.group);
    this.receipts.send({ address: envelope.receipt, item, delivery });
  }

  async #inTransaction(envelope: Envelope, delivery: Delivery): Promise<HandlerEnd | "duplicate"> {
    let end: HandlerEnd = {};
    try {
      const outcome = await (this.parts.store as Store).inboxTransaction(
        this.spec.group,
        envelope.id,
        new Date(),
        async session => {
          end = await this.spec.handle(envelope, { session }, delivery);
          if (end.error !== undefined) throw end.error;
        }
      );
      return outcome === "duplicate" ? "duplicate" : {};
    } catch (error) {
      return end.error !== undefined ? end : { error };
    }
  }

  /** Into the parking queue with its raw bytes, then acked: the consumer goes on, a human can look at it. */
  async #park(delivery: Delivery, reason: string): Promise<void> {
    const { courier, queues, nodeID } = this.parts;
    announceParked(delivery, reason, this.parts, "consumer");
    const { queue, body, headers, messageId, type, contentType, timestamp, appId } = delivery;
    const parking = toParkedMessage(queues.parked, nodeID, reason, {
      queue,
      body,
      headers,
      properties: { messageId, type, contentType, timestamp, appId }
    });
    for (let tries = 1; !this.#stopping; tries++) {
      const { outcome } = await courier.publish(parking);
      if (outcome === "confirmed") return this.receipts.ack(delivery);
      await new Promise(resolve => setTimeout(resolve, backoffMs(ANNOUNCE_RETRY, tries)));
    }
  }
}

/** The envelope says whether and what its receipts shall bring back; the consumer does not look into it. */
function echoing(envelope: Envelope, delivery: Delivery | undefined, item: ReceiptItem): ReceiptItem {
  const { echo: plan, event, producer } = envelope;
  if (plan === undefined) return item;
  const whole =
    item.outcome === "failed" && delivery ? { headers: delivery.headers, body: delivery.body.toString("base64") } : {};
  return { ...item, echo: { event, producer, plan, ...whole } };
}
