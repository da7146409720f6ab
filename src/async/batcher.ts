import { WaitGroup } from "./wait-group";

/** The work of a batcher. */
export interface BatcherOptions<T, R> {
  maxItems: number;
  /** Writes at a time; the second begins only with a full batch. @default 1 */
  parallel?: number;
  maxBytes?: number;
  sizeOf?: (item: T) => number;
  /** One result per item, in order. A rejection rejects every item of the batch. */
  write(items: T[]): Promise<R[]>;
}

interface Entry<T, R> {
  item: T;
  bytes: number;
  resolve(result: R): void;
  reject(error: unknown): void;
}

/**
 * Group commit without a timer: while one write is in flight the next batch collects. A single item is never delayed,
 * and many share one round trip.
 */
export class Batcher<T, R> {
  #waiting: Entry<T, R>[] = [];
  readonly #writers = new WaitGroup();
  bytes = 0;

  constructor(readonly options: BatcherOptions<T, R>) {}

  /** Items not yet written. */
  get size(): number {
    return this.#waiting.length;
  }

  add(item: T): Promise<R> {
    return new Promise((resolve, reject) => this.addThen(item, resolve, reject));
  }

  /** The same without a promise. Exactly one of both is called, once. */
  addThen(item: T, resolve: (result: R) => void, reject: (error: unknown) => void): void {
    const bytes = this.options.sizeOf?.(item) ?? 0;
    this.bytes += bytes;
    this.#waiting.push({ item, bytes, resolve, reject });
    const { maxItems, parallel = 1 } = this.options;
    if (this.#writers.count === 0 || (this.#writers.count < parallel && this.#waiting.length >= maxItems))
      void this.#run();
  }

  /** Resolves when everything added so far has been written or has failed. */
  idle(): Promise<void> {
    return this.#writers.idle();
  }

  async #run(): Promise<void> {
    this.#writers.begin();
    // Lets every item of this turn of the event loop in before the first batch is cut.
    await Promise.resolve();
    while (this.#waiting.length) {
      const batch = this.#cut();
      try {
        const results = await this.options.write(batch.map(entry => entry.item));
        for (let i = 0; i < batch.length; i++) batch[i]?.resolve(results[i] as R);
      } catch (error) {
        for (const entry of batch) entry.reject(error);
      }
    }
    this.#writers.end();
  }

  #cut(): Entry<T, R>[] {
    const { maxItems, maxBytes = Infinity } = this.options;
    let bytes = 0;
    let count = 0;
    for (const entry of this.#waiting) {
      if (count === maxItems || (count > 0 && bytes + entry.bytes > maxBytes)) break;
      bytes += entry.bytes;
      count++;
    }
    const batch = this.#waiting.splice(0, count);
    this.bytes -= bytes;
    return batch;
  }
}
