import { isFinal, isUnsent, STATUS, STATUSES } from "../../message/lifecycle";
import { ANY_GROUP } from "../../message/message";
import { isInLine } from "../../message/order";
import type { LaneEnd, Turn } from "../lane-store";
import { groupOf, keyOf } from "./codec";
import type { Doc, Filter, Operation } from "./collection";

/** Whose turn it is in one group; an empty id: nobody's. */
export interface LaneTurn {
  id: string;
  /** The number of its place. */
  at: number;
  /** One more with each change, also where the turn becomes nobody's: so it tells whether it is as it was read. */
  number: number;
  /** The lane's version when it was taken, if nobody else was announced by that. */
  v?: number;
}

/** The lane of one key, its `_id`. What is not there is 0, or empty: `expect` may have made it. */
export interface Lane extends Doc {
  /** Grows with each announcement and turn. */
  v?: number;
  /** The highest number that is announced. */
  top?: number;
  /** By the groups' forms in paths. */
  turns?: Record<string, LaneTurn>;
  /** Until then messages may be committed that have no place yet. */
  expects?: Date;
  /** Since then somebody in it waits for ANY_GROUP. */
  unnamed?: Date;
  /** All turns were taken by the last announcement: nobody is next in any group. */
  alone?: true;
  /** By group: somebody may stand before the one that has the turn; as often as it was said. */
  late?: Record<string, number>;
  /** When it is looked at if nothing changes. While it is `alone`, its only message is due by itself. */
  dueAt?: Date;
  /** Since when nobody has had his turn, as far as anybody has looked. */
  idle?: Date;
}

/** A lane is looked at so long after its last turn was given: more than most handlers and their receipts take. */
const LOOK_MS = 10_000;

/** Of a row, what tells where it stands. */
export const IN_LINE_FIELDS = ["status", "waiting", "failed", "order", "place", "dueAt", "bytes"];

/** Of what may be in line; `isRowInLine` says whether it is. */
export const STANDING: Filter = {
  status: { $in: STATUSES.filter(status => !isFinal(status) && !isUnsent(status) && status !== STATUS.intended) }
};

/** `isRowInLine` says the same of one row. */
export function inLineFor(group: string): Filter {
  return { ...STANDING, $or: [{ waiting: group }, { failed: group, "order.onDead": { $exists: false } }] };
}

export function isRowInLine(row: Doc | undefined, group: string): boolean {
  return row !== undefined && isInLine(row as unknown as Parameters<typeof isInLine>[0], group);
}

export function groupsInLine({ waiting }: { waiting: string[] }): string[] {
  return waiting.filter(group => group !== ANY_GROUP);
}

export function turnIn(lane: Lane | undefined, group: string): LaneTurn | undefined {
  const turn = lane?.turns?.[keyOf(group)];
  return turn?.id ? turn : undefined;
}

/** The number that has its turn in the group, or had it last. */
export function lastIn(lane: Lane | undefined, group: string): number {
  return lane?.turns?.[keyOf(group)]?.at ?? 0;
}

/** How often it was said that somebody may stand before the one that has the turn. */
export function lateIn(lane: Lane | undefined, group: string): number {
  return lane?.late?.[keyOf(group)] ?? 0;
}

/** `above`: numbers of the group's turns in a lane of this key that was pruned. */
export function nextTurn(lane: Lane | undefined, group: string, id: string, at: number, above: number): LaneTurn {
  return { id, at, number: (lane?.turns?.[keyOf(group)]?.number ?? above) + 1 };
}

/** Nobody has been announced since this turn was taken. */
export function isUnchanged(lane: Lane | undefined, group: string, { v }: LaneTurn): boolean {
  return lane !== undefined && v !== undefined && v === lane.v && !lateIn(lane, group);
}

export function isGiven(lane: Lane | undefined, group: string, wanted: LaneTurn): boolean {
  const turn = turnIn(lane, group);
  return turn?.id === wanted.id && turn.number === wanted.number;
}

export function turnOf(key: string, group: string, { id, number }: LaneTurn, bytes: number): Turn {
  return { key, group, id, number, bytes };
}

export function groupBy<T>(items: T[], of: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const group = groups.get(of(item));
    if (group) group.push(item);
    else groups.set(of(item), [item]);
  }
  return groups;
}

export function distinct(ends: LaneEnd[]): LaneEnd[] {
  return [...new Map(ends.map(end => [JSON.stringify([end.key, end.group]), end])).values()];
}

