import { STATUS, sourcesOf } from "../../message/lifecycle";
import { ANY_GROUP, FAILURES_KEPT } from "../../message/message";
import type { DeadMessage, FailedRecord, HandledRecord, HandledResult, RecipientsRecord } from "../store-records";
import { keyOf, pathOf } from "./codec";
import type { Change, Database, Operation } from "./collection";
import { CLOSED, deadOf, groupIdentical, hasNone, idsOf, OPEN } from "./rows";

/** Fields that a consumed message does not need any more. */
const SETTLED = { ...CLOSED, reason: true, unreachableSince: true } as const;

/**
 * Writes how groups handled their messages; the last answer makes a message `consumed` or `dead`. Failures, and
 * receipts of messages with several groups, take two steps: first each record is written to its message, then one
 * command moves on the messages that are complete. A crash between the two is repaired by the redelivery of the
 * receipts, because the second step looks at all messages named and not only at those that the first one changed.
 */
export class ConsumedOrDead {
  constructor(private readonly db: Database) {}

  async handled(records: HandledRecord[]): Promise<HandledResult> {
    if (!records.length) return { unknown: [], duplicates: 0, consumed: [], dead: [], unresolved: [] };
    const { messages } = this.db.collections;
    const ids = idsOf(records);
    const groups = groupIdentical(records, ({ group, receipt }) => [group, receipt]);
    // Nearly every receipt is the last one of its message, and then one write does both steps.
    const closed = await messages.bulk(groups.map(closingReceipt));
    const none = { unknown: [], duplicates: 0, consumed: [], dead: [], unresolved: [] };
    if (closed === records.length) return { ...none, consumed: ids };
    const recorded = closed + (await messages.bulk(groups.map(recordingReceipt)));
    const { settled, dead, at } = await this.#settle(ids);
    if (recorded === records.length && closed + settled === ids.length) return { ...none, consumed: ids, dead };
    // Messages with several groups. Usually nothing is wrong, and only those that wait for ANY_GROUP matter.
    if (recorded === records.length && closed + settled === 0)
      return {
        ...none,
        dead,
        unresolved: (await messages.find({ _id: { $in: ids }, waiting: ANY_GROUP }, { fields: ["_id"] })).map(
          doc => doc._id
        )
      };
    const rows = new Map(
      (await messages.find({ _id: { $in: ids } }, { fields: ["status", "waiting", "at"] })).map(doc => [doc._id, doc])
    );
    // A duplicate receipt names a message that was consumed before.
    const instants = [
      ...(closed ? records.map(({ receipt }) => receipt.at.getTime()) : []),
      ...(settled ? [at.getTime()] : [])
    ];
    const since = Math.min(...instants);
    const known = records.filter(({ id }) => rows.has(id)).length;
    return {
      unknown: ids.filter(id => !rows.has(id)),
      duplicates: Math.max(0, known - recorded),
      consumed: ids.filter(id => {
        const row = rows.get(id);
        return row?.status === STATUS.consumed && (row.at as Date).getTime() >= since;
      }),
      dead,
      unresolved: ids.filter(id => (rows.get(id)?.waiting as string[] | undefined)?.includes(ANY_GROUP))
    };
  }

  async resolveRecipients(records: RecipientsRecord[]): Promise<Pick<HandledResult, "consumed" | "dead">> {
    if (!records.length) return { consumed: [], dead: [] };
    const { messages } = this.db.collections;
    const ids = idsOf(records);
    // A group whose receipt is in the row must not be waited for again. The filter says so, whatever happened in
    // between.
    await messages.bulk(
      records.flatMap(({ id, groups }) =>
        groups.map(group => ({
          filter: { _id: String(id), waiting: ANY_GROUP, [pathOf("receipts", group)]: { $exists: false } },
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

  async failed(records: FailedRecord[]): Promise<{ applied: number; dead: DeadMessage[] }> {
    if (!records.length) return { applied: 0, dead: [] };
    const { messages } = this.db.collections;
    const ids = idsOf(records);
    const applied = await messages.bulk(records.map(recordingFailure));
    return { applied, dead: await this.#makeDead(ids, this.db.now()) };
  }

  /** Moves on the messages for which no group with attempts left owes a receipt. */
  async #settle(ids: string[]): Promise<{ settled: number; dead: DeadMessage[]; at: Date }> {
    const now = this.db.now();
    const settled = await this.db.collections.messages.update(
      { _id: { $in: ids }, status: { $in: sourcesOf(STATUS.consumed) }, ...hasNone("waiting"), ...hasNone("failed") },
      { $set: { status: STATUS.consumed, at: now }, $unset: SETTLED }
    );
    return { settled, dead: settled < ids.length ? await this.#makeDead(ids, now) : [], at: now };
  }

  /** open → dead, for messages where only groups without attempts left owe a receipt. */
  async #makeDead(ids: string[], now: Date): Promise<DeadMessage[]> {
    const { messages } = this.db.collections;
    const died = await messages.update(
      {
        _id: { $in: ids },
        status: { $in: sourcesOf(STATUS.dead) },
        ...hasNone("waiting"),
        "failed.0": { $exists: true }
      },
      { $set: { status: STATUS.dead, at: now }, $unset: CLOSED }
    );
    if (!died) return [];
    const rows = await messages.find({ _id: { $in: ids }, status: STATUS.dead, at: now }, { fields: ["reason"] });
    return rows.map(deadOf);
  }
}

function recordingReceipt(records: HandledRecord[]): Operation {
  const [{ group, receipt }] = records as [HandledRecord];
  const path = pathOf("receipts", group);
  const out = { $in: [group] };
  return {
    filter: { _id: { $in: idsOf(records) }, [path]: { $exists: false } },
    change: {
      $set: { [path]: receipt },
      $pull: { waiting: out, failed: out },
      $unset: { [`next.${keyOf(group)}`]: true }
    },
    many: true
  };
}

/** Records the receipt and moves on the messages that wait for no other group. */
function closingReceipt(records: HandledRecord[]): Operation {
  const [{ group, receipt }] = records as [HandledRecord];
  const path = pathOf("receipts", group);
  return {
    filter: {
      _id: { $in: idsOf(records) },
      status: { $in: sourcesOf(STATUS.consumed) },
      waiting: [group],
      ...hasNone("failed"),
      [path]: { $exists: false }
    },
    change: {
      $set: { [path]: receipt, waiting: [], status: STATUS.consumed, at: receipt.at },
      $unset: { ...SETTLED, [`next.${keyOf(group)}`]: true }
    },
    many: true
  };
}

function recordingFailure({ id, group, attempt, failure, nextAt, reason }: FailedRecord): Operation {
  const key = keyOf(group);
  const spent = pathOf("spent", group);
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
    // A group that has answered has replaced ANY_GROUP: its failure comes too late to restore it.
    filter: {
      _id: String(id),
      ...OPEN,
      [pathOf("receipts", group)]: { $exists: false },
      ...(group === ANY_GROUP && { waiting: ANY_GROUP }),
      $or: [{ [spent]: { $exists: false } }, { [spent]: { $lt: attempt } }]
    },
    change
  };
}
