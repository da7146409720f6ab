import type { Dropped, DropsDone } from "../store-records";
import { DocumentAudits } from "./audits";
import { PROBE_ID } from "./barriers";
import { keepingBodies } from "./bodies";
import { BulkMessages } from "./bulk-messages";
import { DocumentBulks } from "./bulks";
import { type Database, withMessages } from "./collection";
import { dropPayloads } from "./drops";
import { GuardedMessages, type RefusedListener } from "./guarded-messages";
import { DocumentHistory } from "./history";
import { identify } from "./identity";
import { DocumentInbox } from "./inbox";
import { DocumentIntents } from "./intents";
import { DocumentLanes } from "./lanes";
import { DocumentMessages } from "./messages";
import { DocumentOperations } from "./operations";
import { DocumentParked } from "./parked";
import { DocumentPauses } from "./pauses";
import { prune } from "./prune";
import { DocumentSubscriptions } from "./subscriptions";
import type { Transactions } from "./transactions";

/** All parts of a store over one set of collections. */
export class Documents {
  readonly messages: DocumentMessages;
  readonly intents: DocumentIntents;
  readonly operations: DocumentOperations;
  readonly audits: DocumentAudits;
  readonly bulks: DocumentBulks;
  readonly bulkMessages: BulkMessages;
  readonly subscriptions: DocumentSubscriptions;
  readonly pauses: DocumentPauses;
  readonly parked: DocumentParked;
  readonly inbox: DocumentInbox;
  readonly history: DocumentHistory;
  readonly lanes: DocumentLanes;
  readonly #guarded: GuardedMessages;

  constructor(
    private readonly db: Database,
    transactions: Transactions
  ) {
    this.#guarded = new GuardedMessages(keepingBodies(db));
    const guarded = withMessages(db, this.#guarded);
    this.messages = new DocumentMessages(guarded, transactions, this.#guarded);
    this.intents = new DocumentIntents(guarded, transactions);
    this.operations = new DocumentOperations(guarded, this.#guarded);
    this.audits = new DocumentAudits(db);
    this.bulks = new DocumentBulks(db);
    this.bulkMessages = new BulkMessages(guarded);
    this.subscriptions = new DocumentSubscriptions(db);
    this.pauses = new DocumentPauses(db);
    this.parked = new DocumentParked(db);
    this.inbox = new DocumentInbox(db, transactions);
    this.history = new DocumentHistory(db);
    this.lanes = new DocumentLanes(guarded, this.messages);
  }

  get degraded(): string[] {
    return [];
  }

  onRefused(listener: RefusedListener): void {
    this.#guarded.onRefused(listener);
  }

  identify(): Promise<string> {
    return identify(this.db);
  }

  async probe(): Promise<number> {
    const { barriers } = this.db.collections;
    const from = performance.now();
    const row = { _id: PROBE_ID, at: this.db.now() };
    // The first of all nodes makes it; pruning may take it away.
    if (!(await barriers.update({ _id: PROBE_ID }, { $set: { at: row.at } }))) await barriers.insert([row]);
    return performance.now() - from;
  }

  dropPayloads(before: Date, limit: number, since?: DropsDone): Promise<Dropped> {
    return dropPayloads(this.db, before, limit, since);
  }

  prune(before: Date, limit: number): Promise<{ messages: number; more: boolean }> {
    return prune(this.db, before, limit);
  }
}
