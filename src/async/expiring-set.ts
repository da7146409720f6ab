/** How late a deadline may be noticed. */
const CHECK_MS = 100;

/** What waits with a limit: one timer for thousands of emits instead of one each. */
export class ExpiringSet<T extends { deadline: number }> {
  readonly #waiting = new Set<T>();
  #timer: NodeJS.Timeout | undefined;

  /** `expired` is called once for each whose `deadline` (by `performance.now`) has passed while it waited. */
  constructor(private readonly expired: (item: T) => void) {}

  get size(): number {
    return this.#waiting.size;
  }

  add(item: T): void {
    this.#waiting.add(item);
    this.#timer ??= setInterval(() => this.#check(performance.now()), CHECK_MS);
  }

  /** False = it has expired, or was not waiting. */
  delete(item: T): boolean {
    return this.#waiting.delete(item);
  }

  /** None is waited for any longer. */
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
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
