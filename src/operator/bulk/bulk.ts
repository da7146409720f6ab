import { ReliableError } from "../../errors";
import {
  BULK_ACTS,
  BULK_RATES,
  BULK_STATE,
  type Bulk,
  type BulkAct,
  type BulkChange,
  type FilterAct,
  hasOutcomes
} from "../../message/bulk";
import { STATUS } from "../../message/lifecycle";
import { newId } from "../../platform/ids";
import type { Store } from "../../stores/store";
import type { Actor } from "../actor";
import { needNote } from "../audit";
import { FILTER_FIELDS, type Filter, filterOf, hasFilter, queryOf } from "../filter";
import { instantOf } from "../instant";
import { type Page, pageOf } from "../operations";
import { auditOf, scopeOf } from "./bulk-parts";
import { type BulkRow, type BulkStory, bulkRow, bulkStory, meantBy } from "./bulk-views";

/** The part that acts, page by page. */
export interface Working {
  /** There is something to do: on the node that sweeps, if it can be told. */
  wake(): Promise<void>;
}

export interface BulkOperationsParts {
  store: Store;
  worker: Working;
}

type NewBulk = Pick<
  Bulk,
  "_id" | "act" | "filter" | "at" | "countedAt" | "perSecond" | "matched" | "capped" | "waiting" | "note"
> &
  Actor;

export interface BulkParams extends Filter {
  act: string;
  /** Why. `resolve` and `discard` need it, but for a `dryRun`. */
  note?: string;
  /** Messages per second. @default 100 */
  perSecond?: number;
  /** Of a `dryRun` that a human has seen: what died since is left alone. At most an hour ago. @default now */
  countedAt?: string | number;
  /** Only returns what would be done. @default false */
  dryRun?: boolean;
}

export interface BulkBegun {
  /** Not there with `dryRun`, and if nothing matches: then nothing was begun. */
  id?: string;
  matched: number;
  /** There are more than `matched`: nobody has counted to the end. All of them are acted on. */
  capped?: true;
  /** With `discard`: not among them, since other groups are waited for. */
  waiting?: number;
  perSecond: number;
  dryRun: boolean;
  /** What it will do, in words. */
  text: string;
  /** With `dryRun`: when it was counted. Given to the act itself, it does what was counted. */
  countedAt?: string;
  /** With `dryRun`: the one of the same act and filter that is under way. While it is, no other can be begun. */
  underWay?: { id: string; by: string; startedAt: string };
}

export interface BulkChangeParams {
  id: string;
  change: BulkChange["change"];
  /** With `rate`. */
  perSecond?: number;
  note?: string;
}

const WHY: Partial<Record<FilterAct, string>> = {
  resolve: "how they were dealt with",
  discard: "why they may go"
};

/** A number that was seen longer ago was forgotten in an open window. */
const COUNT_HOLDS_MS = 3_600_000;

/** Throws RELIABLE_BAD_OPTION. */
export function countedAtOf(given: string | number | undefined, now: Date): { countedAt?: Date } {
  if (given === undefined) return {};
  const at = Math.min(now.getTime(), instantOf("countedAt", given).getTime());
  if (now.getTime() - at <= COUNT_HOLDS_MS) return { countedAt: new Date(at) };
  throw new ReliableError("RELIABLE_BAD_OPTION", "It was counted more than an hour ago ('countedAt'): count again.", {
    option: "countedAt"
  });
}

/** Throws RELIABLE_BAD_OPTION: it needs a note and has none. */
export function checkNote(act: BulkAct, { note, again }: { note?: string; again?: boolean }): void {
  const why = act !== "replay" ? WHY[act] : again ? "why they are to be handled once more" : undefined;
  if (why !== undefined) needNote(act, note, why);
}

/** Bulk acts, as an operator begins, sees and changes them. */
export class BulkOperations {
  constructor(private readonly parts: BulkOperationsParts) {}

  /**
   * Begins one, and does not wait for it. Rejects with RELIABLE_BULK_RUNNING if one of the same act and filter is under
   * way.
   *
   *   process dies before its document   nothing was begun
   *   … after it                         it is begun; the node that works at it writes the audit record
   */
  async begin(params: BulkParams, actor: Actor): Promise<BulkBegun> {
    const { note, perSecond = BULK_RATES.default, dryRun = false } = params;
    const { store } = this.parts;
    const act = actOf(params.act);
    if (!dryRun) checkNote(act, params);
    const at = store.now();
    const filter = checkedFilter(act, params);
    const counted = countedAtOf(params.countedAt, at);
    const of = { _id: newId(), act, filter, at, ...counted };
    const { counted: matched, more } = await store.bulkMessages.count(scopeOf(of));
    const waiting = act === "discard" ? await this.#waiting(of, matched) : 0;
    const found = { matched, ...(more && { capped: true as const }), ...(waiting && { waiting }) };
    const text = meantBy({ ...of, at: counted.countedAt ?? at, ...found, perSecond });
    const told = { ...found, perSecond, dryRun, text };
    if (dryRun) return { ...told, countedAt: at.toISOString(), ...(await underWayOf(this.parts, act, filter)) };
    if (!matched && !more) return told;
    await beginBulk(this.parts, { ...of, ...actor, ...(note?.trim() && { note }), ...found, perSecond });
    return { id: of._id, ...told };
  }

