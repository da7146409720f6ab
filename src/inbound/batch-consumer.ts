import { type Deadline, withTimeout } from "../async/deadline";
import { type Consumption, type Courier, type Delivery, systemQueue } from "../couriers/courier";
import { reasonOf } from "../errors";
import { backoffMs } from "../message/backoff";
import type { Store } from "../stores/store";
import type { Queues } from "../wire/names";
import { type ParkingNode, toParked } from "./parked-messages";

/** Messages taken together; a receipt message may hold many receipts itself. */
const MAX_BATCH = 200;
const PREFETCH = 1000;
/**
 * The shortest time between the starts of two batches, unless a batch is full: the first after a small batch, the
 * second after a larger one. A single message is handled at once. In a steady trickle each message would cost store
 * commands of its own.
 */
const PACE_MS = 20;
const CROWD_PACE_MS = 50;
const FEW = 2;
const RETRY = { initialMs: 200, maxMs: 10_000, jitter: "half" } as const;

export interface BatchConsumerParts extends ParkingNode {
  courier: Courier;
  queues: Queues;
  store: Pick<Store, "ready" | "parked">;
  /** A batch; acked when it resolves. */
  handle(deliveries: Delivery[]): Promise<void>;
  /** A caller waits for what is in the queue. If none does, a batch may wait for more. */
  awaiting?: { readonly waiting: boolean };
}

/** One queue consumed in batches: while the store writes one, the next collects. */
export class BatchConsumer {
  #held: Delivery[] = [];
  /** The next batch may begin at this time. */
  #nextAt = -Infinity;
  /** Ends the pause before the next batch. */
  #full: AbortController | undefined;
  #running: Promise<void> | undefined;
  #consumption: Consumption | undefined;
  readonly #end = new AbortController();

  constructor(
    readonly queue: string,
    readonly parts: BatchConsumerParts
  ) {}

  async start(): Promise<void> {
    const { courier, queues, logger, events, metrics } = this.parts;
    metrics.begin(["parked"], { queue: this.queue });
    const queue = systemQueue(this.queue, queues);
    await courier.declare(queue);
    const onDelivery = (delivery: Delivery) => this.#take(delivery);
    const consumed = courier.consume({ queue, prefetch: PREFETCH, onDelivery }).then(async consumption => {
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

  #take(delivery: Delivery): void {
    this.#held.push(delivery);
    if (this.#held.length >= MAX_BATCH) this.#full?.abort();
    this.#running ??= this.#run().finally(() => (this.#running = undefined));
  }

  async #run(): Promise<void> {
    await Promise.resolve();
    const { logger, events, clock, store } = this.parts;
    let failures = 0;
    while (this.#held.length && !this.#stopped) {
      await this.#pace();
      if (this.#stopped) return;
      const batch = this.#held.slice(0, MAX_BATCH);
      try {
        await this.#handleAll(batch);
      } catch (error) {
        // They stay unacked until the store takes them. The prefetch bounds their number.
        if (++failures === 1) {
          logger.warn(`Reliable: ${this.queue} waits for the store: ${reasonOf(error)}`);
          events.emit("error", error, "tracker");
        }
        await clock.sleep(store.ready ? backoffMs(RETRY, failures) : RETRY.initialMs, this.#end.signal);
        continue;
      }
      failures = 0;
      this.#held.splice(0, batch.length);
      ackAll(batch);
    }
  }

  async #pace(): Promise<void> {
    const { clock, awaiting } = this.parts;
    const pauseMs = this.#nextAt - clock.monotonic();
    if (pauseMs > 0 && this.#held.length < MAX_BATCH && !awaiting?.waiting) {
      this.#full = new AbortController();
      await clock.sleep(pauseMs, this.#full.signal);
      this.#full = undefined;
    }
    this.#nextAt = clock.monotonic() + (this.#held.length > FEW ? CROWD_PACE_MS : PACE_MS);
  }

  /**
   * An error that does not pass must not hold up the other messages. The batch is taken apart, and the message that
   * fails alone is parked.
   */
  async #handleAll(batch: Delivery[]): Promise<void> {
    try {
      await this.parts.handle(batch);
    } catch (error) {
      if ((error as { retryable?: boolean }).retryable || !this.parts.store.ready) throw error;
      const [only] = batch;
      if (batch.length === 1 && only) return this.#park(only, `it could not be handled: ${reasonOf(error)}`);
      for (const delivery of batch) await this.#handleAll([delivery]);
    }
  }

  async #park(delivery: Delivery, reason: string): Promise<void> {
    await this.parts.store.parked.add([toParked(delivery, reason, this.parts)]);
  }
}

/** The batch is in order of arrival, so the last delivery of each epoch acks all before it. */
function ackAll(batch: Delivery[]): void {
  batch.forEach((delivery, i) => {
    if (batch[i + 1]?.epoch !== delivery.epoch) delivery.ackUpTo();
  });
}
