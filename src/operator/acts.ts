import { ReliableError, reasonOf } from "../errors";
import { STATUS, type Status, sourcesOf } from "../message/lifecycle";
import type { ListedMessage, Note } from "../message/message";
import type { AuditRecord } from "../message/records";
import { unreadableRow } from "../message/unreadable";
import type { Clock } from "../platform/clock";
import type { OperationStore, Store } from "../stores/store";
import type { ListQuery } from "../stores/store-records";
import type { Act as Done, Events } from "../telemetry/events";
import type { Actor } from "./actor";
import { type AuditParts, audited, discardedOf, idsOf, needNote, notFound, recordOf } from "./audit";
import { FILTER_FIELDS, type Filter, filterOf, hasFilter, queryOf } from "./filter";
import { lanesLeft } from "./lanes-left";

/** A manual act: on one id, on several, or on what a filter finds, `limit` at most. */
export interface ActParams extends Filter {
  id?: string;
  ids?: string[];
  /** Why. `resolve`, `skip`, `discard` and `cancel` need it, but for a `dryRun`. */
  note?: string;
  /** Who, where the call's meta names no user. */
  by?: string;
  /** Only returns what would be done. @default false */
  dryRun?: boolean;
  /** @default 100 of a filter; all ids */
  limit?: number;
}

/** What came of one id. */
export interface IdOutcome {
  id: string;
  /**
   * `possible`: a dry run would have done it · `lost`: another process changed it in the meantime · `illegal`: its
   * status allows it not · `failed`: the store refuses it.
   */
  outcome: "done" | "possible" | "lost" | "not-found" | "illegal" | "unreadable" | "failed";
  /** Of one that is `illegal`. */
  status?: string;
  reason?: string;
}

export interface ActResult {
  /** How many messages were found and may be acted on. */
  matched: number;
  done: number;
  /** Not acted on, because another process changed them in the meantime. */
  lost: number;
  dryRun: boolean;
  /** Those that were found and may be acted on. */
  ids: string[];
  /** How many more there are, beyond `limit`; not there where there are none. */
  more?: number;
  /** There are more than `more`: nobody has counted to the end. */
  capped?: true;
  /** Found by the filter, and not discarded: other groups are waited for. */
  waiting?: number;
  /** Where ids were given: one for each. */
  outcomes?: IdOutcome[];
}

export type Act = "retry" | "resolve" | "discard" | "cancel" | "skip";

export interface ActingParts extends AuditParts {
  store: Store;
  events: Events;
  clock: Clock;
}

/** As lifecycle events name it. */
const DONE: Record<Act, Done> = {
  ...{ retry: "retried", resolve: "resolved", discard: "discarded", cancel: "cancelled", skip: "resolved" }
};

const TARGET: Record<Act, Status | "discarded"> = {
  retry: STATUS.pending,
  resolve: STATUS.resolved,
  discard: "discarded",
  cancel: STATUS.cancelled,
  skip: STATUS.resolved
};

const WHY: Partial<Record<Act, string>> = {
  resolve: "how it was dealt with",
  discard: "why it may go",
  cancel: "why it is not to be sent"
};

const DEFAULT_LIMIT = 100;

const APPLY: Record<
  Act,
  (operations: OperationStore, message: ListedMessage, note: Note, record: AuditRecord) => Promise<boolean>
> = {
  retry: (operations, message, note) => operations.retry(message, note.at, note),
  resolve: (operations, message, note) => operations.resolve(message, note),
  discard: (operations, message, note, record) => operations.discard(message, discardedOf(message, record, note.at)),
  cancel: (operations, message, note) => operations.cancel(message, note),
  skip: (operations, message, note) => operations.resolve(message, note)
};

/** What an act is about. */
interface Chosen {
  messages: ListedMessage[];
  more: number;
  capped?: boolean;
  waiting?: number;
  /** Of a list of ids: what is wrong with one is its outcome. Else it is the call's error. */
  listed?: boolean;
  /** Of the ids that were given. */
  outcomes?: Map<string, IdOutcome>;
}

