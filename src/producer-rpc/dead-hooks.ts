import { newEnd } from "../async/end";
import { reasonOf } from "../errors";
import type { MessageHead } from "../message/message";
import type { DeadNews, OnDead } from "../options/hooks";
import type { Call } from "../platform/call";
import type { Warnings } from "../platform/warnings";
import type { Store } from "../stores/store";
import type { DeadMessage } from "../stores/store-records";
import type { Events } from "../telemetry/events";
import { DEAD_ACTION } from "../wire/dead";

/** Calls at a time: an outage may kill many messages at once, and a hook often calls a server. */
const AT_ONCE = 10;

/** Deaths that wait for their call; some hundred bytes each. */
const MAX_WAITING = 10_000;

/** Rows of one read. */
const PAGE = 500;

export interface DeadHooksParts {
  store: Store;
  call: Call;
  events: Events;
  warnings: Warnings;
  askTimeoutMs: number;
  /** Services with the hook, on this node and the others. */
  hooked(): Set<string>;
}

/**
 * Tells the emitting services of deaths, where they have the hook `onDead`: on the node that has written the death, by a
 * Moleculer call, which goes to one instance. At most once per group and message, and not under all circumstances:
 *
 *   process dies before the call            it is not made
 *   … the producer's, in the hook           it is not made again
 *   no instance with the hook is reachable  it is not made
 *   the hook fails, or does not answer      it is told (`$reliable.error`, log), and nothing else
 *
 * The message is `dead` whatever comes of it, and waits for a human.
 */
export class DeadHooks {
  readonly #end = newEnd();
  readonly #deaf: () => void;
  #waiting = 0;
  #calls: Promise<void> = Promise.resolve();

  constructor(private readonly parts: DeadHooksParts) {
    this.#deaf = parts.events.on("dead", dead => this.#died(dead));
  }

  /** Resolves when all deaths so far are told. */
  idle(): Promise<void> {
    return this.#calls;
  }

  /** What has not begun is not called any more. */
  stop(): void {
    this.#deaf();
    this.#end.abort();
    if (this.#waiting) this.#failed(`${this.#waiting} call(s) were not made: the node has stopped`);
  }

  #died(dead: DeadMessage[]): void {
    const hooked = this.parts.hooked();
    if (!hooked.size) return;
    if (this.#waiting + dead.length > MAX_WAITING) {
      this.#failed(`${dead.length} call(s) were not made: ${this.#waiting} are waiting`);
      return;
    }
    this.#waiting += dead.length;
    // A chain, so that a thousand deaths are no thousand calls at once.
    this.#calls = this.#calls.then(() => this.#tell(dead, hooked));
  }

  async #tell(dead: DeadMessage[], hooked: Set<string>): Promise<void> {
    for (let from = 0; from < dead.length; from += PAGE) {
      const page = dead.slice(from, from + PAGE);
      try {
        if (!this.#end.signal.aborted) await this.#page(page, hooked);
      } catch (error) {
        this.#failed(`${page.length} call(s) were not made: ${reasonOf(error)}`, error);
      }
      this.#waiting -= page.length;
    }
  }

  async #page(dead: DeadMessage[], hooked: Set<string>): Promise<void> {
    const heads = await this.parts.store.messages.heads([...new Set(dead.map(({ id }) => id))]);
    const rows = new Map(heads.map(head => [head._id, head]));
    const calls = dead.flatMap(each => {
      const row = rows.get(each.id);
      return row && hooked.has(row.producer) ? { each, row } : [];
    });
    for (let from = 0; from < calls.length && !this.#end.signal.aborted; from += AT_ONCE)
      await Promise.all(calls.slice(from, from + AT_ONCE).map(({ each, row }) => this.#call(each, row)));
  }

  async #call(dead: DeadMessage, row: MessageHead): Promise<void> {
    const { call, askTimeoutMs } = this.parts;
    try {
      await call(`${row.producer}.${DEAD_ACTION}`, newsOf(dead, row), { timeout: askTimeoutMs });
    } catch (error) {
      this.#failed(`'${row.producer}' was not told that ${dead.id} is dead: ${reasonOf(error)}`, error);
    }
  }

  #failed(what: string, error: unknown = new Error(what)): void {
    told(this.parts, what, error);
  }
}

function newsOf({ id, group, cause, reason }: DeadMessage, row: MessageHead): DeadNews {
  const { event, createdAt, at, keys, origin } = row;
  const diedAt = (group !== undefined && row.deadAt[group]) || at;
  const news: DeadNews = { id, event, cause, reason, diedAt: diedAt.toISOString(), createdAt: createdAt.toISOString() };
  if (group !== undefined) news.group = group;
  if (keys) news.keys = keys;
  if (typeof origin.requestID === "string") news.requestID = origin.requestID;
  return news;
}

function told({ warnings, events }: Pick<DeadHooksParts, "warnings" | "events">, what: string, error: unknown): void {
  warnings.error("onDead", what, `Reliable: onDead: ${what}`);
  events.emit("error", error, "onDead");
}

/** On the emitting service's node. Never rejects: the one who calls has nothing to do with what a hook does. */
export async function runDeadHook(
  parts: Pick<DeadHooksParts, "warnings" | "events">,
  hook: OnDead,
  news: DeadNews
): Promise<void> {
  try {
    await hook(news);
  } catch (error) {
    told(parts, `the hook has failed for ${news.id} ('${news.event}'): ${reasonOf(error)}`, error);
  }
}
