import type { AuditRecord, Parked, Subscription } from "../../message/records";
import { decodeParked, encodeParked } from "./codec";
import { type Collection, type Collections, type Doc, EPOCH, type Filter } from "./collection";

/** An operator reads them page by page elsewhere; a message has a handful. */
const MAX_AUDITS = 1000;

function inboxId(group: string, id: string): string {
  return JSON.stringify([group, id]);
}

export function inboxRow(group: string, id: string, at: Date): Doc {
  return { _id: inboxId(group, id), at };
}

/** Everything in the store that is not a message: subscriptions, parked messages, inbox rows, audit records. */
export abstract class RecordStore {
  /** Throws RELIABLE_UNAVAILABLE before the store is open and after it is closed. */
  protected abstract get collections(): Collections;

  async announce(subscriptions: Subscription[]): Promise<void> {
    if (!subscriptions.length) return;
    await this.collections.subscriptions.bulk(
      subscriptions.map(({ pattern, group, queue, nodeID, service, firstSeenAt, seenAt }) => ({
        filter: { _id: JSON.stringify([group, pattern]) },
        change: { $set: { pattern, group, queue, nodeID, service }, $min: { firstSeenAt }, $max: { seenAt } },
        upsert: true
      }))
    );
  }

  async subscriptions(): Promise<Subscription[]> {
    const docs = await this.collections.subscriptions.find({}, { sort: { group: 1, pattern: 1 } });
    return docs.map(({ _id, ...subscription }) => subscription as unknown as Subscription);
  }

  async park(records: Parked[]): Promise<void> {
    if (records.length) await this.collections.parked.insert(records.map(encodeParked));
  }

  async parked(offset: number, limit: number): Promise<{ rows: Parked[]; total: number }> {
    const { parked } = this.collections;
    const [docs, total] = await Promise.all([
      parked.find({}, { sort: { at: -1, _id: -1 }, skip: offset, limit }),
      parked.count({})
    ]);
    return { rows: docs.map(decodeParked), total };
  }

  async findParked(ids: string[]): Promise<Parked[]> {
    return (await this.collections.parked.find({ _id: { $in: ids.map(String) } })).map(decodeParked);
  }

  async discardParked({ _id, at }: Parked, record: AuditRecord): Promise<void> {
    const { parked, audit } = this.collections;
    // Nothing else deletes it, so the record is true whoever of two operators has deleted the row, and never taken
    // back.
    await audit.insert([{ ...record }]);
    // Of this parking: what was parked again meanwhile has been seen by nobody.
    await parked.remove({ _id: String(_id), at });
  }

  async audits(messageId?: string): Promise<AuditRecord[]> {
    const filter = messageId === undefined ? {} : { "message.id": String(messageId) };
    return (await this.collections.audit.find(filter, {
      sort: { at: -1, _id: -1 },
      limit: MAX_AUDITS
    })) as unknown as AuditRecord[];
  }

  async inboxHandled(group: string, ids: string[]): Promise<Set<string>> {
    if (!ids.length) return new Set();
    const byRow = new Map(ids.map(id => [inboxId(group, id), id]));
    const docs = await this.collections.inbox.find({ _id: { $in: [...byRow.keys()] } }, { fields: ["_id"] });
    return new Set(docs.map(doc => byRow.get(doc._id) as string));
  }

  async inboxAdd(group: string, ids: string[], at: Date): Promise<void> {
    if (ids.length) await this.collections.inbox.insert(ids.map(id => inboxRow(group, id, at)));
  }

  /** A page of what `filter` matches. Found first and removed by id, because neither database deletes with a limit. */
  protected async removePage(collection: Collection, filter: Filter, limit: number): Promise<number> {
    const docs = await collection.find(filter, { limit, fields: ["_id"] });
    return docs.length ? collection.remove({ ...filter, _id: { $in: docs.map(doc => doc._id) } }) : 0;
  }

  /** True: there may be more. With several groups there are more inbox rows than messages. */
  protected async pruneRecords(before: Date, limit: number): Promise<boolean> {
    const filter = { at: { $gte: EPOCH, $lt: before } };
    const { inbox, barriers } = this.collections;
    let more = false;
    for (const collection of [inbox, barriers])
      if ((await this.removePage(collection, filter, limit)) >= limit) more = true;
    return more;
  }
}
