import { isFinal, STATUS, STATUSES, sourcesOf } from "../../message/lifecycle";
import { ANY_GROUP, FAILURES_KEPT, type Message } from "../../message/message";
import type {
  ClaimQuery,
  DeadMessage,
  DueQuery,
  FailedRecord,
  HandledRecord,
  HandledResult,
  InsertOutcome,
  NamingRecord,
  PublishedRecord,
  RecipientsRecord,
  RescheduleRecord,
  Timing
} from "../store";
import { decodeMessage, encodeMessage, keyOf } from "./codec";
import { type Change, type Doc, EPOCH, type Filter, type Operation } from "./collection";
import { IntentStore } from "./intents";

const FINAL = STATUSES.filter(isFinal);

/** So many confirms tell how it stands with a crowd of them. */
const SAMPLE = 100;

/** No longer in the sweeper's index. */
const CLOSED = { open: true, dueAt: true, claim: true } as const;

/** What nobody needs to know of a consumed message. */
const SETTLED = { ...CLOSED, reason: true, deadAt: true, unreachableSince: true } as const;

/**
 * The normal course of a message, for every store with documents. Failures, and receipts of messages that others owe
 * one for too, take two steps: first each record is written to its message, then one command moves on those that are
 * complete. A crash between the two is healed by the redelivery of the receipts, because the second step looks at all
 * messages named and not only at those the first has changed.
 */
export abstract class DocumentStore extends IntentStore {
  now(): Date {
    return new Date();
  }

  async insert(messages: Message[]): Promise<InsertOutcome[]> {
    const outcomes = new Map<number, InsertOutcome>();
    let open = messages.map((_, i) => i);
    while (open.length) {
      const stored = await this.collections.messages.insert(open.map(i => encodeMessage(messages[i] as Message)));
      const taken = open.filter((_, at) => !stored[at]);
      open.forEach((i, at) => stored[at] && outcomes.set(i, { stored: true }));
      const rows = new Map((await this.find(taken.map(i => (messages[i] as Message)._id))).map(row => [row._id, row]));
      for (const i of taken) {
        const existing = rows.get((messages[i] as Message)._id);
        if (existing) outcomes.set(i, { stored: false, existing });
      }
      // What stood in the way and was pruned or discarded before it could be read is no obstacle any more.
      open = taken.filter(i => !outcomes.has(i));
    }
    return messages.map((_, i) => outcomes.get(i) as InsertOutcome);
  }

  async published(all: PublishedRecord[]): Promise<number> {
    if (!all.length) return 0;
    // A crowd is mostly consumed by now, and a look costs far less than statements that change nothing; or nobody
    // consumes, and the look is in vain.
    const sample = all.slice(0, SAMPLE);
    const written =
      all.length > 2 * SAMPLE && (await this.#unconfirmed(sample)).length * 2 > SAMPLE
        ? await this.#writePublished(all, { next: {} })
        : 0;
    if (written === all.length) return written;
    const rows = await this.#unconfirmed(all);
    const among = (status: string) => {
      const ids = new Set(rows.filter(row => row.status === status).map(row => row._id));
      return all.filter(({ id }) => ids.has(id));
    };
    // It failed for good before this was written: only its story is completed.
    await this.collections.messages.bulk(
      among(STATUS.dead).map(({ id, at }) => ({
        filter: { _id: id, status: STATUS.dead, publishedAt: { $exists: false } },
        change: { $set: { publishedAt: at } }
      }))
    );
    const records = among(STATUS.pending);
    const plain = await this.#writePublished(records, { next: {} });
    // A failure that overtook the confirm has scheduled the next attempt already, and that is earlier.
    return written + plain + (plain === records.length ? 0 : await this.#writePublished(records, {}, false));
  }

  #unconfirmed(records: PublishedRecord[]): Promise<Doc[]> {
    return this.collections.messages.find(
      { _id: { $in: idsOf(records) }, status: { $in: [STATUS.pending, STATUS.dead] } },
      { fields: ["status"] }
    );
  }

  #writePublished(records: PublishedRecord[], filter: Filter, withDue = true): Promise<number> {
    const groups = alike(records, ({ at, dueAt }) => [at.getTime(), dueAt.getTime()]);
    const operations = groups.map((group): Operation => {
      const [{ at, dueAt }] = group as [PublishedRecord];
      return {
        filter: { _id: { $in: idsOf(group) }, status: STATUS.pending, ...filter },
        change: { $set: { status: STATUS.published, publishedAt: at, ...(withDue && { dueAt }) } },
        many: true
      };
    });
    return this.collections.messages.bulk(operations);
  }

