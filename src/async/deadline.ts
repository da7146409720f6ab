/** Resolves when the work has settled, or after `ms`. */
export async function withTimeout(work: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  await Promise.race([work.catch(() => undefined), new Promise(resolve => (timer = setTimeout(resolve, ms)))]);
  clearTimeout(timer);
}

/**
 * A close handshake takes one round trip; a server that has not answered by then is frozen or gone, and is left without
 * one.
 */
export const CLOSE_MS = 2000;

/** The one clock of a stop: all that ends looks at it, so that limits do not add up. */
export class Deadline {
  readonly #at: number;

  /** `drainMs` from now. */
  constructor(drainMs: number) {
    this.#at = performance.now() + drainMs;
  }

  /** ms in which work may still come to its end. */
  get left(): number {
    return Math.max(0, this.#at - performance.now());
  }

  /** ms until all must be closed: CLOSE_MS more. */
  get toClose(): number {
    return Math.max(0, this.#at + CLOSE_MS - performance.now());
  }
}
