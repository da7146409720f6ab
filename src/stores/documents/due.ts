import { STATUS } from "../../message/lifecycle";
import { ANY_GROUP, type Message, ROW_VERSION } from "../../message/message";
import type { ClaimQuery, DisplacedRecord, Due, DueQuery, NamingRecord, RescheduleRecord } from "../store-records";
import { decodeMessage, keyOf, pathOf } from "./codec";
import { type Change, type Database, type Doc, EPOCH, type Filter, type Operation } from "./collection";
import type { GuardedMessages } from "./guarded-messages";
import {
  CLOSED,
  DUE,
  failureKept,
  groupIdentical,
  idsOf,
  inOrder,
  notDead,
  noted,
  OPEN,
  readable,
  recipientsNote
} from "./rows";

const OVERTAKEN_PASSES = 3;
const OLDEST_FIRST = { dueAt: 1 } as const;

/** Messages that are due, and what a sweep writes about the messages it has claimed. */
export class DueMessages {
  constructor(
    private readonly db: Database,
    private readonly guarded: GuardedMessages
  ) {}

  async due({ from = EPOCH, now, limit, buckets }: DueQuery): Promise<Due[]> {
    const searched = this.guarded.searched();
    if (!searched) return [];
    // Rows of another version are left to nodes that know it, and hold up nothing here. Nor does one that `claim` would
    // not take: it would be found again and again.
    const filter = {
      ...searched,
      v: ROW_VERSION,
      ...DUE,
      dueAt: { $gte: from, $lte: now },
      ...(buckets && { bucket: { $in: buckets } })
    };
    const fields = ["bytes", "dueAt"];
    // Of many open ones that stand behind others a database may think that their status tells more.
    const page = { sort: OLDEST_FIRST, by: OLDEST_FIRST, limit, fields };
    const docs = await this.db.collections.messages.find(filter, page);
    return docs.map(({ _id: id, bytes, dueAt }) => ({ id, bytes: Number(bytes), dueAt: dueAt as Date }));
  }

