import { groupErrorOf } from "../../message/failure-text";
import { lastErrorOf } from "../../message/last-error";
import { openStatusOf, STATUS, sourcesOf } from "../../message/lifecycle";
import { ANY_GROUP, LIBRARY, type MessageHead, type Note, openAtOf } from "../../message/message";
import type {
  DeadMessage,
  ExcusedRecord,
  FailedRecord,
  HandledRecord,
  HandledResult,
  RecipientsRecord
} from "../store-records";
import { keyOf, pathOf } from "./codec";
import type { Change, Database, Doc, Operation } from "./collection";
import { ABOUT_EXCUSED, excusing, givingBack } from "./excused";
import {
  CLOSED,
  failureKept,
  groupIdentical,
  hasNone,
  idsOf,
  lastErrorsKept,
  NOT_DEAD,
  notDead,
  noted,
  OPEN,
  OUT,
  recipientsNote,
  SENT
} from "./rows";

/** Fields that a consumed message does not need any more. */
const SETTLED = { ...OUT, reason: true, unreachableSince: true } as const;

/** The same of one that may have been dead. */
const SETTLED_DEAD = { ...SETTLED, ...NOT_DEAD } as const;

/** Of one message several attempts may be given back, each by what the row says after the one before. */
const GIVING_BACK_PASSES = 5;

const NOTHING: HandledResult = { unknown: [], duplicates: 0, consumed: [], unresolved: [] };

/**
 * Writes how groups handled their messages; the last answer makes a message `consumed`. Receipts of messages with
 * several groups take two steps: first each record is written to its message, then what these say together. A crash
 * between the two is repaired by the redelivery of the receipts, because the second step looks at all messages named
 * and not only at those that the first one changed, and by the sweep, since the message is still due.
 */
export class ConsumedOrDead {
  constructor(private readonly db: Database) {}

  async handled(records: HandledRecord[]): Promise<HandledResult> {
    if (!records.length) return NOTHING;
    const { messages } = this.db.collections;
    const ids = idsOf(records);
    const groups = groupIdentical(
      records,
      ({ group, receipt: { at, nodeID, durationMs, attempt, runs = 1 } }) =>
        `${durationMs} ${attempt} ${runs} ${at.getTime()} ${nodeID.length} ${nodeID} ${group}`
    );
    // Nearly every receipt is the last one of its message, and then one write does both steps.
    const closed = await messages.bulk(groups.map(closingReceipt));
    if (closed === records.length) return { ...NOTHING, consumed: ids };
    const recorded = closed + (await messages.bulk(groups.map(recordingReceipt)));
    const { settled, at } = await this.#settle(ids);
    if (recorded === records.length && closed + settled === ids.length) return { ...NOTHING, consumed: ids };
    // Messages with several groups. Usually nothing is wrong, and only those that wait for ANY_GROUP matter.
    if (recorded === records.length && closed + settled === 0)
      return {
        ...NOTHING,
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
      unresolved: ids.filter(id => (rows.get(id)?.waiting as string[] | undefined)?.includes(ANY_GROUP))
    };
  }

  async resolveRecipients(records: RecipientsRecord[]): Promise<{ consumed: string[] }> {
    if (!records.length) return { consumed: [] };
    const { messages } = this.db.collections;
    const ids = idsOf(records);
    // A group whose receipt is in the row must not be waited for again. The filter says so, whatever happened in
    // between.
    await messages.bulk(
      records.flatMap(({ id, groups }) =>
        groups.map(group => ({
          filter: {
            _id: String(id),
            ...SENT,
            waiting: ANY_GROUP,
            [pathOf("receipts", group)]: { $exists: false },
            ...notDead(group)
          },
          change: { $addToSet: { waiting: group } }
        }))
      )
    );
    const at = this.db.now();
    await messages.bulk(
      groupIdentical(records, ({ groups }) => groups).map(same => {
        const [{ groups }] = same as [RecipientsRecord];
        return {
          filter: { _id: { $in: idsOf(same) }, ...SENT, waiting: ANY_GROUP },
          change: {
            $pull: { waiting: { $in: [ANY_GROUP] } },
            $push: noted(recipientsNote(at, groups, [ANY_GROUP]))
          },
          many: true
        };
      })
    );
    const { settled } = await this.#settle(ids);
    if (!settled) return { consumed: [] };
    const rows = await messages.find({ _id: { $in: ids }, status: STATUS.consumed }, { fields: ["_id"] });
    return { consumed: rows.map(doc => doc._id) };
  }

