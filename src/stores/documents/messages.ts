import { ReliableError } from "../../errors";
import { STATUS } from "../../message/lifecycle";
import { type Message, type MessageHead, openAtOf } from "../../message/message";
import type { Subscription } from "../../message/records";
import type { MessageStore } from "../store";
import type {
  Causes,
  ClaimQuery,
  DeadGroups,
  DeadMessage,
  DisplacedRecord,
  Due,
  DueQuery,
  ExcusedRecord,
  FailedRecord,
  HandledRecord,
  HandledResult,
  InsertOutcome,
  ListedMessages,
  ListQuery,
  NamingRecord,
  Oldest,
  PublishedRecord,
  RecipientsRecord,
  RescheduleRecord,
  RowStatus,
  StoreStats,
  Timing
} from "../store-records";
import { CallbackRows } from "./callback-rows";
import { causes } from "./causes";
import { decodeMessage, encodeMessage } from "./codec";
import type { Database, Doc, Filter, Operation } from "./collection";
import { ConsumedOrDead } from "./consumed-or-dead";
import { deadGroups } from "./dead-groups";
import { DueMessages } from "./due";
import type { GuardedMessages } from "./guarded-messages";
import { MessageLists } from "./lists";
import { groupIdentical, idsOf, inOrder, readable, readableHeads } from "./rows";
import type { Transactions } from "./transactions";
import { dueFor } from "./unroutable";

/** No group has a step of its own to wait for. */
const NOTHING_NEXT: Filter = { $or: [{ next: { $exists: false } }, { next: {} }] };

/** From this many confirms on, the rows are read first. */
const SAMPLE = 100;

/** The row that is said to be there can be gone when it is read, but not again and again. */
const MAX_INSERTS = 5;

function existingOf(doc: Doc): InsertOutcome | ReliableError {
  try {
    return { stored: false, existing: decodeMessage(doc) };
  } catch (thrown) {
    if ((thrown as ReliableError).type !== "RELIABLE_UNREADABLE_ROW") throw thrown;
    return thrown as ReliableError;
  }
}

function neverThere(id: string): ReliableError {
  const text = `The store refuses ${id}: a unique index says that it is there, and there is no such row.`;
  return new ReliableError("RELIABLE_STORE_REFUSED", text, { id });
}

/** The messages. Anything longer than a few lines is in a file of its own. */
export class DocumentMessages implements MessageStore {
  readonly #consumedOrDead: ConsumedOrDead;
  readonly #due: DueMessages;
  readonly #callbackRows: CallbackRows;
  readonly #lists: MessageLists;

  constructor(
    private readonly db: Database,
    private readonly transactions: Transactions,
    private readonly guarded: GuardedMessages
  ) {
    this.#consumedOrDead = new ConsumedOrDead(db);
    this.#due = new DueMessages(db, guarded);
    this.#callbackRows = new CallbackRows(db, guarded);
    this.#lists = new MessageLists(db);
  }

  async insert(messages: Message[]): Promise<(InsertOutcome | ReliableError)[]> {
    const outcomes = new Map<number, InsertOutcome | ReliableError>();
    let open = messages.map((_, i) => i);
    for (let tries = 1; open.length; tries++) {
      const stored = await this.guarded.insertEach(open.map(i => encodeMessage(messages[i] as Message)));
      const taken = open.filter((_, at) => stored[at] === false);
      for (const [at, i] of open.entries()) {
        const outcome = stored[at] === true ? ({ stored: true } as const) : stored[at];
        if (outcome) outcomes.set(i, outcome);
      }
      const there = taken.length
        ? await this.db.collections.messages.find({ _id: { $in: taken.map(i => String(messages[i]?._id)) } })
        : [];
      const rows = new Map(there.map(doc => [doc._id, doc]));
      for (const i of taken) {
        const id = String(messages[i]?._id);
        const doc = rows.get(id);
        if (doc) outcomes.set(i, existingOf(doc));
        else if (tries === MAX_INSERTS) outcomes.set(i, neverThere(id));
      }
      // The row that stood in the way was pruned or discarded before it could be read, so it is no obstacle any more.
      open = taken.filter(i => !outcomes.has(i));
    }
    return messages.map((_, i) => outcomes.get(i) as InsertOutcome | ReliableError);
  }

  insertIn(session: unknown, message: Message, before?: Promise<unknown>): Promise<InsertOutcome> {
    return this.transactions.insertIn(session, message, before);
  }

  onSessionEnd(session: unknown, listener: () => void): void {
    this.transactions.onSessionEnd(session, listener);
  }

