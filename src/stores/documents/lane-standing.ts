import { STATUS } from "../../message/lifecycle";
import { placeOf, placesOf, placesToCome } from "../../message/order";
import type { Database } from "./collection";
import { type Entry, entryOf, groupByKey, type Standing } from "./lane-entries";
import { IN_LINE_FIELDS, type Lane } from "./lane-rows";
import { OPEN } from "./rows";

/** Rows of one key that are looked for at a time. */
const MAX_FOUND = 1000;
const FIRST_FIRST = { sort: { place: 1 as const }, limit: MAX_FOUND, fields: IN_LINE_FIELDS };

/** All that have no number yet, or are not announced with it: the first of a transaction says the numbers of the others. */
export async function notAnnounced(
  { collections }: Database,
  keys: string[],
  lanes: Map<string, Lane>
): Promise<Standing[]> {
  const find = (key: string) => {
    const place = { ...placesToCome(key), $gte: placeOf(key, (lanes.get(key)?.top ?? 0) + 1) };
    return collections.messages.find({ place, status: STATUS.pending }, FIRST_FIRST);
  };
  return (await Promise.all([...new Set(keys)].map(find))).flat() as unknown as Standing[];
}

/** Up to the last of these: those of their keys that are not announced. */
export async function unannounced(
  { collections }: Database,
  entries: Entry[],
  lanes: Map<string, Lane>
): Promise<Entry[]> {
  const find = ([key, mine]: [string, Entry[]]) => {
    const place = placesOf(key, Math.max(...mine.map(({ at }) => at)), (lanes.get(key)?.top ?? 0) + 1);
    return collections.messages.find({ place, ...OPEN }, FIRST_FIRST);
  };
  return (await Promise.all([...groupByKey(entries)].map(find))).flat().flatMap(entryOf);
}
