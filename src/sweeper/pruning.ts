import { type Deadline, withTimeout } from "../async/deadline";
import { reasonOf } from "../errors";
import type { DropsDone } from "../stores/store-records";
import { HistoryFold } from "./history-fold";
import type { SweepParts } from "./sweep-parts";

const EVERY_MS = 60_000;
/** A page of 3,000 costs a database little more than one of 1,000. Of 5,000, a load beside it feels each. */
const PRUNE_PAGE = 3000;
/** After a page, of the time it took. Without it, the slowest emits of a load took twice as long. */
const REST = 0.6;
/** Each dropped payload is a write. */
const DROP_PAGE = 1000;

export interface PruningOptions {
  retainMs: number;
  /** undefined = as long as their rows. */
  retainBodiesMs?: number | undefined;
}

/**
 * What has been kept for long enough: finished rows, payloads, minutes of the history. Beside the passes, so that what is
 * due never waits for it; and it rests after each page, so that a load has the store as well.
 */
export class Pruning {
  #doneAt = -Infinity;
  #running: Promise<void> | undefined;
  #failing = false;
  readonly #end = new AbortController();
  readonly #history: HistoryFold;

  constructor(
    private readonly parts: Pick<SweepParts, "store" | "metrics" | "events" | "logger" | "clock">,
    private readonly options: PruningOptions
  ) {
    this.#history = new HistoryFold(parts.store, parts.clock);
  }

  /** If it is not under way and the last one was a minute ago. `may`: this node still is the one that prunes. */
  begin(may: () => boolean): void {
    const { clock } = this.parts;
    if (this.#running || clock.monotonic() - this.#doneAt < EVERY_MS) return;
    this.#running = this.#run(() => may() && !this.#end.signal.aborted).finally(() => (this.#running = undefined));
  }

  async idle(): Promise<void> {
    await this.#running;
  }

  /** At the end of its page. */
  async stop(deadline: Deadline): Promise<void> {
    this.#end.abort();
    if (this.#running) await withTimeout(this.#running, deadline.left, this.parts.clock);
  }

  async #run(may: () => boolean): Promise<void> {
    const { store, metrics, events, logger, clock } = this.parts;
    const begun = clock.monotonic();
    const { retainMs, retainBodiesMs } = this.options;
    const before = (ms: number) => new Date(clock.now() - ms);
    try {
      await this.#pages(may, async () => {
        const { messages, more } = await store.prune(before(retainMs), PRUNE_PAGE);
        metrics.count("pruned", messages);
        return more;
      });
      await this.#pages(may, () => store.lanes.prune(before(retainMs), PRUNE_PAGE));
      let since: DropsDone | undefined;
      if (retainBodiesMs !== undefined)
        await this.#pages(may, async () => {
          const { messages, more } = await store.dropPayloads(before(retainBodiesMs), DROP_PAGE, since);
          metrics.count("dropped", messages);
          since = more || undefined;
          return since !== undefined;
        });
      await this.#history.run(may);
      // Of one that was ended by another node's lease nothing is known.
      if (may()) this.#doneAt = begun;
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) events.emit("error", error, "sweeper");
      this.#failing = true;
      this.#doneAt = begun;
      logger.debug(`Reliable: pruning failed and will be repeated: ${reasonOf(error)}`);
    }
  }

  /** `page` answers whether there is more. */
  async #pages(may: () => boolean, page: () => Promise<boolean>): Promise<void> {
    const { clock } = this.parts;
    for (let more = true; more && may(); ) {
      const begun = clock.monotonic();
      more = await page();
      if (more) await clock.sleep((clock.monotonic() - begun) * REST, this.#end.signal);
    }
  }
}
