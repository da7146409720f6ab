import { type Deadline, TIMED_OUT, withTimeout } from "../async/deadline";
import { newEnd } from "../async/end";
import { HandlerTransaction } from "../async/handler-transaction";
import { WaitGroup } from "../async/wait-group";
import { type Consumption, type Delivery, type QueueSpec, systemQueue } from "../couriers/courier";
import { ReliableRetryableError, reasonOf } from "../errors";
import { announceParked, toParkedMessage, toShortMessage } from "../inbound/parked-messages";
import { backoffMs } from "../message/backoff";
import { isExact, matches, namesGroup } from "../message/pattern";
import { type Envelope, HEADER, parseEnvelope } from "../wire/envelope";
import { Unreadable } from "../wire/json";
import type { ReceiptItem } from "../wire/receipt";
import { Announcer } from "./announcer";
import { ConsumerBreaker } from "./consumer-breaker";
import { type ConsumerParts, type ConsumerSpec, type HandlerEnd, type PlainEnd, RETRY } from "./consumer-parts";
import { Inbox } from "./inbox";
import { Pausing } from "./pausing";
import { type Owed, ReceiptSender } from "./receipt-sender";
import { settle } from "./settle";

/**
 * One group's handler on one queue. A delivery is acked only after its receipt is confirmed, and the receipt is sent
 * only after the handler's promise has settled:
 *
 *   process dies before the handler ended      unacked: the broker delivers it again
 *   … after the handler, before the inbox row  the same: handled twice (`inbox: "transaction"` closes this window)
 *   … after the inbox row, before the receipt  delivered again, recognised, answered without the handler
 *   … after the receipt, before the ack        the same; the second receipt changes nothing
 */
export class Consumer {
  readonly receipts: ReceiptSender;
  readonly breaker: ConsumerBreaker | undefined;
  readonly #inbox: Inbox | undefined;
  readonly #announcer: Announcer;
  readonly #pausing: Pausing;
  readonly #end = newEnd();
  readonly #active: WaitGroup;
  #consumption: Consumption | undefined;
  #plainFailures = 0;

  constructor(
    readonly spec: ConsumerSpec,
    readonly parts: ConsumerParts
  ) {
    const { group, queue, options } = spec;
    this.receipts = new ReceiptSender(parts, group);
    if (options.breaker) this.breaker = new ConsumerBreaker(spec, parts, this.receipts, options.breaker);
    this.#announcer = new Announcer(spec, parts);
    this.#pausing = new Pausing(spec, parts, this.receipts);
    this.#active = new WaitGroup(error => this.#failed(error, `a delivery of ${queue} stays unacked`));
    if (parts.inbox && options.inbox)
      this.#inbox = new Inbox(parts.inbox, group, options.inbox, parts.clock, this.#end.signal);
  }

