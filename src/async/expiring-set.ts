import { type Clock, systemClock, type Timer } from "../platform/clock";

/** How late a deadline may be noticed. */
const CHECK_MS = 100;

/** Items that wait with a limit. One timer serves thousands of emits. */
export class ExpiringSet<T extends { deadline: number }> {
  readonly #waiting = new Set<T>();
  #timer: Timer | undefined;

  /** `expired` is called once for each item whose `deadline` (by `Clock.monotonic`) passes while it waits. */
  constructor(
    private readonly expired: (item: T) => void,
    private readonly clock: Clock = systemClock
  ) {}

  get size(): number {
    return this.#waiting.size;
  }

  add(item: T): void {
    this.#waiting.add(item);
    this.#timer ??= this.clock.every(CHECK_MS, () => this.#check(this.clock.monotonic()), { ref: true });
  }

  /** False = it has expired, or was not waiting. */
  delete(item: T): boolean {
    return this.#waiting.delete(item);
  }

  /** Forgets all items. */
  expireAll(): void {
    this.#check(Infinity);
  }

  #check(now: number): void {
    for (const item of this.#waiting) {
      if (item.deadline > now) continue;
      this.#waiting.delete(item);
      this.expired(item);
    }
    if (this.#waiting.size) return;
    this.#timer?.stop();
    this.#timer = undefined;
  }
}
