import { ReliableError } from "../../errors";
import { isFinal, STATUS, STATUSES, type Status } from "../../message/lifecycle";
import { ANY_GROUP, type MessageHead, type Note } from "../../message/message";
import { consumerGroup, namesGroup } from "../../message/pattern";
import type { AuditRecord, Subscription } from "../../message/records";
import type { OperationStore } from "../store";
import type { Released, ReleaseScope } from "../store-records";
import { pathOf } from "./codec";
import type { Change, Database, Doc, Filter, Operation } from "./collection";
import { labelsOf, textOf } from "./queries";
import { CLOSED, deadOf, isExactly, NOT_ASKED } from "./rows";
import { subscriptionId } from "./subscriptions";

/** Statuses with few rows that matter to an operator; the others are history. */
const LIVE = STATUSES.filter(status => !isFinal(status));

const RELEASE_PAGE = 500;

/** A message has a handful; operators read them by page elsewhere. */
const MAX_AUDITS = 1000;

/** An operator's acts: retry, resolve, discard, forget. */
export class DocumentOperations implements OperationStore {
  constructor(private readonly db: Database) {}

  async retry(message: MessageHead, at: Date, note: Note): Promise<boolean> {
    const waiting = [...new Set([...message.waiting, ...message.failed])];
    const base = message.failed
      .filter(group => message.spent[group] !== undefined)
      .map(group => [pathOf("base", group), message.spent[group]]);
    return this.#leaveDead(message, {
      $set: {
        status: STATUS.pending,
        at: message.createdAt,
        retriedAt: at,
        dueAt: at,
        waiting,
        ...Object.fromEntries(base)
      },
      // Attempts counted up to here do not count any more.
      $unset: { ...NOT_ASKED, failed: true, next: true, reason: true },
      $push: { notes: note }
    });
  }

  async resolve(message: MessageHead, note: Note): Promise<boolean> {
    return this.#leaveDead(message, { $set: { status: STATUS.resolved, at: note.at }, $push: { notes: note } });
  }

  async discard(message: MessageHead, record: AuditRecord): Promise<boolean> {
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

  async forget(gone: Pick<Subscription, "group" | "pattern">[], note: Note): Promise<number> {
    const { subscriptions, audit } = this.db.collections;
    const { group = "", pattern } = note;
    if (group === ANY_GROUP)
      throw new ReliableError("RELIABLE_BAD_OPTION", `'${ANY_GROUP}' is no group that could be forgotten.`, {
        option: "group"
      });
    // Repeating the call after a crash must not report a second act.
    await audit.insert([
      {
        _id: JSON.stringify(["forget", group, pattern, note.at]),
        at: note.at,
        by: note.by,
        act: "forget",
        group,
        ...(pattern !== undefined && { pattern }),
        ...(note.note !== undefined && { note: note.note })
      }
    ]);
    return gone.length ? subscriptions.remove({ _id: { $in: gone.map(subscriptionId) } }) : 0;
  }

  async release({ group, event, exactly, emittedBy }: ReleaseScope, note: Note): Promise<Released | undefined> {
    const { messages } = this.db.collections;
    const labelled = exactly ? textOf("group", group) : labelsOf(textOf("group", group));
    const isMeant = (label: string) => (exactly ? label === group : namesGroup(group, label));
    const page = await messages.find(
      {
        status: { $in: LIVE },
        $or: [{ waiting: labelled }, { failed: labelled }],
        ...(event !== undefined && { event: textOf("event", event) }),
        ...(emittedBy && { createdAt: { $lte: emittedBy } })
      },
      { limit: RELEASE_PAGE, fields: ["status", "waiting", "failed", "groups", "reason"] }
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
    const ended = (status: Status) => closed.filter(({ ends }) => ends === status).map(({ doc }) => doc);
    return {
      freed,
      consumed: ended(STATUS.consumed).map(({ _id }) => _id),
      resolved: ended(STATUS.resolved).map(({ _id }) => _id),
      dead: ended(STATUS.dead).map(deadOf)
    };
  }

  async forgotten(labels: string[]): Promise<Map<string, Note>> {
    const groups = labels.flatMap(label => [label, label.split(":", 1)[0] as string]);
    const acts = (await this.db.collections.audit.find(
      { act: "forget", group: { $in: groups } },
      { sort: { at: -1 }, limit: MAX_AUDITS }
    )) as unknown as Note[];
    const of = (label: string) =>
      acts.find(({ group = "", pattern }) =>
        pattern === undefined ? namesGroup(group, label) : consumerGroup(group, pattern) === label
      );
    return new Map(
      labels.flatMap(label => {
        const act = of(label);
        if (!act) return [];
        const { at, by, group, pattern, note } = act;
        const story: Note = { at, by, act: "forget", ...(group && { group }) };
        return [[label, { ...story, ...(note && { note }), ...(pattern && { pattern }) }]];
      })
    );
  }

  /** Those of the messages that carry the note: some lost their race against a receipt. */
  async #carrying(releases: { doc: Doc }[], note: Note): Promise<Set<string>> {
    const ids = releases.map(({ doc }) => doc._id);
    const rows = await this.db.collections.messages.find({ _id: { $in: ids } }, { fields: ["notes"] });
    const same = (other: Note) =>
      other.act === note.act && other.by === note.by && other.at.getTime() === note.at.getTime();
    return new Set(rows.filter(({ notes = [] }) => (notes as Note[]).some(same)).map(({ _id }) => _id));
  }

  #leaveDead(message: MessageHead, change: Change): Promise<boolean> {
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

function owedBy({ waiting, failed = [] }: Doc): string[] {
  return [...(waiting as string[]), ...(failed as string[])];
}

/** Still dead, and for the same groups that the operator saw. */
function asGiven(message: MessageHead): Filter {
  return { _id: String(message._id), status: STATUS.dead, ...isExactly("failed", message.failed) };
}

/**
 * One conditional write that removes the group and closes the message if no other group owes a receipt. `ends`: the
 * status that the message comes to by it.
 */
function releaseOf(
  doc: Doc,
  isMeant: (label: string) => boolean,
  note: Note
): { doc: Doc; operation: Operation; ends?: Status } {
  const status = doc.status as Status;
  const waiting = (doc.waiting as string[]).filter(label => !isMeant(label));
  const failedBefore = (doc.failed ?? []) as string[];
  const failed = failedBefore.filter(label => !isMeant(label));
  const filter = { _id: doc._id, status, waiting: doc.waiting, ...isExactly("failed", failedBefore) };
  const $push = { notes: note };
  const staysAs = (left: string[]) => ({
    doc,
    operation: { filter, change: { $set: { waiting: left, failed }, $push } }
  });
  const endsAs = (ends: Status) => ({
    doc,
    ends,
    operation: {
      filter,
      change: { $set: { waiting, failed, status: ends, at: note.at }, $unset: { ...CLOSED }, $push }
    }
  });
  if (waiting.length) return staysAs(waiting);
  if (failed.length) return status === STATUS.dead ? staysAs(waiting) : endsAs(STATUS.dead);
  // Not sent yet: groups that subscribe before it is sent may still get it.
  if (status === STATUS.intended) return staysAs([ANY_GROUP]);
  const handled = Object.values((doc.groups ?? {}) as Record<string, object>).some(of => "receipt" in of);
  return endsAs(handled ? STATUS.consumed : STATUS.resolved);
}
