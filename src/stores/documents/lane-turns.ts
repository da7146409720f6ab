import { numberOf, placeOf, placesOf } from "../../message/order";
import type { LaneEnd, Turn } from "../lane-store";
import { keyOf } from "./codec";
import type { Change, Database, Doc, Filter } from "./collection";
import {
  distinct,
  giving,
  groupBy,
  IN_LINE_FIELDS,
  inLineFor,
  isGiven,
  isRowInLine,
  isUnchanged,
  type Lane,
  type LaneTurn,
  lastIn,
  lateIn,
  nextTurn,
  STANDING,
  stirring,
  turnIn,
  turnOf
} from "./lane-rows";

/** What others change meanwhile is looked at again. What is left then is seen when its lane is due. */
const PASSES = 10;

/** Of the row that has the greatest number of a turn in a lane that was pruned. No key is this. */
export const ABOVE_ID = "\u0001";

/** `isAlone` may say no of some group. Who was told of as late may have been so before the last announcement, too. */
const SOMEBODY_NEXT: Filter = { $or: [{ alone: { $exists: false } }, { late: { $exists: true } }] };

/** A group in which the turn is over, and whose it is next; undefined = nobody is in line. */
type Next = LaneEnd & { turn: LaneTurn | undefined; bytes: number };

/** Gives the turns of lanes. */
export class LaneTurns {
  constructor(private readonly db: Database) {}

  /** Numbers of turns begin above this in a lane that is new. */
  above = 0;

  /** `only`: of those for which this holds. */
  async lanes(keys: Iterable<string>, only: Filter = {}): Promise<Map<string, Lane>> {
    const wanted = new Set(keys);
    if (!wanted.size) return new Map();
    const docs = await this.db.collections.lanes.find({ _id: { $in: [...wanted, ABOVE_ID] }, ...only });
    const lanes = new Map(docs.map(doc => [doc._id, doc as Lane]));
    this.above = Math.max(this.above, lanes.get(ABOVE_ID)?.top ?? 0);
    lanes.delete(ABOVE_ID);
    return lanes;
  }

  async rows(ids: Iterable<string>, only: Filter = {}): Promise<Map<string, Doc>> {
    const $in = [...new Set(ids)];
    const docs = $in.length
      ? await this.db.collections.messages.find({ _id: { $in }, ...only }, { fields: IN_LINE_FIELDS })
      : [];
    return new Map(docs.map(doc => [doc._id, doc]));
  }

  /** Those that may be in line: mostly there is none, and what is not answered is not decoded. */
  standing(ids: Iterable<string>): Promise<Map<string, Doc>> {
    return this.rows(ids, STANDING);
  }

