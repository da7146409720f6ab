/** A call, and what it waits for. */
export interface Call {
  /** The one before it has been handed on, or has failed. undefined = there is none. */
  before: Promise<void> | undefined;
  /** Whoever came after it may go on. Repeating it is harmless. */
  leave(): void;
}

/**
 * Emits with an order key are handed on in the order of their calls, however long one is checked, encoded or held before.
 */
export class CallOrder {
  readonly #last = new Map<string, Promise<void>>();

  enter(key: string): Call {
    const before = this.#last.get(key);
    let open: () => void = () => undefined;
    const mine = new Promise<void>(resolve => (open = resolve));
    this.#last.set(key, mine);
    return {
      before,
      leave: () => {
        open();
        if (this.#last.get(key) === mine) this.#last.delete(key);
      }
    };
  }
}
