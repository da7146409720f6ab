import { type Deadline, withTimeout } from "../async/deadline";
import { newEnd } from "../async/end";
import { WaitGroup } from "../async/wait-group";
import { type Consumption, type Delivery, type QueueSpec, systemQueue } from "../couriers/courier";
import { reasonOf } from "../errors";
import { backoffMs } from "../message/backoff";
import { isExact, matches, namesGroup } from "../message/pattern";
import { type Envelope, HEADER, parseEnvelope } from "../wire/envelope";
import { Unreadable } from "../wire/json";
import { Announcer } from "./announcer";
import { ConsumerBreaker } from "./consumer-breaker";
import { type ConsumerParts, type ConsumerSpec, type PlainEnd, RETRY } from "./consumer-parts";
import { FetchWindow, mostHeld } from "./fetch-window";
import { Handling, type Held } from "./handling";
import { Inbox } from "./inbox";
import { park } from "./parking";
import { Pausing } from "./pausing";
import { ReceiptSender } from "./receipt-sender";
import { Slots } from "./slots";

/**
 * One group's handler on one queue. A delivery is acked only after its receipt is confirmed, or written into the
 * message's row (`RowReceipts`), and that is done only after the handler's promise has settled:
 *
 *   process dies before the handler ended      unacked: the broker delivers it again
 *   … after the handler, before the inbox row  the same: handled twice (`inbox: "transaction"` closes this window)
 *   … after the inbox row, before the receipt  delivered again, recognised, answered without the handler
 *   … after the receipt, before the ack        the same; the second receipt changes nothing
 */
export class Consumer {
  readonly receipts: ReceiptSender;
  readonly breaker: ConsumerBreaker | undefined;
  readonly #announcer: Announcer;
  readonly #pausing: Pausing;
  readonly #end = newEnd();
  readonly #active: WaitGroup;
  readonly #slots: Slots;
  readonly #window: FetchWindow;
  readonly #most: number;
  readonly #handling: Handling;
  #consumption: Consumption | undefined;
  #plainFailures = 0;

  constructor(
    readonly spec: ConsumerSpec,
    readonly parts: ConsumerParts
  ) {
    const { group, queue, options } = spec;
    this.receipts = new ReceiptSender(parts, group);
    this.#slots = new Slots(options.maxInFlight, parts.clock);
    // A job of a queue that is not ours is handled as it comes.
    this.#most = spec.foreign ? options.maxInFlight : mostHeld(options.maxInFlight);
    this.#window = new FetchWindow(this.#slots, this.#most, parts.clock);
    if (options.breaker) this.breaker = new ConsumerBreaker(spec, parts, this.receipts, this.#window, options.breaker);
    this.#announcer = new Announcer(spec, parts);
    this.#pausing = new Pausing(spec, parts, this.receipts);
    this.#active = new WaitGroup(error => this.#failed(error, `a delivery of ${queue} stays unacked`));
    this.#handling = new Handling(spec, parts, {
      slots: this.#slots,
      inbox:
        parts.inbox && options.inbox
          ? new Inbox(parts.inbox, group, options.inbox, parts.clock, this.#end.signal)
          : undefined,
      pausing: this.#pausing,
      receipts: this.receipts,
      breaker: this.breaker,
      end: this.#end.signal,
      failed: (error, what) => this.#failed(error, what)
    });
  }

  /** Deliveries whose handler is running. */
  get inFlight(): number {
    return this.spec.foreign ? this.#active.count : this.#slots.busy;
  }

  /** Deliveries that are not acked: those too that are fetched ahead, looked up or recorded. */
  get held(): number {
    return this.#active.count;
  }

  /** It takes deliveries. False until its queue could be declared, and after that while RabbitMQ does not deliver. */
  get consuming(): boolean {
    return this.#consumption?.active === true;
  }

  /** It takes nothing, because its group or its pattern is paused. */
  get paused(): boolean {
    return this.#pausing.paused;
  }

