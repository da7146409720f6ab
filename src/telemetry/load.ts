import { performance } from "node:perf_hooks";
import { matches } from "../message/pattern";
import type { Clock } from "../platform/clock";

/** One emit, or call of a handler, in so many is timed: some ns each, and hundreds per second under load. */
const ONE_IN = 16;
/** What comes to a handler later waited for something else than this node's load: a pause, a group that was away. */
const TOO_OLD_MS = 10_000;
/** When handlers themselves fill more than this part of a consumer's slots, its queue waits for them. */
const MOSTLY_HANDLERS = 0.5;
/** A loop that waits for others more than this part of its time is not what deliveries wait for. */
const BUSY = 0.7;
/** A server that has finished nothing for so long is not slow but stands still: no load makes it late. */
const STANDS_MS = 1000;
/** Events whose consumers are remembered. */
const MAX_EVENTS = 1000;

/** A timed emit, until its promise holds. */
export interface Probe {
  readonly at: number;
}

/** A server that emits wait for. */
class Line {
  readonly probes = new Set<Probe>();
  /** The longest since the last look. */
  longest = 0;
  endedAt = -Infinity;

  end(probe: Probe, now: number): void {
    // Forgotten meanwhile: the server was away.
    if (!this.probes.delete(probe)) return;
    this.longest = Math.max(this.longest, now - probe.at);
    this.endedAt = now;
  }

  forget(): void {
    this.probes.clear();
    this.longest = 0;
  }

  /** Resets `longest`. */
  age(now: number): number {
    const [oldest] = this.probes;
    const { longest } = this;
    this.longest = 0;
    if (oldest && now - Math.max(this.endedAt, oldest.at) > STANDS_MS) return 0;
    return Math.max(longest, oldest ? now - oldest.at : 0);
  }
}

interface Watched {
  readonly slots: number;
  readonly pattern: string;
  calls: number;
  timed: number;
  /** Of the timed ones, in all. */
  ms: number;
  /** Of the messages that came: the least age; a queue that stands makes all of them late. */
  least: number;
}

/** The part of a consumer that says whether what comes late, or not at all, waits for this node. */
interface Taking {
  readonly consuming: boolean;
  readonly paused: boolean;
  readonly breaker: { readonly opened: object | undefined } | undefined;
}

interface Handling {
  id: string;
}

type Handle<H, A extends unknown[], R> = (handling: H, ...more: A) => Promise<R>;

/** Ages in ms, by stage; `arrived`: how many emits have come to a handler; `cost`: of one emit, in ms. */
interface Look {
  ms: number;
  loop: number;
  store: number;
  broker: number;
  handlers: number;
  /** undefined = it says nothing: nothing comes, or it is not this node that deliveries wait for. */
  arrived: number | undefined;
  cost: number;
}

/** After a look. The mean of the times follows slowly: a few say little. */
function rest(watched: Watched): void {
  watched.calls = 0;
  watched.least = Infinity;
  if (watched.timed <= 8) return;
  watched.timed /= 2;
  watched.ms /= 2;
}

