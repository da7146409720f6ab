import { isFinal, STATUSES } from "../../message/lifecycle";
import { pruneUnused, removeBodies } from "./bodies";
import { type Collection, type Database, EPOCH, type Filter, type Page } from "./collection";
import { stirLanes } from "./lane-prune";

const FINAL = STATUSES.filter(isFinal);

/** See `Store.prune`. With several groups there are more inbox rows than messages. */
export async function prune(db: Database, before: Date, limit: number): Promise<{ messages: number; more: boolean }> {
  const { inbox, barriers } = db.collections;
  const { removed, full } = await pruneMessages(db, before, limit);
  let more = full;
  for (const collection of [inbox, barriers]) {
    const page = await oldestOf(collection, {}, before, limit);
    if (page) await collection.remove(page.filter);
    if (page?.full) more = true;
  }
  if (await pruneUnused(db, before, limit)) more = true;
  return { messages: removed, more };
}

async function pruneMessages(db: Database, before: Date, limit: number): Promise<{ removed: number; full: boolean }> {
  const { messages } = db.collections;
  // Mostly there is nothing, and one question tells.
  const some = await messages.find(old({ status: { $in: FINAL } }, before), { limit: 1, fields: ["status"] });
  let removed = 0;
  for (const status of some.length ? FINAL : []) {
    const page = await oldestOf(messages, { status }, before, limit - removed);
    if (page) removed += await removeMessages(db, page.filter);
    if (page?.full || removed >= limit) return { removed, full: true };
  }
  return { removed, full: false };
}

const old = (filter: Filter, before: Date): Filter => ({ ...filter, at: { $gte: EPOCH, $lt: before } });

/**
 * The oldest of what `filter` matches, `limit` at most, as a filter; `full`: there are more. As a range, because neither
 * database deletes with a limit, and so many ids cost it twice what a range does. Only those of one instant, if they are
 * more than a page, go by id. Undefined = there are none.
 */
async function oldestOf(
  collection: Collection,
  filter: Filter,
  before: Date,
  limit: number
): Promise<{ filter: Filter; full: boolean } | undefined> {
  const all = old(filter, before);
  const one = { sort: { at: 1 }, limit: 1, fields: ["at"] } satisfies Page;
  const [first] = await collection.find(all, one);
  if (!first) return undefined;
  const [next] = await collection.find(all, { ...one, skip: limit });
  if (!next) return { filter: all, full: false };
  const [begin, end] = [first.at, next.at] as [Date, Date];
  if (begin < end) return { filter: { ...filter, at: { $gte: begin, $lt: end } }, full: true };
  const page = await collection.find({ ...filter, at: end }, { limit, fields: ["_id"] });
  return { filter: { ...filter, at: end, _id: { $in: page.map(({ _id }) => _id) } }, full: true };
}

/** With their lanes, and their large bodies, but that of one that has been emitted again meanwhile. */
async function removeMessages(db: Database, filter: Filter): Promise<number> {
  const { messages, bodies } = db.collections;
  const belongs = { $or: [{ bodyId: { $exists: true } }, { order: { $exists: true } }] };
  const found = await messages.find({ ...filter, ...belongs }, { fields: ["bodyId", "order"] });
  await stirLanes(db, found);
  const large = found.filter(({ bodyId }) => bodyId !== undefined);
  const removed = await messages.remove(filter);
  if (!large.length) return removed;
  const kept = await messages.find({ _id: { $in: large.map(({ _id }) => _id) } }, { fields: ["_id"] });
  const ids = new Set(kept.map(({ _id }) => _id));
  await removeBodies(
    bodies,
    large.filter(({ _id }) => !ids.has(_id))
  );
  return removed;
}
