import { ANY_GROUP, type Message } from "../../message/message";
import { comingOf, numberOf, type Order } from "../../message/order";
import type { LaneEnd } from "../lane-store";
import { groupBy, groupsInLine, isUnchanged, type Lane, type LaneTurn, nextTurn, turnIn } from "./lane-rows";

/** Of a message, what tells where it stands. */
export type Standing = Pick<Message, "_id" | "order" | "place" | "waiting"> & Partial<Pick<Message, "base">>;

/** A row that has its number, and is to be announced. */
export interface Entry {
  id: string;
  key: string;
  at: number;
  groups: string[];
  unnamed: boolean;
  bytes: number;
  /** Groups that it had left for good, and is in line for again. */
  back: string[];
}

/** Numbers for new places, by the lanes as they were read. */
export class Numbers {
  readonly #tops = new Map<string, number>();

  constructor(private readonly lanes: Map<string, Lane>) {}

  /** The first of so many. */
  next(key: string, count = 1): number {
    const number = (this.#tops.get(key) ?? this.lanes.get(key)?.top ?? 0) + 1;
    this.#tops.set(key, number + count - 1);
    return number;
  }
}

export function keyOfMessage({ order }: Pick<Standing, "order">): string {
  return (order as Order).key;
}

export function isComing({ place }: Pick<Standing, "place">): boolean {
  return place !== undefined && numberOf(place) === undefined;
}

/** What is numbered together, each in its order; the groups in the order in which they begin. */
export function together(coming: Standing[]): Standing[][] {
  const groups = groupBy(coming, ({ place }) => comingOf(place as string).together);
  return [...groups.values()].map(group => group.toSorted((a, b) => withinOf(a) - withinOf(b)));
}

export function isUnnamed({ waiting }: Pick<Standing, "waiting">): boolean {
  return waiting.includes(ANY_GROUP);
}

export function withinOf({ place }: Standing): number {
  return comingOf(place as string).within;
}

/** Of what is in no line (any more) there is none. */
export function entryOf(row: unknown): Entry[] {
  const {
    _id: id,
    place,
    body,
    bytes = body?.length ?? 0,
    ...rest
  } = row as Standing & { body?: Buffer; bytes?: number };
  const at = numberOf(place);
  if (at === undefined) return [];
  const groups = groupsInLine(rest);
  // Given back by a human's retry, or by a breaker that has opened: `base` says so.
  const back = rest.order?.onDead === "skip" ? groups.filter(group => rest.base?.[group] !== undefined) : [];
  return [{ id, key: keyOfMessage(rest), at, groups, unnamed: isUnnamed(rest), bytes, back }];
}

export function endsOf(entries: Entry[]): LaneEnd[] {
  return entries.flatMap(({ key, groups }) => groups.map(group => ({ key, group })));
}

export function groupByKey(entries: Entry[]): Map<string, Entry[]> {
  return groupBy(entries, ({ key }) => key);
}

/**
 * The turns that nobody has, or has any more, for the first that is in line for each. `ended`: messages that have left.
 * Of one of them somebody may be next, unless the lane has not changed since it has its turn.
 */
export function takenBy(
  entries: Entry[],
  lane: Lane | undefined,
  ended: ReadonlySet<string>,
  above: number
): Map<string, LaneTurn> {
  const taken = new Map<string, LaneTurn>();
  const v = entries.length === 1 ? { v: (lane?.v ?? 0) + 1 } : {};
  const isFree = (group: string) => {
    const turn = turnIn(lane, group);
    // One that was without a group may have been named, and have no turn yet.
    if (lane?.unnamed) return false;
    return !turn || (ended.has(`${group} ${turn.id}`) && isUnchanged(lane, group, turn));
  };
  for (const { id, at, groups } of entries.toSorted((a, b) => a.at - b.at))
    for (const group of groups)
      if (!taken.has(group) && isFree(group)) taken.set(group, { ...nextTurn(lane, group, id, at, above), ...v });
  return taken;
}

/** Those of the entries whose turn it will be as soon as they are announced. */
export function firstOf(entries: Entry[], lanes: Map<string, Lane>, ended: ReadonlySet<string>): Set<string> {
  const first = new Set<string>();
  for (const [key, mine] of groupByKey(entries))
    for (const { id } of takenBy(mine, lanes.get(key), ended, 0).values()) first.add(id);
  return first;
}