  async postponed(ids: string[], dueAt: Date): Promise<number> {
    if (!ids.length) return 0;
    return this.collections.messages.update(
      { _id: { $in: ids.map(String) }, status: STATUS.pending, claim: { $exists: false } },
      { $set: { dueAt } }
    );
  }

  async handled(records: HandledRecord[]): Promise<HandledResult> {
    if (!records.length) return { unknown: [], duplicates: 0, consumed: [], dead: [], unresolved: [] };
    const { messages } = this.collections;
    const ids = idsOf(records);
    const groups = alike(records, ({ group, receipt }) => [group, receipt]);
    // Nearly every receipt is its message's last one, and then one write does both steps.
    const closed = await messages.bulk(groups.map(closingReceipt));
    const none = { unknown: [], duplicates: 0, consumed: [], dead: [], unresolved: [] };
    if (closed === records.length) return { ...none, consumed: ids };
    const recorded = closed + (await messages.bulk(groups.map(recordingReceipt)));
    const { settled, dead, at } = await this.#settle(ids);
    if (recorded === records.length && closed + settled === ids.length) return { ...none, consumed: ids, dead };
    // Those that several groups owe receipts for: usually nothing is wrong, and only who waits for ANY_GROUP is of
    // interest.
    if (recorded === records.length && closed + settled === 0)
      return {
        ...none,
        dead,
        unresolved: (await messages.find({ _id: { $in: ids }, waiting: ANY_GROUP }, { fields: ["_id"] })).map(
          doc => doc._id
        )
      };
    const rows = new Map(
      (await messages.find({ _id: { $in: ids } }, { fields: ["status", "waiting", "consumedAt"] })).map(doc => [
        doc._id,
        doc
      ])
    );
    // A receipt that came twice names what was consumed before.
    const instants = [
      ...(closed ? records.map(({ receipt }) => receipt.at.getTime()) : []),
      ...(settled ? [at.getTime()] : [])
    ];
    const since = Math.min(...instants);
    const known = records.filter(({ id }) => rows.has(id)).length;
    return {
      unknown: ids.filter(id => !rows.has(id)),
      duplicates: Math.max(0, known - recorded),
      consumed: ids.filter(
        id => rows.get(id)?.status === STATUS.consumed && (rows.get(id)?.consumedAt as Date).getTime() >= since
      ),
      dead,
      unresolved: ids.filter(id => (rows.get(id)?.waiting as string[] | undefined)?.includes(ANY_GROUP))
    };
  }

  async resolveRecipients(records: RecipientsRecord[]): Promise<Pick<HandledResult, "consumed" | "dead">> {
    if (!records.length) return { consumed: [], dead: [] };
    const { messages } = this.collections;
    const ids = idsOf(records);
    // A group whose receipt is there already must not be waited for again: its filter says so, whatever came in
    // between.
    await messages.bulk(
      records.flatMap(({ id, groups }) =>
        groups.map(group => ({
          filter: { _id: String(id), waiting: ANY_GROUP, [`receipts.${keyOf(group)}`]: { $exists: false } },
          change: { $addToSet: { waiting: group } }
        }))
      )
    );
    await messages.update({ _id: { $in: ids }, waiting: ANY_GROUP }, { $pull: { waiting: { $in: [ANY_GROUP] } } });
    const { settled, dead } = await this.#settle(ids);
    if (!settled) return { consumed: [], dead };
    const rows = await messages.find({ _id: { $in: ids }, status: STATUS.consumed }, { fields: ["_id"] });
    return { consumed: rows.map(doc => doc._id), dead };
  }

  /** Moves on those that nobody with budget left owes a receipt for. */
  async #settle(ids: string[]): Promise<{ settled: number; dead: DeadMessage[]; at: Date }> {
    const now = this.now();
    const settled = await this.collections.messages.update(
      { _id: { $in: ids }, status: { $in: sourcesOf(STATUS.consumed) }, waiting: [], failed: [] },
      { $set: { status: STATUS.consumed, consumedAt: now, doneAt: now }, $unset: SETTLED }
    );
    return { settled, dead: settled < ids.length ? await this.#bury(ids, now) : [], at: now };
  }

