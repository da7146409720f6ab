import type { Message } from "../../message/message";

/** Fields of an open message that a closed one does not have: it is no longer in the sweeper's index. */
export const CLOSED = { open: true, dueAt: true, claim: true } as const;

/** Fields about the questions to a producer: a message that is pending again does not have them, nor a claim. */
export const NOT_ASKED = { claim: true, asks: true, unreachableSince: true } as const;

export function idsOf(records: { id: string }[]): string[] {
  return [...new Set(records.map(({ id }) => String(id)))];
}

export function inOrder(ids: string[], messages: Message[]): Message[] {
  const byId = new Map(messages.map(message => [message._id, message]));
  return [...new Set(ids)].flatMap(id => byId.get(id) ?? []);
}

/**
 * Those that say the same of many messages are one statement: a server updates many documents by one far faster than by
 * one each.
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
