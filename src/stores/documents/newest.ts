import type { Position } from "../store-records";
import { type Collection, type Doc, EPOCH, type Filter } from "./collection";

const NEWEST = { at: -1 } as const;

/** Within one instant an index has no order: only rows of that instant are sorted so. */
const OF_ONE_INSTANT = { at: -1, _id: -1 } as const;

/**
 * Of a range, the rows after a position: newest first, and those of one instant by id. The index orders instants only,
 * since ids in it would cost every insert; so the few rows of the instant at which the page ends are asked for apart.
 */
export async function newestOf(rows: Collection, range: Filter, limit: number, cursor?: Position): Promise<Doc[]> {
  const find = (filter: Filter, sort: Record<string, 1 | -1>, most: number) =>
    most > 0 ? rows.find(filter, { sort, limit: most, without: ["body"] }) : [];
  const same = cursor
    ? await find({ ...within(range, cursor.at, true), _id: { $lt: cursor.id } }, OF_ONE_INSTANT, limit)
    : [];
  const left = limit - same.length;
  const older = left ? await find(cursor ? within(range, cursor.at, false) : range, NEWEST, left + 1) : [];
  const [last, next] = [older[left - 1], older[left]];
  const cut = last?.at as Date | undefined;
  if (!isInstant(cut) || !isInstant(next?.at) || cut.getTime() !== next.at.getTime())
    return [...same, ...inOrder(older.slice(0, left))];
  const before = older.filter(({ at }) => !isInstant(at) || at > cut);
  const ties = await find(within(range, cut, true), OF_ONE_INSTANT, left - before.length);
  return [...same, ...inOrder(before), ...inOrder(ties)];
}

/** The same for rows in the order of their ids. */
export function greatestOf(rows: Collection, range: Filter, limit: number, cursor?: Position): Promise<Doc[]> {
  const { _id, ...rest } = range as { _id: { $gte: string; $lt: string } };
  const $lt = cursor && cursor.id < _id.$lt ? cursor.id : _id.$lt;
  return rows.find({ ...rest, _id: { ..._id, $lt } }, { sort: { _id: -1 }, limit, without: ["body"] });
}

/**
 * The instant from which on a range has its newest `most` rows (and others of that very instant); undefined = it has none
 * that are older.
 */
export async function newestFrom(rows: Collection, range: Filter, most: number): Promise<Date | undefined> {
  const page = { sort: NEWEST, skip: most - 1, limit: 2, fields: ["at"] };
  const [last, next] = (await rows.find(range, page)) as { at?: Date }[];
  if (!last?.at || !next?.at) return undefined;
  if (next.at < last.at) return last.at;
  const older = await rows.find(within(range, last.at, false), { limit: 1, fields: ["at"] });
  return older.length ? last.at : undefined;
}

/** The rows of a range from an instant on. */
export function startingAt(range: Filter, at: Date | undefined): Filter {
  return at ? { ...range, at: { ...(range.at as Filter | undefined), $gte: at } } : range;
}

/** Of rows that cannot be read the instant may be anything. */
function isInstant(at: unknown): at is Date {
  return at instanceof Date;
}

/** Bounded from below as well: NeDB walks every row for a date that is bounded above only. */
function within(range: Filter, at: Date, exactly: boolean): Filter {
  const { $gte = EPOCH, $lt } = (range.at ?? {}) as { $gte?: Date; $lt?: Date };
  if (exactly) return { ...range, at: { $gte: $gte > at ? $gte : at, $lte: at, ...($lt && { $lt }) } };
  return { ...range, at: { $gte, $lt: $lt && $lt < at ? $lt : at } };
}

/** Newest first, those of one instant by id. */
export function inOrder<T extends { _id: string; at?: unknown }>(rows: T[]): T[] {
  const ms = ({ at }: T) => (isInstant(at) ? at.getTime() : 0);
  return [...rows].sort((a, b) => ms(b) - ms(a) || (a._id < b._id ? 1 : -1));
}