  async published(all: PublishedRecord[]): Promise<number> {
    if (!all.length) return 0;
    // Of many, most are consumed by now, and a read costs far less than updates that change nothing. If no group
    // consumes, the read is wasted.
    const sample = all.slice(0, SAMPLE);
    const written =
      all.length > 2 * SAMPLE && (await this.#unconfirmed(sample)).length * 2 > SAMPLE
        ? await this.#writePublished(all, NOTHING_NEXT)
        : 0;
    if (written === all.length) return written;
    const rows = await this.#unconfirmed(all);
    const among = (status: string) => {
      const ids = new Set(rows.filter(row => row.status === status).map(row => row._id));
      return all.filter(({ id }) => ids.has(id));
    };
    // A group had failed for good before this was written. The others are waited for from now on.
    await this.db.collections.messages.bulk(
      among(STATUS.dead).flatMap(({ id, at, dueAt }) => {
        const filter = { _id: id, status: STATUS.dead, publishedAt: { $exists: false }, retriedAt: { $exists: false } };
        return [
          {
            filter: { ...filter, dueAt: { $exists: true }, ...NOTHING_NEXT },
            change: { $set: { publishedAt: at, dueAt } }
          },
          { filter, change: { $set: { publishedAt: at } } }
        ];
      })
    );
    const records = among(STATUS.pending);
    const plain = await this.#writePublished(records, NOTHING_NEXT);
    // A failure that came before the confirm has scheduled the next attempt already, and that is earlier.
    return written + plain + (plain === records.length ? 0 : await this.#writePublished(records, {}, false));
  }

  #unconfirmed(records: PublishedRecord[]): Promise<Doc[]> {
    return this.db.collections.messages.find(
      { _id: { $in: idsOf(records) }, status: { $in: [STATUS.pending, STATUS.dead] } },
      { fields: ["status"] }
    );
  }

  #writePublished(records: PublishedRecord[], filter: Filter, withDue = true): Promise<number> {
    const groups = groupIdentical(records, ({ at, dueAt }) => [at.getTime(), dueAt.getTime()]);
    const operations = groups.map((group): Operation => {
      const [{ at, dueAt }] = group as [PublishedRecord];
      return {
        // After a human's retry the confirm is of an attempt before it, and the new one is still due.
        filter: { _id: { $in: idsOf(group) }, status: STATUS.pending, retriedAt: { $exists: false }, ...filter },
        change: { $set: { status: STATUS.published, publishedAt: at, ...(withDue && { dueAt }) } },
        many: true
      };
    });
    return this.db.collections.messages.bulk(operations);
  }

  async postponed(ids: string[], dueAt: Date): Promise<number> {
    if (!ids.length) return 0;
    return this.db.collections.messages.update(
      {
        _id: { $in: ids.map(String) },
        status: { $in: [STATUS.pending, STATUS.dead] },
        dueAt: { $exists: true },
        claim: { $exists: false }
      },
      { $set: { dueAt } }
    );
  }

  handled(records: HandledRecord[]): Promise<HandledResult> {
    return this.#consumedOrDead.handled(records);
  }

  resolveRecipients(records: RecipientsRecord[]): Promise<Pick<HandledResult, "consumed">> {
    return this.#consumedOrDead.resolveRecipients(records);
  }

  failed(records: FailedRecord[]): Promise<{ applied: number; dead: DeadMessage[] }> {
    return this.#consumedOrDead.failed(records);
  }

  displaced(records: DisplacedRecord[]): Promise<void> {
    return this.#due.displaced(records);
  }

  excused(records: ExcusedRecord[]): Promise<void> {
    return this.#consumedOrDead.excused(records);
  }

  routable(subscriptions: Pick<Subscription, "group" | "pattern">[], at: Date): Promise<number> {
    return this.db.collections.messages.bulk(subscriptions.flatMap(subscription => dueFor(subscription, at)));
  }

  insertFromReceipts(rows: Message[]): Promise<Set<string>> {
    return this.#callbackRows.insertFromReceipts(rows);
  }

  upsertFromChecks(rows: Message[]): Promise<Message[]> {
    return this.#callbackRows.upsertFromChecks(rows);
  }

  statuses(ids: string[]): Promise<RowStatus[]> {
    return this.#callbackRows.statuses(ids);
  }

  due(query: DueQuery): Promise<Due[]> {
    return this.#due.due(query);
  }

  claim(query: ClaimQuery): Promise<Message[]> {
    return this.#due.claim(query);
  }

  named(records: NamingRecord[]): Promise<Set<string>> {
    return this.#due.named(records);
  }

  begun(ids: string[], claim: string): Promise<Set<string>> {
    return this.#due.begun(ids, claim);
  }

  rescheduled(records: RescheduleRecord[], late?: boolean): Promise<number> {
    return this.#due.rescheduled(records, late);
  }

  async find(ids: string[]): Promise<Message[]> {
    if (!ids.length) return [];
    const docs = await this.db.collections.messages.find({ _id: { $in: ids.map(String) } });
    return inOrder(ids, readable(docs));
  }

  async heads(ids: string[]): Promise<MessageHead[]> {
    if (!ids.length) return [];
    const docs = await this.db.collections.messages.find({ _id: { $in: ids.map(String) } }, { without: ["body"] });
    return inOrder(ids, readableHeads(docs));
  }

  async timings(ids: string[]): Promise<Timing[]> {
    const docs = await this.db.collections.messages.find(
      { _id: { $in: ids.map(String) }, status: STATUS.consumed },
      { fields: ["event", "createdAt", "sendAt", "at"] }
    );
    return docs.map(({ _id: id, event, at, ...doc }) => {
      const emittedAt = openAtOf(doc as unknown as MessageHead);
      return { id, event, emittedAt, consumedAt: at } as Timing;
    });
  }

  list(query: ListQuery, limit: number, countAll?: boolean): Promise<ListedMessages> {
    return this.#lists.list(query, limit, countAll);
  }

  causes(query: ListQuery, most: number): Promise<Causes> {
    return causes(this.db, query, most);
  }

  stats(most?: number): Promise<StoreStats> {
    return this.#lists.stats(most);
  }

  deadGroups(limit: number): Promise<DeadGroups> {
    return deadGroups(this.db.collections.messages, limit);
  }

  oldest(): Promise<Oldest> {
    return this.#lists.oldest();
  }
}
