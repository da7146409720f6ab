/** Counts the work under way, for callers that wait until there is none. */
export class WaitGroup {
  #count = 0;
  #waiting: (() => void)[] = [];
  // Made once: a closure for each piece of work would live as long as the work.
  readonly #ended = () => this.end();
  readonly #rejected = (error: unknown) => {
    this.failed?.(error);
    this.end();
  };

  /** `failed`: called with the error of tracked work that rejects. */
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

  /** Counts the work until it has settled. */
  track(work: Promise<unknown>): void {
    this.begin();
    work.then(this.#ended, this.#rejected);
  }

  /** Resolves when no work is under way. */
  async idle(): Promise<void> {
    while (this.#count) await new Promise<void>(resolve => this.#waiting.push(resolve));
  }
}
