import { types } from "node:util";
import type { ConsumerSpec, HandlerEnd } from "../consumer/consumer-parts";
import { MemoryCourier } from "../couriers/memory/courier";
import { ReliableError } from "../errors";
import { namesGroup } from "../message/pattern";
import type { ReliableEvent } from "../options/event-types";
import type { NodeOptions } from "../options/options";
import { check } from "../options/validate";
import { newId } from "../platform/ids";
import type { Runtime } from "../runtime/runtime";
import type { Surroundings } from "../runtime/surroundings";
import { STORE_ID } from "../stores/documents/identity";
import { isPause } from "../stores/documents/pauses";
import type { EmbeddedStore } from "../stores/embedded/store";
import { TestClock } from "./clock";
import { Emits, type RecordedEmit } from "./emits";
import { type AnyEmittedMessage, type EmittedMessage, emittedOf } from "./emitted";
import { hasPart, type PartialPayload } from "./match";
import { TestTransactions } from "./transactions";
import { type Limit, limitOf, Work } from "./work";
import { World } from "./world";

/** Shorter than the limit that test frameworks have for a test: who waits in vain is told why. */
const TIMEOUT_MS = 4000;
const WAIT_OPTIONS = { timeoutMs: { type: "number", integer: true, min: 1, max: 3_600_000 } };
const MAX_TIMES = 1_000_000;

/** As far as dates go that are written with four digits of a year. */
const MAX_ADVANCE_MS = 8000 * 365 * 86_400_000;

export interface WaitOptions {
  /** Limit in ms of real time. @default that of the kit */
  timeoutMs?: number;
}

/** The methods may be taken out of it: `const { emitted, settled } = reliableTesting(broker)`. */
export interface ReliableTestKit {
  /**
   * The messages that the services have emitted and the library has kept, in the order of their emits; of an event, and
   * with a payload that has these parts. A list in it is compared as a whole. Throws RELIABLE_BAD_OPTION.
   */
  emitted(): AnyEmittedMessage[];
  emitted<Event extends ReliableEvent>(
    event: Event,
    match: (payload: EmittedMessage<Event>["payload"], message: EmittedMessage<Event>) => boolean
  ): EmittedMessage<Event>[];
  emitted<Event extends ReliableEvent>(
    event: Event,
    match?: PartialPayload<EmittedMessage<Event>["payload"]>
  ): EmittedMessage<Event>[];

  /**
   * Resolves when every message has been handled by all its groups, or is dead, resolved, withdrawn or cancelled. It
   * moves the clock over backoffs and the like; what is scheduled stays so, as far ahead as it was, and what no group of the test takes is not
   * waited for. Rejects with RELIABLE_NOT_SETTLED, which names what is open, RELIABLE_NOT_STARTED, RELIABLE_BAD_OPTION.
   */
  settled(options?: WaitOptions): Promise<void>;

  /**
   * The next delivery to this group, or the next `times`, fails with this error as if its handler had thrown it; the
   * handler is not called. Throws RELIABLE_NOT_FOUND where no node has such a group, RELIABLE_BAD_OPTION.
   * @param times @default 1
   */
  failNext(group: string, error: Error, times?: number): void;

  /**
   * Moves the clock by `ms`: retries, schedules and all else that comes due by then are done, each at its instant, and
   * what comes of them is waited for. Rejects with RELIABLE_NOT_SETTLED, RELIABLE_NOT_STARTED, RELIABLE_BAD_OPTION.
   */
  advance(ms: number, options?: WaitOptions): Promise<void>;

  /**
   * As at the beginning: no messages, nothing remembered of what was handled, no `failNext`, no pauses, breakers closed,
   * the clock at the process's time. Services stay up. Handlers that run are waited for; what they answer after
   * `timeoutMs` counts for nothing. Rejects with RELIABLE_BAD_OPTION.
   */
  reset(options?: WaitOptions): Promise<void>;

  /** What time it is by the clock of the kit. */
  now(): Date;
}

/** Errors that handlers are to fail with. */
interface Failing {
  group: string;
  error: Error;
  left: number;
}

