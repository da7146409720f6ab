import { Batcher } from "../async/batcher";
import { backoffMs } from "../message/backoff";
import type { Clock } from "../platform/clock";
import type { InboxStore } from "../stores/store";
import { type HandlerEnd, RETRY } from "./consumer-parts";

/** Ids per store command. */
const MAX_BATCH = 500;

/** The inbox of one group, many ids at a time. */
export class Inbox {
  readonly #lookups: Batcher<string, boolean>;
  readonly #records: Batcher<string, void>;
  /** By id. A second delivery of an id waits for the first, so that the message is handled once. */
  readonly #running = new Map<string, Promise<void>>();

  constructor(
    private readonly store: InboxStore,
    private readonly group: string,
    /** With `"transaction"` the row is written in one transaction with the handler's writes. */
    readonly mode: true | "transaction",
    private readonly clock: Clock,
    /** Called when the consumer stops. */
    private readonly end: AbortSignal
  ) {
    this.#lookups = new Batcher({
      maxItems: MAX_BATCH,
      write: async ids => {
        const handled = await store.handled(group, ids);
        return ids.map(id => handled.has(id));
      }
    });
    this.#records = new Batcher({
      maxItems: MAX_BATCH,
      write: async ids => {
        await store.add(group, ids, this.#now());
        return [];
      }
    });
  }

  /** Starts the work after that of earlier deliveries of the same id. `leave` must follow. */
  enter(id: string, work: () => Promise<void>): Promise<void> {
    const before = this.#running.get(id);
    const mine = before ? before.then(work, work) : work();
    this.#running.set(id, mine);
    return mine;
  }

  leave(id: string, work: Promise<void>): void {
    if (this.#running.get(id) === work) this.#running.delete(id);
  }

  /** Without an answer from the store the message waits here, unacked: it may have been handled already. */
  async handledBefore(id: string): Promise<boolean> {
    for (let tries = 1; ; tries++) {
      try {
        return await this.#lookups.add(id);
      } catch (error) {
        if (this.end.aborted) throw error;
        await this.clock.sleep(backoffMs(RETRY, tries), this.end);
      }
    }
  }

  /** Rejects when the store refuses the row. */
  add(id: string): Promise<void> {
    return this.#records.add(id);
  }

  /** Runs the handler in a transaction with its inbox row. Never rejects. */
  async transaction(id: string, handle: (session: unknown) => Promise<HandlerEnd>): Promise<HandlerEnd | "duplicate"> {
    let end: HandlerEnd = {};
    try {
      const outcome = await this.store.transaction(this.group, id, this.#now(), async session => {
        end = await handle(session);
        if (end.error !== undefined) throw end.error;
      });
      return outcome === "duplicate" ? "duplicate" : {};
    } catch (error) {
      return end.error !== undefined ? end : { error };
    }
  }

  #now(): Date {
    return new Date(this.clock.now());
  }
}
