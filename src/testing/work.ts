import { TIMED_OUT, withTimeout } from "../async/deadline";
import type { Queued } from "../couriers/memory/broker";
import { ReliableRetryableError } from "../errors";
import { STATUS } from "../message/lifecycle";
import { ANY_GROUP, type Message } from "../message/message";
import { systemClock } from "../platform/clock";
import type { Runtime } from "../runtime/runtime";
import type { TestClock } from "./clock";
import type { Emits } from "./emits";
import type { World } from "./world";

/** Without a change for so many steps it is not time that is missing. */
const STEPS_WITHOUT_PROGRESS = 300;

/** While something is under way and no handler is: pauses of the library, of a second in all, are cut short. */
const HURRY_MS = 20;
const MAX_HURRY_MS = 3000;

/** An emit at the start of a node may come before anybody reads announcements. */
const ANNOUNCED_MS = 300;

/** Open messages that an error names. */
const MAX_NAMED = 5;

/** By the process's clock, whatever the kit's says. */
export interface Limit {
  at: number;
  timeoutMs: number;
}

export function limitOf(timeoutMs: number): Limit {
  return { at: performance.now() + timeoutMs, timeoutMs };
}

/** Lets the nodes of a kit do what there is to do, and time pass. */
export class Work {
  constructor(
    private readonly clock: TestClock,
    private readonly world: World,
    private readonly emits: Emits
  ) {}

  /**
   * Resolves when all that is due is done, and what has come of it. `but`: what was in hand before, and may take as long
   * as it likes. Rejects with RELIABLE_NOT_SETTLED.
   */
  async quiet(limit: Limit, but: ReadonlySet<Queued> = new Set()): Promise<void> {
    let hurried = 0;
    for (let calm = 0; calm < 3; calm++) {
      if (performance.now() > limit.at) throw this.#late(limit);
      const ended = withTimeout(this.#ended(), limit.at - performance.now());
      if ((await ended) === TIMED_OUT) throw this.#late(limit);
      if (this.world.due) {
        for (const { storage } of this.world.stores) await storage.sweeper.once();
        calm = -1;
      } else if (this.world.busy(but)) {
        await systemClock.sleep(1);
        calm = -1;
        if (this.world.running.size === 0 && hurried < MAX_HURRY_MS) {
          hurried += HURRY_MS;
          this.clock.hurry(HURRY_MS);
        }
      }
      // A turn of the event loop in which something may begin.
      await new Promise(resolve => setImmediate(resolve));
    }
  }

  /**
   * In production a group is known some seconds after its start. In a test the first emit comes at once, and is to be for
   * the groups that are there. undefined = those are known.
   */
  known(message: Message, runtime: Runtime): Promise<void> | undefined {
    if (message.sendAt || !(this.world.announcing || message.waiting.includes(ANY_GROUP))) return undefined;
    return this.#known(message, runtime);
  }

  async #known(message: Message, runtime: Runtime): Promise<void> {
    const until = performance.now() + ANNOUNCED_MS;
    while (this.world.announcing && performance.now() < until) await systemClock.sleep(1);
    const { event, groups } = message;
    await runtime.storage?.subscriptions.refresh();
    message.waiting = runtime.storage?.subscriptions.waitingFor(event, groups) ?? message.waiting;
  }

  /** Until nothing is open. What waits for time gets it, and what is scheduled is as far ahead as before. Rejects with RELIABLE_NOT_SETTLED. */
  async settled(limit: Limit): Promise<void> {
    const { clock, world } = this;
    let seen = "";
    for (let steps = 0; ; steps++) {
      await this.quiet(limit);
      world.look();
      if (!world.open.length) return;
      const { progress } = world;
      if (progress !== seen) steps = 0;
      seen = progress;
      const next = world.next(false);
      if (next === undefined) {
        // Something outside of the kit may lead it on: who has paused a group may resume it.
        await systemClock.sleep(5);
        steps = 0;
      } else if (steps > STEPS_WITHOUT_PROGRESS) throw this.#late(limit, "more time changes nothing");
      else {
        await this.#postpone(next);
        clock.move(next);
      }
    }
  }

  /** Moves the clock by this, in steps from one due instant to the next. Rejects with RELIABLE_NOT_SETTLED. */
  async advance(ms: number, limit: Limit): Promise<void> {
    const { clock, world } = this;
    const target = clock.now() + ms;
    const before = new Set(world.held());
    let seen = "";
    for (let steps = 0; ; steps++) {
      await this.quiet(limit, before);
      world.look();
      const left = target - clock.now();
      if (left <= 0) return;
      const { progress } = world;
      if (progress !== seen) steps = 0;
      seen = progress;
      const next = steps > STEPS_WITHOUT_PROGRESS ? left : (world.next(true) ?? left);
      clock.move(Math.min(next, left));
    }
  }

  /** What a service has scheduled is of the test's time, whatever backoffs there were in between. */
  async #postpone(ms: number): Promise<void> {
    const later = (at: unknown) => new Date((at as Date).getTime() + ms);
    for (const { store } of this.world.stores) {
      const { messages } = store.collections;
      const scheduled = messages.rows().filter(({ status }) => status === STATUS.scheduled);
      await messages.bulk(
        scheduled.map(({ _id, dueAt, sendAt }) => ({
          filter: { _id, status: STATUS.scheduled },
          change: { $set: { dueAt: later(dueAt), sendAt: later(sendAt) } }
        }))
      );
    }
  }

  /** What nodes do by themselves. */
  async #ended(): Promise<void> {
    const nodes = this.world.up;
    await Promise.all(nodes.map(({ storage }) => storage.sweeper.idle()));
    await Promise.all(nodes.map(({ storage }) => storage.subscriptions.refresh()));
    await this.emits.idle();
    await Promise.all(nodes.map(({ storage }) => storage.deadHooks.idle()));
  }

  #late({ timeoutMs }: Limit, why = `not within ${timeoutMs} ms`): ReliableRetryableError {
    const { open } = this.world;
    const named = open
      .slice(0, MAX_NAMED)
      .map(({ id, event, status, why }) => `'${event}' (${id}) is ${status}, ${why}`);
    const running = [...this.world.running].map(
      ({ event, id, group }) => `the handler of '${event}' (${id}) in ${group}`
    );
    const more = open.length > MAX_NAMED ? `, and ${open.length - MAX_NAMED} more` : "";
    const left = named.length ? `open: ${named.join("; ")}${more}` : `under way: ${running.join(", ") || "an emit"}`;
    const now = new Date(this.clock.now());
    const text = `The messages of the test are not settled: ${why}; ${left}. The clock stands at ${now.toISOString()}.`;
    return new ReliableRetryableError("RELIABLE_NOT_SETTLED", text, { timeoutMs, open, now });
  }
}
