import type { Message } from "../../message/message";
import { BEHIND_AT, numberOf } from "../../message/order";
import type { HeldKey, LaneCounts, LaneStore } from "../lane-store";
import { groupOf } from "./codec";
import { type Collection, type Database, type Doc, EPOCH } from "./collection";
import { IN_LINE_FIELDS, inLineFor, isRowInLine, type Lane } from "./lane-rows";

/** Of those behind one, counted. */
const MAX_BEHIND = 1000;
/** Counts at a time. */
const AT_ONCE = 10;

const FIELDS = ["event", "order", "place", "holds", "failed", "at", "reason"];

/** What operators see of lanes: see `LaneStore`. */
export class DocumentHeldKeys implements Pick<LaneStore, "held" | "counts" | "holders"> {
  constructor(protected readonly db: Database) {}

  async held(limit: number, key?: string): Promise<{ keys: HeldKey[]; more: boolean }> {
    const { messages } = this.db.collections;
    const filter = { holds: key ?? { $exists: true }, at: { $gte: EPOCH } };
    const found = await messages.find(filter, { sort: { at: 1 }, limit: limit + 1, fields: FIELDS });
    const held = found.slice(0, limit).flatMap(row => (row.failed as string[]).map(group => ({ row, group })));
    const keys: HeldKey[] = [];
    for (let at = 0; at < held.length; at += AT_ONCE)
      keys.push(...(await Promise.all(held.slice(at, at + AT_ONCE).map(one => heldKey(messages, one)))));
    return { keys, more: found.length > limit };
  }

  /** What is scheduled for that very instant counts, too: nothing but the index is read. */
  async counts(limit: number): Promise<LaneCounts> {
    const { messages } = this.db.collections;
    const [held, behind] = await Promise.all([
      messages.count({ holds: { $exists: true }, at: { $gte: EPOCH } }, limit),
      messages.count({ dueAt: BEHIND_AT }, limit)
    ]);
    return { held, behind };
  }

  async holders(key: string): Promise<Map<string, string> | undefined> {
    const { lanes, messages } = this.db.collections;
    const [lane] = (await lanes.find({ _id: key })) as Lane[];
    if (!lane) return undefined;
    const turns = Object.entries(lane.turns ?? {}).flatMap(([path, { id }]) =>
      id ? [{ group: groupOf(path), id }] : []
    );
    const rows = await messages.find({ _id: { $in: turns.map(({ id }) => id) } }, { fields: IN_LINE_FIELDS });
    const byId = new Map(rows.map(row => [row._id, row]));
    // A turn that is over stays until there is a next one.
    const inLine = turns.filter(({ group, id }) => isRowInLine(byId.get(id), group));
    return new Map(inLine.map(({ group, id }) => [group, id]));
  }
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
