import { isFinal, STATUSES } from "../../message/lifecycle";
import { type Failure, NOTES_KEPT, type Note, ROW_VERSION } from "../../message/message";
import type { Dropped, DropsDone, Keyed } from "../store-records";
import { removeBodies } from "./bodies";
import { type Change, type Database, type Doc, EPOCH, type Filter, type Operation } from "./collection";
import { noted } from "./rows";

const FINAL = STATUSES.filter(isFinal);

/** The row that says how far the payloads are dropped. No message's id has a control character. */
export const DONE_ID = "\u0001dropped";

/** Rows that became final so much before their write are found still: a server may have been slow to take it. */
const LATE_MS = 60_000;

/** In place of an error's text. */
export const DROPPED_TEXT = "(dropped)";

/** Acts whose note is the library's: an error's text. What a human has written stays. */
const OF_ERRORS: ReadonlySet<unknown> = new Set<Note["act"]>(["dead", "asked", "withdraw"]);

/** Whole, or of a process that died before it had deleted the body that stands apart. */
const UNDROPPED: Filter = {
  v: ROW_VERSION,
  $or: [{ droppedAt: { $exists: false } }, { bodyId: { $exists: true } }]
};

const FIELDS = ["at", "bodyId", "droppedAt", "failures", "notes", "reason", "groups"];

/**
 * A page of each final status, oldest first: what became final before `before` and has its payload. No index knows
 * which rows have theirs, so a row of its own says how far it is done: what is behind that is not read again.
 *
 *   process dies before a row is changed    it is found again
 *   … before its large body is deleted      the same: the row still names that body
 *   … before it is written how far it is    the page is read once more
 */
export async function dropPayloads(db: Database, before: Date, limit: number, since?: DropsDone): Promise<Dropped> {
  const done: DropsDone = { ...(since ?? (await doneBefore(db))) };
  let messages = 0;
  let more = false;
  for (const status of FINAL) {
    const from = done[status] ?? EPOCH;
    // Of a page behind another all are read that have its last instant.
    const $gte = since ? from : new Date(Math.max(0, from.getTime() - LATE_MS));
    if ($gte >= before) continue;
    const page = { ...UNDROPPED, status, at: { $gte, $lt: before } };
    const docs = await db.collections.messages.find(page, { sort: { at: 1 }, limit, fields: FIELDS });
    if (!docs.length) continue;
    messages += await drop(db, docs, { status });
    done[status] = docs.at(-1)?.at as Date;
    if (docs.length >= limit) more = true;
  }
  if (messages) await keepDone(db, done);
  return { messages, ...(more && { more: done }) };
}

async function doneBefore(db: Database): Promise<DropsDone> {
  const [row] = await db.collections.barriers.find({ _id: DONE_ID });
  return Object.fromEntries(FINAL.flatMap(status => (row?.[status] instanceof Date ? [[status, row[status]]] : [])));
}

/** Pruning may take it away: then all that is behind it is pruned as well. */
async function keepDone(db: Database, done: DropsDone): Promise<void> {
  const $max = done as Record<string, Date>;
  await db.collections.barriers.bulk([
    { filter: { _id: DONE_ID }, change: { $set: { at: db.now() }, $max }, upsert: true }
  ]);
}

/** A page of the finished messages with this key. The note goes into the story of each. */
export async function erase(db: Database, key: string, note: Note, limit: number): Promise<number> {
  const filter = { ...UNDROPPED, keys: key, status: { $in: FINAL } };
  const docs = await db.collections.messages.find(filter, { limit, fields: FIELDS });
  return docs.length ? drop(db, docs, { status: { $in: FINAL } }, note) : 0;
}

/**
 * Takes payload, meta, headers and the source's params out of these rows, and the texts of their errors. The filter
 * repeats that they are final: the id of a withdrawn message may be emitted again at this moment.
 */
