import { DeliveryScope } from "../async/delivery-scope";
import { ExpiringSet } from "../async/expiring-set";
import { Fifo } from "../async/fifo";
import { ReliableError, ReliableRetryableError } from "../errors";
import type { AdmissionOptions } from "../options/options";
import type { Clock, Timer } from "../platform/clock";
import type { Load } from "../telemetry/load";
import type { Metrics } from "../telemetry/metrics";
import { type AdmissionState, LOOK_MS, OPEN, STAGES, type Stage, step } from "./admission-limit";

/** Without an emit for so long nothing is looked at. */
const QUIET_MS = 5000;
/** Waiting emits are let in this often, and at most so many in one turn of the event loop, so that sockets get theirs. */
const PACE_MS = 5;
const PER_TURN = 256;
/** Of a second: what may be let in at once after a pause. */
const BURST = 0.1;
/** So many may wait at any rate: callers that each wait for their emit come in hundreds. */
const MIN_WAITING = 1000;
/** A rate may fall while emits wait. After so long one is refused all the same. */
const PATIENCE_MS = 10_000;
/** Bytes of messages that may wait for a server, and those that may wait here. */
const MAX_BYTES = 64 * 1024 * 1024;
/** Shortest pause that a refused caller is told, and the one while a server is away. */
const MIN_RETRY_MS = 100;
const AWAY_RETRY_MS = 1000;

/** What the admission has to know of a strategy. */
export interface Pending {
  /** Emits whose promise does not hold yet. */
  readonly pending: number;
  readonly pendingBytes: number;
}

/** How a handler has ended. */
interface Ended {
  error?: unknown;
  excused?: true;
}

interface Waiting {
  readonly event: string;
  readonly bytes: number;
  readonly deadline: number;
  gone: boolean;
  resolve(): void;
  reject(error: Error): void;
}

export interface AdmissionParts {
  load: Load;
  metrics: Metrics;
  clock: Clock;
  options: false | AdmissionOptions;
  maxPending: number;
  /** Whose being away is no load. */
  servers: { store: { readonly ready: boolean } | undefined; courier: { readonly ready: boolean } };
}

/**
 * Stands before every emit, and is open as long as this node keeps up. While it does not, emits are let in at the rate at
 * which they are finished; the excess waits, in order, or is refused at once, before anything of it is made or stored.
 * What waits here has no promise: if the process dies, nothing was stored, and no emit has resolved.
 *
 * Never refused: emits of reliable handlers, whose refusal would make retries, and those with `session`, which would hold
 * the locks of a transaction. They are not held either, where a context or the session tells. Without one the async
 * context does, which costs a fifth of the process's time on Node.js up to 23: so from when emits are refused.
 */
export class Admission {
  #state: AdmissionState = OPEN;
  #timer: Timer | undefined;
  #release: { stop(): void } | undefined;
  #tokens = 0;
  #tokensAt = 0;
  #asked = 0;
  #stored = 0;
  #askedAt = 0;
  #bytes = 0;
  #stopped = false;
  /** Emits are refused, or may soon be, so those of handlers have to be known. */
  #scoped = false;
  readonly #deliveries: DeliveryScope;
  /** What was thrown here. */
  readonly #refusals = new WeakSet<object>();
  readonly #queue = new Fifo<Waiting>();
  readonly #waiting: ExpiringSet<Waiting>;

  constructor(private readonly parts: AdmissionParts) {
    this.#waiting = new ExpiringSet(item => this.#expire(item), parts.clock);
    this.#deliveries = new DeliveryScope(() => parts.clock.monotonic());
  }

