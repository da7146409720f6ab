import type { ReliableError } from "../../errors";
import {
  BUCKETS_MS,
  beginOf,
  COUNTS,
  type HistoryRecord,
  type HistoryRow,
  type HistoryUnit,
  HOUR_MS,
  hourID,
  Tally
} from "../../message/history";
import type { HistoryStore } from "../history-store";
import { type Database, type Doc, EPOCH } from "./collection";
import { isInstant, isMap, isNumber, isText } from "./row-check";

/** A node has 60 minutes in an hour, and more only if it is stopped and started all the time. */
const MAX_MINUTES = 500;

/**
 * What each node has counted, by minute, and by hour when that is old. A document is never changed: minutes are inserted
 * under a fixed `_id`, an hour is inserted once from all minutes of one node, and then those are deleted.
 *
 *   process dies before the hour is inserted   the minutes are all there, and are folded by the next pass
 *   … between the insert and the deletion      both are there: readers take the hour and leave its minutes out; the next
 *                                              pass finds the hour there, changes nothing of it, and deletes the minutes
 *   … within the deletion                      the same with the minutes that are left
 *   two passes at once                         each inserts before it deletes, so one that has found a part of the
 *                                              minutes only finds the hour there too
 *   a minute comes when its hour is folded     it is not counted: its writer gives it up before (LATEST_MS)
 */
export class DocumentHistory implements HistoryStore {
  constructor(private readonly db: Database) {}

  add(records: HistoryRecord[]): Promise<(boolean | ReliableError)[]> {
    return this.db.collections.history.insertEach(records.map(record => ({ ...record })));
  }

  async between(
    unit: HistoryUnit,
    from: Date,
    to: Date,
    limit: number
  ): Promise<{ records: HistoryRecord[]; more: boolean }> {
    const docs = await this.db.collections.history.find(
      { unit, at: { $gte: from, $lt: to } },
      { sort: { at: 1 }, limit: limit + 1 }
    );
    return { records: docs.slice(0, limit).map(shown), more: docs.length > limit };
  }

  async fold(before: Date): Promise<boolean> {
    const { history } = this.db.collections;
    const end = beginOf(before, HOUR_MS);
    const [oldest] = await history.find(
      { unit: "minute", at: { $gte: EPOCH, $lt: end } },
      { sort: { at: 1 }, limit: 1, fields: ["at", "nodeID"] }
    );
    if (!oldest) return false;
    const at = beginOf(oldest.at as Date, HOUR_MS);
    const ofHour = { unit: "minute", at: { $gte: at, $lt: new Date(at.getTime() + HOUR_MS) }, nodeID: oldest.nodeID };
    const docs = await history.find(ofHour, { limit: MAX_MINUTES });
    const tally = new Tally();
    for (const row of docs.flatMap(doc => shown(doc).rows)) tally.add(row);
    const nodeID = String(oldest.nodeID);
    const hour: HistoryRecord = { _id: hourID(at, nodeID), unit: "hour", at, nodeID, rows: tally.rows };
    await history.insert([{ ...hour }]);
    await history.remove({ ...ofHour, _id: { $in: docs.map(doc => doc._id) } });
    return true;
  }

  async drop(before: Date, limit: number): Promise<boolean> {
    const { history } = this.db.collections;
    const old = { unit: "hour", at: { $gte: EPOCH, $lt: before } };
    const docs = await history.find(old, { limit, fields: ["_id"] });
    if (docs.length) await history.remove({ ...old, _id: { $in: docs.map(doc => doc._id) } });
    return docs.length >= limit;
  }
}

/** As far as it can be read: one that is damaged hides no other. */
function shown({ _id, unit, at, nodeID, rows }: Doc): HistoryRecord {
  return {
    _id,
    unit: unit as HistoryUnit,
    at: isInstant(at) ? at : EPOCH,
    nodeID: isText(nodeID) ? nodeID : "",
    rows: Array.isArray(rows) ? rows.flatMap(row => shownRow(row) ?? []) : []
  };
}

function shownRow(row: unknown): HistoryRow | undefined {
  if (!isMap(row) || !isText(row.event)) return undefined;
  const counts = COUNTS.flatMap(name => (isNumber(row[name]) ? [[name, row[name]]] : []));
  return {
    event: row.event,
    ...(isText(row.group) && { group: row.group }),
    ...Object.fromEntries(counts),
    ...(Array.isArray(row.times) && {
      times: row.times.slice(0, BUCKETS_MS.length + 1).map(n => (isNumber(n) ? n : 0))
    })
  };
}
