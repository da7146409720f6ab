import { BEHIND_AT, placesOf } from "../../message/order";
import type { LaneEnd, Turn } from "../lane-store";
import { groupOf } from "./codec";
import { type Database, type Doc, EPOCH } from "./collection";
import type { Standing } from "./lane-entries";
import {
  groupsInLine,
  IN_LINE_FIELDS,
  isRowInLine,
  isUnchanged,
  type Lane,
  turnIn,
  turnOf,
  versionOf
} from "./lane-rows";
import type { LaneTurns } from "./lane-turns";
import { OPEN } from "./rows";

/** A lane in which somebody has his turn for longer is looked at so often. */
const LOOK_AGAIN_MS = 120_000;

/** See `LaneStore.look`. */
export async function look(
  db: Database,
  lanesAndTurns: LaneTurns,
  now: Date,
  limit: number
): Promise<{ turns: Turn[]; more: boolean }> {
  const due = { dueAt: { $gte: EPOCH, $lte: now } };
  const lanes = (await db.collections.lanes.find(due, { sort: { dueAt: 1 }, limit })) as Lane[];
  const holders = await lanesAndTurns.rows(
    lanes.flatMap(({ turns = {} }) => Object.values(turns).flatMap(({ id }) => id || []))
  );
  const waiting: Turn[] = [];
  const ends: LaneEnd[] = [];
  const idle: Lane[] = [];
  const again: string[] = [];
  for (const lane of lanes) {
    if (isIdle(lane, holders)) {
      idle.push(lane);
      continue;
    }
    again.push(lane._id);
    for (const group of await groupsOf(db, lane, holders)) {
      const turn = turnIn(lane, group);
      const row = turn && holders.get(turn.id);
      if (!turn || !isRowInLine(row, group)) ends.push({ key: lane._id, group });
      // It has its turn, and whoever gave it has died before it was due.
      else if (isBehind(row as Doc)) waiting.push(turnOf(lane._id, group, turn, Number(row?.bytes)));
    }
  }
  const asleep = { $set: { idle: now }, $unset: { dueAt: true, alone: true } } as const;
  // As it was read: somebody may have been announced meanwhile, and put behind.
  await db.collections.lanes.bulk(
    idle.map(lane => ({ filter: { _id: lane._id, ...due, ...versionOf(lane) }, change: asleep }))
  );
  const dueAt = new Date(now.getTime() + LOOK_AGAIN_MS);
  // A turn that was taken or given meanwhile has set another instant.
  if (again.length) await db.collections.lanes.update({ _id: { $in: again }, ...due }, { $set: { dueAt } });
  // Whoever has died may not have said so.
  await lanesAndTurns.beLate(ends);
  return {
    turns: [...waiting, ...(await lanesAndTurns.advance(ends, { empties: true }))],
    more: lanes.length === limit
  };
}

/** Those in which somebody has his turn; where one has left, those too for which the first in line waits. */
async function groupsOf(db: Database, { _id: key, top = 0, turns = {} }: Lane, holders: Map<string, Doc>) {
  const busy = Object.entries(turns).filter(([, { id }]) => id);
  const groups = busy.map(([path]) => groupOf(path));
  if (busy.length && busy.every(([path, { id }]) => isRowInLine(holders.get(id), groupOf(path)))) return groups;
  const [first] = await db.collections.messages.find(
    { place: placesOf(key, top), ...OPEN },
    { sort: { place: 1 }, limit: 1, fields: IN_LINE_FIELDS }
  );
  return [...new Set([...groups, ...(first ? groupsInLine(first as unknown as Standing) : [])])];
}

/** All that had their turns have left, and nobody has been announced since. */
function isIdle(lane: Lane, holders: Map<string, Doc>): boolean {
  return Object.entries(lane.turns ?? {}).every(
    ([path, turn]) =>
      !turn.id || (isUnchanged(lane, groupOf(path), turn) && !isRowInLine(holders.get(turn.id), groupOf(path)))
  );
}

function isBehind({ dueAt }: Doc): boolean {
  return (dueAt as Date | undefined)?.getTime() === BEHIND_AT.getTime();
}
