import type { Message } from "../../message/message";
import { numberOf } from "../../message/order";
import type { HeldKey } from "../lane-store";
import { type Collection, type Doc, EPOCH } from "./collection";
import { inLineFor } from "./lane-rows";

/** Of those behind one, counted. */
const MAX_BEHIND = 1000;
/** Counts at a time. */
const AT_ONCE = 10;

const FIELDS = ["event", "order", "place", "holds", "failed", "at", "reason"];

/** See `LaneStore.held`. */
export async function heldKeys(
  messages: Collection,
  limit: number,
  key?: string
): Promise<{ keys: HeldKey[]; more: boolean }> {
  const filter = { holds: key ?? { $exists: true }, at: { $gte: EPOCH } };
  const found = await messages.find(filter, { sort: { at: 1 }, limit: limit + 1, fields: FIELDS });
  const held = found.slice(0, limit).flatMap(row => (row.failed as string[]).map(group => ({ row, group })));
  const keys: HeldKey[] = [];
  for (let at = 0; at < held.length; at += AT_ONCE)
    keys.push(...(await Promise.all(held.slice(at, at + AT_ONCE).map(one => heldKey(messages, one)))));
  return { keys, more: found.length > limit };
}

async function heldKey(messages: Collection, { row, group }: { row: Doc; group: string }): Promise<HeldKey> {
  const { _id: id, event, holds, place, at, reason } = row as unknown as Message;
  const behind = { place: { $gt: place, $lt: placesEnd(place) }, ...inLineFor(group) };
  const { counted, more } = await messages.count(behind, MAX_BEHIND);
  return {
    key: holds as string,
    group,
    id,
    event,
    since: at,
    ...(reason !== undefined && { reason }),
    behind: counted,
    ...(more && { capped: true as const })
  };
}

/** Behind all numbers of the same key. */
function placesEnd(place: string | undefined): string {
  return numberOf(place) === undefined ? "" : (place as string).replace(/\d+$/, "~");
}