  /**
   * See `LaneStore.advance`. `empties`: where nobody is next, the turn is nobody's. `had`: these had their turns, so
   * that only lanes matter in which somebody was announced since. `stands`: somebody without a turn stands in each. Where
   * the lane says that nobody has followed the one that has it, he was announced by somebody who had read it before.
   */
  async advance(given: LaneEnd[], { empties = false, had = false, stands = false } = {}): Promise<Turn[]> {
    const turns: Turn[] = [];
    let ends = distinct(given);
    let tried: Next[] = [];
    for (let pass = 0; pass < PASSES && ends.length; pass++) {
      const lanes = await this.lanes(
        ends.map(({ key }) => key),
        had && !pass ? SOMEBODY_NEXT : {}
      );
      // Of the last pass some were given, and somebody has changed the others.
      const isDone = ({ key, group, turn }: Next) => turn !== undefined && isGiven(lanes.get(key), group, turn);
      turns.push(...tried.filter(isDone).map(toTurn));
      const done = new Set(tried.filter(isDone).map(({ key, group }) => JSON.stringify([key, group])));
      ends = ends.filter(({ key, group }) => lanes.has(key) && !done.has(JSON.stringify([key, group])));
      if (stands) await this.beLate(ends.filter(({ key, group }) => isAlone(lanes.get(key), group)));
      if (!empties) ends = ends.filter(({ key, group }) => !isAlone(lanes.get(key), group));
      tried = (await this.#nexts(ends, lanes)).filter(({ turn }) => turn || empties);
      const operations = [...groupBy(tried, ({ key }) => key)].map(([key, nexts]) =>
        giving(lanes.get(key) as Lane, new Map(nexts.map(({ group, turn }) => [group, turn])), this.db.now())
      );
      if (!operations.length) return turns;
      const matched = await this.db.collections.lanes.bulk(operations);
      if (matched === operations.length) {
        await this.#looked(tried, lanes);
        return [...turns, ...tried.filter(({ turn }) => turn).map(toTurn)];
      }
      ends = tried.map(({ key, group }) => ({ key, group }));
    }
    return turns;
  }

  /** Somebody may stand before the one that has the turn: all of the lane is looked through next time. */
  async beLate(ends: LaneEnd[]): Promise<void> {
    const operations = [...groupBy(ends, ({ key }) => key)].map(([_id, of]) => ({
      filter: { _id },
      change: beingLate(of, this.db.now())
    }));
    if (operations.length) await this.db.collections.lanes.bulk(operations);
  }

  /** Where the turn is over, or nobody has it: who is next. */
  async #nexts(ends: LaneEnd[], lanes: Map<string, Lane>): Promise<Next[]> {
    const { messages } = this.db.collections;
    const last = (end: LaneEnd) => lastIn(lanes.get(end.key), end.group);
    // Numbers have no gaps, but for what never came: mostly the next one is the next number, and one look finds all.
    const near = ends.flatMap(end => {
      const lane = lanes.get(end.key) as Lane;
      // Two may have one number, but not if nobody was announced since it was taken.
      if (isAlone(lane, end.group)) return [];
      const numbers = last(end) < (lane.top ?? 0) ? [last(end), last(end) + 1] : [last(end)];
      return numbers.map(at => placeOf(end.key, at));
    });
    const [holders, found] = await Promise.all([
      this.standing(ends.flatMap(({ key, group }) => turnIn(lanes.get(key), group)?.id ?? [])),
      near.length ? messages.find({ place: { $in: [...new Set(near)] } }, { fields: IN_LINE_FIELDS }) : []
    ]);
    const places = groupBy(found, ({ place }) => place as string);
    const nexts = await Promise.all(
      ends.map(async (end): Promise<Next | undefined> => {
        const { key, group } = end;
        const lane = lanes.get(key) as Lane;
        const holder = turnIn(lane, group);
        if (holder && isRowInLine(holders.get(holder.id), group)) return undefined;
        const near = [last(end), last(end) + 1]
          .flatMap(at => (at <= (lane.top ?? 0) && places.get(placeOf(key, at))) || [])
          .find(row => isRowInLine(row, group));
        // Those with smaller numbers have left, or it is said that there are some.
        const isLast = !near && (lane.top ?? 0) <= last(end);
        const isLate = lateIn(lane, group) > 0;
        const row = (near || isLast) && !isLate ? near : await this.#first(lane, group, isLate ? 0 : last(end));
        // Nobody has it, and nobody is to have it.
        if (!row && !holder) return undefined;
        const turn = row && nextTurn(lane, group, row._id, numberOf(row.place as string) ?? 0, this.above);
        return { key, group, turn, bytes: Number(row?.bytes ?? 0) };
      })
    );
    return nexts.filter(next => next !== undefined);
  }

  async #first({ _id: key, top = 0 }: Lane, group: string, from: number): Promise<Doc | undefined> {
    const [row] = await this.db.collections.messages.find(
      { place: placesOf(key, top, from), ...inLineFor(group) },
      { sort: { place: 1 }, limit: 1, fields: IN_LINE_FIELDS }
    );
    return row;
  }

  /** All of it was looked through. Who was told of meanwhile is looked for again. */
  async #looked(ends: Next[], lanes: Map<string, Lane>): Promise<void> {
    const operations = ends.flatMap(({ key, group }) => {
      const late = lateIn(lanes.get(key), group);
      const path = `late.${keyOf(group)}`;
      return late ? { filter: { _id: key, [path]: late }, change: { $unset: { [path]: true as const } } } : [];
    });
    if (operations.length) await this.db.collections.lanes.bulk(operations);
  }
}

function beingLate(ends: LaneEnd[], now: Date): Change {
  const { $inc, ...stirred } = stirring(now);
  return { ...stirred, $inc: { ...$inc, ...Object.fromEntries(ends.map(({ group }) => [`late.${keyOf(group)}`, 1])) } };
}

/** Nobody has been announced since its turn was taken: whether it is over or not, nobody is next. */
function isAlone(lane: Lane | undefined, group: string): boolean {
  const turn = turnIn(lane, group);
  return turn !== undefined && isUnchanged(lane, group, turn);
}

function toTurn({ key, group, turn, bytes }: Next): Turn {
  return turnOf(key, group, turn as LaneTurn, bytes);
}
