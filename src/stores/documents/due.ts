import { STATUS } from "../../message/lifecycle";
import { ANY_GROUP, FAILURES_KEPT, type Message, ROW_VERSION } from "../../message/message";
import type { ClaimQuery, DisplacedRecord, Due, DueQuery, NamingRecord, RescheduleRecord } from "../store-records";
import { decodeMessage, keyOf, pathOf } from "./codec";
import { type Change, type Database, type Doc, EPOCH, type Filter, type Operation } from "./collection";
import { CLOSED, groupIdentical, idsOf, inOrder, OPEN, readable } from "./rows";

/** Messages that are due, and what a sweep writes about the messages it has claimed. */
export class DueMessages {
  constructor(private readonly db: Database) {}

  async due({ now, limit, buckets }: DueQuery): Promise<Due[]> {
    // Rows of another version are left to nodes that know it, and hold up nothing here. Nor does one that `claim` would
    // not take: it would be found again and again.
    const filter = {
      v: ROW_VERSION,
      ...OPEN,
      dueAt: { $gte: EPOCH, $lte: now },
      ...(buckets && { bucket: { $in: buckets } })
    };
    const docs = await this.db.collections.messages.find(filter, { sort: { dueAt: 1 }, limit, fields: ["bytes"] });
    return docs.map(({ _id: id, bytes }) => ({ id, bytes: Number(bytes) }));
  }

  async claim({ ids, now, until, claim, checked, unreadable }: ClaimQuery): Promise<Message[]> {
    if (!ids.length) return [];
    const { messages } = this.db.collections;
    const past = { dueAt: { $gte: EPOCH, $lte: now } };
    const due = checked ? { $or: [{ claim: { $exists: false } }, past] } : past;
    const _id = { $in: ids.map(String) };
    if (!(await messages.update({ _id, ...OPEN, ...due }, { $set: { claim, dueAt: until } }))) return [];
    const docs = await messages.find({ _id, claim });
    const page = readable(docs);
    if (page.length < docs.length) await this.#setAside(docs, page, unreadable);
    return inOrder(ids, page);
  }

  /** A row that cannot be read is not due any more: it would come again and again. */
  async #setAside(docs: Doc[], page: Message[], tell: ClaimQuery["unreadable"]): Promise<void> {
    const read = new Set(page.map(({ _id }) => _id));
    for (const doc of docs.filter(({ _id }) => !read.has(_id))) {
      await this.db.collections.messages.update({ _id: doc._id, claim: doc.claim }, { $unset: CLOSED });
      tell?.(errorOf(() => decodeMessage(doc)));
    }
  }

  async named(records: NamingRecord[]): Promise<Set<string>> {
    if (!records.length) return new Set();
    const { messages } = this.db.collections;
    const all = new Set(idsOf(records));
    if ((await messages.bulk(records.map(naming))) === records.length) return all;
    const rows = new Map(
      (await messages.find({ _id: { $in: [...all] }, ...OPEN }, { fields: ["claim", "waiting"] })).map(doc => [
        doc._id,
        doc
      ])
    );
    return new Set(
      records
        .filter(({ id, claim, to }) => rows.get(id)?.claim === claim && sameList(rows.get(id)?.waiting as string[], to))
        .map(({ id }) => id)
    );
  }

  async displaced(records: DisplacedRecord[]): Promise<void> {
    if (records.length) await this.db.collections.messages.bulk(records.map(displacing));
  }

  async rescheduled(records: RescheduleRecord[]): Promise<number> {
    if (!records.length) return 0;
    const { messages } = this.db.collections;
    // Messages of one page that were sent together get the same update, except for a few milliseconds.
    const plain = await messages.bulk(groupIdentical(records, ({ id, ...rest }) => rest).map(rescheduling));
    const overtaken = records.filter(({ about }) => about);
    if (plain === records.length || !overtaken.length) return plain;
    // Most of the others were handled in the meantime and need no update.
    const rows = new Map(
      (await messages.find({ _id: { $in: idsOf(overtaken) }, ...OPEN }, { fields: ["claim"] })).map(doc => [
        doc._id,
        doc.claim
      ])
    );
    const held = overtaken.filter(({ id, claim }) => rows.get(id) === claim);
    if (!held.length) return plain;
    // A failure came in the meantime. It has scheduled the next attempt already, and only the rest is written.
    await messages.bulk(
      held.flatMap(record => Object.keys(record.next ?? {}).map(group => reschedulingGroup(record, group)))
    );
    return plain + (await messages.bulk(held.map(reschedulingOvertaken)));
  }
}

