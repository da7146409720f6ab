import { Fifo } from "../async/fifo";
import type { Clock } from "../platform/clock";

interface Waiting {
  since: number;
  /** False = it is given back. */
  go(begins: boolean): void;
}

/** Handlers at work: at most so many at a time. Deliveries that were fetched ahead wait here, the first one first. */
export class Slots {
  readonly #waiting = new Fifo<Waiting>();
  #busy = 0;

  constructor(
    readonly size: number,
    private readonly clock: Clock
  ) {}

  get busy(): number {
    return this.#busy;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** For how long the first one has waited, in ms. */
  get longestMs(): number {
    const first = this.#waiting.peek();
    return first ? this.clock.monotonic() - first.since : 0;
  }

  /** True = at once; `leave` must follow. */
  tryEnter(): boolean {
    if (this.#busy >= this.size) return false;
    this.#busy++;
    return true;
  }

  /** True = the handler may begin, and `leave` must follow. False = the delivery is to be given back. */
  wait(): Promise<boolean> {
    return new Promise(go => this.#waiting.push({ since: this.clock.monotonic(), go }));
  }

  leave(): void {
    const next = this.#waiting.shift();
    if (next) next.go(true);
    else this.#busy--;
  }

  /** All that wait are given back. */
  clear(): void {
    for (const { go } of this.#waiting.drain()) go(false);
  }
}
