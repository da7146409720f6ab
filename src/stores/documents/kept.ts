import { STATUS } from "../../message/lifecycle";
import type { Kept } from "../../message/replay";
import type { KeptPage } from "../bulk-store";
import type { Position } from "../store-records";
import { decodeListed } from "./codec";
import type { Database, Doc } from "./collection";

/** What was emitted, whatever has come of it. Intents and what was withdrawn were not. */
const EMITTED = [STATUS.pending, STATUS.published, STATUS.dead, STATUS.consumed, STATUS.resolved];

/** What the choice goes by: of many rows, so no story and no payload. */
const FIELDS = [
  ...["v", "event", "producer", "status", "at", "createdAt", "sendAt", "bytes", "only", "waiting", "failed", "groups"],
  ...["droppedAt", "partial", "replay"]
];

/** A page of what was emitted and is kept, whose instant is not before `from`: oldest first, those of one by id. */
export async function keptFrom(db: Database, from: Date, limit: number, after?: Position): Promise<KeptPage> {
  const pages = await Promise.all(EMITTED.map(status => oldestOf(db, status, from, limit, after)));
  const docs = pages.flat().sort(byInstant).slice(0, limit);
  const last = docs.at(-1);
  return {
    rows: docs.map(decodeListed) as Kept[],
    ...(last && docs.length === limit && { next: { at: last.at as Date, id: last._id } })
  };
}

const instantOf = ({ at }: Doc) => (at as Date).getTime();

const byInstant = (a: Doc, b: Doc) => instantOf(a) - instantOf(b) || (a._id < b._id ? -1 : 1);

/** As `newestOf`, the other way round. The range of instants has dates alone. */
async function oldestOf(db: Database, status: string, from: Date, limit: number, after?: Position): Promise<Doc[]> {
  const find = (filter: object, sort: Record<string, 1>, most: number): Promise<Doc[]> | Doc[] =>
    most > 0 ? db.collections.messages.find({ status, ...filter }, { sort, limit: most, fields: FIELDS }) : [];
  const ofInstant = (at: Date, than: string, most: number) =>
    find({ at: { $gte: at, $lte: at }, _id: { $gt: than } }, { at: 1, _id: 1 }, most);
  const same = after ? await ofInstant(after.at, after.id, limit) : [];
  const left = limit - same.length;
  const later = await find({ at: after ? { $gt: after.at } : { $gte: from } }, { at: 1 }, left && left + 1);
  const [last, next] = [later[left - 1], later[left]];
  if (!last || !next || instantOf(last) !== instantOf(next)) return [...same, ...later.slice(0, left)];
  // The page ends within an instant, whose rows the index has in no order.
  const before = later.filter(doc => instantOf(doc) < instantOf(last));
  return [...same, ...before, ...(await ofInstant(last.at as Date, "", left - before.length))];
}
