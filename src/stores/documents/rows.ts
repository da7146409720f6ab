import type { ReliableError } from "../../errors";
import { isFinal, isUnsent, STATUSES } from "../../message/lifecycle";
import {
  FAILURES_KEPT,
  type Failure,
  GROUPS_NOTED,
  LAST_ERRORS_KEPT,
  type LastError,
  LIBRARY,
  type Message,
  type MessageHead,
  NOTES_KEPT,
  type Note
} from "../../message/message";
import { decodeHead, decodeMessage, pathOf } from "./codec";
import type { Doc, Filter } from "./collection";

/** Fields that only an open message has. Without them it leaves the sweeper's index. */
export const CLOSED = { dueAt: true, claim: true } as const;

/** The same of one that stands in no line any more. */
export const OUT = { ...CLOSED, place: true } as const;

/** The sweeper may have to act: of a `dead` row only while `dueAt` says so. */
export const DUE: Filter = {
  status: { $in: STATUSES.filter(status => !isFinal(status)) },
  dueAt: { $exists: true }
};

/** The same of what has begun to be sent. */
export const OPEN: Filter = {
  ...DUE,
  status: { $in: STATUSES.filter(status => !isFinal(status) && !isUnsent(status)) }
};

/** What a receipt may be about. */
export const SENT: Filter = { status: { $in: STATUSES.filter(status => !isUnsent(status)) } };

/** The group has not failed for good. (`$ne` on lists is understood differently by the databases.) */
export function notDead(group: string): Filter {
  return { [pathOf("deadAt", group)]: { $exists: false } };
}

/** The last ones are kept, so that a row cannot grow without end. */
export function noted(note: Note): { notes: { $each: Note[]; $slice: number } } {
  return { notes: { $each: [bounded(note)], $slice: -NOTES_KEPT } };
}

/** Likewise. */
export function failureKept(failure: Failure): { failures: { $each: Failure[]; $slice: number } } {
  return { failures: { $each: [failure], $slice: -FAILURES_KEPT } };
}

/** How a group has failed for good, for those that search. */
export function lastErrorsKept(errors: LastError[]): { lastErrors: { $each: LastError[]; $slice: number } } {
  return { lastErrors: { $each: errors, $slice: -LAST_ERRORS_KEPT } };
}

/** Fields that only a dead message has. */
export const NOT_DEAD = { lastErrors: true, holds: true } as const;

function bounded(note: Note): Note {
  const { groups = [], replaced = [] } = note;
  const more = groups.length - GROUPS_NOTED;
  if (more <= 0 && replaced.length <= GROUPS_NOTED) return note;
  return {
    ...note,
    groups: groups.slice(0, GROUPS_NOTED),
    ...(more > 0 && { moreGroups: more }),
    ...(replaced.length && { replaced: replaced.slice(0, GROUPS_NOTED) })
  };
}

/** For the message's story: since when which groups are meant. */
export function recipientsNote(at: Date, groups: string[], replaced: string[]): Note {
  return { at, by: LIBRARY, act: "recipients", groups, replaced };
}

/** An empty list is stored as none, but may have become empty. */
export function hasNone(list: "waiting" | "failed" | "resolved"): Filter {
  return { [`${list}.0`]: { $exists: false } };
}

export function waitsForNone({ waiting }: Doc): boolean {
  return !(waiting as string[] | undefined)?.length;
}

export function isExactly(list: "waiting" | "failed", values: string[]): Filter {
  return values.length ? { [list]: values } : hasNone(list);
}

/** Fields about the questions to a producer. A message that is pending again has neither these nor a claim. */
export const NOT_ASKED = { claim: true, asks: true, unreachableSince: true } as const;

/** Rows that cannot be read are left out. */
export function readable(docs: Doc[]): Message[] {
  return readableBy(decodeMessage, docs);
}

export function readableHeads(docs: Doc[]): MessageHead[] {
  return readableBy(decodeHead, docs);
}

function readableBy<T>(decode: (doc: Doc) => T, docs: Doc[]): T[] {
  return docs.flatMap(doc => {
    try {
      return [decode(doc)];
    } catch (thrown) {
      if ((thrown as ReliableError).type !== "RELIABLE_UNREADABLE_ROW") throw thrown;
      return [];
    }
  });
}

export function idsOf(records: { id: string }[]): string[] {
  return [...new Set(records.map(({ id }) => String(id)))];
}

export function inOrder<T extends MessageHead>(ids: string[], messages: T[]): T[] {
  const byId = new Map(messages.map(message => [message._id, message]));
  return [...new Set(ids)].flatMap(id => byId.get(id) ?? []);
}

/**
 * Equal changes to many messages are one statement: a server runs one update of many documents far faster than one for
 * each. `keyOf`: what is the same; a text is taken as it is, which is quicker.
 */
export function groupIdentical<T>(records: T[], keyOf: (record: T) => unknown): T[][] {
  const groups = new Map<string, T[]>();
  for (const record of records) {
    const of = keyOf(record);
    const key = typeof of === "string" ? of : JSON.stringify(of);
    const group = groups.get(key);
    if (group) group.push(record);
    else groups.set(key, [record]);
  }
  return [...groups.values()];
}
