import type { ReliableError } from "../../errors";
import type { InboxStore } from "../store";
import type { InboxOutcome } from "../store-records";
import type { Database, Doc } from "./collection";
import type { Transactions } from "./transactions";

function inboxId(group: string, id: string): string {
  return JSON.stringify([group, id]);
}

export function inboxRow(group: string, id: string, at: Date): Doc {
  return { _id: inboxId(group, id), at };
}

/** Ids that a group has handled. */
export class DocumentInbox implements InboxStore {
  constructor(
    private readonly db: Database,
    private readonly transactions: Transactions
  ) {}

  async handled(group: string, ids: string[]): Promise<Set<string>> {
    if (!ids.length) return new Set();
    const byRow = new Map(ids.map(id => [inboxId(group, id), id]));
    const docs = await this.db.collections.inbox.find({ _id: { $in: [...byRow.keys()] } }, { fields: ["_id"] });
    return new Set(docs.map(doc => byRow.get(doc._id) as string));
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
