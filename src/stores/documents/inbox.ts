import type { ReliableError } from "../../errors";
import type { InboxStore } from "../store";
import type { InboxOutcome } from "../store-records";
import { groupOf, pathOf } from "./codec";
import type { Database, Doc } from "./collection";
import type { Transactions } from "./transactions";

function inboxId(group: string, id: string): string {
  return JSON.stringify([group, id]);
}

/** What the rows of messages say of who has handled them, for when these rows are gone. */
export function inboxRowsOf(rows: Doc[], at: Date): Doc[] {
  return rows.flatMap(({ _id, groups }) =>
    Object.entries((groups ?? {}) as Record<string, object | null>).flatMap(([key, of]) =>
      of && "receipt" in of ? inboxRow(groupOf(key), _id, at) : []
    )
  );
}

export function inboxRow(group: string, id: string, at: Date): Doc {
  return { _id: inboxId(group, id), at };
}

/**
 * Ids that a group has handled: by a row of their own, or by the group's receipt in the message's row. Either is enough,
 * so it does not matter which of the two a consumer has written.
 */
export class DocumentInbox implements InboxStore {
  constructor(
    private readonly db: Database,
    private readonly transactions: Transactions
  ) {}

  async handled(group: string, ids: string[]): Promise<Set<string>> {
    if (!ids.length) return new Set();
    const { inbox, messages } = this.db.collections;
    const byRow = new Map(ids.map(id => [inboxId(group, id), id]));
    const fields = ["_id"];
    const [marks, receipts] = await Promise.all([
      inbox.find({ _id: { $in: [...byRow.keys()] } }, { fields }),
      messages.find({ _id: { $in: ids }, [pathOf("receipts", group)]: { $exists: true } }, { fields })
    ]);
    return new Set([...marks.map(doc => byRow.get(doc._id) as string), ...receipts.map(doc => doc._id)]);
  }

  async add(group: string, ids: string[], at: Date): Promise<(ReliableError | undefined)[]> {
    const stored = await this.db.collections.inbox.insertEach(ids.map(id => inboxRow(group, id, at)));
    return stored.map(each => (typeof each === "boolean" ? undefined : each));
  }

  transaction(group: string, id: string, at: Date, work: (session: unknown) => Promise<void>): Promise<InboxOutcome> {
    return this.transactions.inbox(group, id, at, work);
  }

  lifetimeMs(): Promise<number | undefined> {
    return this.transactions.lifetimeMs();
  }
}
