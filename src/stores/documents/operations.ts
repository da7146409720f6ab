import { ReliableError } from "../../errors";
import { isFinal, STATUS, STATUSES, type Status } from "../../message/lifecycle";
import { ANY_GROUP, type Message, type Note } from "../../message/message";
import { namesGroup } from "../../message/pattern";
import type { AuditRecord } from "../../message/records";
import type { OperationStore } from "../store";
import { keyOf } from "./codec";
import type { Change, Database, Doc, Filter, Operation } from "./collection";
import { labelsOf, textOf } from "./queries";
import { CLOSED, NOT_ASKED } from "./rows";

/** Statuses with few rows that matter to an operator; the others are history. */
const LIVE = STATUSES.filter(status => !isFinal(status));

const FORGET_PAGE = 500;

/** A message has a handful; operators read them by page elsewhere. */
const MAX_AUDITS = 1000;

/** An operator's acts: retry, resolve, discard, forget. */
export class DocumentOperations implements OperationStore {
  constructor(private readonly db: Database) {}

  async retry(message: Message, at: Date, note: Note): Promise<boolean> {
    const waiting = [...new Set([...message.waiting, ...message.failed])];
    const base = message.failed
      .filter(group => message.spent[group] !== undefined)
      .map(group => [`base.${keyOf(group)}`, message.spent[group]]);
    return this.#leaveDead(message, {
      $set: {
        status: STATUS.pending,
        open: true,
        dueAt: at,
        waiting,
        failed: [],
        next: {},
        ...Object.fromEntries(base)
      },
      // Attempts counted up to here do not count any more.
      $unset: { ...NOT_ASKED, deadAt: true, reason: true },
      $push: { notes: note }
    });
  }

  async resolve(message: Message, note: Note): Promise<boolean> {
    return this.#leaveDead(message, { $set: { status: STATUS.resolved, doneAt: note.at }, $push: { notes: note } });
  }

  async discard(message: Message, record: AuditRecord): Promise<boolean> {
    const { messages, audit } = this.db.collections;
    const [first] = await audit.insert([{ ...record }]);
    if ((await messages.remove(asGiven(message))) > 0) return true;
    const [still] = await messages.find({ _id: String(message._id) }, { fields: ["_id"] });
    // The audit record of an earlier try whose answer was lost: that try deleted the message.
    if (!still && !first) return true;
    // Another operator deleted the message at this moment, with this record, so the record stays.
    if (!still && (await this.audits(String(message._id))).every(({ _id }) => _id === record._id)) return false;
    await audit.remove({ _id: record._id });
    return false;
  }

  async forget(group: string, note: Note): Promise<{ subscriptions: number; messages: number }> {
    const { messages, subscriptions, audit } = this.db.collections;
    if (group === ANY_GROUP)
      throw new ReliableError("RELIABLE_BAD_OPTION", `'${ANY_GROUP}' is no group that could be forgotten.`, {
        option: "group"
      });
    const labelled = labelsOf(textOf("group", group));
    // Repeating the call after a crash must not report a second act.
    await audit.insert([
      {
        _id: JSON.stringify(["forget", group, note.at]),
        at: note.at,
        by: note.by,
        act: "forget",
        group,
        ...(note.note !== undefined && { note: note.note })
      }
    ]);
    // Subscriptions first: no new message may wait for the group while the old ones are freed.
    const removed = await subscriptions.remove({ group: labelled });
    const filter: Filter = { status: { $in: LIVE }, $or: [{ waiting: labelled }, { failed: labelled }] };
    let freed = 0;
    for (;;) {
      const page = await messages.find(filter, {
        limit: FORGET_PAGE,
        fields: ["status", "waiting", "failed", "receipts"]
      });
      // The databases' regular expressions differ in details (a name that ends in a newline). Labels that do not belong
      // to the group must not be read again and again.
      const docs = page.filter(doc =>
        [...(doc.waiting as string[]), ...(doc.failed as string[])].some(label => namesGroup(group, label))
      );
      if (!docs.length) return { subscriptions: removed, messages: freed };
      // A row that lost its race against a receipt is read again with the next page.
      freed += await messages.bulk(docs.map(doc => freeing(doc, group, note)));
    }
  }

  #leaveDead(message: Message, change: Change): Promise<boolean> {
    return this.db.collections.messages.update(asGiven(message), change).then(matched => matched > 0);
  }

  async audits(messageId?: string): Promise<AuditRecord[]> {
    const filter = messageId === undefined ? {} : { "message.id": String(messageId) };
    return (await this.db.collections.audit.find(filter, {
      sort: { at: -1, _id: -1 },
      limit: MAX_AUDITS
    })) as unknown as AuditRecord[];
  }
}

/** Still dead, and for the same groups that the operator saw. */
function asGiven(message: Message): Filter {
  return { _id: String(message._id), status: STATUS.dead, failed: [...message.failed] };
}

/** One conditional write that removes the group and closes the message if no other group owes a receipt. */
function freeing(doc: Doc, group: string, note: Note): Operation {
  const status = doc.status as Status;
  const waiting = (doc.waiting as string[]).filter(label => !namesGroup(group, label));
  const failed = (doc.failed as string[]).filter(label => !namesGroup(group, label));
  const set: Record<string, unknown> = { waiting, failed };
  const change: Change = { $set: set, $push: { notes: note } };
  if (!waiting.length && failed.length) {
    if (status !== STATUS.dead) close(change, { status: STATUS.dead, deadAt: note.at });
  } else if (!waiting.length && status === STATUS.intended) {
    // Not sent yet: groups that subscribe before it is sent may still get it.
    set.waiting = [ANY_GROUP];
  } else if (!waiting.length) {
    const handled = Object.keys(doc.receipts as object).length > 0;
    close(
      change,
      handled
        ? { status: STATUS.consumed, consumedAt: note.at, doneAt: note.at }
        : { status: STATUS.resolved, doneAt: note.at }
    );
  }
  return { filter: { _id: doc._id, status, waiting: doc.waiting, failed: doc.failed }, change };
}

function close(change: Change, set: Record<string, unknown>): void {
  Object.assign(change.$set as object, set);
  change.$unset = { ...CLOSED };
}
