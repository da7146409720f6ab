import { isUtf8 } from "node:buffer";
import { isFinal, STATUS } from "../message/lifecycle";
import { ANY_GROUP, type Message, type MessageHead } from "../message/message";
import { queueTargetOf, queueTargetOfMessage, type Settle } from "../message/queue-target";
import type { AuditRecord, Parked } from "../message/records";
import { printable } from "../platform/printable";

/** Bytes of a parked body in a list. Divisible by three, so that base64 ends without padding. */
const PREVIEW_BYTES = 198;

/** Flat: the Moleculer REPL prints results four levels deep. Instants are ISO strings. */
export interface MessageRow {
  id: string;
  event: string;
  status: string;
  producer: string;
  strategy: string;
  /** Groups that still owe a receipt, including those without attempts left. */
  waiting: string;
  handled: string;
  /** The highest attempt made for any group. */
  attempts: number;
  maxAttempts: number;
  ageMs: number;
  createdAt: string;
  dueAt?: string;
  reason?: string;
}

export interface TimelineEntry {
  at: string;
  what: string;
}

export interface MessageStory extends MessageRow {
  payload: unknown;
  meta: Record<string, unknown>;
  requestID?: string;
  bytes: number;
  /**
   * For a message to a queue that belongs to no group (`addAMQPJob`): the queue's name, and what settles the message.
   */
  queue?: string;
  settle?: Settle;
  claim?: string;
  timeline: TimelineEntry[];
}

const owing = (message: MessageHead): string[] => [...message.waiting, ...message.failed];

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
    waiting: owing(message).join(", "),
    handled: Object.keys(message.receipts).join(", "),
    attempts: Math.max(...made),
    maxAttempts: message.maxAttempts,
    ageMs: now - message.createdAt.getTime(),
    createdAt: message.createdAt.toISOString()
  };
  if (message.dueAt && !isFinal(message.status)) row.dueAt = message.dueAt.toISOString();
  if (message.reason) row.reason = message.reason;
  if (message.unreadable !== undefined) row.reason = `unreadable: ${message.unreadable}`;
  return row;
}

export function toStory(message: Message, now: number): MessageStory {
  const story: MessageStory = {
    ...toRow(message, now),
    payload: payloadOf(message),
    meta: message.meta,
    bytes: message.body.length,
    timeline: timeline(message)
  };
  const foreign = queueTargetOfMessage(message);
  if (foreign) Object.assign(story, { queue: foreign.queue, settle: foreign.settle });
  if (message.origin.requestID) story.requestID = message.origin.requestID;
  if (message.claim) story.claim = message.claim;
  return story;
}

function payloadOf(message: Message): unknown {
  try {
    return JSON.parse(message.body.toString("utf8"));
  } catch {
    return message.body.toString("base64");
  }
}

function timeline(message: MessageHead): TimelineEntry[] {
  // Always the first entry, and none is dated before it: the others have the time of other clocks, which may be some ms
  // behind the producer's.
  const created = {
    at: message.createdAt,
    what: `${message.strategy === "callback" ? "emitted" : "stored"} by ${message.producer} for ${groupsText(owing(message), message)}`
  };
  const entries: { at: Date; what: string }[] = [];
  if (message.publishedAt) entries.push({ at: message.publishedAt, what: publishedText(message) });
  for (const failure of message.failures) {
    const whom = failure.group && failure.group !== ANY_GROUP ? ` in ${failure.group}` : "";
    const where = failure.nodeID ? ` on node ${failure.nodeID}` : "";
    if (failure.cause === "displaced") {
      entries.push({
        at: failure.at,
        what: `attempt ${failure.attempt ?? "?"}${whom} did not reach a consumer, and comes again: ${failure.error.message}`
      });
      continue;
    }
    entries.push({
      at: failure.at,
      what: `attempt ${failure.attempt ?? "?"} failed${whom}${where} (${failure.cause}): ${failure.error.name}: ${failure.error.message}`
    });
  }
  for (const [group, receipt] of Object.entries(message.receipts)) {
    const foreign = queueTargetOf(group);
    if (foreign?.settle === "confirm")
      entries.push({
        at: receipt.at,
        what: `taken by queue ${foreign.queue} (attempt ${receipt.attempt}): settled by the broker's confirm`
      });
    else
      entries.push({
        at: receipt.at,
        what: `handled by ${group} on node ${receipt.nodeID} in ${receipt.durationMs} ms (attempt ${receipt.attempt})`
      });
  }
  for (const note of message.notes)
    entries.push({ at: note.at, what: `${note.act}${whomOf(note)} by ${note.by}${note.note ? `: ${note.note}` : ""}` });
  if (message.status === STATUS.dead) entries.push({ at: message.at, what: `dead: ${message.reason ?? ""}` });
  if (message.status === STATUS.consumed)
    entries.push({
      at: message.at,
      what:
        queueTargetOfMessage(message)?.settle === "confirm"
          ? "consumed: its queue has it, and no receipt will come"
          : "consumed: every expected group has handled it"
    });
  const instantOf = ({ at }: { at: Date }) => Math.max(at.getTime(), message.createdAt.getTime());
  return [created, ...entries.sort((a, b) => instantOf(a) - instantOf(b))].map(({ at, what }) => ({
    at: new Date(instantOf({ at })).toISOString(),
    // One line each: an error's text must not look like an entry of its own.
    what: printable(what)
  }));
}

