import { isUtf8 } from "node:buffer";
import { unknownText } from "../message/attempts";
import { isFinal, STATUS } from "../message/lifecycle";
import { bornAt, type MessageHead } from "../message/message";
import { isBehind } from "../message/order";
import { type ListedParked, PARKED_PREVIEW_BYTES, type Parked } from "../message/records";

/** Flat: the Moleculer REPL prints results four levels deep. Instants are ISO strings. */
export interface MessageRow {
  id: string;
  event: string;
  status: string;
  producer: string;
  strategy: string;
  /** Groups that still owe a receipt and have attempts left. */
  waiting: string;
  /** Groups that have failed for good: they need a human. */
  failed: string;
  handled: string;
  /** The highest attempt made for any group. */
  attempts: number;
  maxAttempts: number;
  ageMs: number;
  createdAt: string;
  /** When it is to be sent, or was, if it was scheduled. */
  sendAt?: string;
  dueAt?: string;
  /** Messages with one order key reach each group one after the other. */
  orderKey?: string;
  /** Of a dead one: when, and the types of the errors. */
  deadAt?: string;
  errorType?: string;
  reason?: string;
  /** Message keys: `order=42, customer=c-7`. */
  keys?: string;
  /** Of a message that a replay has made: its original, whose payload it has. */
  replayOf?: string;
}

const BEHIND_TEXT = "behind others with the same order key: it waits for its turn";

/** Why groups have failed for good: each one's last reason. */
export function deathReason({ failed, notes, reason }: MessageHead): string | undefined {
  const deaths = notes.filter(({ act }) => act === "dead");
  const texts = failed.flatMap(group => deaths.findLast(({ groups }) => groups?.includes(group))?.note ?? []);
  // The reason of the row is that of the last one that failed, which may have answered or have been forgotten since.
  const last = deaths.findLast(({ note }) => note === reason);
  const isStale = last && !last.groups?.some(group => failed.includes(group));
  return texts.length > 1 || (texts.length && isStale) ? [...new Set(texts)].join("; ") : reason;
}

/** Why it waits for these groups, or for those of them that nobody knows (yet). */
export function unroutableText(
  { event, unroutable, unroutableMs }: MessageHead,
  waiting: string[]
): string | undefined {
  const gone = waiting.filter(group => unroutable[group]);
  if (!gone.length) return undefined;
  const since = Math.min(...gone.map(group => (unroutable[group] as Date).getTime()));
  const [from, to] = [since, since + unroutableMs].map(ms => new Date(ms).toISOString());
  const who = gone.map(group => unknownText(event, group)).join(", ");
  return `unroutable since ${from}: ${who}; sent when there is one, and costs no attempt until ${to}`;
}

export function toRow(message: MessageHead & { unreadable?: string }, now: number): MessageRow {
  // A receipt may name an attempt whose publish was never recorded.
  const answered = Object.values(message.receipts).map(receipt => receipt.attempt);
  const made = [
    message.publishedAt ? 1 : 0,
    ...Object.values(message.attempts),
    ...Object.values(message.spent),
    ...answered
  ];
  const row: MessageRow = {
    id: message._id,
    event: message.event,
    status: message.status,
    producer: message.producer,
    strategy: message.strategy,
    waiting: message.waiting.join(", "),
    failed: message.failed.join(", "),
    handled: Object.keys(message.receipts).join(", "),
    attempts: Math.max(...made),
    maxAttempts: message.maxAttempts,
    ageMs: now - bornAt(message).getTime(),
    createdAt: message.createdAt.toISOString()
  };
  if (message.sendAt) row.sendAt = message.sendAt.toISOString();
  const stands = isBehind(message);
  if (message.dueAt && !isFinal(message.status) && !stands) row.dueAt = message.dueAt.toISOString();
  if (message.order) row.orderKey = message.order.key;
  if (message.status === STATUS.dead) row.deadAt = message.at.toISOString();
  if (message.lastErrors?.length) row.errorType = [...new Set(message.lastErrors.map(({ type }) => type))].join(", ");
  if (message.keys) row.keys = message.keys.join(", ");
  if (message.replay) row.replayOf = message.replay.of;
  const reason = deathReason(message) ?? unroutableText(message, message.waiting) ?? (stands ? BEHIND_TEXT : undefined);
  if (reason) row.reason = reason;
  if (message.unreadable !== undefined) row.reason = `unreadable: ${message.unreadable}`;
  return row;
}

/** Bytes as text without loss: UTF-8 if they are valid UTF-8, else base64. */
function textOf(bytes: Buffer): { encoding: "utf8" | "base64"; body: string } {
  const encoding = isUtf8(bytes) ? "utf8" : "base64";
  return { encoding, body: bytes.toString(encoding) };
}

/** A row of a list: the start of the body, and whether that is `cut`. */
export function parkedRow({ head, kept, ...parked }: ListedParked): Record<string, unknown> {
  let end = Math.min(kept, PARKED_PREVIEW_BYTES);
  // Not in the middle of a character, if it is text.
  while (end > PARKED_PREVIEW_BYTES - 3 && end < kept && ((head[end] as number) & 0xc0) === 0x80) end--;
  const text = isUtf8(head.subarray(0, end));
  return {
    ...parkedHead({ ...parked, kept }),
    cut: parked.cut !== undefined || end < kept,
    ...textOf(head.subarray(0, text ? end : Math.min(kept, PARKED_PREVIEW_BYTES)))
  };
}

/** All that is kept. `cut`: the body is its first `kept` bytes. */
export function parkedWhole(parked: Parked): Record<string, unknown> {
  const { body, cut, properties, headers } = parked;
  return {
    ...parkedHead({ ...parked, kept: body.length }),
    cut: cut !== undefined,
    ...(cut && { kept: body.length }),
    ...textOf(body),
    properties,
    headers
  };
}

/** `bytes` is the length of the whole body, and `sha256` its digest where less is kept. */
function parkedHead(parked: Omit<ListedParked, "head">): Record<string, unknown> {
  const { _id: id, at, queue, reason, nodeID, cut, kept } = parked;
  return {
    id,
    at: at.toISOString(),
    queue,
    reason,
    nodeID,
    bytes: cut?.bytes ?? kept,
    ...(cut && { sha256: cut.sha256 })
  };
}

/** Bytes of the body as it came. */
export function lengthOf({ body, cut }: Pick<Parked, "body" | "cut">): number {
  return cut?.bytes ?? body.length;
}
