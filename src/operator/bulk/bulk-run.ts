import { type ReliableError, reasonOf } from "../../errors";
import {
  BULK_STATE,
  type Bulk,
  type BulkCursor,
  type BulkEnd,
  type BulkPage,
  bulkPageSize,
  type FilterAct,
  hasOutcomes,
  OUTCOMES_SEEN,
  type PageOutcome,
  stopsItself
} from "../../message/bulk";
import type { ListedMessage, Note } from "../../message/message";
import type { Clock } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import type { Warnings } from "../../platform/warnings";
import type { BulkScope } from "../../stores/bulk-store";
import type { Store } from "../../stores/store";
import type { Act as Done, Events } from "../../telemetry/events";
import type { Metrics } from "../../telemetry/metrics";
import { discardedOf } from "../audit";
import { lanesLeft } from "../lanes-left";
import { auditOf, countsOf, scopeOf } from "./bulk-parts";
import { Replaying, type Taking } from "./replaying";

export interface BulkRunParts {
  store: Store;
  events: Events;
  metrics: Metrics;
  logger: Logger;
  warnings: Warnings;
  clock: Clock;
  subscriptions: Taking;
}

/**
 * How long a node that has died keeps a bulk act. Renewed twice a page, which takes a second at most where the store is
 * well; a node that is slower than this shares its page with the next one, which does no harm.
 */
export const BULK_CLAIM_MS = 15_000;

/** Outcomes are looked at so often. A failed attempt takes longer to come back. */
const OUTCOMES_EVERY_MS = 1000;

/** Messages of one instant that were left: with more of them a page would not get past that instant. */
const MAX_LEFT = 1000;

/** As lifecycle events name it. */
const DONE: Record<FilterAct, Done> = { retry: "retried", resolve: "resolved", discard: "discarded" };

/**
 * A bulk act in the hands of one node. Each page goes: the ids are written to its document, the messages are changed,
 * the counts are written and the ids taken away. The messages' own conditional writes decide who has changed what, and
 * their notes say by which bulk act: so it does not matter whether one node works at it, two, or the next one.
 *
 *   process dies                         what happens
 *   before the page's ids are written    the next node, after the claim's end, finds the same messages
 *   after it, nothing or a part changed  the next node changes those of the ids that still match, then reads which of
 *                                        the others bear the note: both are done; the rest somebody else has changed
 *   after the changes, before the counts the same: all bear the note
 *   after the counts                     the next page begins behind this one
 *   at the end, before that is written   the next node finds nothing more, and ends it
 *   … before the audit record, or before the next node ends it as is written, whatever a human has done meanwhile
 *   the document says so
 *   the store's answer is lost           as if the process had died, once the claim has run out
 *   slow, and its claim taken over       its changes count for whoever reads the notes; its counts are not written
 */
export class BulkRun {
  readonly #scope: BulkScope;
  readonly #replaying: Replaying | undefined;
  #lookedAt = -Infinity;
  /** Of the first of the last outcomes, when they were looked at. */
  #since: Date | undefined;

  constructor(
    private readonly parts: BulkRunParts,
    /** As it was claimed, and then as this node has changed it. */
    private bulk: Bulk
  ) {
    this.#scope = scopeOf(bulk);
    if (bulk.act === "replay") this.#replaying = new Replaying(parts, bulk);
  }

