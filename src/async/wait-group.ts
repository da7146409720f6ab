/** Counts what is under way, for those who wait until nothing is. */
export class WaitGroup {
  #count = 0;
  #waiting: (() => void)[] = [];
  // Made once: a closure for each piece of work would be kept as long as that takes.
  readonly #ended = () => this.end();
  readonly #rejected = (error: unknown) => {
    this.failed?.(error);
    this.end();
  };

  /** `failed`: told of tracked work that rejects. */
  constructor(private readonly failed?: (error: unknown) => void) {}

  get count(): number {
    return this.#count;
  }

  begin(): void {
    this.#count++;
  }

  end(): void {
    if (--this.#count === 0) for (const tell of this.#waiting.splice(0)) tell();
  }

  /** From now until it has settled. */
  track(work: Promise<unknown>): void {
    this.begin();
    work.then(this.#ended, this.#rejected);
  }

  /** Resolves when nothing is under way. */
  async idle(): Promise<void> {
    while (this.#count) await new Promise<void>(resolve => this.#waiting.push(resolve));
  }
}
