import { STATUS } from "../../message/lifecycle";
import type { DeadGroups } from "../store-records";
import type { Collection } from "./collection";
import { isText } from "./row-check";

/** See `MessageStore.deadGroups`. */
export async function deadGroups(messages: Collection, limit: number): Promise<DeadGroups> {
  const docs = await messages.find({ status: STATUS.dead }, { sort: { at: -1 }, limit: limit + 1, fields: ["failed"] });
  const counts = new Map<string, number>();
  for (const { failed } of docs.slice(0, limit))
    for (const group of Array.isArray(failed) ? failed.filter(isText) : [])
      counts.set(group, (counts.get(group) ?? 0) + 1);
  const groups = [...counts].map(([group, count]) => ({ group, count })).sort((a, b) => b.count - a.count);
  return { groups, more: docs.length > limit };
}