export class TestKit implements ReliableTestKit {
  readonly #clock = new TestClock();
  readonly #emits = new Emits(this.#clock);
  readonly #world = new World(this.#clock, this.#emits);
  readonly #work = new Work(this.#clock, this.#world, this.#emits);
  /** Under it the nodes of this kit meet each other and no others. */
  readonly #id = newId();
  readonly #timeoutMs: number;
  #failing: Failing[] = [];
  #moving: Promise<void> = Promise.resolve();

  /** Throws RELIABLE_BAD_OPTION. */
  constructor(options: WaitOptions = {}) {
    this.#timeoutMs = timeoutOf("reliableTesting()", options) ?? TIMEOUT_MS;
  }

  /** Throws RELIABLE_BAD_OPTION where it has started, or has a kit. */
  attach(runtime: Runtime): void {
    runtime.surround(this.#surroundings(runtime));
    this.#world.runtimes.add(runtime);
  }

  readonly emitted = (event?: string, match?: unknown): never[] => {
    if (event !== undefined && typeof event !== "string") throw bad("event", "a name of an event");
    this.#world.look();
    const messages = [...this.#emits.all].filter(isKept).map(emittedOf);
    const isMeant = (message: EmittedMessage) =>
      typeof match === "function" ? match(message.payload, message) === true : hasPart(message.payload, match);
    return messages.filter(
      message => (event === undefined || message.event === event) && (match === undefined || isMeant(message))
    ) as never[];
  };

  readonly settled = async (options?: WaitOptions): Promise<void> => {
    const limitMs = this.#limitMs("settled", options);
    this.#needUp();
    await this.#inTurn(() => this.#work.settled(limitOf(limitMs)));
  };

  readonly failNext = (group: string, error: Error, times = 1): void => {
    if (typeof group !== "string" || group === "") throw bad("group", "a name of a group");
    if (!types.isNativeError(error) && !((error as unknown) instanceof Error)) throw bad("error", "an Error");
    if (!Number.isInteger(times) || times < 1 || times > MAX_TIMES)
      throw bad("times", `a whole number from 1 to ${MAX_TIMES}`);
    const all = [...this.#world.runtimes];
    const groups = new Set(all.flatMap(({ consumers }) => [...consumers].map(({ spec }) => spec.group)));
    if (all.every(({ running }) => running) && ![...groups].some(known => namesGroup(group, known)))
      throw new ReliableError(
        "RELIABLE_NOT_FOUND",
        `No node of the test has a group '${group}'; there are: ${[...groups].join(", ") || "none"}.`,
        { group, groups: [...groups] }
      );
    this.#failing.push({ group, error, left: times });
  };

  readonly advance = async (ms: number, options?: WaitOptions): Promise<void> => {
    if (!Number.isInteger(ms) || ms < 0 || ms > MAX_ADVANCE_MS)
      throw bad("ms", "a whole number of milliseconds, from 0 on");
    const limitMs = this.#limitMs("advance", options);
    this.#needUp();
    await this.#inTurn(() => {
      // What retention takes away meanwhile is still told of.
      this.#world.look();
      return this.#work.advance(ms, limitOf(limitMs));
    });
  };

  readonly reset = async (options?: WaitOptions): Promise<void> => {
    const limitMs = this.#limitMs("reset", options);
    await this.#inTurn(() => this.#reset(limitOf(limitMs)));
  };

  /** One that was not awaited ends before the next one begins: time goes one way. */
  #inTurn(move: () => Promise<void>): Promise<void> {
    const mine = this.#moving.then(move);
    this.#moving = mine.catch(() => undefined);
    return mine;
  }

