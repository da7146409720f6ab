import { type Deadline, withTimeout } from "../async/deadline";
import { type Consumption, type Courier, type Delivery, systemQueue } from "../couriers/courier";
import { reasonOf } from "../errors";
import { backoffMs } from "../message/backoff";
import type { Timer } from "../platform/clock";
import type { Queues } from "../wire/names";
import { type Fault, mayPass, Parking, type ParkingParts } from "./parking";

/** Messages taken together; a receipt message may hold many receipts itself. */
const MAX_BATCH = 200;
/** The same where it is known how much is in each. */
const MAX_ITEMS = 500;
/** Bytes of a batch, or one message: what is parsed at once keeps the event loop for some 100 ms at most. */
const MAX_BATCH_BYTES = 8 * 1024 * 1024;
const PREFETCH = 1000;
/** Of messages with many items in each. With those of our own code it is 25 MB. */
const ITEMS_PREFETCH = 200;
/**
 * The shortest time between the starts of two batches, unless a batch is full: the first after a small batch, the
 * second after a larger one. A single message is handled at once. In a steady trickle each message would cost store
 * commands of its own.
 */
const PACE_MS = 20;
const CROWD_PACE_MS = 50;
const FEW = 2;
const RETRY = { initialMs: 200, maxMs: 10_000, jitter: "half" } as const;

export interface BatchConsumerParts extends ParkingParts {
  courier: Courier;
  queues: Queues;
  /** A batch; acked when it resolves, and when what it returns is parked. */
  handle(deliveries: Delivery[]): Promise<Fault[]>;
  /**
   * How much there is in a message, as far as can be told before it is read. Then a batch is limited by that, too.
   * @default 1 each
   */
  itemsOf?(delivery: Delivery): number;
  /** A caller waits for what is in the queue. If none does, a batch may wait for more. */
  awaiting?: { readonly waiting: boolean };
}

/** One queue consumed in batches: while the store writes one, the next collects. */
export class BatchConsumer {
  #held: Delivery[] = [];
  /** In all that is held. */
  #items = 0;
  /** The next batch may begin at this time. */
  #nextAt = -Infinity;
  /** Ends the pause before the next batch. */
  #full: AbortController | undefined;
  #running: Promise<void> | undefined;
  #consumption: Consumption | undefined;
  readonly #parking: Parking;
  /** Unacked, since the store refuses to keep them in any form. They hold up no others, and are tried again. */
  readonly #refused = new Set<Delivery>();
  #again: Timer | undefined;
  readonly #end = new AbortController();

  constructor(
    readonly queue: string,
    readonly parts: BatchConsumerParts
  ) {
    this.#parking = new Parking(parts);
  }

