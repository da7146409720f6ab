/** A timer that was set; `stop` on one that has fired does nothing. */
export interface Timer {
  stop(): void;
}

export interface TimerOptions {
  /** Keeps the process alive until it fires. @default false */
  ref?: boolean;
}

/**
 * The source of all time and the maker of all timers of a node, so that tests can move it. What a store or a broker
 * measures by its own clock (`Store.now`, TTLs of queues) is not included.
 */
export interface Clock {
  /** Wall time in ms since the epoch: for what is stored or shown. */
  now(): number;
  /** Monotonic ms, for limits and durations: it does not jump when the wall clock is set. */
  monotonic(): number;
  /** Calls back once, after `ms`. */
  after(ms: number, callback: () => void, options?: TimerOptions): Timer;
  /** Calls back every `ms`. */
  every(ms: number, callback: () => void, options?: TimerOptions): Timer;
  /**
   * Resolves after `ms` (Infinity: never), or at once when the signal is aborted; never rejects. Keeps the process
   * alive until then.
   */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The process's own clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(ms, callback, { ref = false } = {}) {
    const timer = setTimeout(callback, ms);
    if (!ref) timer.unref();
    return { stop: () => clearTimeout(timer) };
  },
  every(ms, callback, { ref = false } = {}) {
    const timer = setInterval(callback, ms);
    if (!ref) timer.unref();
    return { stop: () => clearInterval(timer) };
  },
  sleep(ms, signal) {
    return new Promise(resolve => {
      if (signal?.aborted) return resolve();
      const end = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", end);
        resolve();
      };
      // A timer of more than 24 days would fire at once. Without a limit only the signal ends the wait.
      const timer = ms === Infinity ? undefined : setTimeout(end, ms);
      signal?.addEventListener("abort", end);
    });
  }
};