  /** Until it ends, is paused, or another node has it; the signal ends it after its page. Rejects if the store fails. */
  async run(signal: AbortSignal): Promise<void> {
    const { store, clock } = this.parts;
    // Whoever has begun it may have died before that.
    if (!this.bulk.pages) await store.audits.begin(auditOf(this.bulk));
    for (;;) {
      const { state, page, perSecond, ending } = this.bulk;
      const began = clock.monotonic();
      if (ending) return this.#ended(ending);
      if (page) {
        if (!(await this.#settle(page, undefined, began))) return;
        continue;
      }
      if (state === BULK_STATE.stopping) return this.#end({ state: "stopped", why: this.#stoppedBy() });
      if (signal.aborted || state !== BULK_STATE.running) return store.bulks.released(this.bulk);
      const why = await this.#whyStop();
      if (why !== undefined) return this.#end({ state: "stopped", why });
      const next = await this.#next();
      if (!next) return this.#end({ state: "done" });
      const [planned, found] = next;
      if (!(await store.bulks.planned(this.bulk, planned, this.#until()))) {
        if (!(await this.#again())) return;
        continue;
      }
      if (!(await this.#settle(planned, found, began))) return;
      if (planned.last) return this.#end({ state: "done" });
      await clock.sleep(began + (planned.ids.length / perSecond) * 1000 - clock.monotonic(), signal);
    }
  }

  /** The next page, with its messages as they were read for it; undefined = nothing is left. */
  async #next(): Promise<[BulkPage, ListedMessage[]?] | undefined> {
    const { cursor, perSecond } = this.bulk;
    if (this.#replaying) {
      const page = await this.#replaying.page(cursor, bulkPageSize(perSecond));
      return page && [page];
    }
    const { bulkMessages } = this.parts.store;
    const messages = await bulkMessages.select(this.#scope, cursor, bulkPageSize(perSecond));
    const last = messages.at(-1);
    return last && [{ ids: messages.map(({ _id }) => _id), at: last.at }, messages];
  }

  #until(): Date {
    return new Date(this.parts.store.now().getTime() + BULK_CLAIM_MS);
  }

  /** A human has changed it, or another node has it: false. */
  async #again(): Promise<boolean> {
    const bulk = await this.parts.store.bulks.find(this.bulk._id);
    if (!bulk || bulk.claim !== this.bulk.claim) return false;
    this.bulk = bulk;
    return true;
  }

  /**
   * Changes the messages of a page, and writes what came of it. `found`: as they were read for it; of a page that was
   * taken over they are read again. False = another node has it.
   */
  async #settle(page: BulkPage, found: ListedMessage[] | undefined, began: number): Promise<boolean> {
    const { store, clock } = this.parts;
    const { ids } = page;
    const { done, lost, refused, cursor, ...more } = this.#replaying
      ? await this.#replaying.send(page)
      : await this.#change(page, found);
    const { skipped = 0, notReplayable = 0 } = more;
    const seconds = Math.max(clock.monotonic() - began, (ids.length / this.bulk.perSecond) * 1000) / 1000;
    const progress = {
      pages: this.bulk.pages + 1,
      done: this.bulk.done + done,
      lost: this.bulk.lost + lost,
      refused: this.bulk.refused + refused,
      ...(this.#replaying && {
        skipped: (this.bulk.skipped ?? 0) + skipped,
        notReplayable: (this.bulk.notReplayable ?? 0) + notReplayable
      }),
      pace: Math.round((ids.length / seconds) * 10) / 10,
      cursor
    };
    if (!(await store.bulks.progressed(this.bulk, progress, this.#until()))) return false;
    const { page: _page, ...bulk } = this.bulk;
    this.bulk = { ...bulk, ...progress };
    if (cursor.left.length <= MAX_LEFT) return true;
    await this.#end({ state: "failed", why: `the store refuses to change more than ${MAX_LEFT} of the messages` });
    return false;
  }

  async #change({ ids, at }: BulkPage, found: ListedMessage[] | undefined): Promise<PageOutcome> {
    const { store, events } = this.parts;
    const { bulkMessages } = store;
    const scope = this.#scope;
    const rows = found ?? (await this.#stillMatching(ids));
    const readable = rows.filter(({ unreadable }) => unreadable === undefined);
    const now = readable.length ? await this.#act(readable) : new Set<string>();
    const others = ids.filter(id => !now.has(id));
    // After the change, and not before it: by now each of them is decided, also where two nodes work at one page.
    const before = others.length ? await bulkMessages.done(scope, others) : new Set<string>();
    const done = new Set([...now, ...before]);
    const rest = others.filter(id => !before.has(id));
    // Still as they were: not overtaken.
    const refused = rest.length ? await this.#stillMatching(rest) : [];
    if (done.size) events.emit("acted", DONE[scope.act as FilterAct], [...done], this.bulk.by);
    const left = scope.act === "retry" ? [] : lanesLeft(readable.filter(({ _id }) => done.has(_id)));
    if (left.length) events.emit("left", left);
    const lost = rest.length - refused.length;
    return { done: done.size, lost, refused: refused.length, cursor: this.#behind(at, refused) };
  }

  #stillMatching(ids: string[]): Promise<ListedMessage[]> {
    const { query } = this.#scope;
    return this.parts.store.bulkMessages.select({ ...this.#scope, query: { ...query, ids } }, undefined, ids.length);
  }

  async #act(messages: ListedMessage[]): Promise<Set<string>> {
    const { store } = this.parts;
    const { act, by, note: why } = this.bulk;
    const at = store.now();
    const note: Note = { at, by, act, ...(why !== undefined && { note: why }) };
    if (act === "retry") return store.bulkMessages.retry(this.#scope, messages, note);
    if (act === "resolve") return store.bulkMessages.resolve(this.#scope, messages, note);
    const record = auditOf(this.bulk);
    const records = messages.map(message => discardedOf(message, record, at));
    return store.bulkMessages.discard(this.#scope, messages, records);
  }

  /**
   * Deaths of one instant may be on both sides of a page's end. What was done is not dead any more, or has died later;
   * what was left is named.
   */
  #behind(at: Date, refused: ListedMessage[]): BulkCursor {
    const { cursor } = this.bulk;
    const same = refused.filter(row => row.at.getTime() === at.getTime()).map(({ _id }) => _id);
    return { at, left: [...(cursor?.at.getTime() === at.getTime() ? cursor.left : []), ...same] };
  }

  async #whyStop(): Promise<string | undefined> {
    const { store, clock } = this.parts;
    if (!hasOutcomes(this.bulk) || clock.monotonic() - this.#lookedAt < OUTCOMES_EVERY_MS) return undefined;
    this.#lookedAt = clock.monotonic();
    const { seen, dead, since } = await store.bulkMessages.outcomes(this.bulk._id, OUTCOMES_SEEN, this.#since);
    this.#since = since;
    return stopsItself(dead, seen);
  }

  #stoppedBy(): string {
    const { by = "", note } = this.bulk.changes.findLast(({ change }) => change === "stop") ?? {};
    return `stopped by ${by}${note === undefined ? "" : `: ${note}`}`;
  }

  /**
   * What had matched and came to no page, since somebody else was quicker, was overtaken, too. Of a replay's messages each
   * is looked at, and counted.
   */
  #overtaken({ state }: Pick<BulkEnd, "state">): number {
    const { matched, capped, done, lost, refused } = this.bulk;
    return state !== "done" || capped || this.#replaying ? 0 : Math.max(0, matched - done - lost - refused);
  }

  /** Its document first, so that its audit record says the same, whoever writes it. */
  async #end(end: Pick<BulkEnd, "state" | "why">): Promise<void> {
    const { store } = this.parts;
    const { pages, done, lost, refused, cursor } = this.bulk;
    const ending = { ...end, endedAt: store.now() };
    const counts = { pages, done, lost: lost + this.#overtaken(end), refused };
    const progress = { ...counts, ...(cursor && { cursor }), ending };
    if (!(await store.bulks.progressed(this.bulk, progress, this.#until()))) return;
    this.bulk = { ...this.bulk, ...progress };
    await this.#ended(ending);
  }

  async #ended(ending: BulkEnd): Promise<void> {
    const { store, metrics, logger, events, warnings } = this.parts;
    const { state, endedAt, why } = ending;
    const { _id: id, act, by, done, matched } = this.bulk;
    const tally = hasOutcomes(this.bulk) ? await store.bulkMessages.tally(id) : undefined;
    const outcomes = tally && { handled: tally.handled, failedAgain: tally.failedAgain };
    const counts = { ...countsOf(this.bulk), ...outcomes };
    await store.audits.end(id, { state, endedAt, counts, ...(why !== undefined && { error: why }) }).catch(thrown => {
      // What it was refused for stays; what may pass, the next node does again.
      if ((thrown as ReliableError).retryable !== false) throw thrown;
      warnings.warn("audit", "", `Reliable: the end of the act ${id} was not recorded: ${reasonOf(thrown)}`);
    });
    if (!(await store.bulks.ended(this.bulk, ending))) return;
    const text = `Reliable: bulk ${act} ${id} by ${by} is ${state}: ${done} of ${matched} done${why === undefined ? "" : `; ${why}`}.`;
    if (state === "done" || this.bulk.state === BULK_STATE.stopping) logger.info(text);
    else {
      logger.error(text);
      metrics.count("bulk.stopped", 1, { act });
      events.emit("bulkStopped", { id, act, by, why: why ?? "", done, matched });
    }
  }
}
