import { isFinal, STATUSES } from "../../message/lifecycle";
import { type Collection, type Database, EPOCH, type Filter } from "./collection";

const FINAL = STATUSES.filter(isFinal);

/** See `Store.prune`. With several groups there are more inbox rows than messages. */
export async function prune(
  { collections }: Database,
  before: Date,
  limit: number
): Promise<{ messages: number; more: boolean }> {
  const { messages, inbox, barriers } = collections;
  const old = { $gte: EPOCH, $lt: before };
  const removed = await removePage(messages, { status: { $in: FINAL }, at: old }, limit);
  let more = removed >= limit;
  for (const collection of [inbox, barriers])
    if ((await removePage(collection, { at: old }, limit)) >= limit) more = true;
  return { messages: removed, more };
}

/**
 * A page of what `filter` matches. It is found first and removed by id, because neither database deletes with a limit.
 */
async function removePage(collection: Collection, filter: Filter, limit: number): Promise<number> {
  const docs = await collection.find(filter, { limit, fields: ["_id"] });
  return docs.length ? collection.remove({ ...filter, _id: { $in: docs.map(doc => doc._id) } }) : 0;
}