  async start(): Promise<void> {
    const { courier, queues, logger, events, metrics } = this.parts;
    metrics.begin(["parked"], { queue: this.queue });
    const queue = systemQueue(this.queue, queues);
    await courier.declare(queue);
    const onDelivery = (delivery: Delivery) => this.#take(delivery);
    const prefetch = this.parts.itemsOf ? ITEMS_PREFETCH : PREFETCH;
    const consumed = courier.consume({ queue, prefetch, onDelivery }).then(async consumption => {
      this.#consumption = consumption;
      if (this.#stopped) await consumption.close();
    });
    if (courier.ready) await consumed;
    else
      consumed.catch(error => {
        // The stop has closed the connection it was waiting for.
        if (this.#stopped) return;
        logger.error(`Reliable: cannot track ${this.queue}: ${reasonOf(error)}`);
        events.emit("error", error, "tracker");
      });
  }

  async stop(deadline: Deadline): Promise<void> {
    this.#again?.stop();
    await this.#consumption?.cancel(deadline.toClose);
    if (this.#running)
      await withTimeout(
        this.#running.catch(() => undefined),
        deadline.left,
        this.parts.clock
      );
    this.#end.abort();
    await this.#consumption?.close(deadline.toClose);
  }

  get #stopped(): boolean {
    return this.#end.signal.aborted;
  }

  #take(...deliveries: Delivery[]): void {
    for (const delivery of deliveries) {
      this.#held.push(delivery);
      this.#items += this.#itemsOf(delivery);
    }
    if (this.#isFull) this.#full?.abort();
    this.#running ??= this.#run().finally(() => (this.#running = undefined));
  }

  async #run(): Promise<void> {
    await Promise.resolve();
    const { warnings, events, clock, store } = this.parts;
    let failures = 0;
    while (this.#held.length && !this.#stopped) {
      await this.#pace();
      if (this.#stopped) return;
      const batch = this.#cut();
      let refused: Delivery[];
      try {
        refused = await this.#handleAll(batch);
      } catch (error) {
        // They stay unacked until the store takes them. The prefetch bounds their number.
        if (++failures === 1) {
          warnings.warn("store", this.queue, `Reliable: ${this.queue} waits for the store: ${reasonOf(error)}`);
          events.emit("error", error, "tracker");
        }
        await clock.sleep(store.ready ? backoffMs(RETRY, failures) : RETRY.initialMs, this.#end.signal);
        continue;
      }
      failures = 0;
      this.#held.splice(0, batch.length);
      for (const delivery of batch) this.#items -= this.#itemsOf(delivery);
      this.#settle(batch, new Set(refused));
    }
  }

  #itemsOf(delivery: Delivery): number {
    return this.parts.itemsOf?.(delivery) ?? 1;
  }

  get #isFull(): boolean {
    return this.#held.length >= MAX_BATCH || this.#items >= MAX_ITEMS;
  }

  #cut(): Delivery[] {
    let bytes = 0;
    let items = 0;
    const end = this.#held.slice(0, MAX_BATCH).findIndex((delivery, i) => {
      bytes += delivery.body.length;
      items += this.#itemsOf(delivery);
      return i > 0 && (bytes > MAX_BATCH_BYTES || items > MAX_ITEMS);
    });
    return this.#held.slice(0, end < 0 ? MAX_BATCH : end);
  }

  async #pace(): Promise<void> {
    const { clock, awaiting } = this.parts;
    const pauseMs = this.#nextAt - clock.monotonic();
    if (pauseMs > 0 && !this.#isFull && !awaiting?.waiting) {
      this.#full = new AbortController();
      await clock.sleep(pauseMs, this.#full.signal);
      this.#full = undefined;
    }
    this.#nextAt = clock.monotonic() + (this.#items > FEW ? CROWD_PACE_MS : PACE_MS);
  }

  /**
   * An error that does not pass must not hold up the other messages. The batch is taken apart, and the message that
   * fails alone is parked. Returns those that could not be parked.
   */
  async #handleAll(batch: Delivery[]): Promise<Delivery[]> {
    let faults: Fault[];
    try {
      faults = await this.parts.handle(batch);
    } catch (error) {
      if (mayPass(error, this.parts.store)) throw error;
      const [only] = batch;
      if (batch.length > 1 || !only) {
        const refused: Delivery[] = [];
        for (const delivery of batch) refused.push(...(await this.#handleAll([delivery])));
        return refused;
      }
      faults = [[only, `it could not be handled: ${reasonOf(error)}`]];
    }
    return this.#parking.park(faults);
  }

  #settle(batch: Delivery[], refused: Set<Delivery>): void {
    // One ack for many would take along those that are still refused.
    if (!this.#refused.size && !refused.size) {
      ackAll(batch);
      return;
    }
    for (const delivery of batch) {
      if (refused.has(delivery)) this.#refused.add(delivery);
      else {
        delivery.ack();
        this.#refused.delete(delivery);
      }
    }
    if (!this.#refused.size || this.#again || this.#stopped) return;
    this.#again = this.parts.clock.after(RETRY.maxMs, () => {
      this.#again = undefined;
      for (const delivery of this.#refused) if (!delivery.live) this.#refused.delete(delivery);
      if (this.#refused.size) this.#take(...this.#refused);
    });
  }
}

/** The batch is in order of arrival, so the last delivery of each epoch acks all before it. */
function ackAll(batch: Delivery[]): void {
  batch.forEach((delivery, i) => {
    if (batch[i + 1]?.epoch !== delivery.epoch) delivery.ackUpTo();
  });
}