/** What a human may do so with. `forget` may resolve others too. */
const SOURCE: Record<Act, Status> = {
  retry: STATUS.dead,
  resolve: STATUS.dead,
  discard: STATUS.dead,
  cancel: STATUS.scheduled,
  skip: STATUS.dead
};

const sources = (act: Act): Status[] => sourcesOf(TARGET[act]).filter(status => status === SOURCE[act]);

/**
 * Retry, resolve, discard or cancel. An id that cannot be acted on harms no other: each has its outcome. One that was given
 * alone rejects instead: RELIABLE_NOT_FOUND, RELIABLE_ILLEGAL_TRANSITION.
 */
export async function actOn(
  parts: ActingParts,
  act: Act,
  params: ActParams,
  actor: Actor,
  /** For its record, what has named the ids. */
  named?: AuditRecord["filter"]
): Promise<ActResult> {
  const { dryRun = false, note } = params;
  const why = WHY[act];
  if (why !== undefined && !dryRun) needNote(act, note, why);
  const chosen = await (params.id !== undefined || params.ids ? byIds : byFilter)(parts, act, params);
  const { messages, more, capped, waiting, outcomes } = chosen;
  const ids = messages.map(message => message._id);
  const result = (done: number, lost: number): ActResult => ({
    matched: messages.length,
    done,
    lost,
    dryRun,
    ids,
    ...(more && { more }),
    ...(capped && { capped }),
    ...(waiting && { waiting }),
    ...(outcomes && { outcomes: [...outcomes.values()] })
  });
  // Nothing is done, so there is nothing to keep.
  if (dryRun || !messages.length) return result(0, 0);
  const counts: Record<string, number> = { matched: messages.length, done: 0, lost: 0, ...(more && { more }) };
  if (outcomes && outcomes.size > messages.length) counts["refused"] = outcomes.size - messages.length;
  const filter = hasFilter(params) ? filterOf(params) : named;
  const record = recordOf(parts.store, { ...actor, act, note: note?.trim() ? note : undefined, filter, ...idsOf(ids) });
  record.counts = counts;
  await parts.store.audits.begin(record);
  await audited(parts, record._id, counts, () => applyAll(parts, act, record, chosen));
  return result(counts["done"] as number, counts["lost"] as number);
}

async function applyAll(
  { store, events }: ActingParts,
  act: Act,
  record: AuditRecord,
  { messages, outcomes, listed }: Chosen
): Promise<void> {
  const { by, counts, note: why } = record;
  const done: ListedMessage[] = [];
  const count = (name: string) => (counts[name] = (counts[name] ?? 0) + 1);
  const told = (id: string, outcome: IdOutcome["outcome"], reason?: string) =>
    outcomes?.set(id, { id, outcome, ...(reason !== undefined && { reason }) });
  let refused: { error: unknown } | undefined;
  try {
    for (const message of messages) {
      const { _id: id } = message;
      const note: Note = { at: store.now(), by, act, ...(why !== undefined && { note: why }) };
      try {
        if (await APPLY[act](store.operations, message, note, record)) {
          done.push(message);
          count("done");
          told(id, "done");
        } else {
          count("lost");
          told(id, "lost", "another process changed it in the meantime");
        }
      } catch (error) {
        // What the store refuses about one message does not hold up the others.
        if ((error as ReliableError).retryable !== false) throw error;
        refused ??= { error };
        count("failed");
        told(id, "failed", reasonOf(error));
      }
    }
  } finally {
    // If one of them fails, those before it are done all the same.
    if (done.length)
      events.emit(
        "acted",
        DONE[act],
        done.map(({ _id }) => _id),
        by
      );
    const left = act === "retry" || act === "cancel" ? [] : lanesLeft(done);
    if (left.length) events.emit("left", left);
  }
  if (refused && !listed) throw refused.error;
}

