import type { Clock } from "../../platform/clock";

/** For how long no confirm has come. */
export class Silence {
  /** When the last one came, by the monotonic clock. */
  confirmedAt = Number.NEGATIVE_INFINITY;
  /** When the first publish was sent after it. */
  #since: number | undefined;

  constructor(private readonly clock: Clock) {}

  get ms(): number {
    return this.#since === undefined ? 0 : Math.round(this.clock.monotonic() - this.#since);
  }

  sent(): void {
    this.#since ??= this.clock.monotonic();
  }

  /** `open`: whether others are waited for. */
  confirmed(open: boolean): void {
    this.confirmedAt = this.clock.monotonic();
    this.#since = open ? this.confirmedAt : undefined;
  }

  /** On another connection. */
  begin(): void {
    this.#since = undefined;
  }
}
