import { ANY_GROUP } from "../../message/message";
import { LAST, type Order, placesOf } from "../../message/order";
import type { Named, Unnamed } from "../lane-store";
import type { Database } from "./collection";
import { type Lane, versionOf } from "./lane-rows";
import { noted, OPEN, recipientsNote } from "./rows";

/** See `LaneStore.unnamed`. */
export async function unnamed({ collections }: Database, keys: string[], limit: number): Promise<Unnamed[]> {
  const pages = await Promise.all(
    [...new Set(keys)].map(key =>
      collections.messages.find(
        { place: placesOf(key, LAST), waiting: ANY_GROUP, ...OPEN },
        { sort: { place: 1 }, limit, fields: ["event", "only", "order"] }
      )
    )
  );
  return pages.flat().map(({ _id: id, event, only, order }) => ({
    key: (order as Order).key,
    id,
    event: event as string,
    ...(only !== undefined && { groups: only as string[] })
  }));
}

/** One after the other: of several at once a later one could be seen first. */
export async function nameRows(db: Database, named: Named[]): Promise<void> {
  for (const { id, groups } of named) {
    const change = { $set: { waiting: groups }, $push: noted(recipientsNote(db.now(), groups, [ANY_GROUP])) };
    await db.collections.messages.update({ _id: id, ...OPEN, waiting: [ANY_GROUP] }, change);
  }
}

/** Says so of lanes in which all are named, unless they have changed since they were read. False = some have. */
export async function allNamed(db: Database, lanes: Map<string, Lane>): Promise<boolean> {
  const left = new Set((await unnamed(db, [...lanes.keys()], 1)).map(({ key }) => key));
  const free = [...lanes.values()].filter(({ _id, unnamed: isSaid }) => isSaid && !left.has(_id));
  const operations = free.map(lane => ({
    filter: { _id: lane._id, ...versionOf(lane) },
    change: { $unset: { unnamed: true as const } }
  }));
  return !operations.length || (await db.collections.lanes.bulk(operations)) === operations.length;
}
