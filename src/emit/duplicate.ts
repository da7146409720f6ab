import { ReliableError } from "../errors";
import { STATUS } from "../message/lifecycle";
import type { Message } from "../message/message";
import type { Store } from "../stores/store";
import { sameJson } from "../wire/json";

/**
 * The same `id` with the same event and payload is the same message, no matter which emit stores it first. With another
 * payload it is a mistake. Throws RELIABLE_DUPLICATE_ID.
 */
export function assertSame(existing: Message, message: Message): void {
  if (existing.event === message.event && sameJson(existing.body, message.body)) return;
  const what = existing.event === message.event ? "another payload" : `the event '${existing.event}'`;
  throw new ReliableError(
    "RELIABLE_DUPLICATE_ID",
    `The id '${message._id}' was used before with ${what}; nothing was stored of '${message.event}'.`,
    { id: message._id, event: message.event }
  );
}

export function duplicateId({ _id: id, event, status }: Message, why: string): ReliableError {
  const text = `The id '${id}' was emitted before (${status}); ${why}.`;
  return new ReliableError("RELIABLE_DUPLICATE_ID", text, { id, event, status });
}

/**
 * The id has a row already. Returns that row; undefined = its message was withdrawn and the new one has replaced it.
 * Throws RELIABLE_DUPLICATE_ID.
 */
export async function replaceWithdrawn(
  store: Store,
  message: Message,
  existing: Message
): Promise<Message | undefined> {
  if (existing.status !== STATUS.withdrawn) return existing;
  assertSame(existing, message);
  // It separates the two emits even if they came within the same millisecond.
  message.createdAt = new Date(Math.max(message.createdAt.getTime(), existing.createdAt.getTime() + 1));
  return replace(store, message);
}

/** Returns the row that stays; undefined = the message has replaced it. */
export async function replace(store: Store, message: Message): Promise<Message | undefined> {
  const [row] = await store.messages.upsertFromChecks([message]);
  return row?.createdAt.getTime() === message.createdAt.getTime() ? undefined : row;
}
