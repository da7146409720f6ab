import { isFinal, STATUSES } from "../../message/lifecycle";
import { pruneUnused, removeBodies } from "./bodies";
import { type Collection, type Database, type Doc, EPOCH, type Filter } from "./collection";

const FINAL = STATUSES.filter(isFinal);

/** See `Store.prune`. With several groups there are more inbox rows than messages. */
export async function prune(db: Database, before: Date, limit: number): Promise<{ messages: number; more: boolean }> {
  const { messages, bodies, inbox, barriers } = db.collections;
  const old = { $gte: EPOCH, $lt: before };
  const final = { status: { $in: FINAL }, at: old };
  const docs = await messages.find(final, { limit, fields: ["bodyId"] });
  const removed = docs.length ? await removeFound(messages, final, docs) : 0;
  // Else one of them has been emitted again meanwhile; what that leaves unused is found below, later.
  if (removed === docs.length) await removeBodies(bodies, docs);
  let more = removed >= limit;
  for (const collection of [inbox, barriers])
    if ((await removePage(collection, { at: old }, limit)) >= limit) more = true;
  if (await pruneUnused(db, before, limit)) more = true;
  return { messages: removed, more };
}

/** A page of what `filter` matches. */
async function removePage(collection: Collection, filter: Filter, limit: number): Promise<number> {
  const docs = await collection.find(filter, { limit, fields: ["_id"] });
  return docs.length ? removeFound(collection, filter, docs) : 0;
}

/** What was found is removed by id, because neither database deletes with a limit. */
function removeFound(collection: Collection, filter: Filter, docs: Doc[]): Promise<number> {
  return collection.remove({ ...filter, _id: { $in: docs.map(doc => doc._id) } });
}
