import { type Clock, systemClock, type Timer, type TimerOptions } from "../platform/clock";

/** While it runs on: how often the wall time follows. */
const TICK_MS = 20;

/**
 * The clock of a test kit. Its wall time, by which messages are due, stands still and is moved by `move`; so what a test
 * sees does not depend on how long it takes. Its monotonic time goes on as the process's, and jumps with each move: what
 * has to happen in the background does, and limits that a move passes are over.
 */
export class TestClock implements Clock {
  #wall = Date.now();
  #ahead = 0;
  readonly #timers = new Set<TestTimer>();
  /** Reasons for which the wall time goes on as well. */
  #running = 0;
  #tick: Timer | undefined;

  now(): number {
    return this.#wall;
  }

  monotonic(): number {
    return performance.now() + this.#ahead;
  }

  after(ms: number, callback: () => void, options: TimerOptions = {}): Timer {
    return this.#arm(new TestTimer(this.#timers, this.monotonic() + ms, callback, options));
  }

  every(ms: number, callback: () => void, options: TimerOptions = {}): Timer {
    return this.#arm(new TestTimer(this.#timers, this.monotonic() + ms, callback, options, ms));
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise(resolve => {
      if (signal?.aborted) return resolve();
      const end = () => {
        timer?.stop();
        signal?.removeEventListener("abort", end);
        resolve();
      };
      const timer = ms === Infinity ? undefined : this.after(ms, end, { ref: true });
      signal?.addEventListener("abort", end);
    });
  }

  /** Moves it ahead. What is due by then is called, in its order; a repeated timer once. */
  move(ms: number): void {
    this.#wall += ms;
    this.hurry(ms);
  }

  /** The same for what happens in the background: no message is due by it. */
  hurry(ms: number): void {
    this.#ahead += ms;
    const now = this.monotonic();
    for (const timer of [...this.#timers].sort((a, b) => a.dueAt - b.dueAt)) if (timer.dueAt <= now) this.#fire(timer);
    for (const timer of this.#timers) this.#set(timer);
  }

  /** In how many ms a timer of this clock is due. */
  left(timer: Timer): number {
    return timer instanceof TestTimer ? Math.max(0, timer.dueAt - this.monotonic()) : 0;
  }

  /** Until this work ends, wall time passes as it does. */
  runWhile(work: Promise<unknown>): void {
    if (this.#running++ === 0) {
      let last = performance.now();
      this.#tick = systemClock.every(TICK_MS, () => {
        const passed = Math.floor(performance.now() - last);
        last += passed;
        this.#wall += passed;
      });
    }
    const end = () => {
      if (--this.#running === 0) this.#tick?.stop();
    };
    work.then(end, end);
  }

  /** Back to the process's time. What is measured goes on. */
  reset(): void {
    this.#wall = Date.now();
  }

  #arm(timer: TestTimer): Timer {
    this.#timers.add(timer);
    this.#set(timer);
    return timer;
  }

  #set(timer: TestTimer): void {
    const { options } = timer;
    timer.real?.stop();
    timer.real = systemClock.after(this.left(timer), () => this.#fire(timer), options);
  }

  #fire(timer: TestTimer): void {
    const { everyMs, callback } = timer;
    if (!this.#timers.has(timer)) return;
    if (everyMs === undefined) timer.stop();
    else {
      timer.dueAt = this.monotonic() + everyMs;
      this.#set(timer);
    }
    callback();
  }
}

class TestTimer implements Timer {
  real: Timer | undefined;

  constructor(
    private readonly all: Set<TestTimer>,
    /** Monotonic. */
    public dueAt: number,
    readonly callback: () => void,
    readonly options: TimerOptions,
    /** undefined = once. */
    readonly everyMs?: number
  ) {}

  stop(): void {
    this.real?.stop();
    this.all.delete(this);
  }
}