  /** How many more there are than can be discarded. */
  async #waiting(of: Pick<Bulk, "_id" | "filter" | "at" | "countedAt">, matched: number): Promise<number> {
    const { counted } = await this.parts.store.bulkMessages.count(scopeOf({ ...of, act: "resolve" }));
    return Math.max(0, counted - matched);
  }

  /** Newest first. */
  async list(page = 1, pageSize = 20): Promise<Page<BulkRow>> {
    const found = await this.parts.store.bulks.list((page - 1) * pageSize, pageSize);
    return pageOf(found, bulkRow, page, pageSize);
  }

  /** All of one; of a retry also what became of its messages, as it is now. Rejects with RELIABLE_NOT_FOUND. */
  async get(id: string): Promise<BulkStory> {
    const bulk = await this.#find(id);
    const { store } = this.parts;
    return bulkStory(bulk, hasOutcomes(bulk) ? await store.bulkMessages.tally(bulk._id) : undefined);
  }

  /**
   * Pauses, resumes or stops one, or changes its rate. Each is kept with it, who and when. Rejects with
   * RELIABLE_NOT_FOUND, RELIABLE_ILLEGAL_TRANSITION.
   */
  async change({ id, change, perSecond, note }: BulkChangeParams, { by }: Actor): Promise<BulkStory> {
    const { store, worker } = this.parts;
    const told: BulkChange = { at: store.now(), by, change, ...(note?.trim() && { note }) };
    if ((change === "rate") !== (perSecond !== undefined))
      throw new ReliableError(
        "RELIABLE_BAD_OPTION",
        change === "rate" ? "'rate' needs 'perSecond'." : `'perSecond' is for 'rate', not for '${change}'.`,
        { option: "perSecond" }
      );
    await this.#find(id);
    const changing =
      perSecond === undefined
        ? store.bulks[change as "pause" | "resume" | "stop"](id, told)
        : store.bulks.pace(id, perSecond, { ...told, perSecond });
    // One that was paused has no node that would notice; nor is it known, where an answer was lost.
    const changed = await changing.finally(() =>
      change === "resume" || change === "stop" ? worker.wake() : undefined
    );
    if (!changed) {
      const { state } = await this.#find(id);
      throw new ReliableError(
        "RELIABLE_ILLEGAL_TRANSITION",
        `Cannot ${change === "rate" ? "change the rate of" : change} the bulk act '${id}': it is ${state}.`,
        { id, state, act: change }
      );
    }
    return this.get(id);
  }

  async #find(id: string): Promise<Bulk> {
    const bulk = await this.parts.store.bulks.find(id);
    if (!bulk) throw new ReliableError("RELIABLE_NOT_FOUND", `There is no bulk act '${id}'.`, { id });
    return bulk;
  }
}

function keyOf(act: BulkAct, filter: Bulk["filter"]): string {
  return JSON.stringify([act, Object.entries(filter).sort(([a], [b]) => (a < b ? -1 : 1))]);
}

/** The one of this act and filter that is under way. */
export async function underWayOf(
  { store }: BulkOperationsParts,
  act: BulkAct,
  filter: Bulk["filter"]
): Promise<Pick<BulkBegun, "underWay">> {
  const key = keyOf(act, filter);
  const { _id: id, by, at } = (await store.bulks.underWay()).find(bulk => bulk.key === key) ?? {};
  return id === undefined ? {} : { underWay: { id, by: by as string, startedAt: (at as Date).toISOString() } };
}

/**
 * Begins it, if none of the same act and filter is under way, and tells the node that works at it. `same`: the filter as it
 * is compared.
 */
export async function beginBulk(
  { store, worker }: BulkOperationsParts,
  begun: NewBulk,
  same = begun.filter
): Promise<void> {
  const { act } = begun;
  const key = keyOf(act, same);
  const none = { pages: 0, done: 0, lost: 0, refused: 0, changes: [] };
  const bulk: Bulk = { ...begun, key, state: BULK_STATE.running, ...none };
  try {
    const other = await store.bulks.begin(bulk);
    if (other) throw alreadyRunning(act, { id: other._id, by: other.by, startedAt: other.at.toISOString() });
    await store.audits.begin(auditOf(bulk));
  } finally {
    // Also where an answer was lost: it may be begun.
    await worker.wake();
  }
}

function actOf(act: string): FilterAct {
  const known = BULK_ACTS.find(name => name === act);
  if (known) return known;
  throw new ReliableError("RELIABLE_BAD_OPTION", `There is no bulk act '${act}'. There are: ${BULK_ACTS.join(", ")}.`, {
    option: "act"
  });
}

/** By hand, only `dead` messages can be changed. */
function checkedFilter(act: FilterAct, params: Filter): Bulk["filter"] {
  if (!hasFilter(params))
    throw new ReliableError("RELIABLE_BAD_OPTION", `A bulk ${act} needs a filter (${FILTER_FIELDS.join(", ")}).`, {
      option: "filter"
    });
  const { status = [] } = queryOf(params, 0);
  const illegal = [status].flat().find(each => each !== STATUS.dead);
  if (illegal)
    throw new ReliableError(
      "RELIABLE_ILLEGAL_TRANSITION",
      `Cannot ${act} messages that are ${illegal}; only ${STATUS.dead} ones can be.`,
      { status: illegal, act }
    );
  // The same act, however it was asked for.
  return { ...filterOf(params), status: STATUS.dead };
}

export function alreadyRunning(act: BulkAct, { id, by, startedAt }: Required<BulkBegun>["underWay"]): ReliableError {
  return new ReliableError(
    "RELIABLE_BULK_RUNNING",
    `A bulk ${act} with this filter is under way: '${id}', begun by ${by} at ${startedAt}.`,
    { id, by, act }
  );
}
