import { ReliableError } from "../../errors";
import { isFinal, STATUS, STATUSES, type Status } from "../../message/lifecycle";
import { ANY_GROUP, type Message, type Note } from "../../message/message";
import { namesGroup } from "../../message/pattern";
import type { AuditRecord } from "../../message/records";
import type { ListQuery, StoreStats } from "../store";
import { decodeMessage, keyOf } from "./codec";
import type { Change, Doc, Filter, Operation } from "./collection";
import { RecordStore } from "./records";

/** Statuses whose rows are few and matter to an operator; the others are history. */
const LIVE = STATUSES.filter(status => !isFinal(status));

const FORGET_PAGE = 500;

/** What an operator sees and does: list, stats, retry, resolve, discard, forget. */
export abstract class OperatorStore extends RecordStore {
  async list(query: ListQuery, offset: number, limit: number): Promise<{ rows: Message[]; total: number }> {
    const filter = await this.#filterOf(query);
    const { messages } = this.collections;
    const [docs, total] = await Promise.all([
      messages.find(filter, { sort: { createdAt: -1, _id: -1 }, skip: offset, limit }),
      messages.count(filter)
    ]);
    return { rows: docs.map(decodeMessage), total };
  }

  async stats(): Promise<StoreStats> {
    const { messages, parked } = this.collections;
    const [parkedCount, oldest, oldestDeadAt, ...counts] = await Promise.all([
      parked.count({}),
      this.oldest(),
      this.#oldest(STATUS.dead),
      ...STATUSES.map(status => messages.count({ status }))
    ]);
    const byStatus = Object.fromEntries(STATUSES.map((status, i) => [status, counts[i]])) as Record<Status, number>;
    return {
      byStatus,
      parked: parkedCount,
      oldestPendingAt: oldest.pending,
      oldestPublishedAt: oldest.published,
      oldestDeadAt
    };
  }

