import type { Order } from "../../message/order";
import { type Database, type Doc, EPOCH } from "./collection";
import { allNamed } from "./lane-names";
import { type Lane, stirring } from "./lane-rows";
import { ABOVE_ID } from "./lane-turns";

/** See `LaneStore.prune`. */
export async function pruneLanes(db: Database, before: Date, limit: number): Promise<boolean> {
  const { lanes } = db.collections;
  // One in which somebody has his turn is due some time, or is alone.
  const old = { idle: { $gte: EPOCH, $lt: before }, dueAt: { $exists: false }, alone: { $exists: false } };
  const docs = (await lanes.find(old, { limit })) as Lane[];
  // Somebody may stand there, for whom no group is known. If not, it is said so, and pruned next time.
  const unnamed = docs.filter(({ unnamed }) => unnamed);
  if (unnamed.length) await allNamed(db, new Map(unnamed.map(lane => [lane._id, lane])));
  const now = db.now();
  const gone = docs.filter(({ unnamed, expects }) => !unnamed && !(expects && expects > now));
  if (!gone.length) return false;
  // A turn's number never comes again, so that what is kept by it stays right.
  const numbers = gone.flatMap(({ turns = {} }) => Object.values(turns).map(({ number }) => number));
  const change = { $max: { top: Math.max(0, ...numbers) } };
  await lanes.bulk([{ filter: { _id: ABOVE_ID }, change, upsert: true }]);
  await lanes.remove({ ...old, unnamed: { $exists: false }, _id: { $in: gone.map(({ _id }) => _id) } });
  return docs.length === limit;
}

/**
 * These rows are deleted soon. A lane that is alone is never due: those whose turns are theirs are looked at, and found to
 * be idle, since nobody else would ever come by.
 */
export async function stirLanes(db: Database, rows: Doc[]): Promise<void> {
  const { lanes } = db.collections;
  const keys = new Set(rows.flatMap(({ order }) => (order as Order | undefined)?.key ?? []));
  if (!keys.size) return;
  const ids = new Set(rows.map(({ _id }) => _id));
  const alone = { _id: { $in: [...keys] }, alone: true };
  const found = (await lanes.find(alone, { fields: ["turns"] })) as Lane[];
  const last = found.filter(({ turns = {} }) => Object.values(turns).every(({ id }) => ids.has(id)));
  if (last.length) await lanes.update({ ...alone, _id: { $in: last.map(({ _id }) => _id) } }, stirring(db.now()));
}