  async claim({ ids, now, until, claim, checked, unreadable }: ClaimQuery): Promise<Message[]> {
    if (!ids.length) return [];
    const { messages } = this.db.collections;
    const past = { dueAt: { $gte: EPOCH, $lte: now } };
    const due = checked ? { $or: [{ claim: { $exists: false } }, past] } : past;
    const _id = { $in: ids.map(String) };
    if (!(await messages.update({ _id, ...DUE, ...due }, { $set: { claim, dueAt: until } }))) return [];
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

  async begun(ids: string[], claim: string): Promise<Set<string>> {
    if (!ids.length) return new Set();
    const { messages } = this.db.collections;
    const held = { _id: { $in: ids.map(String) }, claim };
    const changed = await messages.update(
      { ...held, status: STATUS.scheduled },
      { $set: { status: STATUS.pending, at: this.db.now() } }
    );
    if (changed === ids.length) return new Set(ids);
    const rows = await messages.find({ ...held, status: STATUS.pending }, { fields: ["_id"] });
    return new Set(rows.map(({ _id }) => _id));
  }

  async named(records: NamingRecord[]): Promise<Set<string>> {
    if (!records.length) return new Set();
    const { messages } = this.db.collections;
    const all = new Set(idsOf(records));
    if ((await messages.bulk(records.map(record => naming(record, this.db.now())))) === records.length) return all;
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

  async rescheduled(given: RescheduleRecord[], late = false): Promise<number> {
    const { messages } = this.db.collections;
    const records = late && given.length ? await this.#stillOpen(given) : given;
    if (!records.length) return 0;
    // Messages of one page that were sent together get the same update, except for a few milliseconds.
    const plain = await messages.bulk(groupIdentical(records, ({ id, ...rest }) => rest).map(rescheduling));
    return plain === records.length ? plain : plain + (await this.#overtaken(records));
  }

  async #stillOpen(records: RescheduleRecord[]): Promise<RescheduleRecord[]> {
    const filter = { _id: { $in: idsOf(records) }, ...OPEN };
    const docs = await this.db.collections.messages.find(filter, { fields: ["claim"] });
    const claims = new Map(docs.map(({ _id, claim }) => [_id, claim]));
    return records.filter(({ id, claim }) => claims.get(id) === claim);
  }

  /** Most were handled in the meantime and need no update. */
  async #overtaken(records: RescheduleRecord[]): Promise<number> {
    const { messages } = this.db.collections;
    const fields = ["claim", "status", "retriedAt"];
    let written = 0;
    // A human may retry it between the reading and the write, which is then not made: once more, or it would stay
    // claimed until the claim ends.
    for (let pass = 0; pass < OVERTAKEN_PASSES; pass++) {
      const rows = new Map(
        (await messages.find({ _id: { $in: idsOf(records) }, ...OPEN }, { fields })).map(doc => [doc._id, doc])
      );
      const held = records.flatMap(record => {
        const row = rows.get(record.id);
        return row?.claim === record.claim ? overtaken(record, row) : [];
      });
      if (!held.length) break;
      await messages.bulk(
        held.flatMap(record => Object.keys(record.next ?? {}).map(group => reschedulingGroup(record, group)))
      );
      const moved = await messages.bulk(held.map(reschedulingOvertaken));
      written += moved;
      if (moved === held.length) break;
    }
    return written;
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

/**
 * A failure came in the meantime: it has scheduled the next attempt already, or has made the message `dead`. Or a human
 * has retried a group that had failed: that is due at once. Only the rest is written.
 */
function overtaken({ status, ...record }: RescheduleRecord, row: Doc): RescheduleRecord {
  const retriedAt = row.retriedAt as Date | undefined;
  const isRetried = retriedAt?.getTime() !== record.retriedAt?.getTime();
  return {
    ...record,
    ...(status && row.status !== STATUS.dead && { status }),
    ...(isRetried && { dueAt: retriedAt, retriedAt })
  };
}

function displacing({ id, group, attempt, failure, nextAt, unroutable }: DisplacedRecord): Operation {
  const made = pathOf("attempts", group);
  return {
    filter: {
      _id: String(id),
      status: { $in: [STATUS.pending, STATUS.published, STATUS.dead] },
      dueAt: { $exists: true },
      [pathOf("receipts", group)]: { $exists: false },
      ...notDead(group),
      // Told twice, it is written once.
      [`next.${keyOf(group)}`]: { $ne: nextAt },
      $and: [notFailed(group, attempt), { $or: [{ [made]: { $exists: false } }, { [made]: { $lte: attempt } }] }]
    },
    change: {
      // It was not made: the next one has its number.
      $set: {
        [made]: attempt - 1,
        [`next.${keyOf(group)}`]: nextAt,
        ...(unroutable && { [pathOf("unroutable", group)]: unroutable.since })
      },
      $min: { dueAt: nextAt },
      $push: failureKept(failure)
    }
  };
}

function claimed({ id, claim, status, retriedAt }: RescheduleRecord): Filter {
  const from = status && { status: { $in: [STATUS.pending, STATUS.published] } };
  return { _id: String(id), claim, ...OPEN, ...from, retriedAt: retriedAt ?? { $exists: false } };
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

function naming({ id, claim, from, to, unsent = [] }: NamingRecord, at: Date): Operation {
  const groups = to.filter(group => !from.includes(group));
  const replaced = from.filter(group => !to.includes(group));
  const unanswered = groups.map(group => [pathOf("receipts", group), { $exists: false }]);
  return {
    filter: { _id: String(id), claim, ...OPEN, waiting: from, ...Object.fromEntries(unanswered) },
    change: {
      $set: { waiting: to, ...Object.fromEntries(unsent.map(group => [pathOf("attempts", group), 0])) },
      $push: noted(recipientsNote(at, groups, replaced))
    }
  };
}

function sameList(a: string[], b: string[]): boolean {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}

function reschedule(record: RescheduleRecord): Change {
  const { status, publishedAt, attempts = {}, routed = [], round, asks, unreachableSince, note } = record;
  const $set: Record<string, unknown> = {
    ...(status && { status }),
    ...(publishedAt && { publishedAt }),
    ...(round && { round }),
    ...(asks && { asks }),
    ...(unreachableSince && { unreachableSince })
  };
  const $unset: Record<string, true> = { claim: true, ...(unreachableSince === null && { unreachableSince: true }) };
  for (const group of routed) $unset[pathOf("unroutable", group)] = true;
  for (const [group, n] of Object.entries(attempts)) $set[pathOf("attempts", group)] = n;
  return { ...(Object.keys($set).length && { $set }), $unset, ...(note && { $push: noted(note) }) };
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
