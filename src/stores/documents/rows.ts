import type { ReliableError } from "../../errors";
import { isOpen, STATUSES } from "../../message/lifecycle";
import type { Message } from "../../message/message";
import type { DeadMessage } from "../store-records";
import { decodeMessage } from "./codec";
import type { Doc, Filter } from "./collection";

/** Fields that only an open message has. Without them it leaves the sweeper's index. */
export const CLOSED = { dueAt: true, claim: true } as const;

/** The sweeper may have to act. */
export const OPEN: Filter = { status: { $in: STATUSES.filter(status => isOpen({ status })) } };

/** An empty list is stored as none, but may have become empty. */
export function hasNone(list: "waiting" | "failed"): Filter {
  return { [`${list}.0`]: { $exists: false } };
}

export function isExactly(list: "waiting" | "failed", values: string[]): Filter {
  return values.length ? { [list]: values } : hasNone(list);
}

/** Fields about the questions to a producer. A message that is pending again has neither these nor a claim. */
export const NOT_ASKED = { claim: true, asks: true, unreachableSince: true } as const;

/** Rows that cannot be read are left out. */
export function readable(docs: Doc[]): Message[] {
  return docs.flatMap(doc => {
    try {
      return decodeMessage(doc);
    } catch (thrown) {
      if ((thrown as ReliableError).type !== "RELIABLE_UNREADABLE_ROW") throw thrown;
      return [];
    }
  });
}

export function deadOf({ _id: id, reason }: Doc): DeadMessage {
  return { id, reason: typeof reason === "string" ? reason : "" };
}

export function idsOf(records: { id: string }[]): string[] {
  return [...new Set(records.map(({ id }) => String(id)))];
}

export function inOrder(ids: string[], messages: Message[]): Message[] {
  const byId = new Map(messages.map(message => [message._id, message]));
  return [...new Set(ids)].flatMap(id => byId.get(id) ?? []);
}

/**
 * Equal changes to many messages are one statement: a server runs one update of many documents far faster than one for
 * each.
 */
export function groupIdentical<T>(records: T[], keyOf: (record: T) => unknown): T[][] {
  const groups = new Map<string, T[]>();
  for (const record of records) {
    const key = JSON.stringify(keyOf(record));
    const group = groups.get(key);
    if (group) group.push(record);
    else groups.set(key, [record]);
  }
  return [...groups.values()];
}