async function byIds({ store }: ActingParts, act: Act, params: ActParams): Promise<Chosen> {
  // A filter beside ids looks like a restriction, and would not be one.
  if (hasFilter(params))
    throw new ReliableError("RELIABLE_BAD_OPTION", `'${act}' takes either ids or a filter, not both.`, {
      option: "id"
    });
  const { id: alone, ids = [] } = params;
  const all = [...new Set([...(alone !== undefined ? [alone] : []), ...ids])];
  const { limit = all.length } = params;
  const wanted = all.slice(0, limit);
  const { rows } = await store.messages.list({ ids: wanted }, wanted.length);
  const found = new Map(rows.map(row => [row._id, row]));
  const gone = new Map((await store.audits.discarded(wanted.filter(id => !found.has(id)))).map(row => [row.id, row]));
  const from = sources(act);
  const listed = params.ids !== undefined;
  const outcomes = new Map<string, IdOutcome>();
  const messages: ListedMessage[] = [];
  for (const id of wanted) {
    const message = found.get(id);
    const error = message ? objection(act, message, from) : notFound(id, "message", gone.get(id));
    if (error && !listed) throw error;
    if (message && !error) messages.push(message);
    outcomes.set(id, outcomeOf(id, message, error));
  }
  return { messages, more: all.length - wanted.length, listed, outcomes };
}

function objection(
  act: Act,
  { _id: id, status, waiting, unreadable }: ListedMessage,
  from: Status[]
): ReliableError | undefined {
  if (unreadable !== undefined) return unreadableRow(id, unreadable);
  if (from.includes(status)) return act === "discard" && waiting.length ? onItsWay(id, waiting) : undefined;
  return new ReliableError(
    "RELIABLE_ILLEGAL_TRANSITION",
    `Cannot ${act} message '${id}': it is ${status}, only ${from.join(", ")} ones can be.`,
    { id, status, act }
  );
}

/** A discard would take it from groups that have not failed. */
function onItsWay(id: string, waiting: string[]): ReliableError {
  return new ReliableError(
    "RELIABLE_ILLEGAL_TRANSITION",
    `Cannot discard message '${id}': it is on its way to ${waiting.join(", ")}. Resolve it: that is of the groups that failed alone.`,
    { id, act: "discard", waiting }
  );
}

function outcomeOf(id: string, message: ListedMessage | undefined, error: ReliableError | undefined): IdOutcome {
  if (!error) return { id, outcome: "possible" };
  const reason = error.message;
  if (!message) return { id, outcome: "not-found", reason };
  if (message.unreadable !== undefined) return { id, outcome: "unreadable", reason };
  return { id, outcome: "illegal", status: message.status, reason };
}

async function byFilter({ store, clock }: ActingParts, act: Act, params: ActParams): Promise<Chosen> {
  if (!hasFilter(params))
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `'${act}' needs an id, ids, or a filter (${FILTER_FIELDS.join(", ")}).`,
      { option: "id" }
    );
  const from = sources(act);
  const query = queryOf(params, clock.now());
  const asked = query.status === undefined ? from : [query.status].flat();
  const illegal = asked.find(status => !from.includes(status));
  if (illegal)
    throw new ReliableError(
      "RELIABLE_ILLEGAL_TRANSITION",
      `Cannot ${act} messages that are ${illegal}; only ${from.join(", ")} ones can be.`,
      { status: illegal, act }
    );
  const { limit = DEFAULT_LIMIT } = params;
  // What a group has handled, or waits for, is no matter of an act on that group.
  const meant: ListQuery = { ...query, status: asked, ...(act !== "cancel" && { groupIn: ["failed"] }) };
  const { rows, total, capped } = await store.messages.list(meant, limit, true);
  const messages = rows.filter(({ waiting }) => act !== "discard" || !waiting.length);
  return { messages, more: Math.max(0, total - rows.length), capped, waiting: rows.length - messages.length };
}
