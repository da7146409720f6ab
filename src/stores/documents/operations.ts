import { isFinal, openStatusOf, STATUS, STATUSES, type Status } from "../../message/lifecycle";
import { ANY_GROUP, type MessageHead, type Note, openAtOf } from "../../message/message";
import type { Order } from "../../message/order";
import { namesGroup } from "../../message/pattern";
import type { Discarded, Subscription } from "../../message/records";
import type { OperationStore } from "../store";
import type { Keyed, Released, ReleaseScope } from "../store-records";
import { removeBodies } from "./bodies";
import { keyOf, pathOf } from "./codec";
import { type Change, type Database, type Doc, EPOCH, type Filter, type Operation } from "./collection";
import { erase, keyed } from "./drops";
import type { GuardedMessages } from "./guarded-messages";
import { inboxRowsOf } from "./inbox";
import { stirLanes } from "./lane-prune";
import { labelsOf, textOf } from "./queries";
import { CLOSED, hasNone, isExactly, NOT_ASKED, NOT_DEAD, noted, OUT, waitsForNone } from "./rows";
import { subscriptionId } from "./subscriptions";

/** Statuses with few rows that matter to an operator; the others are history. */
const LIVE = STATUSES.filter(status => !isFinal(status));

const RELEASE_PAGE = 500;

/** An operator's acts: retry, resolve, discard, forget. */
export class DocumentOperations implements OperationStore {
  constructor(
    private readonly db: Database,
    private readonly guarded: GuardedMessages
  ) {}

  async retry(message: MessageHead, at: Date, given: Note): Promise<boolean> {
    return this.#leaveDead(retrying(message, at, given));
  }

  async resolve(message: MessageHead, given: Note): Promise<boolean> {
    return this.#leaveDead(resolving(message, given));
  }

  async cancel({ _id }: MessageHead, note: Note): Promise<boolean> {
    const $set = { status: STATUS.cancelled, at: note.at, waiting: [] };
    const change = { $set, $unset: OUT, $push: noted(note) };
    return (await this.db.collections.messages.update({ _id: String(_id), status: STATUS.scheduled }, change)) > 0;
  }

  async discard(message: MessageHead, record: Discarded): Promise<boolean> {
    const { messages, bodies, discarded, inbox } = this.db.collections;
    const [first] = await discarded.insert([{ ...record }]);
    const found = await messages.find(asGiven(message), { fields: ["bodyId", "waiting", "groups", "order"] });
    await stirLanes(this.db, found);
    // Of a try that died between record and deletion: this one is by another human, or for another reason.
    if (!first && found.length) {
      const { at, by, note, of } = record;
      const kept = await discarded.update({ _id: record._id }, { $set: { at, by, note, of } });
      // Whoever has made it has taken it away meanwhile. What is not recorded is not deleted.
      if (!kept) await discarded.insert([{ ...record }]);
    }
    // A group whose receipt comes at this moment is in no list that is kept. Another try finds it.
    const ended = found.filter(waitsForNone);
    await inbox.insertEach(inboxRowsOf(ended, record.at));
    if (ended.length === found.length && (await messages.remove({ ...asGiven(message), ...hasNone("waiting") })) > 0) {
      await removeBodies(bodies, found);
      return true;
    }
    const [still] = await messages.find({ _id: String(message._id) }, { fields: ["_id"] });
    // The record of an earlier try whose answer was lost: that try deleted the message.
    if (!still && !first) return true;
    // Another operator deleted the message at this moment, with this record, so the record stays.
    const others = await discarded.find({ id: record.id }, { fields: ["_id"] });
    if (!still && others.every(({ _id }) => _id === record._id)) return false;
    await discarded.remove({ _id: record._id });
    return false;
  }

  async forget(gone: Pick<Subscription, "group" | "pattern">[]): Promise<number> {
    return gone.length ? this.db.collections.subscriptions.remove({ _id: { $in: gone.map(subscriptionId) } }) : 0;
  }

