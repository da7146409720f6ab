import { Batcher } from "../async/batcher";
import { HandlerTransaction } from "../async/handler-transaction";
import { type ReliableError, ReliableRetryableError, reasonOf } from "../errors";
import { backoffMs } from "../message/backoff";
import type { Clock } from "../platform/clock";
import type { InboxStore } from "../stores/store";
import { AdaptiveLimit } from "./adaptive-limit";
import { type HandlerEnd, RETRY } from "./consumer-parts";

/** Ids per store command. */
const MAX_BATCH = 500;

/**
 * Of one attempt. With the limit on what runs at a time few need more than two; what conflicts so often has other
 * causes, and the next attempt comes after a longer pause.
 */
const MAX_RUNS = 8;
/** About what a short transaction takes, so that the one that has won is through. */
const CONFLICT = { initialMs: 10, maxMs: 1000, jitter: "half" } as const;

/** The inbox of one group, many ids at a time. */
export class Inbox {
  readonly #lookups: Batcher<string, boolean>;
  readonly #records: Batcher<string, ReliableError | undefined>;
  /** By id. A second delivery of an id waits for the first, so that the message is handled once. */
  readonly #running = new Map<string, Promise<void>>();
  readonly #limit = new AdaptiveLimit();

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
      write: ids => store.add(group, ids, this.#now())
    });
  }

  /** Starts the work after that of earlier deliveries of the same id. */
  oneByOne(id: string, work: () => Promise<void>): Promise<void> {
    const before = this.#running.get(id);
    const mine = before ? before.then(work, work) : work();
    this.#running.set(id, mine);
    const leave = () => {
      if (this.#running.get(id) === mine) this.#running.delete(id);
    };
    mine.then(leave, leave);
    return mine;
  }

  /** Without an answer from the store the message waits here, unacked: it may have been handled already. */
  handledBefore(id: string): Promise<boolean> {
    return this.#lookups.add(id).catch(error => this.#lookAgain(id, error));
  }

  async #lookAgain(id: string, first: unknown): Promise<boolean> {
    let error = first;
    for (let tries = 1; !this.end.aborted; tries++) {
      await this.clock.sleep(backoffMs(RETRY, tries), this.end);
      try {
        return await this.#lookups.add(id);
      } catch (thrown) {
        error = thrown;
      }
    }
    throw error;
  }

  /** Rejects when the store refuses the row. */
  async add(id: string): Promise<void> {
    const refused = await this.#records.add(id);
    if (refused) throw refused;
  }

  /**
   * Waits until the handler may run in a transaction; `transaction` must follow. The handler's time begins after that.
   * undefined = there is nothing to wait for.
   */
  turn(): Promise<void> | undefined {
    return this.mode === "transaction" ? this.#limit.enter(false) : undefined;
  }

  /** Instead of `transaction`: the handler does not run. */
  pass(): void {
    if (this.mode === "transaction") this.#limit.leave(false);
  }

  /**
   * Runs the handler in a transaction with its inbox row, and again when that has lost a conflict: at most MAX_RUNS
   * times, and never begins after `untilMs` (monotonic). `handle` gets the number of the run, from 1. Never rejects.
   */
  async transaction(
    id: string,
    untilMs: number,
    handle: (session: unknown, run: number) => Promise<HandlerEnd>
  ): Promise<HandlerEnd | "duplicate"> {
    let runs = 0;
    for (let tries = 1; ; tries++) {
      const end = await this.#transaction(id, untilMs, session => handle(session, ++runs));
      if (end === "duplicate" || !("conflict" in end)) return end;
      const pauseMs = backoffMs(CONFLICT, tries);
      if (runs < MAX_RUNS && this.clock.monotonic() + pauseMs < untilMs && !this.end.aborted) {
        await this.clock.sleep(pauseMs, this.end);
        await this.#limit.enter(true);
        if (this.clock.monotonic() < untilMs && !this.end.aborted) continue;
        this.#limit.leave(false);
      }
      return { error: conflictError(id, this.group, runs, end.conflict) };
    }
  }

  async #transaction(
    id: string,
    untilMs: number,
    handle: (session: unknown) => Promise<HandlerEnd>
  ): Promise<HandlerEnd | "duplicate" | { conflict: unknown }> {
    let end: HandlerEnd = {};
    let conflict = false;
    let left = false;
    const leave = () => {
      if (!left) this.#limit.leave(conflict);
      left = true;
    };
    // A handler that hangs must not keep the others from running.
    const timer = this.clock.after(untilMs - this.clock.monotonic(), leave);
    try {
      const outcome = await this.store.transaction(this.group, id, this.#now(), async session => {
        const running = new HandlerTransaction(this.store, session as object);
        // The store may have taken long to begin. Nobody waits for this any more.
        if (this.clock.monotonic() >= untilMs) end = { error: new Error("its time was up before it could begin") };
        else end = await running.run(() => handle(session));
        if (end.error !== undefined) throw end.error;
      });
      conflict = typeof outcome === "object";
      return outcome === "handled" ? {} : outcome;
    } catch (error) {
      return end.error !== undefined ? end : { error };
    } finally {
      timer.stop();
      leave();
    }
  }

  #now(): Date {
    return new Date(this.clock.now());
  }
}

function conflictError(id: string, group: string, runs: number, cause: unknown): ReliableRetryableError {
  return new ReliableRetryableError(
    "RELIABLE_CONFLICT",
    `The transaction of ${id} in group ${group} was undone by conflicts, and no time or no run is left (runs of the handler: ${runs}): ${reasonOf(cause)}`,
    { id, group, runs },
    cause
  );
}