  /** False: nothing is ever held, and nobody looks at the load. */
  get on(): boolean {
    return this.parts.options !== false;
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** What is late, as an operator reads it, and the rate; undefined while everything is let in. */
  get closed(): { stage: string; perSecond: number } | undefined {
    const { rate } = this.#state;
    if (rate === undefined) return undefined;
    return { stage: this.parts.load.lastStage ?? STAGES.loop, perSecond: Math.round(rate) };
  }

  /**
   * Calls a reliable handler: while emits are refused, those of what begins now are known without a context, too, but for
   * a group that was never seen to emit. Where one is refused all the same, its message is excused.
   */
  handling<T extends Ended>(group: string, handle: () => Promise<T>): Promise<T> {
    return this.#state.rate === undefined ? handle() : this.#watched(group, handle);
  }

  async #watched<T extends Ended>(group: string, handle: () => Promise<T>): Promise<T> {
    const end = await (this.#scoped ? this.#deliveries.run(group, handle) : handle());
    const { error } = end;
    if (typeof error !== "object" || error === null || !this.#refusals.has(error)) return end;
    this.#deliveries.emits(group);
    return { ...end, excused: true };
  }

  /**
   * Asks for one emit; throws RELIABLE_UNAVAILABLE if it is refused. True = it has to wait for its `turn`, once it is
   * made.
   */
  ask(event: string, strategy: Pending, { free, timeoutMs }: { free: boolean; timeoutMs: unknown }): boolean {
    const { clock, options, maxPending } = this.parts;
    if (free || this.#deliveries.within) return this.#free(event, strategy);
    this.#asked++;
    this.#askedAt = clock.monotonic();
    if (options && !this.#timer) this.#watch();
    if (strategy.pending >= maxPending || strategy.pendingBytes > MAX_BYTES)
      throw this.#refusal(event, `${strategy.pending} emits are waiting (maxPending ${maxPending})`, AWAY_RETRY_MS, {
        option: "maxPending"
      });
    const { rate } = this.#state;
    if (!options || (rate === undefined && !this.waiting)) return false;
    if (rate !== undefined && !this.waiting && this.#take()) return false;
    const limitMs = Math.min(options.waitMs, typeof timeoutMs === "number" ? timeoutMs : options.waitMs);
    const expectedMs = (this.waiting / (rate ?? Infinity)) * 1000;
    if (rate !== undefined && (this.waiting >= MIN_WAITING || expectedMs > PATIENCE_MS / 2)) this.#scoped = true;
    if (this.#bytes > MAX_BYTES || (this.waiting >= MIN_WAITING && expectedMs > limitMs))
      throw this.#late(event, expectedMs);
    return true;
  }

  /** What the process cannot hold is refused to all. */
  #free(event: string, { pending, pendingBytes }: Pending): false {
    if (pendingBytes > 2 * MAX_BYTES)
      throw this.#refusal(event, `${pending} emits are waiting, of ${pendingBytes} bytes`, AWAY_RETRY_MS, {
        option: "maxPending"
      });
    if (this.#state.rate !== undefined) this.parts.metrics.count("emit.unheld");
    return false;
  }

  #watch(): void {
    const { clock, load } = this.parts;
    // What was before says nothing about now.
    load.look(LOOK_MS);
    this.#timer = clock.every(LOOK_MS, () => this.#look());
  }

  /** Resolves when the emit may go on, in the order of the calls; rejects with RELIABLE_UNAVAILABLE or RELIABLE_STOPPED. */
  turn(event: string, bytes: number, timeoutMs: number): Promise<void> {
    const { clock } = this.parts;
    return new Promise((resolve, reject) => {
      if (this.#stopped) return reject(stopped(event));
      const deadline = clock.monotonic() + Math.min(PATIENCE_MS, timeoutMs);
      const item = { event, bytes, deadline, gone: false, resolve, reject };
      this.#queue.push(item);
      this.#waiting.add(item);
      this.#bytes += bytes;
      this.#schedule();
    });
  }

  stored(): void {
    this.#stored++;
  }

  /** Nothing of what waits was stored. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.stop();
    this.#release?.stop();
    this.#timer = undefined;
    for (const item of this.#queue.drain()) if (this.#leave(item)) item.reject(stopped(item.event));
  }

  #look(): void {
    const { load, metrics, servers, options, clock } = this.parts;
    if (!options) return;
    if (!servers.store?.ready) load.store.forget();
    if (!servers.courier.ready) load.undelivered();
    const { ms, loop, store, broker, handlers, arrived, cost } = load.look(LOOK_MS);
    const sample = {
      ms,
      waiting: this.waiting,
      stored: this.#stored,
      handled: arrived,
      late: { loop, store, broker, handlers },
      share: (this.#asked * cost) / ms
    };
    this.#asked = this.#stored = 0;
    const before = this.#state;
    this.#state = step(before, sample, options);
    const { rate, stage } = this.#state;
    if (rate !== undefined && stage) load.overloaded(STAGES[stage as Stage]);
    if ((rate === undefined) !== (before.rate === undefined)) {
      this.#tokens = 0;
      this.#tokensAt = clock.monotonic();
      metrics.set("overloaded", Number(rate !== undefined));
      if (rate === undefined && this.#scoped) {
        this.#scoped = false;
        this.#deliveries.end();
      }
    }
    if (this.waiting) this.#schedule();
    else if (rate === undefined && clock.monotonic() - this.#askedAt > QUIET_MS) {
      this.#timer?.stop();
      this.#timer = undefined;
      this.#state = OPEN;
    }
  }

  /** One more may go now. */
  #take(): boolean {
    const { rate } = this.#state;
    if (rate === undefined) return true;
    const now = this.parts.clock.monotonic();
    this.#tokens = Math.min(Math.max(1, rate * BURST), this.#tokens + ((now - this.#tokensAt) / 1000) * rate);
    this.#tokensAt = now;
    if (this.#tokens < 1) return false;
    this.#tokens--;
    return true;
  }

  #schedule(): void {
    this.#release ??= this.parts.clock.after(PACE_MS, () => this.#letIn(), { ref: true });
  }

  #letIn(): void {
    this.#release = undefined;
    let count = 0;
    while (this.waiting && count < PER_TURN) {
      const next = this.#queue.peek();
      if (next && !next.gone && !this.#take()) break;
      const item = this.#queue.shift();
      if (!item || !this.#leave(item)) continue;
      count++;
      item.resolve();
    }
    if (!this.waiting) return;
    if (count < PER_TURN) this.#schedule();
    else {
      const immediate = setImmediate(() => this.#letIn());
      this.#release = { stop: () => clearImmediate(immediate) };
    }
  }

  #expire(item: Waiting): void {
    this.#drop(item);
    item.reject(this.#late(item.event, (this.waiting / (this.#state.rate ?? Infinity)) * 1000));
  }

  /** False = it has expired. */
  #leave(item: Waiting): boolean {
    if (!this.#waiting.delete(item)) return false;
    this.#drop(item);
    return true;
  }

  #drop(item: Waiting): void {
    item.gone = true;
    this.#bytes -= item.bytes;
  }

  #late(event: string, expectedMs: number): Error {
    const { rate = 0 } = this.#state;
    const why = `this node is overloaded (${this.closed?.stage ?? "it was a moment ago"}) and takes ${Math.round(rate)} emits per second; ${this.waiting} are waiting`;
    return this.#refusal(event, why, Math.max(MIN_RETRY_MS, Math.round(expectedMs)), { option: "admission" });
  }

  #refusal(event: string, why: string, retryAfterMs: number, data: { option: string }): Error {
    this.parts.metrics.count("emit.refused");
    const refusal = withoutStack(
      () =>
        new ReliableRetryableError(
          "RELIABLE_UNAVAILABLE",
          `'${event}' was not taken: ${why}. Nothing was stored; emit again in ${retryAfterMs} ms.`,
          { event, retryAfterMs, stored: false, ...data }
        )
    );
    this.#refusals.add(refusal);
    return refusal;
  }
}

function stopped(event: string): ReliableError {
  return new ReliableError(
    "RELIABLE_STOPPED",
    `Cannot emit '${event}' reliably: the node has stopped. Nothing was stored.`,
    {
      event
    }
  );
}

/** Its lines would be the same each time, and cost several times the rest of a refusal. */
function withoutStack<T>(make: () => T): T {
  const { stackTraceLimit } = Error;
  Error.stackTraceLimit = 0;
  try {
    return make();
  } finally {
    Error.stackTraceLimit = stackTraceLimit;
  }
}