  async release({ group, event, exactly, emittedBy }: ReleaseScope, note: Note): Promise<Released | undefined> {
    const { messages } = this.db.collections;
    const labelled = exactly ? textOf("group", group) : labelsOf(textOf("group", group));
    const isMeant = (label: string) => (exactly ? label === group : namesGroup(group, label));
    // What takes no change would be found again and again. It has been told, and a repeated `forget` finds it.
    const searched = this.guarded.searched();
    if (!searched) return undefined;
    const page = await messages.find(
      {
        ...searched,
        status: { $in: LIVE },
        $or: [{ waiting: labelled }, { failed: labelled }],
        ...(event !== undefined && { event: textOf("event", event) }),
        ...(emittedBy && { createdAt: { $lte: emittedBy } })
      },
      {
        limit: RELEASE_PAGE,
        fields: ["status", "waiting", "failed", "resolved", "groups", "createdAt", "sendAt", "publishedAt", "order"]
      }
    );
    // The databases' regular expressions differ in details (a name that ends in a newline). Labels that do not belong
    // to the group must not be read again and again.
    const docs = page.filter(doc => owedBy(doc).some(isMeant));
    if (!docs.length) return undefined;
    const releases = docs.map(doc => releaseOf(doc, isMeant, note));
    const freed = await messages.bulk(releases.map(({ operation }) => operation));
    let closed = releases.filter(({ ends }) => ends);
    if (freed < docs.length) {
      const written = await this.#carrying(closed, note);
      closed = closed.filter(({ doc }) => written.has(doc._id));
    }
    const left = docs.flatMap(doc => {
      const order = doc.order as Order | undefined;
      return order ? owedBy(doc).flatMap(label => (isMeant(label) ? [{ key: order.key, group: label }] : [])) : [];
    });
    const ended = (status: Status) => closed.filter(({ ends }) => ends === status).map(({ doc }) => doc);
    return {
      freed,
      consumed: ended(STATUS.consumed).map(({ _id }) => _id),
      resolved: ended(STATUS.resolved).map(({ _id }) => _id),
      ...(left.length && { left })
    };
  }

  async erase(key: string, note: Note, limit: number): Promise<number> {
    return erase(this.db, textOf("key", key), note, limit);
  }

  async keyed(key: string, limit: number): Promise<Keyed> {
    return keyed(this.db, textOf("key", key), limit);
  }

  /** Those of the messages that carry the note: some lost their race against a receipt. */
  async #carrying(releases: { doc: Doc }[], note: Note): Promise<Set<string>> {
    const ids = releases.map(({ doc }) => doc._id);
    const rows = await this.db.collections.messages.find({ _id: { $in: ids } }, { fields: ["notes"] });
    const same = (other: Note) =>
      other.act === note.act && other.by === note.by && other.at.getTime() === note.at.getTime();
    return new Set(rows.filter(({ notes = [] }) => (notes as Note[]).some(same)).map(({ _id }) => _id));
  }

  /** The first one that matches; after it none of the others does. */
  async #leaveDead(operations: Operation[]): Promise<boolean> {
    return (await this.db.collections.messages.bulk(operations)) > 0;
  }
}

function owedBy({ waiting, failed = [] }: Doc): string[] {
  return [...(waiting as string[]), ...(failed as string[])];
}

function notFailedAnyMore(groups: string[]): Record<string, true> {
  // One that is not known gets its time anew.
  const maps = ["deadAt", "errors", "unroutable"] as const;
  const paths = groups.flatMap(group => [...maps.map(map => pathOf(map, group)), `next.${keyOf(group)}`]);
  return { ...NOT_DEAD, ...Object.fromEntries([...paths, "failed", "reason"].map(path => [path, true as const])) };
}

