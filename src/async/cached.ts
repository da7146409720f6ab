import type { Clock } from "../platform/clock";

/** One answer for all who ask within `forMs`, and one question at a time. A failure is told to those who wait, and not kept. */
export class Cached<T> {
  #answer: Promise<T> | undefined;
  #askedAt = -Infinity;
  #asking = false;

  constructor(
    private readonly ask: () => Promise<T>,
    private readonly forMs: number,
    private readonly clock: Clock
  ) {}

  read(): Promise<T> {
    const now = this.clock.monotonic();
    if (this.#answer && (this.#asking || now - this.#askedAt < this.forMs)) return this.#answer;
    this.#askedAt = now;
    this.#asking = true;
    const answer = this.ask().finally(() => (this.#asking = false));
    answer.catch(() => (this.#answer = undefined));
    return (this.#answer = answer);
  }
}
