import { TIMED_OUT } from "../async/deadline";
import { ExpiringSet } from "../async/expiring-set";
import { HandlerTransaction } from "../async/handler-transaction";
import type { Delivery } from "../couriers/courier";
import { ReliableRetryableError } from "../errors";
import type { ProcessSpan } from "../telemetry/open-telemetry/message-spans";
import type { Envelope } from "../wire/envelope";
import type { ReceiptItem } from "../wire/receipt";
import type { ConsumerBreaker } from "./consumer-breaker";
import type { ConsumerParts, ConsumerSpec, HandlerEnd } from "./consumer-parts";
import type { Inbox } from "./inbox";
import type { Pausing } from "./pausing";
import type { Owed, ReceiptSender } from "./receipt-sender";
import { Redeliveries } from "./redeliveries";
import { RowReceipts } from "./row-receipts";
import { settle } from "./settle";
import type { Slots } from "./slots";

/** A look into the inbox that is older is repeated when the handler's turn comes. */
const LOOK_HOLDS_MS = 100;

/** A delivery, and for how long it was at its handler or waited for one. */
export interface Held {
  readonly delivery: Delivery;
  readonly since: number;
  atHandlerMs: number;
}

export interface HandlingParts {
  slots: Slots;
  inbox: Inbox | undefined;
  pausing: Pausing;
  receipts: ReceiptSender;
  breaker: ConsumerBreaker | undefined;
  /** Aborted when the consumer stops. */
  end: AbortSignal;
  /** Told of what went wrong and harms nothing. */
  failed(error: unknown, what: string): void;
}

/**
 * From an envelope to its receipt: has the group handled it before, the handler in its slot, what came of it. The slot is
 * free as soon as the handler has ended.
 */
export class Handling {
  readonly #rows: RowReceipts | undefined;
  readonly #limits: ExpiringSet<Limit>;
  readonly #redeliveries: Redeliveries;

  constructor(
    private readonly spec: ConsumerSpec,
    private readonly parts: ConsumerParts,
    private readonly own: HandlingParts
  ) {
    this.#limits = new ExpiringSet(({ resolve }) => resolve(TIMED_OUT), parts.clock);
    this.#redeliveries = new Redeliveries(parts.clock, own.end);
    const { rows, queues, logger } = parts;
    if (rows) this.#rows = new RowReceipts(rows, queues.callbackReceipts, spec.group, logger);
  }

  run(held: Held, envelope: Envelope): Promise<void> {
    const { inbox } = this.own;
    return inbox
      ? inbox.oneByOne(envelope.handledAs, () => this.#run(held, envelope, inbox))
      : this.#run(held, envelope);
  }

  #answerAgain(delivery: Delivery, envelope: Envelope): void {
    this.parts.metrics.duplicate(envelope.event, this.spec.group);
    const item = echoing(envelope, delivery, settle(envelope, {}, 0));
    const settling = this.parts.spans?.settle(envelope, delivery, this.spec.group);
    this.own.receipts.send({ address: envelope.receipt, item, delivery, settling });
  }