  async oldest(): Promise<{ pending?: Date; published?: Date }> {
    const [pending, published] = await Promise.all([this.#oldest(STATUS.pending), this.#oldest(STATUS.published)]);
    return { pending, published };
  }

  async #oldest(status: Status): Promise<Date | undefined> {
    const [doc] = await this.collections.messages.find(
      { status },
      { sort: { createdAt: 1 }, limit: 1, fields: ["createdAt"] }
    );
    return doc?.createdAt as Date | undefined;
  }

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
      // What was counted up to here does not count any more.
      $unset: { deadAt: true, reason: true, claim: true, asks: true, unreachableSince: true },
      $push: { notes: note }
    });
  }

  async resolve(message: Message, note: Note): Promise<boolean> {
    return this.#leaveDead(message, { $set: { status: STATUS.resolved, doneAt: note.at }, $push: { notes: note } });
  }

  async discard(message: Message, record: AuditRecord): Promise<boolean> {
    const { messages, audit } = this.collections;
    const [first] = await audit.insert([{ ...record }]);
    if ((await messages.remove(asGiven(message))) > 0) return true;
    const [still] = await messages.find({ _id: String(message._id) }, { fields: ["_id"] });
    // The audit record of an earlier try whose answer was lost: that try has deleted the message.
    if (!still && !first) return true;
    // Another operator deleted it in this instant, on the strength of this record, which therefore stays.
    if (!still && (await this.audits(String(message._id))).every(({ _id }) => _id === record._id)) return false;
    await audit.remove({ _id: record._id });
    return false;
  }

  async forget(group: string, note: Note): Promise<{ subscriptions: number; messages: number }> {
    const { messages, subscriptions, audit } = this.collections;
    if (group === ANY_GROUP)
      throw new ReliableError("RELIABLE_BAD_OPTION", `'${ANY_GROUP}' is no group that could be forgotten.`, {
        option: "group"
      });
    const labelled = labelsOf(textOf("group", group));
    // Repeating the call after a crash must not tell of a second act.
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
    // Subscriptions first: no new message shall wait for the group while the old ones are freed.
    const removed = await subscriptions.remove({ group: labelled });
    const filter: Filter = { status: { $in: LIVE }, $or: [{ waiting: labelled }, { failed: labelled }] };
    let freed = 0;
    for (;;) {
      const page = await messages.find(filter, {
        limit: FORGET_PAGE,
        fields: ["status", "waiting", "failed", "receipts"]
      });
      // The databases' regular expressions differ in corners (a name that ends in a newline); what is not the group's
      // must not be read for ever.
      const docs = page.filter(doc =>
        [...(doc.waiting as string[]), ...(doc.failed as string[])].some(label => namesGroup(group, label))
      );
      if (!docs.length) return { subscriptions: removed, messages: freed };
      // What lost its race against a receipt is read again with the next page.
      freed += await messages.bulk(docs.map(doc => freeing(doc, group, note)));
    }
  }

  #leaveDead(message: Message, change: Change): Promise<boolean> {
    return this.collections.messages.update(asGiven(message), change).then(matched => matched > 0);
  }

  async #filterOf(query: ListQuery): Promise<Filter> {
    const filter: Filter = {};
    if (query.ids) filter._id = { $in: query.ids.map(id => textOf("ids", id)) };
    if (query.status) filter.status = { $in: [query.status].flat().map(status => textOf("status", status)) };
    if (query.event !== undefined) filter.event = textOf("event", query.event);
    if (query.producer !== undefined) filter.producer = textOf("producer", query.producer);
    if (query.createdAfter || query.createdBefore) {
      filter.createdAt = {
        ...(query.createdAfter && { $gte: instantOf("createdAfter", query.createdAfter) }),
        ...(query.createdBefore && { $lt: instantOf("createdBefore", query.createdBefore) })
      };
    }
    if (query.group !== undefined) {
      const group = textOf("group", query.group);
      const labelled = labelsOf(group);
      // Field names cannot be matched by pattern, so the labels that may have a receipt come from the subscriptions.
      const known = (await this.collections.subscriptions.find({ group: labelled }, { fields: ["group"] })).map(
        doc => doc.group as string
      );
      const receipts = [...new Set([group, ...known])].map(label => ({
        [`receipts.${keyOf(label)}`]: { $exists: true }
      }));
      filter.$or = [{ waiting: labelled }, { failed: labelled }, ...receipts];
    }
    return filter;
  }
}

/** Still dead, and for the same groups as the operator saw. */
function asGiven(message: Message): Filter {
  return { _id: String(message._id), status: STATUS.dead, failed: [...message.failed] };
}

/** The group itself, and the `<group>:<pattern>` labels of its wildcard consumers. */
function labelsOf(group: string): RegExp {
  return new RegExp(`^${group.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")}(:|$)`);
}

/** One conditional write that takes the group out and closes the message if nobody else owes a receipt. */
function freeing(doc: Doc, group: string, note: Note): Operation {
  const status = doc.status as Status;
  const waiting = (doc.waiting as string[]).filter(label => !namesGroup(group, label));
  const failed = (doc.failed as string[]).filter(label => !namesGroup(group, label));
  const set: Record<string, unknown> = { waiting, failed };
  const change: Change = { $set: set, $push: { notes: note } };
  if (!waiting.length && failed.length) {
    if (status !== STATUS.dead) close(change, { status: STATUS.dead, deadAt: note.at });
  } else if (!waiting.length && status === STATUS.intended) {
    // Not sent yet: whoever subscribes until then may still get it.
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
  change.$unset = { open: true, dueAt: true, claim: true };
}

/**
 * What reaches a filter is a plain value, whatever the caller passed: an object there would be a query of the caller's
 * making.
 */
function textOf(name: string, value: unknown): string {
  if (typeof value !== "string")
    throw new ReliableError("RELIABLE_BAD_OPTION", `'${name}' must be text.`, { option: name });
  return value;
}

function instantOf(name: string, value: unknown): Date {
  if (!(value instanceof Date) || Number.isNaN(value.getTime()))
    throw new ReliableError("RELIABLE_BAD_OPTION", `'${name}' must be a date.`, { option: name });
  return value;
}