/** What is known of the load of this node: nothing but what it sees itself, by a sample of its own emits. */
export class Load {
  readonly store = new Line();
  readonly broker = new Line();
  readonly #watched = new Map<unknown, Watched>();
  readonly #handledHere = new Map<string, boolean>();
  /** Emits on their way to a handler of this node, oldest first, each for as many as were let in since the one before. */
  readonly #onTheirWay = new Map<string, { at: number; stands: number }>();
  #count = 0;
  #since = 0;
  #arrived = 0;
  #costs = { timed: 0, ms: 0 };
  #lookedAt: number;
  #utilization = performance.eventLoopUtilization();
  #late: { at: number; stage: string } | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly consumers: Iterable<Taking>
  ) {
    this.#lookedAt = clock.monotonic();
  }

  /** Whether this emit is to be timed. */
  chosen(): boolean {
    this.#since++;
    return this.#count++ % ONE_IN === 0;
  }

  /** How long an emit, or its refusal, has kept the event loop. */
  cost(ms: number): void {
    this.#costs.timed++;
    this.#costs.ms += ms;
  }

  begin(line: Line, at: number): Probe {
    const probe = { at };
    line.probes.add(probe);
    return probe;
  }

  /** It was let in at `at`, and has to come to a handler of this node, if there is one for it. */
  sent(id: string, event: string, at: number): void {
    if (!this.#isHandledHere(event)) return;
    this.#onTheirWay.set(id, { at, stands: this.#since });
    this.#since = 0;
  }

  /** The handler of a consumer, observed until `unwatch`. */
  watch<H extends Handling, A extends unknown[], R>(
    handle: Handle<H, A, R>,
    { pattern, options }: { pattern: string; options: { maxInFlight: number } }
  ): Handle<H, A, R> {
    const watched: Watched = { pattern, slots: options.maxInFlight, calls: 0, timed: 0, ms: 0, least: Infinity };
    const observed: Handle<H, A, R> = (handling, ...more) => {
      if (this.#onTheirWay.size) this.#seen(handling.id, watched);
      if (watched.calls++ % ONE_IN) return handle(handling, ...more);
      const from = this.clock.monotonic();
      const handled = handle(handling, ...more);
      void handled.then(() => {
        watched.timed++;
        watched.ms += this.clock.monotonic() - from;
      });
      return handled;
    };
    this.#watched.set(observed, watched);
    this.#handledHere.clear();
    return observed;
  }

  unwatch(observed: unknown): void {
    if (this.#watched.delete(observed)) this.#handledHere.clear();
  }

  #seen(id: string, watched: Watched): void {
    const sent = this.#onTheirWay.get(id);
    if (!sent) return;
    this.#onTheirWay.delete(id);
    this.#arrived += sent.stands;
    watched.least = Math.min(watched.least, this.clock.monotonic() - sent.at);
  }

  /** RabbitMQ is away, or takes nothing: what was emitted is not on its way to anybody. */
  undelivered(): void {
    this.broker.forget();
    this.#onTheirWay.clear();
  }

  #isHandledHere(event: string): boolean {
    let known = this.#handledHere.get(event);
    if (known === undefined) {
      if (this.#handledHere.size >= MAX_EVENTS) this.#handledHere.clear();
      known = [...this.#watched.values()].some(({ pattern }) => matches(event, pattern));
      this.#handledHere.set(event, known);
    }
    return known;
  }

  /** Since the look before. `everyMs`: when it was meant to come. */
  look(everyMs: number): Look {
    const now = this.clock.monotonic();
    const ms = Math.max(1, now - this.#lookedAt);
    this.#lookedAt = now;
    const utilization = performance.eventLoopUtilization();
    const busy = performance.eventLoopUtilization(utilization, this.#utilization).utilization >= BUSY;
    this.#utilization = utilization;
    const handlers = busy ? this.#handlersAge(now, ms) : undefined;
    const arrived = this.#arrived;
    this.#arrived = 0;
    for (const watched of this.#watched.values()) rest(watched);
    for (const [id, { at }] of this.#onTheirWay) {
      if (now - at < TOO_OLD_MS) break;
      this.#onTheirWay.delete(id);
    }
    const { timed, ms: spent } = this.#costs;
    // A mean that follows slowly: a few calls say little.
    if (timed > 64) this.#costs = { timed: timed / 2, ms: spent / 2 };
    return {
      ms,
      loop: Math.max(0, ms - everyMs),
      store: this.store.age(now),
      broker: this.broker.age(now),
      handlers: handlers ?? 0,
      arrived: handlers === undefined ? undefined : arrived,
      cost: timed ? spent / timed : 0
    };
  }

  /** undefined = nothing comes, or the handlers themselves take their time. */
  #handlersAge(now: number, ms: number): number | undefined {
    let age: number | undefined;
    let calls = 0;
    for (const watched of this.#watched.values()) {
      calls += watched.calls;
      const filled = watched.timed ? (watched.calls * (watched.ms / watched.timed)) / (ms * watched.slots) : 0;
      if (watched.least < Infinity && filled < MOSTLY_HANDLERS) age = Math.max(age ?? 0, watched.least);
    }
    if (calls) return age;
    // Nothing at all comes to handlers that would take it: emits leave no time for it.
    const [oldest] = this.#onTheirWay.values();
    const taking = [...this.consumers].every(
      ({ consuming, paused, breaker }) => consuming && !paused && !breaker?.opened
    );
    return oldest && taking ? now - oldest.at : undefined;
  }

  /** For how long in ms nothing has been late because of load. Infinity: never. */
  get calmMs(): number {
    return this.#late ? this.clock.monotonic() - this.#late.at : Infinity;
  }

  /** Something is late because of load; `stage` as an operator reads it. */
  overloaded(stage: string): void {
    this.#late = { at: this.clock.monotonic(), stage };
  }

  get lastStage(): string | undefined {
    return this.#late?.stage;
  }
}

export type { Line };