  async failed(records: FailedRecord[]): Promise<{ applied: number; dead: DeadMessage[] }> {
    if (!records.length) return { applied: 0, dead: [] };
    const { messages } = this.collections;
    const ids = idsOf(records);
    const applied = await messages.bulk(records.map(recordingFailure));
    return { applied, dead: await this.#bury(ids, this.now()) };
  }

  async due({ now, limit, buckets }: DueQuery): Promise<string[]> {
    const filter = { open: true, dueAt: { $gte: EPOCH, $lte: now }, ...(buckets && { bucket: { $in: buckets } }) };
    return (await this.collections.messages.find(filter, { sort: { dueAt: 1 }, limit, fields: ["_id"] })).map(
      doc => doc._id
    );
  }

  async claim({ ids, now, until, claim, checked }: ClaimQuery): Promise<Message[]> {
    if (!ids.length) return [];
    const { messages } = this.collections;
    const past = { dueAt: { $gte: EPOCH, $lte: now } };
    const due = checked ? { $or: [{ claim: { $exists: false } }, past] } : past;
    const _id = { $in: ids.map(String) };
    if (!(await messages.update({ _id, open: true, ...due }, { $set: { claim, dueAt: until } }))) return [];
    return inOrder(ids, (await messages.find({ _id, claim })).map(decodeMessage));
  }

  async named(records: NamingRecord[]): Promise<Set<string>> {
    if (!records.length) return new Set();
    const { messages } = this.collections;
    const all = new Set(idsOf(records));
    if ((await messages.bulk(records.map(naming))) === records.length) return all;
    const rows = new Map(
      (await messages.find({ _id: { $in: [...all] }, open: true }, { fields: ["claim", "waiting"] })).map(doc => [
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

  async rescheduled(records: RescheduleRecord[]): Promise<number> {
    if (!records.length) return 0;
    const { messages } = this.collections;
    // A page that was sent in one go differs by its ids alone, but for a few milliseconds.
    const plain = await messages.bulk(alike(records, ({ id, ...rest }) => rest).map(rescheduling));
    const overtaken = records.filter(({ about }) => about);
    if (plain === records.length || !overtaken.length) return plain;
    // Most of the others were handled meanwhile and need nothing.
    const rows = new Map(
      (await messages.find({ _id: { $in: idsOf(overtaken) }, open: true }, { fields: ["claim"] })).map(doc => [
        doc._id,
        doc.claim
      ])
    );
    const held = overtaken.filter(({ id, claim }) => rows.get(id) === claim);
    if (!held.length) return plain;
    // A failure came in since: it has scheduled the next attempt, and only the rest is written.
    await messages.bulk(
      held.flatMap(record => Object.keys(record.next ?? {}).map(group => reschedulingGroup(record, group)))
    );
    return plain + (await messages.bulk(held.map(reschedulingOvertaken)));
  }

  async prune(before: Date, limit: number): Promise<{ messages: number; more: boolean }> {
    const messages = await this.removePage(
      this.collections.messages,
      { doneAt: { $gte: EPOCH, $lt: before }, status: { $in: FINAL } },
      limit
    );
    const records = await this.pruneRecords(before, limit);
    return { messages, more: messages >= limit || records };
  }

  async find(ids: string[]): Promise<Message[]> {
    if (!ids.length) return [];
    const docs = await this.collections.messages.find({ _id: { $in: ids.map(String) } });
    return inOrder(ids, docs.map(decodeMessage));
  }

  async timings(ids: string[]): Promise<Timing[]> {
    const docs = await this.collections.messages.find(
      { _id: { $in: ids.map(String) }, status: STATUS.consumed },
      { fields: ["event", "createdAt", "consumedAt"] }
    );
    return docs.map(({ _id: id, event, createdAt, consumedAt }) => ({ id, event, createdAt, consumedAt }) as Timing);
  }

  /** open → dead, where only groups without budget still owe a receipt. */
  async #bury(ids: string[], now: Date): Promise<DeadMessage[]> {
    const { messages } = this.collections;
    const buried = await messages.update(
      {
        _id: { $in: ids },
        open: true,
        status: { $in: sourcesOf(STATUS.dead) },
        waiting: [],
        "failed.0": { $exists: true }
      },
      { $set: { status: STATUS.dead, deadAt: now }, $unset: CLOSED }
    );
    if (!buried) return [];
    const rows = await messages.find({ _id: { $in: ids }, status: STATUS.dead, deadAt: now }, { fields: ["reason"] });
    return rows.map(({ _id: id, reason }) => ({ id, reason: typeof reason === "string" ? reason : "" }));
  }
}

function idsOf(records: { id: string }[]): string[] {
  return [...new Set(records.map(({ id }) => String(id)))];
}

function inOrder(ids: string[], messages: Message[]): Message[] {
  const byId = new Map(messages.map(message => [message._id, message]));
  return [...new Set(ids)].flatMap(id => byId.get(id) ?? []);
}

/**
 * Those that say the same of many messages are one statement: a server updates many documents by one far faster than by
 * one each.
 */
function alike<T>(records: T[], said: (record: T) => unknown): T[][] {
  const groups = new Map<string, T[]>();
  for (const record of records) {
    const key = JSON.stringify(said(record));
    const group = groups.get(key);
    if (group) group.push(record);
    else groups.set(key, [record]);
  }
  return [...groups.values()];
}

function recordingReceipt(records: HandledRecord[]): Operation {
  const [{ group, receipt }] = records as [HandledRecord];
  const key = keyOf(group);
  const out = { $in: [group] };
  return {
    filter: { _id: { $in: idsOf(records) }, [`receipts.${key}`]: { $exists: false } },
    change: {
      $set: { [`receipts.${key}`]: receipt },
      $pull: { waiting: out, failed: out },
      $unset: { [`next.${key}`]: true }
    },
    many: true
  };
}

/** Records it and moves on those that wait for nobody else. */
function closingReceipt(records: HandledRecord[]): Operation {
  const [{ group, receipt }] = records as [HandledRecord];
  const key = keyOf(group);
  return {
    filter: {
      _id: { $in: idsOf(records) },
      status: { $in: sourcesOf(STATUS.consumed) },
      waiting: [group],
      failed: [],
      [`receipts.${key}`]: { $exists: false }
    },
    change: {
      $set: {
        [`receipts.${key}`]: receipt,
        waiting: [],
        status: STATUS.consumed,
        consumedAt: receipt.at,
        doneAt: receipt.at
      },
      $unset: { ...SETTLED, [`next.${key}`]: true }
    },
    many: true
  };
}

function recordingFailure({ id, group, attempt, failure, nextAt, reason }: FailedRecord): Operation {
  const key = keyOf(group);
  const spent = `spent.${key}`;
  const $push = { failures: { $each: [failure], $slice: -FAILURES_KEPT } };
  const change: Change = nextAt
    ? {
        $set: { [spent]: attempt, [`next.${key}`]: nextAt },
        $min: { dueAt: nextAt },
        $addToSet: { waiting: group },
        $pull: { failed: { $in: [group] } },
        $push
      }
    : {
        $set: { [spent]: attempt, reason },
        $unset: { [`next.${key}`]: true },
        $addToSet: { failed: group },
        $pull: { waiting: { $in: [group] } },
        $push
      };
  return {
    // Whoever has answered took the place of ANY_GROUP: its failure comes too late to put it back.
    filter: {
      _id: String(id),
      open: true,
      [`receipts.${key}`]: { $exists: false },
      ...(group === ANY_GROUP && { waiting: ANY_GROUP }),
      $or: [{ [spent]: { $exists: false } }, { [spent]: { $lt: attempt } }]
    },
    change
  };
}

function claimed({ id, claim, status }: RescheduleRecord): Filter {
  const from = status === STATUS.published ? [STATUS.pending, STATUS.published] : undefined;
  return { _id: String(id), claim, open: true, ...(from && { status: { $in: from } }) };
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
  // What has failed since has moved `dueAt` forward already.
  return { filter: claimed(record), change: { ...reschedule(record), $min: { dueAt: record.dueAt } } };
}

function naming({ id, claim, from, to }: NamingRecord): Operation {
  const unanswered = to
    .filter(group => !from.includes(group))
    .map(group => [`receipts.${keyOf(group)}`, { $exists: false }]);
  return {
    filter: { _id: String(id), claim, open: true, waiting: from, ...Object.fromEntries(unanswered) },
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
  for (const [group, n] of Object.entries(attempts)) $set[`attempts.${keyOf(group)}`] = n;
  return { ...(Object.keys($set).length && { $set }), $unset };
}

/**
 * The group's attempt has not failed (yet). Whoever failed of ANY_GROUP did so under its own name, and took ANY_GROUP's
 * place.
 */
function notFailed(group: string, attempt: number): Filter {
  const spent = `spent.${keyOf(group)}`;
  return {
    $or: [{ [spent]: { $exists: false } }, { [spent]: { $lt: attempt } }],
    ...(group === ANY_GROUP && { waiting: ANY_GROUP })
  };
}