  /** One frame from the look-up until the receipt is under way: thousands of deliveries may be held. */
  async #run(held: Held, envelope: Envelope, inbox?: Inbox): Promise<void> {
    const { delivery } = held;
    const { clock } = this.parts;
    const { slots } = this.own;
    // In a transaction whoever comes second is undone.
    const pause = inbox?.mode === true ? this.#redeliveries.wait(delivery) : undefined;
    if (pause) {
      const from = clock.monotonic();
      await pause;
      held.atHandlerMs += clock.monotonic() - from;
    }
    if (inbox && (await inbox.handledBefore(envelope.handledAs))) return this.#answerReleased(delivery, envelope);
    const waits = clock.monotonic();
    if (this.own.breaker?.isOpen() || (!slots.tryEnter() && !(await slots.wait()))) {
      held.atHandlerMs += clock.monotonic() - waits;
      return this.#giveBack(delivery);
    }
    let begun: Begun | undefined;
    try {
      // Another node may have handled a copy while this one waited.
      if (inbox && clock.monotonic() - waits > LOOK_HOLDS_MS && (await inbox.handledBefore(envelope.handledAs)))
        return this.#answerReleased(delivery, envelope);
      const turn = inbox?.turn();
      if (turn) await turn;
      begun = this.#begin(delivery, envelope);
      if (begun) {
        begun.end = await this.#limited(begun.work);
        this.own.breaker?.ended(begun.course.era);
      }
    } finally {
      held.atHandlerMs += clock.monotonic() - waits;
      slots.leave();
    }
    if (begun) await this.#ended(delivery, envelope, begun);
  }

  #answerReleased(delivery: Delivery, envelope: Envelope): void {
    if (this.own.pausing.release(delivery)) this.#answerAgain(delivery, envelope);
  }

  #giveBack(delivery: Delivery): void {
    if (this.own.pausing.release(delivery)) this.own.receipts.nack(delivery);
  }

  /** In a slot. Undefined = the handler may not begin, and what becomes of the delivery is settled. */
  #begin(delivery: Delivery, envelope: Envelope): Begun | undefined {
    const { inbox, pausing, breaker, receipts } = this.own;
    const released = pausing.release(delivery);
    if (!released || breaker?.isOpen()) {
      inbox?.pass();
      if (released) receipts.nack(delivery);
      return undefined;
    }
    const span = this.parts.spans?.process(envelope, delivery, this.spec.group);
    const course: Course = { started: this.parts.clock.monotonic(), runs: 0, era: breaker?.begin() ?? 0, span };
    const handle = () => this.#handle(delivery, envelope, course);
    const work = span ? span.run(handle) : handle();
    // The store of its transaction is away: the delivery stays unacked.
    if (span) work.catch(error => span.end(error));
    return { course, work, end: TIMED_OUT };
  }

  /** Or TIMED_OUT: noticed by one timer for all, some 100 ms late. */
  #limited(work: Promise<HandlerEnd | "duplicate">): Promise<HandlerEnd | "duplicate" | typeof TIMED_OUT> {
    const deadline = this.parts.clock.monotonic() + this.spec.options.handlerTimeoutMs;
    return new Promise((resolve, reject) => {
      const limit = { deadline, resolve };
      this.#limits.add(limit);
      work.then(
        end => {
          this.#limits.delete(limit);
          resolve(end);
        },
        error => {
          this.#limits.delete(limit);
          reject(error);
        }
      );
    });
  }

  #ended(delivery: Delivery, envelope: Envelope, { course, work, end }: Begun): Promise<void> | void {
    const { group, options } = this.spec;
    if (end === TIMED_OUT) {
      const error = new ReliableRetryableError(
        "RELIABLE_HANDLER_TIMEOUT",
        `The handler of '${envelope.event}' in group ${group} did not answer within ${options.handlerTimeoutMs} ms${course.runs > 1 ? `, in ${course.runs} runs` : ""}.`,
        { id: envelope.id, event: envelope.event, group }
      );
      course.span?.end(error);
      this.#settle(envelope, { error }, course, delivery);
      // The handler may still end after its timeout. If it succeeds then, a late `handled` receipt says so.
      void work.then(async late => {
        if (late !== "duplicate" && late.error === undefined) await this.#handled(envelope, course);
      });
      return;
    }
    course.span?.end(end === "duplicate" ? undefined : end.error);
    if (end === "duplicate") return this.#answerAgain(delivery, envelope);
    if (end.error !== undefined) return this.#settle(envelope, end, course, delivery);
    return this.#handled(envelope, course, delivery);
  }

  #handle(delivery: Delivery, envelope: Envelope, course: Course): Promise<HandlerEnd | "duplicate"> {
    const { spec } = this;
    const inbox = this.own.inbox;
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
    if (delivery) this.own.breaker?.succeeded(envelope, course.era);
    const settling = delivery && course.span?.settle();
    const item = this.#itemOf(envelope, {}, course, delivery);
    this.parts.metrics.handled(envelope.event, this.spec.group, item.durationMs);
    const { id, handledAs } = envelope;
    const { inbox, receipts } = this.own;
    // A replay's row says nothing of the message that it repeats.
    const marks = inbox?.mode === true && handledAs !== id;
    if (marks) await this.#mark(inbox, handledAs);
    if (this.#rows?.has(envelope) && (await this.#rows.write(item))) {
      if (delivery && !receipts.stopped) receipts.ack(delivery);
      settling?.end();
      return;
    }
    if (inbox?.mode === true && !marks) await this.#mark(inbox, handledAs);
    receipts.send({ address: envelope.receipt, item, ...(delivery && { delivery, settling }) });
  }

  /**
   * The receipt matters more than the row: without the row a duplicate may be handled again, without the receipt there
   * will be a duplicate. If a stop ends the wait, no receipt is sent either, and the message is delivered again; the
   * closed store is not logged.
   */
  async #mark(inbox: Inbox, id: string): Promise<void> {
    await inbox.add(id).catch(error => {
      if (!this.own.receipts.stopped)
        this.own.failed(error, `the inbox of group ${this.spec.group} could not be written`);
    });
  }

  /** It has failed. */
  #settle(envelope: Envelope, end: HandlerEnd, course: Course, delivery: Delivery): void {
    const item = this.#itemOf(envelope, end, course, delivery);
    const owed: Owed = { address: envelope.receipt, item, delivery, settling: course.span?.settle() };
    this.parts.metrics.failed(envelope.event, this.spec.group, item.durationMs);
    if (end.excused) item.excused = "this";
    else this.own.breaker?.failed(envelope, course.era, owed);
    this.own.receipts.send(owed);
  }

  #itemOf(envelope: Envelope, end: HandlerEnd, { started, runs }: Course, delivery?: Delivery): ReceiptItem {
    return echoing(envelope, delivery, settle(envelope, end, this.parts.clock.monotonic() - started, runs));
  }
}

/** A handler at work. */
interface Limit {
  readonly deadline: number;
  resolve(end: typeof TIMED_OUT): void;
}

/** A handler has begun, and has ended or its time is up. */
interface Begun {
  readonly course: Course;
  readonly work: Promise<HandlerEnd | "duplicate">;
  /** TIMED_OUT until it has. */
  end: HandlerEnd | "duplicate" | typeof TIMED_OUT;
}

/** Of one attempt. `runs` are counted with `inbox: "transaction"` alone; `era` is the breaker's. */
interface Course {
  readonly started: number;
  readonly era: number;
  readonly span: ProcessSpan | undefined;
  runs: number;
}

/** The envelope says what its receipts must return. The consumer does not look into it. */
function echoing(envelope: Envelope, delivery: Delivery | undefined, item: ReceiptItem): ReceiptItem {
  const { echo: plan, event, producer } = envelope;
  if (plan === undefined) return item;
  const whole =
    item.outcome === "failed" && delivery ? { headers: delivery.headers, body: delivery.body.toString("base64") } : {};
  return { ...item, echo: { event, producer, plan, ...whole } };
}
