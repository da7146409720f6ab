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

/** See `LaneStore.name`. One after the other: of several at once a later one could be seen first. */
export async function name(db: Database, named: Named[]): Promise<void> {
  const { messages, lanes } = db.collections;
  const keys = [...new Set(named.map(({ key }) => key))];
  const before = (await lanes.find({ _id: { $in: keys } })) as Lane[];
  for (const { id, groups } of named) {
    const change = { $set: { waiting: groups }, $push: noted(recipientsNote(db.now(), groups, [ANY_GROUP])) };
    await messages.update({ _id: id, ...OPEN, waiting: [ANY_GROUP] }, change);
  }
  const left = new Set((await unnamed(db, keys, 1)).map(({ key }) => key));
  const free = before.filter(({ _id }) => !left.has(_id));
  await lanes.bulk(
    free.map(lane => ({ filter: { _id: lane._id, ...versionOf(lane) }, change: { $unset: { unnamed: true } } }))
  );
}
