import { type Clock, systemClock } from "../platform/clock";

/** What `withTimeout` resolves to when time is up. */
export const TIMED_OUT: unique symbol = Symbol("timed out");

/** A caller waits for the answer, so the process must live until it is there. */
const KEEP_ALIVE = { ref: true };

/**
 * Settles like the work, or resolves to TIMED_OUT after `ms`. Then the work goes on and its end is ignored. Leaves no
 * timer.
 */
export function withTimeout<T>(
  work: Promise<T>,
  ms: number,
  clock: Clock = systemClock
): Promise<T | typeof TIMED_OUT> {
  return new Promise((resolve, reject) => {
    const timer = clock.after(ms, () => resolve(TIMED_OUT), KEEP_ALIVE);
    work.then(
      value => {
        timer.stop();
        resolve(value);
      },
      error => {
        timer.stop();
        reject(error);
      }
    );
  });
}

/**
 * A close handshake takes one round trip. A server that has not answered by then is frozen or gone, and its connection
 * is dropped.
 */
export const CLOSE_MS = 2000;

/** The one limit of a stop. All parts that end use it, so that their limits do not add up. */
export class Deadline {
  readonly #at: number;

  /** `drainMs` from now. */
  constructor(
    drainMs: number,
    private readonly clock: Clock = systemClock
  ) {
    this.#at = clock.monotonic() + drainMs;
  }

  /** ms that work has left to end. */
  get left(): number {
    return Math.max(0, this.#at - this.clock.monotonic());
  }

  /** ms until everything must be closed: CLOSE_MS more. */
  get toClose(): number {
    return Math.max(0, this.#at + CLOSE_MS - this.clock.monotonic());
  }
}