const whomOf = ({ group, pattern }: { group?: string; pattern?: string }) =>
  `${group === undefined ? "" : ` ${group}`}${pattern === undefined ? "" : ` (${pattern})`}`;

/** A row of `callback` is made from its check: what the broker said to the first publish only the producer knows. */
function publishedText({ strategy, publishedAt, createdAt }: MessageHead): string {
  return strategy === "callback" && publishedAt?.getTime() === createdAt.getTime()
    ? "published by its producer, which was told the outcome"
    : "published: confirmed and routed";
}

function groupsText(waiting: string[], message: MessageHead): string {
  const foreign = queueTargetOfMessage(message);
  if (foreign)
    return `queue ${foreign.queue}, settled by ${foreign.settle === "confirm" ? "the broker's confirm" : "its worker's receipt"}`;
  const all = [...new Set([...Object.keys(message.receipts), ...waiting])];
  return all.length && !all.includes(ANY_GROUP) ? all.join(", ") : "every subscribed group";
}

export function auditRow(audit: AuditRecord): Record<string, unknown> {
  const { at, by, act, note, message, parked, group, pattern } = audit;
  return {
    at: at.toISOString(),
    act,
    by,
    note,
    group,
    pattern,
    id: message?.id ?? parked?.id,
    event: message?.event,
    queue: parked?.queue,
    reason: message?.reason ?? parked?.reason
  };
}

/** Bytes as text without loss: UTF-8 if they are valid UTF-8, else base64. */
function textOf(bytes: Buffer): { encoding: "utf8" | "base64"; body: string } {
  const encoding = isUtf8(bytes) ? "utf8" : "base64";
  return { encoding, body: bytes.toString(encoding) };
}

/** A row of a list: the start of the body, and whether that is `cut`. */
export function parkedRow(parked: Parked): Record<string, unknown> {
  const { body } = parked;
  let end = Math.min(body.length, PREVIEW_BYTES);
  // Not in the middle of a character.
  if (isUtf8(body)) while (end < body.length && ((body[end] as number) & 0xc0) === 0x80) end--;
  return {
    ...parkedHead(parked),
    cut: parked.cut !== undefined || end < body.length,
    ...textOf(body.subarray(0, end))
  };
}

/** All that is kept. `cut`: the body is its first `kept` bytes. */
export function parkedWhole(parked: Parked): Record<string, unknown> {
  const { body, cut, properties, headers } = parked;
  return {
    ...parkedHead(parked),
    cut: cut !== undefined,
    ...(cut && { kept: body.length }),
    ...textOf(body),
    properties,
    headers
  };
}

/** `bytes` is the length of the whole body, and `sha256` its digest where less is kept. */
function parkedHead(parked: Parked): Record<string, unknown> {
  const { _id: id, at, queue, reason, nodeID, cut } = parked;
  return {
    id,
    at: at.toISOString(),
    queue,
    reason,
    nodeID,
    bytes: lengthOf(parked),
    ...(cut && { sha256: cut.sha256 })
  };
}

/** Bytes of the body as it came. */
export function lengthOf({ body, cut }: Pick<Parked, "body" | "cut">): number {
  return cut?.bytes ?? body.length;
}