function errorOf(work: () => unknown): Error {
  try {
    work();
  } catch (thrown) {
    return thrown as Error;
  }
  throw new Error("It was to fail.");
}

function displacing({ id, group, attempt, failure, nextAt }: DisplacedRecord): Operation {
  const made = pathOf("attempts", group);
  return {
    filter: {
      _id: String(id),
      status: { $in: [STATUS.pending, STATUS.published] },
      [pathOf("receipts", group)]: { $exists: false },
      // Told twice, it is written once.
      [`next.${keyOf(group)}`]: { $ne: nextAt },
      $and: [notFailed(group, attempt), { $or: [{ [made]: { $exists: false } }, { [made]: { $lte: attempt } }] }]
    },
    change: {
      // It was not made: the next one has its number.
      $set: { [made]: attempt - 1, [`next.${keyOf(group)}`]: nextAt },
      $min: { dueAt: nextAt },
      $push: { failures: { $each: [failure], $slice: -FAILURES_KEPT } }
    }
  };
}

function claimed({ id, claim, status }: RescheduleRecord): Filter {
  const from = status === STATUS.published ? [STATUS.pending, STATUS.published] : undefined;
  return { _id: String(id), claim, ...(from ? { status: { $in: from } } : OPEN) };
}

function rescheduling(records: RescheduleRecord[]): Operation {
  const [record] = records as [RescheduleRecord];
  const { dueAt, next = {}, about = {} } = record;
  const change = reschedule(record);
  const set: Record<string, unknown> = { ...change.$set, dueAt };
  for (const [group, at] of Object.entries(next)) set[`next.${keyOf(group)}`] = at;
  const $and = Object.entries(about).map(([group, attempt]) => notFailed(group, attempt));
  return {
    filter: { ...claimed(record), _id: { $in: idsOf(records) }, ...($and.length && { $and }) },
    change: { ...change, $set: set },
    many: true
  };
}

function reschedulingGroup(record: RescheduleRecord, group: string): Operation {
  const { next = {}, about = {} } = record;
  return {
    filter: { ...claimed(record), ...notFailed(group, about[group] ?? Infinity) },
    change: { $set: { [`next.${keyOf(group)}`]: next[group] } }
  };
}

function reschedulingOvertaken(record: RescheduleRecord): Operation {
  // A failure that came in the meantime has moved `dueAt` already.
  return { filter: claimed(record), change: { ...reschedule(record), $min: { dueAt: record.dueAt } } };
}

function naming({ id, claim, from, to }: NamingRecord): Operation {
  const unanswered = to
    .filter(group => !from.includes(group))
    .map(group => [pathOf("receipts", group), { $exists: false }]);
  return {
    filter: { _id: String(id), claim, ...OPEN, waiting: from, ...Object.fromEntries(unanswered) },
    change: { $set: { waiting: to } }
  };
}

function sameList(a: string[], b: string[]): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

function reschedule(record: RescheduleRecord): Change {
  const { status, publishedAt, attempts = {}, round, asks, unreachableSince } = record;
  const $set: Record<string, unknown> = {
    ...(status && { status }),
    ...(publishedAt && { publishedAt }),
    ...(round && { round }),
    ...(asks && { asks }),
    ...(unreachableSince && { unreachableSince })
  };
  const $unset: Record<string, true> = { claim: true, ...(unreachableSince === null && { unreachableSince: true }) };
  for (const [group, n] of Object.entries(attempts)) $set[pathOf("attempts", group)] = n;
  return { ...(Object.keys($set).length && { $set }), $unset };
}

/**
 * The group's attempt has not failed (yet). A group that failed under ANY_GROUP was recorded under its own name and has
 * replaced ANY_GROUP.
 */
function notFailed(group: string, attempt: number): Filter {
  const spent = pathOf("spent", group);
  return {
    $or: [{ [spent]: { $exists: false } }, { [spent]: { $lt: attempt } }],
    ...(group === ANY_GROUP && { waiting: ANY_GROUP })
  };
}