  async failed(records: FailedRecord[]): Promise<{ applied: number; dead: DeadMessage[] }> {
    if (!records.length) return { applied: 0, dead: [] };
    const { messages } = this.db.collections;
    const now = this.db.now();
    const applied = await messages.bulk(records.map(record => recordingFailure(record, now)));
    const final = records.filter(({ nextAt }) => !nextAt);
    if (!final.length) return { applied, dead: [] };
    await this.#settleDead(idsOf(final));
    const died = applied === records.length ? final : applied ? await this.#diedAt(now, final) : [];
    return {
      applied,
      dead: died.map(({ id, event, group, reason, failure: { cause } }) => ({
        id,
        ...(event !== undefined && { event }),
        reason,
        ...(group !== ANY_GROUP && { group }),
        cause
      }))
    };
  }

  async excused(records: ExcusedRecord[]): Promise<void> {
    if (!records.length) return;
    const { messages } = this.db.collections;
    if ((await messages.bulk(records.map(excusing))) === records.length) return;
    // Some were told before, and others may have counted already.
    for (let pass = 0; pass < GIVING_BACK_PASSES; pass++) {
      const docs = await messages.find({ _id: { $in: idsOf(records) } }, { fields: ABOUT_EXCUSED });
      const rows = new Map(docs.map(doc => [doc._id, doc]));
      const operations = records.flatMap(record => {
        const doc = rows.get(String(record.id));
        return doc ? givingBack(record, doc) : [];
      });
      // What another has changed in between is looked at again.
      if (!operations.length || (await messages.bulk(operations)) === 0) break;
    }
    await this.#settleDead(idsOf(records));
  }

  /**
   * Of failures that were not all applied, those that were: each group of a message once, though its failure was
   * reported twice. The note tells it, since an answer or a human may have brought the group back meanwhile.
   */
  async #diedAt(now: Date, final: FailedRecord[]): Promise<FailedRecord[]> {
    const docs = await this.db.collections.messages.find(
      { _id: { $in: idsOf(final) } },
      { fields: ["notes", "groups"] }
    );
    const rows = new Map(docs.map(doc => [doc._id, doc]));
    const isNow = (at: unknown) => (at as Date | undefined)?.getTime() === now.getTime();
    const told = new Set<string>();
    return final.filter(({ id, group }) => {
      const doc = rows.get(id);
      const notes = (doc?.notes ?? []) as Note[];
      const died =
        notes.some(note => note.act === "dead" && isNow(note.at) && note.groups?.includes(group)) ||
        isNow(groupsOf(doc)[keyOf(group)]?.deadAt);
      const key = JSON.stringify([id, group]);
      if (!died || told.has(key)) return false;
      told.add(key);
      return true;
    });
  }

  /** Moves on the messages that no group is waited for any more, or that no group has failed any more. */
  async #settle(ids: string[]): Promise<{ settled: number; at: Date }> {
    const at = this.db.now();
    const settled = await this.db.collections.messages.update(
      {
        _id: { $in: ids },
        status: { $in: sourcesOf(STATUS.consumed) },
        ...hasNone("waiting"),
        ...hasNone("failed"),
        ...hasNone("resolved")
      },
      { $set: { status: STATUS.consumed, at }, $unset: SETTLED_DEAD }
    );
    if (settled < ids.length) await this.#settleDead(ids);
    return { settled, at };
  }

  /** Of messages that have failed in a group: by what is left of them. */
  async #settleDead(ids: string[]): Promise<void> {
    const { messages } = this.db.collections;
    const docs = await messages.find(
      {
        _id: { $in: ids },
        status: { $in: sourcesOf(STATUS.consumed) },
        $or: [{ status: STATUS.dead }, { "resolved.0": { $exists: true } }]
      },
      { fields: ["status", "waiting", "failed", "dueAt", "publishedAt", "createdAt", "sendAt"] }
    );
    const operations = docs.flatMap(doc => settling(doc, this.db.now()) ?? []);
    if (operations.length) await messages.bulk(operations);
  }
}