/** The first one that matches retries it, and after it none of the others does. */
export function retrying(message: MessageHead, at: Date, given: Note): [Operation, Operation, Operation] {
  const { failed, spent } = message;
  const filter = asGiven(message);
  const note = { ...given, groups: failed };
  const base = failed.filter(group => spent[group] !== undefined).map(group => [pathOf("base", group), spent[group]]);
  const $set = { status: STATUS.pending, at: openAtOf(message), retriedAt: at, ...Object.fromEntries(base) };
  const change: Change = {
    $addToSet: { waiting: { $each: failed } },
    // Attempts counted up to here do not count any more.
    $unset: { ...notFailedAnyMore(failed), asks: true, unreachableSince: true },
    $push: noted(note)
  };
  const free: Operation = {
    filter: { ...filter, $or: [{ claim: { $exists: false } }, { dueAt: { $gte: EPOCH, $lte: at } }] },
    change: { ...change, $set: { ...$set, dueAt: at }, $unset: { ...change.$unset, ...NOT_ASKED } }
  };
  // A sweep is sending it to other groups. What that has done must be written, and then the message is due at once.
  const swept: Operation = {
    filter: { ...filter, claim: { $exists: true }, dueAt: { $exists: true } },
    change: { ...change, $set }
  };
  // Once more, for a sweep that ends between the two.
  return [free, swept, free];
}

/** Likewise. */
export function resolving(message: MessageHead, given: Note): [Operation, Operation] {
  const { failed } = message;
  const filter = asGiven(message);
  const note = { ...given, groups: failed };
  return [
    // The other groups go on. That these were resolved is remembered, so that it never becomes `consumed` without
    // them.
    {
      filter: { ...filter, "waiting.0": { $exists: true } },
      change: {
        $set: { status: openStatusOf(message), at: openAtOf(message) },
        $addToSet: { resolved: { $each: failed } },
        $unset: { failed: true, reason: true, ...NOT_DEAD },
        $push: noted(note)
      }
    },
    {
      filter: { ...filter, ...hasNone("waiting") },
      change: {
        $set: { status: STATUS.resolved, at: given.at },
        $unset: { ...OUT, ...NOT_DEAD },
        $push: noted(note)
      }
    }
  ];
}

/** Still dead, and for the same groups that the operator saw. */
function asGiven(message: MessageHead): Filter {
  return { _id: String(message._id), status: STATUS.dead, ...isExactly("failed", message.failed) };
}

/**
 * One conditional write that removes the group and closes the message if no other group is left. `ends`: the status that
 * the message comes to by it.
 */
function releaseOf(
  doc: Doc,
  isMeant: (label: string) => boolean,
  given: Note
): { doc: Doc; operation: Operation; ends?: Status } {
  const { _id, publishedAt } = doc;
  const status = doc.status as Status;
  const waiting = (doc.waiting as string[]).filter(label => !isMeant(label));
  const failedBefore = (doc.failed ?? []) as string[];
  const failed = failedBefore.filter(label => !isMeant(label));
  const note: Note = { ...given, groups: owedBy(doc).filter(isMeant) };
  const changing = (
    $set: Record<string, unknown>,
    $unset?: Record<string, true>,
    more?: Pick<Change, "$pull">
  ): Operation => ({
    filter: { _id, status, waiting: doc.waiting, ...isExactly("failed", failedBefore) },
    change: { $set: { waiting, failed, ...$set }, ...($unset && { $unset }), ...more, $push: noted(note) }
  });
  // Of a dead one only a human has to do with what is left.
  if (failed.length) {
    const gone = failedBefore.filter(isMeant);
    const $pull = gone.length ? { $pull: { lastErrors: { group: { $in: gone } } } } : undefined;
    return { doc, operation: changing({}, waiting.length ? undefined : CLOSED, $pull) };
  }
  if (waiting.length) {
    const isAlive = status === STATUS.dead;
    const alive = { status: openStatusOf({ publishedAt }), at: openAtOf(doc as unknown as MessageHead) };
    return { doc, operation: isAlive ? changing(alive, { reason: true, ...NOT_DEAD }) : changing({}) };
  }
  // Not sent yet: groups that subscribe before it is sent may still get it.
  if (status === STATUS.intended) return { doc, operation: changing({ waiting: [ANY_GROUP] }) };
  const handled = Object.values((doc.groups ?? {}) as Record<string, object>).some(of => "receipt" in of);
  const resolved = ((doc.resolved ?? []) as string[]).length > 0;
  const ends = handled && !resolved ? STATUS.consumed : STATUS.resolved;
  // Of a resolved one the reason says what was resolved.
  const $unset = { ...OUT, ...NOT_DEAD, ...(ends === STATUS.consumed && { reason: true as const }) };
  return { doc, ends, operation: changing({ status: ends, at: given.at }, $unset) };
}