const lookAt = (now: Date) => new Date(now.getTime() + LOOK_MS);

/** Of a lane that is not there yet. */
export function newLane({ key, top, turns, unnamed }: Announcement, now: Date): Lane {
  const given = Object.fromEntries([...turns].map(([group, turn]) => [keyOf(group), turn]));
  const lane: Lane = { _id: key, v: 1, top, turns: given, ...(unnamed && { unnamed: now }) };
  return isLeftAlone(undefined, turns) ? { ...lane, alone: true } : { ...lane, dueAt: lookAt(now) };
}

/** Whether nobody is next in any group once these are taken. */
function isLeftAlone(lane: Lane | undefined, taken: Map<string, LaneTurn>): boolean {
  if (Object.keys(lane?.late ?? {}).length) return false;
  const all = Object.keys(lane?.turns ?? {}).every(path => taken.has(groupOf(path)));
  return all && [...taken.values()].every(({ v }) => v !== undefined);
}

/** Of places up to `top`, in a lane as it was read. */
export interface Announcement {
  key: string;
  lane: Lane | undefined;
  top: number;
  /** Those that are taken. */
  turns: Map<string, LaneTurn>;
  /** One of them waits for ANY_GROUP. */
  unnamed: boolean;
}

const NOT_ALONE = { $unset: { alone: true as const } };

/** With turns: only if nobody has been announced since the lane was read. */
export function announcing({ key, lane, top, turns, unnamed }: Announcement, now: Date): Operation {
  const given = Object.fromEntries([...turns].map(([group, turn]) => [`turns.${keyOf(group)}`, turn]));
  const $set: Record<string, unknown> = { ...given, ...(unnamed && { unnamed: now }) };
  const $inc = { v: 1 };
  if (!turns.size) {
    const change = { $inc, $max: { top }, $min: { dueAt: lookAt(now) }, ...NOT_ALONE };
    return { filter: { _id: key }, change: unnamed ? { ...change, $set } : change, upsert: true };
  }
  // A lane that is in no index costs its database half, and what is not there is not taken out: that costs, too.
  const $unset: Record<string, true> = {};
  if (lane?.idle) $unset.idle = true;
  if (isLeftAlone(lane, turns)) {
    $set.alone = true;
    if (lane?.dueAt) $unset.dueAt = true;
  } else {
    $set.dueAt = lookAt(now);
    if (lane?.alone) $unset.alone = true;
  }
  const change = { $inc, $max: { top }, $set, ...(Object.keys($unset).length && { $unset }) };
  return { filter: { _id: key, ...versionOf(lane) }, change };
}

/** Somebody may be next there, or nobody ever be: it is looked at, and whoever has read it before reads it again. */
export function stirring(now: Date) {
  return { $inc: { v: 1 }, $min: { dueAt: lookAt(now) }, ...NOT_ALONE };
}

/**
 * Gives the turns, if they are as they were read. undefined: to nobody; then only if nobody has been announced since.
 */
export function giving(lane: Lane, turns: Map<string, LaneTurn | undefined>, now: Date): Operation {
  const $set: Record<string, unknown> = {};
  const filter: Filter = { _id: lane._id };
  const after: Record<string, LaneTurn> = { ...lane.turns };
  for (const [group, turn] of turns) {
    const path = keyOf(group);
    const before = lane.turns?.[path];
    filter[`turns.${path}.number`] = before ? before.number : { $exists: false };
    after[path] = turn ?? { id: "", at: before?.at ?? 0, number: (before?.number ?? 0) + 1 };
    $set[`turns.${path}`] = after[path];
  }
  const change = { $set, $inc: { v: 1 }, ...NOT_ALONE };
  if (![...turns.values()].includes(undefined))
    return { filter, change: { ...change, $set: { ...$set, dueAt: lookAt(now) } } };
  const isEmpty = Object.values(after).every(({ id }) => !id);
  return {
    filter: { ...filter, ...versionOf(lane) },
    change: isEmpty
      ? { ...change, $set: { ...$set, idle: now }, $unset: { ...NOT_ALONE.$unset, dueAt: true } }
      : { ...change, $min: { dueAt: lookAt(now) } }
  };
}

/** It has not changed since it was read. */
export function versionOf(lane: Lane | undefined): Filter {
  return { v: lane?.v ?? { $exists: false } };
}
