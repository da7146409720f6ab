import { ReliableError } from "../errors";
import { STATUS } from "../message/lifecycle";
import type { Message } from "../message/message";
import { encodesSame, type PlainPayload } from "../outbound/encoding";
import type { Store } from "../stores/store";
import { sameJson } from "../wire/json";

/**
 * The same `id` with the same event and payload is the same message, no matter which emit stores it first. With another
 * payload it is a mistake. Throws RELIABLE_DUPLICATE_ID.
 */
export async function assertSame(existing: Message, message: Message, plain?: PlainPayload): Promise<void> {
  if (existing.event === message.event && (await isSamePayload(existing, message, plain))) return;
  const what = existing.event === message.event ? "another payload" : `the event '${existing.event}'`;
  throw new ReliableError(
    "RELIABLE_DUPLICATE_ID",
    `The id '${message._id}' was used before with ${what}; nothing was stored of '${message.event}'.`,
    { id: message._id, event: message.event }
  );
}

/**
 * Of a payload that was dropped only its length can tell: a digest of a short one would give it away. `plain`: of an
 * emit of a service with hooks.
 */
async function isSamePayload(existing: Message, message: Message, plain?: PlainPayload): Promise<boolean> {
  const { body: given, decode } = plain ?? { ...message, decode: undefined };
  const { _id: id, event, body, droppedBytes, encoded } = existing;
  if (droppedBytes !== undefined) return encoded === true || droppedBytes === given.length;
  return encoded ? encodesSame(body, { body: given, decode }, { id, event }) : sameJson(body, given);
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
  existing: Message,
  plain?: PlainPayload
): Promise<Message | undefined> {
  if (existing.status !== STATUS.withdrawn) return existing;
  await assertSame(existing, message, plain);
  // It separates the two emits even if they came within the same millisecond.
  message.createdAt = new Date(Math.max(message.createdAt.getTime(), existing.createdAt.getTime() + 1));
  return replace(store, message);
}

/** Returns the row that stays; undefined = the message has replaced it. */
export async function replace(store: Store, message: Message): Promise<Message | undefined> {
  const [row] = await store.messages.upsertFromChecks([message]);
  return row?.createdAt.getTime() === message.createdAt.getTime() ? undefined : row;
}