  /** Deliveries whose handler is running. */
  get inFlight(): number {
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
    const { pattern, group, foreign, options } = this.spec;
    // A limit of the broker is reached, or the queue's node is down. That passes.
    for (let tries = 1; !this.#stopping && courier.ready && !(await courier.declare(queue)); tries++)
      await clock.sleep(backoffMs(RETRY, tries), this.#end.signal);
    if (!foreign && !this.#stopping) await this.#announcer.announce();
    if (this.#stopping) return;
    if (!foreign) this.parts.announcedHistory?.enter(this.#announcer);
    this.#consumption = await courier.consume({
      queue,
      prefetch: options.maxInFlight,
      marks: this.#pausing.marks,
      onDelivery: delivery => this.#active.track(this.#process(delivery))
    });
    this.breaker?.governs(this.#consumption);
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
    try {
      await this.#read(delivery);
    } finally {
      this.#pausing.release(delivery);
    }
  }

  async #read(delivery: Delivery): Promise<void> {
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
    const { id, event, only, handledAs } = envelope;
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
    if (!this.#inbox) return this.#run(delivery, envelope);
    const inbox = this.#inbox;
    const work = inbox.enter(handledAs, () => this.#once(delivery, envelope, inbox));
    try {
      await work;
    } finally {
      inbox.leave(handledAs, work);
    }
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
    if ("error" in end || end.act === "nack") delivery.nack("error" in end || end.requeue);
    // Tells the ack window only. A delivery that was returned to the broker is not acked.
    this.receipts.ack(delivery);
  }

  async #once(delivery: Delivery, envelope: Envelope, inbox: Inbox): Promise<void> {
    if (await inbox.handledBefore(envelope.handledAs)) {
      if (this.#pausing.release(delivery)) this.#answerAgain(delivery, envelope);
      return;
    }
    await this.#run(delivery, envelope);
  }

  #answerAgain(delivery: Delivery, envelope: Envelope): void {
    this.parts.metrics.duplicate(envelope.event, this.spec.group);
    const item = echoing(envelope, delivery, settle(envelope, {}, 0));
    this.receipts.send({ address: envelope.receipt, item, delivery });
  }

  async #run(delivery: Delivery, envelope: Envelope): Promise<void> {
    const { group, options } = this.spec;
    const { clock } = this.parts;
    if (this.breaker?.isOpen()) {
      if (this.#pausing.release(delivery)) this.#giveBack(delivery);
      return;
    }
    await this.#inbox?.turn();
    if (!this.#pausing.release(delivery)) return this.#inbox?.pass();
    if (this.breaker?.isOpen()) {
      this.#inbox?.pass();
      return this.#giveBack(delivery);
    }
    const course: Course = { started: clock.monotonic(), runs: 0, era: this.breaker?.begin() ?? 0 };
    const work = this.#handle(delivery, envelope, course);
    const end = await withTimeout(work, options.handlerTimeoutMs, clock);
    this.breaker?.ended(course.era);
    if (end === TIMED_OUT) {
      const error = new ReliableRetryableError(
        "RELIABLE_HANDLER_TIMEOUT",
        `The handler of '${envelope.event}' in group ${group} did not answer within ${options.handlerTimeoutMs} ms${course.runs > 1 ? `, in ${course.runs} runs` : ""}.`,
        { id: envelope.id, event: envelope.event, group }
      );
      this.#settle(envelope, { error }, course, delivery);
      // The handler may still end after its timeout. If it succeeds then, a late `handled` receipt says so.
      void work.then(async late => {
        if (late !== "duplicate" && late.error === undefined) await this.#handled(envelope, course);
      });
      return;
    }
    if (end === "duplicate") return this.#answerAgain(delivery, envelope);
    if (end.error !== undefined) return this.#settle(envelope, end, course, delivery);
    await this.#handled(envelope, course, delivery);
  }

  #handle(delivery: Delivery, envelope: Envelope, course: Course): Promise<HandlerEnd | "duplicate"> {
    const { spec } = this;
    const inbox = this.#inbox;
    if (inbox?.mode !== "transaction") return HandlerTransaction.outside(() => spec.handle(envelope, {}, delivery));
    const untilMs = course.started + spec.options.handlerTimeoutMs;
    return inbox.transaction(envelope.handledAs, untilMs, (session, run) => {
      course.runs = run;
      this.parts.metrics.run(envelope.event, spec.group);
      return spec.handle(envelope, { session, run }, delivery);
    });
  }

  async #handled(envelope: Envelope, course: Course, delivery?: Delivery): Promise<void> {
    // What is handled after its time is up says nothing about now.
    if (delivery) this.breaker?.succeeded(envelope, course.era);
    if (this.#inbox?.mode === true) {
      // The receipt matters more than the row: without the row a duplicate may be handled again, without the receipt
      // there will be a duplicate. If a stop ends the wait, no receipt is sent either, and the message is delivered
      // again; the closed store is not logged.
      await this.#inbox.add(envelope.handledAs).catch(error => {
        if (!this.receipts.stopped) this.#failed(error, `the inbox of group ${this.spec.group} could not be written`);
      });
    }
    this.#settle(envelope, {}, course, delivery);
  }

  #settle(envelope: Envelope, end: HandlerEnd, { started, runs, era }: Course, delivery?: Delivery): void {
    const { metrics, clock } = this.parts;
    const item = echoing(envelope, delivery, settle(envelope, end, clock.monotonic() - started, runs));
    const owed: Owed = { address: envelope.receipt, item, ...(delivery && { delivery }) };
    if (item.outcome === "handled") {
      metrics.handled(envelope.event, this.spec.group, item.durationMs);
    } else {
      metrics.failed(envelope.event, this.spec.group, item.durationMs);
      this.breaker?.failed(envelope, era, owed);
    }
    this.receipts.send(owed);
  }

  /** No handler has begun. RabbitMQ 4.3 does not count it towards the delivery limit. */
  #giveBack(delivery: Delivery): void {
    delivery.nack(true);
    // Tells the ack window only.
    this.receipts.ack(delivery);
  }

  /** Into the parking queue with its raw bytes, then acked. The consumer goes on, and an operator can inspect it. */
  async #park(delivery: Delivery, reason: string): Promise<void> {
    this.#pausing.release(delivery);
    const { courier, queues, nodeID, clock } = this.parts;
    const { queue, body, headers, messageId, type, contentType, timestamp, appId } = delivery;
    const properties = { messageId, type, contentType, timestamp, appId };
    let parked = toParkedMessage(queues.parked, nodeID, reason, { queue, body, headers, properties });
    for (let tries = 1; !this.#stopping; tries++) {
      const { outcome, reason: why = outcome } = await courier.publish(parked).catch(refused);
      if (outcome === "confirmed") {
        announceParked(delivery, reason, this.parts, "consumer");
        return this.receipts.ack(delivery);
      }
      // Any other answer is about this message, and would come again.
      if (!["returned", "nacked", "unknown"].includes(outcome)) parked = toShortMessage(parked, why);
      if (outcome === "returned") await courier.declare(systemQueue(queues.parked, queues)).catch(() => undefined);
      await clock.sleep(backoffMs(RETRY, tries), this.#end.signal);
    }
  }
}

/** Of one attempt. `runs` are counted with `inbox: "transaction"` alone; `era` is the breaker's. */
interface Course {
  readonly started: number;
  readonly era: number;
  runs: number;
}

/** The courier rejects what it cannot encode. */
function refused(error: unknown): { outcome: "refused"; reason: string } {
  return { outcome: "refused", reason: reasonOf(error) };
}

/** The envelope says what its receipts must return. The consumer does not look into it. */
function echoing(envelope: Envelope, delivery: Delivery | undefined, item: ReceiptItem): ReceiptItem {
  const { echo: plan, event, producer } = envelope;
  if (plan === undefined) return item;
  const whole =
    item.outcome === "failed" && delivery ? { headers: delivery.headers, body: delivery.body.toString("base64") } : {};
  return { ...item, echo: { event, producer, plan, ...whole } };
}
