import type { Clock } from "../../platform/clock";

/** For how long the broker has blocked publishers, in all. */
export class BlockedTime {
  #since: number | undefined;
  #sum = 0;

  constructor(private readonly clock: Clock) {}

  set(blocked: boolean): void {
    const now = this.clock.monotonic();
    if (blocked) this.#since ??= now;
    else if (this.#since !== undefined) {
      this.#sum += Math.round(now - this.#since);
      this.#since = undefined;
    }
  }

  get now(): boolean {
    return this.#since !== undefined;
  }

  get ms(): number {
    return this.#sum + (this.#since === undefined ? 0 : Math.round(this.clock.monotonic() - this.#since));
  }
}
