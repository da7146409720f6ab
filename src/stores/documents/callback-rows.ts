import type { ReliableError } from "../../errors";
import { isOpen, STATUS } from "../../message/lifecycle";
import type { Message } from "../../message/message";
import type { Discarded } from "../../message/records";
import type { RowStatus } from "../store-records";
import { encodeMessage } from "./codec";
import type { Database, Operation } from "./collection";
import { mendedDiscarded } from "./damaged";
import type { GuardedMessages } from "./guarded-messages";
import { NOT_ASKED, readable } from "./rows";

/** Fields that a row lacks if it is known from receipts only. */
const NOT_IN_RECEIPTS = [
  "event",
  "body",
  "encoded",
  "bytes",
  "meta",
  "headers",
  "origin",
  "producer",
  "only",
  "keys",
  "maxAttempts",
  "backoff",
  "source",
  "intent",
  "resend",
  "delays"
] as const;

/** Rows of messages of strategy `callback`, which no emit stores. */
export class CallbackRows {
  constructor(
    private readonly db: Database,
    private readonly guarded: GuardedMessages
  ) {}

  async insertFromReceipts(given: Message[]): Promise<Set<string>> {
    const rows = await this.#notDiscarded(given);
    // With several groups most messages have a row by now, and a read costs less than an insert that is refused.
    const known = rows.some(isOpen) ? await this.#known(rows) : new Set();
    return (await this.#insertNew(rows.filter(row => !known.has(row._id)))).inserted;
  }

  async statuses(ids: string[]): Promise<RowStatus[]> {
    if (!ids.length) return [];
    const docs = await this.db.collections.messages.find(
      { _id: { $in: ids.map(String) } },
      { fields: ["event", "status", "partial"] }
    );
    return docs.map(
      ({ _id: id, event, status, partial }) => ({ id, event, status, partial: partial === true }) as RowStatus
    );
  }

  async upsertFromChecks(given: Message[]): Promise<Message[]> {
    const rows = await this.#notDiscarded(given);
    // Most messages have a row when their check comes.
    const known = await this.#found(rows);
    const missing = rows.filter(row => !known.has(row._id));
    const { inserted, refused } = await this.#insertNew(missing);
    const raced = await this.#found(missing.filter(row => !inserted.has(row._id)));
    const there = new Map([...known, ...raced]);
    const operations = rows.flatMap(row => changesBy(row, there.get(row._id)));
    if (operations.length) await this.db.collections.messages.bulk(operations);
    const again = rows.filter(row => isNewer(row, there.get(row._id)));
    if (again.length)
      await this.db.collections.messages.bulk(again.map(row => replacing(there.get(row._id) as Message, row)));
    for (const [id, row] of await this.#found(again)) there.set(id, row);
    if (refused) throw refused;
    return rows.flatMap(row => (inserted.has(row._id) ? row : (there.get(row._id) ?? [])));
  }

  /** Ids that were not in the store; and why the store refuses one of them. */
  async #insertNew(rows: Message[]): Promise<{ inserted: Set<string>; refused?: ReliableError | undefined }> {
    const stored = rows.length ? await this.guarded.insertEach(rows.map(encodeMessage)) : [];
    const inserted = new Set(rows.filter((_, i) => stored[i] === true).map(row => row._id));
    return { inserted, refused: stored.find(each => typeof each !== "boolean") };
  }

  async #known(rows: Message[]): Promise<Set<string>> {
    const docs = await this.db.collections.messages.find(
      { _id: { $in: rows.map(row => row._id) } },
      { fields: ["_id"] }
    );
    return new Set(docs.map(doc => doc._id));
  }

  async #found(rows: Message[]): Promise<Map<string, Message>> {
    const docs = rows.length
      ? await this.db.collections.messages.find({ _id: { $in: rows.map(row => String(row._id)) } })
      : [];
    return new Map(readable(docs).map(row => [row._id, row]));
  }

  /**
   * What an operator discarded must not come back through a late receipt or check. The same id emitted again is another
   * message.
   */
  async #notDiscarded(rows: Message[]): Promise<Message[]> {
    if (!rows.length) return rows;
    const gone = await this.db.collections.discarded.find({
      id: { $in: rows.map(row => String(row._id)) },
      message: { $exists: true }
    });
    if (!gone.length) return rows;
    const discarded = new Set(
      gone.flatMap(row => {
        const { id, message } = mendedDiscarded(row) as unknown as Discarded;
        return message ? emissionOf(id, message.createdAt) : [];
      })
    );
    return rows.filter(row => !discarded.has(emissionOf(row._id, row.createdAt)));
  }
}

function emissionOf(id: string, createdAt: Date): string {
  return `${createdAt.getTime()} ${id}`;
}

/** The changes that an existing row needs after what is known now. */
function changesBy(row: Message, there: Message | undefined): Operation[] {
  if (!there) return [];
  const same = there.createdAt.getTime() === row.createdAt.getTime();
  const completes = same && !row.partial && there.partial;
  const happened = row.intent && row.status !== STATUS.intended && there.status === STATUS.intended;
  return [...(completes ? [completing(row)] : []), ...(happened ? [sent(row)] : [])];
}

function completing(row: Message): Operation {
  const doc = encodeMessage(row);
  const [there, none] = [true, false].map(has => NOT_IN_RECEIPTS.filter(field => (doc[field] !== undefined) === has));
  const $set = Object.fromEntries((there as string[]).map(field => [field, doc[field]]));
  const $unset = Object.fromEntries(["partial", ...(none as string[])].map(field => [field, true as const]));
  // Not the row of an earlier emission of this id, which was withdrawn: that one is replaced.
  return {
    filter: { _id: row._id, partial: true, createdAt: row.createdAt },
    change: { $set, $unset }
  };
}

/** The message was sent, so the business write happened before, no matter who is asking about it. */
function sent({ _id, status, publishedAt, dueAt }: Message): Operation {
  return {
    filter: { _id, status: STATUS.intended },
    change: {
      $set: { status, dueAt, ...(publishedAt && { publishedAt }) },
      $unset: NOT_ASKED
    }
  };
}

/**
 * A new emission under an id whose earlier one was withdrawn; or is still in question, although its caller has been told
 * that its business write has failed, or he would not have emitted the id again: what withdraws it may come later than
 * what the new one brings. That one must not be taken for the old one, or it would be withdrawn with it.
 */
function isNewer(row: Message, there: Message | undefined): boolean {
  if (!there || there.createdAt.getTime() === row.createdAt.getTime()) return false;
  if (there.status === STATUS.withdrawn) return true;
  // One with an intent of its own is `sent`.
  const isSent = row.status !== STATUS.intended && !row.intent;
  return there.status === STATUS.intended && isSent && row.createdAt > there.createdAt;
}

/** Takes the place of the older emission, wherever that has got to meanwhile. */
function replacing(old: Message, row: Message): Operation {
  const { _id, notes: _, ...doc } = encodeMessage(row);
  // It may be dropped at this moment.
  const gone = [...Object.keys(encodeMessage(old)), "droppedAt"].filter(
    field => !(field in doc) && field !== "_id" && field !== "notes"
  );
  return {
    filter: { _id: row._id, status: { $in: [STATUS.withdrawn, STATUS.intended] }, createdAt: old.createdAt },
    change: { $set: doc, ...(gone.length && { $unset: Object.fromEntries(gone.map(field => [field, true as const])) }) }
  };
}
