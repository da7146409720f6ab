import { type Deadline, withTimeout } from "../async/deadline";
import type { Consumption, Courier, Delivery } from "../couriers/courier";
import { reasonOf } from "../errors";
import { backoffMs } from "../message/backoff";
import type { Logger } from "../platform/logger";
import type { Store } from "../stores/store";

/** Messages taken together; a receipt message may hold many receipts itself. */
const MAX_BATCH = 200;
const PREFETCH = 1000;
/**
 * Between the begins of two batches, unless one is full: after a batch of few, and after one of more. Who is alone is
 * handled at once; of a steady trickle each would cost store commands of its own, beside the very messages they tell
 * of.
 */
const PACE_MS = 20;
const CROWD_PACE_MS = 50;
const FEW = 2;
const RETRY = { initialMs: 200, maxMs: 10_000, jitter: "half" } as const;

export interface BatchConsumerParts {
  /** A batch; acked when it resolves. */
  handle(deliveries: Delivery[]): Promise<void>;
  /** Keeps a delivery that can never be handled. */
  park(delivery: Delivery, reason: string): Promise<void>;
  /** Somebody waits for what is in the queue. */
  awaited(): boolean;
  store: Store;
  logger: Logger;
  onError?(error: unknown): void;
}

/** One queue consumed in batches: while the store writes one, the next collects. */
export class BatchConsumer {
  #held: Delivery[] = [];
  /** When the next batch may begin. */
  #nextAt = -Infinity;
  /** Ends the pause before the next batch. */
  #full: (() => void) | undefined;
  #running: Promise<void> | undefined;
  #consumption: Consumption | undefined;
  #stopping = false;

  constructor(
    readonly queue: string,
    readonly parts: BatchConsumerParts
  ) {}

  async start(courier: Courier): Promise<void> {
    const spec = {
      queue: { name: this.queue },
      prefetch: PREFETCH,
      onDelivery: (delivery: Delivery) => this.#take(delivery)
    };
    await courier.declare(spec.queue);
    const consumed = courier.consume(spec).then(async consumption => {
      this.#consumption = consumption;
      if (this.#stopping) await consumption.close();
    });
    if (courier.ready) await consumed;
    else
      consumed.catch(error => {
        // The stop has closed what it was waiting for.
        if (this.#stopping) return;
        this.parts.logger.error(`Reliable: cannot track ${this.queue}: ${reasonOf(error)}`);
        this.parts.onError?.(error);
      });
  }

  async stop(deadline: Deadline): Promise<void> {
    await this.#consumption?.cancel(deadline.toClose);
    if (this.#running) await withTimeout(this.#running, deadline.left);
    this.#stopping = true;
    await this.#consumption?.close(deadline.toClose);
  }

  #take(delivery: Delivery): void {
    this.#held.push(delivery);
    if (this.#held.length >= MAX_BATCH) this.#full?.();
    this.#running ??= this.#run().finally(() => (this.#running = undefined));
  }

  async #run(): Promise<void> {
    await Promise.resolve();
    let failures = 0;
    while (this.#held.length && !this.#stopping) {
      await this.#pace();
      if (this.#stopping) return;
      const batch = this.#held.slice(0, MAX_BATCH);
      try {
        await this.#handleAll(batch);
      } catch (error) {
        // Held unacked until the store takes it; the prefetch bounds how much that can be.
        if (++failures === 1) {
          this.parts.logger.warn(`Reliable: ${this.queue} waits for the store: ${reasonOf(error)}`);
          this.parts.onError?.(error);
        }
        await new Promise(resolve =>
          setTimeout(resolve, this.parts.store.ready ? backoffMs(RETRY, failures) : RETRY.initialMs)
        );
        continue;
      }
      failures = 0;
      this.#held.splice(0, batch.length);
      ackAll(batch);
    }
  }

  async #pace(): Promise<void> {
    const pause = this.#nextAt - performance.now();
    if (pause > 0 && this.#held.length < MAX_BATCH && !this.parts.awaited()) {
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, pause);
        this.#full = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      this.#full = undefined;
    }
    this.#nextAt = performance.now() + (this.#held.length > FEW ? CROWD_PACE_MS : PACE_MS);
  }

  /**
   * What waiting does not mend must not hold up the rest: the batch is taken apart, and the one that fails alone is
   * parked.
   */
  async #handleAll(batch: Delivery[]): Promise<void> {
    try {
      await this.parts.handle(batch);
    } catch (error) {
      if ((error as { retryable?: boolean }).retryable || !this.parts.store.ready) throw error;
      const [only] = batch;
      if (batch.length === 1 && only) return this.parts.park(only, `it could not be handled: ${reasonOf(error)}`);
      for (const delivery of batch) await this.#handleAll([delivery]);
    }
  }
}

/** In order of arrival, so the last of each epoch acks all before it. */
function ackAll(batch: Delivery[]): void {
  batch.forEach((delivery, i) => {
    if (batch[i + 1]?.epoch !== delivery.epoch) delivery.ackUpTo();
  });
}