  async #reset(limit: Limit): Promise<void> {
    this.#failing = [];
    for (const broker of this.#world.brokers) for (const queue of broker.queues.values()) broker.purge(queue);
    // What runs still has its say, as far as it says it in time.
    await this.#work.quiet(limit).catch(() => undefined);
    for (const { runtime, storage } of this.#world.up) {
      for (const { group, pattern } of storage.subscriptions.paused)
        await storage.operations.resume({ group, ...(pattern !== undefined && { pattern }) }, { by: "test kit" });
      for (const { breaker } of runtime.consumers) breaker?.reset();
      if (runtime.courier instanceof MemoryCourier) runtime.courier.clear();
    }
    this.#clock.reset();
    for (const { store } of this.#world.stores) await this.#empty(store);
    await Promise.all(this.#world.up.map(({ storage }) => storage.subscriptions.refresh()));
    this.#emits.forget();
  }

  readonly now = (): Date => new Date(this.#clock.now());

  #surroundings(runtime: Runtime): Surroundings {
    return {
      clock: this.#clock,
      options: withoutServers,
      place: namespace => `${this.#id}/${namespace}`,
      transactions: namespace => new TestTransactions(() => this.#storeOf(namespace)),
      emit: given => this.#emits.options(given),
      strategy: own => this.#emits.recorded(own, message => this.#work.known(message, runtime)),
      handler: spec => this.#handler(spec)
    };
  }

  #storeOf(namespace: string): EmbeddedStore {
    const found = this.#world.stores.find(({ runtime }) => runtime.identity.namespace === namespace);
    if (!found) throw notStarted();
    return found.store;
  }

  /** As the consumer calls it: what fails here has failed like a handler. */
  #handler(spec: ConsumerSpec): ConsumerSpec["handle"] {
    return async (envelope, extras, delivery): Promise<HandlerEnd> => {
      const { id, event } = envelope;
      const { group } = spec;
      const failing = this.#failing.find(({ group: named }) => namesGroup(named, group));
      if (failing) {
        if (--failing.left === 0) this.#failing = this.#failing.filter(other => other !== failing);
        return { error: failing.error };
      }
      const running = { id, event, group };
      this.#world.running.add(running);
      try {
        return await spec.handle(envelope, extras, delivery);
      } finally {
        this.#world.running.delete(running);
      }
    };
  }

  async #empty({ collections }: EmbeddedStore): Promise<void> {
    const { subscriptions, barriers, ...others } = collections;
    await Promise.all(Object.values(others).map(collection => collection.remove({})));
    const bars = barriers.rows().filter(({ _id }) => _id !== STORE_ID);
    await barriers.remove({ _id: { $in: bars.map(({ _id }) => _id) } });
    const pauses = subscriptions.rows().filter(isPause);
    await subscriptions.remove({ _id: { $in: pauses.map(({ _id }) => _id) } });
    // The clock is back, and nobody was seen in the future.
    const at = this.now();
    await subscriptions.update({}, { $set: { firstSeenAt: at, seenAt: at } });
  }

  #needUp(): void {
    if (!this.#world.up.length) throw notStarted();
  }

  #limitMs(what: string, options: WaitOptions = {}): number {
    return timeoutOf(`${what}()`, options) ?? this.#timeoutMs;
  }
}

/** What is in a transaction is not yet, and what was refused never. */
function isKept({ message, outcome, row }: RecordedEmit): boolean {
  return row !== undefined || (message.strategy === "callback" && outcome !== "rejected");
}

/** Whatever a service says of servers. What is about load goes by how late things are, which a moved clock fakes. */
function withoutServers(given: NodeOptions): NodeOptions {
  const none = { amqp: undefined, mongo: undefined, redis: undefined, path: undefined, database: undefined };
  return { ...given, ...none, service: true, sweeper: true, observer: false, admission: false };
}

function timeoutOf(what: string, options: WaitOptions): number | undefined {
  if (typeof options !== "object" || options === null) throw bad("options", `of ${what} an object`);
  return (check(what, WAIT_OPTIONS, { ...options }) as WaitOptions).timeoutMs;
}

function bad(option: string, want: string): ReliableError {
  return new ReliableError("RELIABLE_BAD_OPTION", `The test kit's '${option}' must be ${want}.`, { option });
}

function notStarted(): ReliableError {
  return new ReliableError("RELIABLE_NOT_STARTED", "No node of the test kit is up: await `broker.start()` first.", {});
}