async function drop(db: Database, docs: Doc[], final: Filter, note?: Note): Promise<number> {
  const { messages, bodies } = db.collections;
  const droppedAt = db.now();
  const plain: unknown[] = [];
  const operations: Operation[] = [];
  // Of these only the large body is left.
  const half = docs.filter(doc => doc.droppedAt !== undefined);
  for (const doc of docs) {
    if (doc.droppedAt !== undefined) continue;
    const $set = withoutTexts(doc);
    const filter = { ...final, ...UNDROPPED, _id: doc._id, at: doc.at };
    if (Object.keys($set).length) operations.push({ filter, change: dropping(droppedAt, note, $set) });
    else plain.push(doc._id);
  }
  if (plain.length) {
    const filter = { ...final, ...UNDROPPED, _id: { $in: plain } };
    operations.push({ filter, change: dropping(droppedAt, note), many: true });
  }
  // One that the database refuses keeps no other from it, and its own until it is pruned.
  const { matched: dropped } = await messages.attempt(operations);
  const large = docs.filter(({ bodyId }) => typeof bodyId === "string");
  if (!large.length) return dropped;
  const named = await messages.find(
    { _id: { $in: large.map(({ _id }) => _id) }, droppedAt: { $exists: true } },
    { fields: ["bodyId"] }
  );
  await removeBodies(bodies, named);
  // One that was emitted again in the meantime names another.
  const { matched: cleaned } = await messages.attempt(
    named.map(({ _id, bodyId = "" }) => ({
      filter: { _id, bodyId, droppedAt: { $exists: true } },
      change: { $unset: { bodyId: true } }
    }))
  );
  return dropped + Math.min(cleaned, half.length);
}

/** One that is known from receipts only is complete by it: its check, which may come later, brings no payload. */
function dropping(droppedAt: Date, note: Note | undefined, texts: Record<string, unknown> = {}): Change {
  const $set = { ...texts, droppedAt };
  const $unset = { body: true, meta: true, headers: true, source: true, partial: true } as const;
  if (!note) return { $set, $unset };
  // No change names a field twice.
  if (!Array.isArray(texts.notes)) return { $set, $unset, $push: noted(note) };
  return { $set: { ...$set, notes: [...texts.notes, note].slice(-NOTES_KEPT) }, $unset };
}

/** What of a row's errors is replaced. A row that is damaged keeps what is not as it should be. */
function withoutTexts({ failures, notes, reason, groups }: Doc): Record<string, unknown> {
  const $set: Record<string, unknown> = {};
  if (Array.isArray(failures) && failures.some(tells)) $set.failures = failures.map(withoutText);
  if (Array.isArray(notes) && notes.some(tellsOfError)) $set.notes = notes.map(noteWithoutText);
  if (typeof reason === "string" && reason !== DROPPED_TEXT) $set.reason = DROPPED_TEXT;
  for (const [key, of] of Object.entries((groups ?? {}) as Record<string, { error?: { message?: unknown } } | null>))
    if (of?.error && of.error.message !== DROPPED_TEXT) $set[`groups.${key}.error.message`] = DROPPED_TEXT;
  return $set;
}

function tells(failure: Partial<Failure> | null): boolean {
  return failure?.error !== undefined && failure.error.message !== DROPPED_TEXT;
}

function withoutText(failure: Failure): Failure {
  if (!tells(failure)) return failure;
  const { stack: _stack, data: _data, ...error } = failure.error;
  return { ...failure, error: { ...error, message: DROPPED_TEXT } };
}

function tellsOfError(note: Partial<Note> | null): boolean {
  return OF_ERRORS.has(note?.act) && note?.note !== undefined && note.note !== DROPPED_TEXT;
}

function noteWithoutText(note: Note): Note {
  return tellsOfError(note) ? { ...note, note: DROPPED_TEXT } : note;
}

/** How many messages with this key are in each status, and of how many finished ones the payload is kept. */
export async function keyed(db: Database, key: string, limit: number): Promise<Keyed> {
  const { messages } = db.collections;
  const count = (filter: Filter) => messages.count({ keys: key, ...filter }, limit);
  const open = STATUSES.filter(status => !isFinal(status));
  const [kept, dropped, ...of] = await Promise.all([
    count({ ...UNDROPPED, status: { $in: FINAL } }),
    count({ status: { $in: FINAL }, droppedAt: { $exists: true } }),
    ...open.map(status => count({ status }))
  ]);
  const found = open.flatMap((status, i) => (of[i]?.counted ? [[status, of[i].counted]] : []));
  return {
    ...{ kept: kept.counted, dropped: dropped.counted, open: Object.fromEntries(found) },
    ...([kept, dropped, ...of].some(({ more }) => more) && { capped: true as const })
  };
}
