import { PROBE_ID } from "./barriers";
import type { Database } from "./collection";
import { DocumentInbox } from "./inbox";
import { DocumentIntents } from "./intents";
import { DocumentMessages } from "./messages";
import { DocumentOperations } from "./operations";
import { DocumentParked } from "./parked";
import { prune } from "./prune";
import { DocumentSubscriptions } from "./subscriptions";
import type { Transactions } from "./transactions";

/** All parts of a store over one set of collections. */
export class Documents {
  readonly messages: DocumentMessages;
  readonly intents: DocumentIntents;
  readonly operations: DocumentOperations;
  readonly subscriptions: DocumentSubscriptions;
  readonly parked: DocumentParked;
  readonly inbox: DocumentInbox;

  constructor(
    private readonly db: Database,
    transactions: Transactions
  ) {
    this.messages = new DocumentMessages(db, transactions);
    this.intents = new DocumentIntents(db, transactions);
    this.operations = new DocumentOperations(db);
    this.subscriptions = new DocumentSubscriptions(db);
    this.parked = new DocumentParked(db);
    this.inbox = new DocumentInbox(db, transactions);
  }

  get degraded(): string[] {
    return [];
  }

  async probe(): Promise<number> {
    const { barriers } = this.db.collections;
    const from = performance.now();
    const row = { _id: PROBE_ID, at: this.db.now() };
    // The first of all nodes makes it; pruning may take it away.
    if (!(await barriers.update({ _id: PROBE_ID }, { $set: { at: row.at } }))) await barriers.insert([row]);
    return performance.now() - from;
  }

  prune(before: Date, limit: number): Promise<{ messages: number; more: boolean }> {
    return prune(this.db, before, limit);
  }
}
