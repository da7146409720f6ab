import { Fifo } from "../async/fifo";

/** So many runs without a conflict allow one more at a time. */
const SUCCESSES_PER_STEP = 16;

/**
 * How many transactions of a group run at a time: halved when one loses a conflict, slowly more while none does. Those
 * that write the same document would else undo each other again and again.
 */
export class AdaptiveLimit {
  readonly #waiting = new Fifo<() => void>();
  #limit = Number.POSITIVE_INFINITY;
  #running = 0;
  #successes = 0;

  /** `first`: before those that have not run yet. */
  async enter(first: boolean): Promise<void> {
    if (this.#running < this.#limit) {
      this.#running++;
      return;
    }
    await new Promise<void>(resolve => (first ? this.#waiting.putBack([resolve]) : this.#waiting.push(resolve)));
  }

  leave(conflict: boolean): void {
    if (conflict) {
      this.#limit = Math.max(1, Math.floor(Math.min(this.#limit, this.#running) / 2));
      this.#successes = 0;
    } else if (++this.#successes % SUCCESSES_PER_STEP === 0) this.#limit++;
    this.#running--;
    while (this.#running < this.#limit && this.#waiting.length) {
      this.#running++;
      (this.#waiting.shift() as () => void)();
    }
  }
}