  get #stopping(): boolean {
    return this.#end.signal.aborted;
  }

  /**
   * Declares the queue, announces the group, then consumes: a message must not reach the queue of a group that the
   * store does not know. Rejects when the queue exists with other arguments; waits in the background while the broker
   * is away.
   */
  async start(): Promise<void> {
    const { courier, metrics, queues } = this.parts;
    const { queue: name, bindings, options, pattern, group, foreign } = this.spec;
    const queue: QueueSpec = foreign
      ? { name, foreign: true }
      : { name, bindings, deliveryLimit: options.deliveryLimit, deadLetterTo: queues.parked };
    for (const own of [queues.displaced, queues.parked, queues.announcements])
      await courier.declare(systemQueue(own, queues));
    const declared = await courier.declare(queue);
    metrics.begin(["parked"], { queue: name });
    if (courier.ready && declared) await this.#begin(queue);
    else
      void this.#begin(queue).catch(error => {
        if (!this.#stopping) this.#failed(error, `group ${group} cannot consume '${pattern}'`);
      });
    // A stop may have come during the start.
    if (!this.#stopping && !foreign) this.#announcer.repeat();
  }

  async #begin(queue: QueueSpec): Promise<void> {
    const { courier, logger, clock } = this.parts;
    const { pattern, group, foreign } = this.spec;
    // A limit of the broker is reached, or the queue's node is down. That passes.
    for (let tries = 1; !this.#stopping && courier.ready && !(await courier.declare(queue)); tries++)
      await clock.sleep(backoffMs(RETRY, tries), this.#end.signal);
    if (!foreign && !this.#stopping) await this.#announcer.announce();
    if (this.#stopping) return;
    if (!foreign) this.parts.announcedHistory?.enter(this.#announcer);
    this.#consumption = await courier.consume({
      queue,
      prefetch: this.#most,
      limit: this.#window.begin(),
      marks: this.#pausing.marks,
      onDelivery: delivery => this.#active.track(this.#process(delivery))
    });
    this.#window.governs(this.#consumption);
    if (this.#stopping) return this.#consumption.close();
    if (!this.#consumption.suspended) logger.info(`Reliable: group ${group} consumes '${pattern}' (${queue.name}).`);
    this.#pausing.watch(this.#consumption);
  }

  /**
   * Takes no further deliveries. Until the deadline handlers finish, receipts are confirmed and deliveries acked. The
   * broker delivers the others again.
   */
  async stop(deadline: Deadline): Promise<void> {
    this.#end.abort();
    this.#announcer.stop();
    this.#pausing.stop();
    this.breaker?.stop();
    this.#window.stop();
    this.parts.announcedHistory?.leave(this.#announcer);
    await this.#consumption?.cancel(deadline.toClose);
    const settled = this.#active.idle().then(() => this.receipts.idle());
    await withTimeout(
      settled.catch(() => undefined),
      deadline.left,
      this.parts.clock
    );
    this.receipts.stop();
    await this.#consumption?.close(deadline.toClose);
    this.spec.foreign?.close();
  }

  #failed(error: unknown, what: string): void {
    const { warnings, events } = this.parts;
    warnings.error("consumer", what, `Reliable: ${what}: ${reasonOf(error)}`);
    events.emit("error", error, "consumer");
  }

  async #process(delivery: Delivery): Promise<void> {
    if (!this.#pausing.hold(delivery)) return;
    const { clock } = this.parts;
    const held: Held = { delivery, since: clock.monotonic(), atHandlerMs: 0 };
    this.#window.took();
    try {
      await this.#read(held);
    } finally {
      this.#window.left(clock.monotonic() - held.since - held.atHandlerMs);
      this.#pausing.release(delivery);
    }
  }

  /** Not async, as is all on the way to the handler that needs no `await`: each frame is kept until its end. */
  #read(held: Held): Promise<void> | void {
    const { delivery } = held;
    const { pattern, group, foreign } = this.spec;
    if (foreign && delivery.headers[HEADER.receipt] === undefined) {
      this.#pausing.release(delivery);
      return this.#plain(delivery, foreign.plain(delivery));
    }
    let envelope: Envelope;
    try {
      this.parts.signatures?.check(delivery, "event");
      envelope = parseEnvelope(delivery);
      this.#checkAddress(envelope.receipt);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      return this.#park(delivery, error.message);
    }
    const { id, event, only } = envelope;
    if (!foreign && !matches(event, pattern)) {
      if (isExact(pattern))
        return this.#park(delivery, `its type is '${event}', and this queue is for '${pattern}' alone`);
      // The binding may cover more events than the pattern (see `bindingKey`). No receipt of this group is expected for
      // those.
      this.parts.logger.debug(
        `Reliable: '${event}' (${id}) came to ${delivery.queue}, whose pattern it does not match; it is acked.`
      );
      return this.receipts.ack(delivery);
    }
    if (only && !only.some(name => namesGroup(name, group))) return this.receipts.ack(delivery);
    return this.#handling.run(held, envelope);
  }

  /** What it names is written to with the rights of this node. Throws Unreadable. */
  #checkAddress(queue: string): void {
    const { receipts, callbackReceipts } = this.parts.queues;
    if (queue !== receipts && queue !== callbackReceipts)
      throw new Unreadable(`its receipt is to go to '${queue}', which is no queue for receipts`);
  }

  /** Only the broker can send it again, so a failed delivery goes back into its queue after a pause. */
  async #plain(delivery: Delivery, handling: Promise<PlainEnd>): Promise<void> {
    const end = await handling;
    if ("error" in end) {
      this.#failed(
        end.error,
        `the handler of a message without a receipt's address in ${this.spec.queue} failed, the message goes back`
      );
      await this.parts.clock.sleep(backoffMs(RETRY, ++this.#plainFailures), this.#end.signal);
    } else this.#plainFailures = 0;
    if ("error" in end || end.act === "nack") this.receipts.nack(delivery, "error" in end || end.requeue);
    else this.receipts.ack(delivery);
  }

  async #park(delivery: Delivery, reason: string): Promise<void> {
    this.#pausing.release(delivery);
    if (await park(delivery, reason, this.parts, this.#end.signal)) this.receipts.ack(delivery);
  }
}
