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
 * measures by its own clock (`Store.now`, TTLs of queues) is not included. No delay is too long.
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

/** Node.js takes a longer delay for 1 ms. This file alone makes timers, so longer ones are set again until time is up. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

function after(ms: number, callback: () => void, { ref = false }: TimerOptions = {}): Timer {
  let timer: NodeJS.Timeout;
  const arm = (left: number) => {
    const next = left > MAX_TIMER_MS ? () => arm(left - MAX_TIMER_MS) : callback;
    timer = setTimeout(next, Math.min(left, MAX_TIMER_MS));
    if (!ref) timer.unref();
  };
  arm(ms);
  return { stop: () => clearTimeout(timer) };
}

function every(ms: number, callback: () => void, { ref = false }: TimerOptions = {}): Timer {
  if (ms <= MAX_TIMER_MS) {
    const timer = setInterval(callback, ms);
    if (!ref) timer.unref();
    return { stop: () => clearInterval(timer) };
  }
  let timer: Timer;
  const arm = () => {
    timer = after(ms, turn, { ref });
  };
  const turn = () => {
    // First, since the callback may stop it.
    arm();
    callback();
  };
  arm();
  return { stop: () => timer.stop() };
}

/** The process's own clock. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after,
  every,
  sleep(ms, signal) {
    return new Promise(resolve => {
      if (signal?.aborted) return resolve();
      const end = () => {
        timer?.stop();
        signal?.removeEventListener("abort", end);
        resolve();
      };
      // Without a limit only the signal ends the wait, and the process need not live for it.
      const timer = ms === Infinity ? undefined : after(ms, end, { ref: true });
      signal?.addEventListener("abort", end);
    });
  }
};
