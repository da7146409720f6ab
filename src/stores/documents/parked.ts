import type { Discarded, ListedParked, Parked } from "../../message/records";
import type { ParkedStore } from "../store";
import type { Listed } from "../store-records";
import { decodeListedParked, decodeParked, encodeParked } from "./codec";
import { type Database, EPOCH } from "./collection";
import { ANY_TIME, LOOKED_AT, totalOf } from "./counts";

/** What could not be read, with its raw bytes; see `src/inbound/parked-messages.ts` for what is cut. */
export class DocumentParked implements ParkedStore {
  constructor(private readonly db: Database) {}

  add(records: Parked[]): Promise<boolean[]> {
    return this.db.collections.parked.insert(records.map(encodeParked));
  }

  async list(offset: number, limit: number): Promise<Listed<ListedParked>> {
    const { parked } = this.db.collections;
    const [docs, count] = await Promise.all([
      parked.find({}, { sort: { at: -1, _id: -1 }, skip: offset, limit, without: ["body"] }),
      parked.count(ANY_TIME, LOOKED_AT)
    ]);
    return { rows: docs.map(decodeListedParked), ...totalOf(count, docs.length, offset, limit) };
  }

  async find(ids: string[]): Promise<Parked[]> {
    return (await this.db.collections.parked.find({ _id: { $in: ids.map(String) } })).map(decodeParked);
  }

  async discard({ _id, at }: Pick<Parked, "_id" | "at">, record: Discarded): Promise<void> {
    const { parked, discarded } = this.db.collections;
    // Only operators delete it, so the record is true no matter which of two operators deleted the row, and it is never
    // removed.
    await discarded.insert([{ ...record }]);
    // Of this parking only: a message that was parked again in the meantime has been seen by no operator.
    // (One whose row is damaged may have no instant.)
    await parked.remove({ _id: String(_id), ...(at > EPOCH && { at }) });
  }
}
