import type { AuditRecord, Parked } from "../../message/records";
import type { ParkedStore } from "../store";
import { decodeParked, encodeParked } from "./codec";
import type { Database } from "./collection";

/** What could not be read, with its raw bytes; see `src/inbound/parked-messages.ts` for what is cut. */
export class DocumentParked implements ParkedStore {
  constructor(private readonly db: Database) {}

  add(records: Parked[]): Promise<boolean[]> {
    return this.db.collections.parked.insert(records.map(encodeParked));
  }

  async list(offset: number, limit: number): Promise<{ rows: Parked[]; total: number }> {
    const { parked } = this.db.collections;
    const [docs, total] = await Promise.all([
      parked.find({}, { sort: { at: -1, _id: -1 }, skip: offset, limit }),
      parked.count({})
    ]);
    return { rows: docs.map(decodeParked), total };
  }

  async find(ids: string[]): Promise<Parked[]> {
    return (await this.db.collections.parked.find({ _id: { $in: ids.map(String) } })).map(decodeParked);
  }

  async discard({ _id, at }: Parked, record: AuditRecord): Promise<void> {
    const { parked, audit } = this.db.collections;
    // Only operators delete it, so the record is true no matter which of two operators deleted the row, and it is never
    // removed.
    await audit.insert([{ ...record }]);
    // Of this parking only: a message that was parked again in the meantime has been seen by no operator.
    await parked.remove({ _id: String(_id), at });
  }
}