function groupsOf(doc: Doc | undefined): Record<string, Record<string, unknown>> {
  return (doc?.groups ?? {}) as Record<string, Record<string, unknown>>;
}

function settling(doc: Doc, now: Date): Operation | undefined {
  const { _id, status, publishedAt } = doc;
  const at = openAtOf(doc as unknown as MessageHead);
  const waits = (doc.waiting as string[]).length > 0;
  const failed = ((doc.failed ?? []) as string[]).length > 0;
  const none = { ...(!waits && hasNone("waiting")), ...(!failed && hasNone("failed")) };
  if (!waits && !failed)
    return {
      // Whatever it is by now: a confirm may have been recorded since it was read.
      filter: { _id, status: { $in: sourcesOf(STATUS.resolved) }, ...none, "resolved.0": { $exists: true } },
      change: { $set: { status: STATUS.resolved, at: now }, $unset: SETTLED_DEAD }
    };
  // Only a human can do something now.
  if (!waits)
    return doc.dueAt ? { filter: { _id, status: STATUS.dead, ...none }, change: { $unset: CLOSED } } : undefined;
  if (failed || status !== STATUS.dead) return undefined;
  return {
    filter: { _id, status, ...none, "waiting.0": { $exists: true } },
    change: { $set: { status: openStatusOf({ publishedAt }), at }, $unset: { reason: true, ...NOT_DEAD } }
  };
}

function recordingReceipt(records: HandledRecord[]): Operation {
  const [{ group, receipt }] = records as [HandledRecord];
  const path = pathOf("receipts", group);
  const out = { $in: [group] };
  return {
    filter: { _id: { $in: idsOf(records) }, ...SENT, [path]: { $exists: false } },
    change: {
      $set: { [path]: receipt },
      $pull: { waiting: out, failed: out, resolved: out, lastErrors: { group: out } },
      $unset: { [`next.${keyOf(group)}`]: true, [pathOf("deadAt", group)]: true, [pathOf("errors", group)]: true }
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
      ...hasNone("resolved"),
      [path]: { $exists: false }
    },
    change: {
      $set: { [path]: receipt, waiting: [], status: STATUS.consumed, at: receipt.at },
      $unset: { ...SETTLED, [`next.${keyOf(group)}`]: true }
    },
    many: true
  };
}

function recordingFailure(record: FailedRecord, now: Date): Operation {
  const { id, group, attempt, nextAt } = record;
  const spent = pathOf("spent", group);
  return {
    // A group that has answered has replaced ANY_GROUP: its failure comes too late to restore it.
    filter: {
      _id: String(id),
      ...OPEN,
      [pathOf("receipts", group)]: { $exists: false },
      ...notDead(group),
      ...(group === ANY_GROUP && { waiting: ANY_GROUP }),
      $or: [{ [spent]: { $exists: false } }, { [spent]: { $lt: attempt } }]
    },
    change: nextAt ? tryingAgain(record, nextAt) : dying(record, now)
  };
}

function tryingAgain({ group, attempt, failure }: FailedRecord, nextAt: Date): Change {
  return {
    $set: { [pathOf("spent", group)]: attempt, [`next.${keyOf(group)}`]: nextAt },
    $min: { dueAt: nextAt },
    $addToSet: { waiting: group },
    $push: failureKept(failure)
  };
}

/** The message is `dead` from the first group on that has failed for good. The others go on: `dueAt` stays. */
function dying({ group, attempt, failure, reason, holds }: FailedRecord, at: Date): Change {
  const note: Note = { at, by: failure.nodeID ?? LIBRARY, act: "dead", note: reason, groups: [group] };
  return {
    $set: {
      status: STATUS.dead,
      at,
      reason,
      [pathOf("spent", group)]: attempt,
      [pathOf("deadAt", group)]: at,
      [pathOf("errors", group)]: groupErrorOf(failure),
      ...(holds !== undefined && { holds })
    },
    $unset: { [`next.${keyOf(group)}`]: true },
    $addToSet: { failed: group },
    $pull: { waiting: { $in: [group] } },
    $push: { ...failureKept(failure), ...noted(note), ...lastErrorsKept([lastErrorOf(group, failure, at)]) }
  };
}
