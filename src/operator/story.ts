import { attemptsMade } from "../message/attempts";
import { STATUS } from "../message/lifecycle";
import {
  ANY_GROUP,
  bornAt,
  FAILURES_KEPT,
  type Failure,
  type Message,
  type MessageHead,
  NOTES_KEPT,
  type Note,
  type Receipt
} from "../message/message";
import { queueTargetOf, queueTargetOfMessage, type Settle } from "../message/queue-target";
import { printable } from "../platform/printable";
import { type MessageRow, toRow, unroutableText } from "./views";

/** What one group has done with the message. Instants are ISO strings. */
export interface GroupRow {
  group: string;
  state: "handled" | "waiting" | "failed" | "resolved";
  /** Made for this group, or more if it answered one that was not recorded. */
  attempts: number;
  /** Since it is in this state; of one that is waited for: since it is expected. */
  ageMs: number;
  /** When its next step is due, where it has one of its own. */
  nextAt?: string;
  /** Its last failure. */
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
  /** Of W3C Trace Context, where its emit had one. */
  traceID?: string;
  bytes: number;
  /**
   * For a message to a queue that belongs to no group (`addAMQPJob`): the queue's name, and what settles the message.
   */
  queue?: string;
  settle?: Settle;
  claim?: string;
  /** The payload is what its producer's hook `encode` has made of it. */
  encoded?: true;
  /** Of strategy `callback`, known from receipts alone: payload, meta and headers are not kept, or come with its check. */
  partial?: true;
  /** The payload is null since then: it was dropped, with meta, headers and the texts of errors. */
  payloadDroppedAt?: string;
  groups: GroupRow[];
  timeline: TimelineEntry[];
}

type Entry = { at: Date; what: string };

export function toStory(message: Message, now: number): MessageStory {
  const story: MessageStory = {
    ...toRow(message, now),
    payload: payloadOf(message),
    meta: message.meta,
    bytes: message.droppedBytes ?? message.body.length,
    groups: groupRows(message, now),
    timeline: timeline(message)
  };
  const foreign = queueTargetOfMessage(message);
  if (foreign) Object.assign(story, { queue: foreign.queue, settle: foreign.settle });
  if (message.origin.requestID) story.requestID = message.origin.requestID;
  const traceID = message.origin.traceparent?.split("-")[1];
  if (traceID) story.traceID = traceID;
  if (message.claim) story.claim = message.claim;
  if (message.encoded) story.encoded = true;
  if (message.partial) story.partial = true;
  if (message.droppedAt) story.payloadDroppedAt = message.droppedAt.toISOString();
  return story;
}

function payloadOf(message: Message): unknown {
  if (message.droppedAt || message.partial) return null;
  try {
    return JSON.parse(message.body.toString("utf8"));
  } catch {
    return message.body.toString("base64");
  }
}

function groupRows(message: MessageHead, now: number): GroupRow[] {
  const { receipts, waiting, failed, resolved, failures, errors, next, status } = message;
  const row = (group: string, state: GroupRow["state"], since: Date): GroupRow => {
    const failure = failures.findLast(each => each.group === group);
    const error = errors[group] ?? (failure && { cause: failure.cause, ...failure.error });
    const unroutable = state === "waiting" ? unroutableText(message, [group]) : undefined;
    const text = unroutable ?? (error && `${error.cause}: ${error.name}: ${error.message}`);
    const made = Math.max(attemptsMade(message, group), receipts[group]?.attempt ?? 0, message.spent[group] ?? 0);
    return {
      group,
      state,
      attempts: made,
      ageMs: now - since.getTime(),
      ...(state === "waiting" && next[group] && { nextAt: next[group].toISOString() }),
      ...(text && state !== "handled" && { reason: printable(text) })
    };
  };
  const deathOf = (group: string) => message.deadAt[group] ?? message.at;
  const resolvedAt = (group: string) =>
    (lastNote(message, "skip", group) ?? lastNote(message, "resolve", group))?.at ?? deathOf(group);
  // A human has closed the message: nobody is needed for those that had failed any more.
  const open = status === STATUS.resolved ? [] : failed;
  const closed = status === STATUS.resolved ? [...resolved, ...failed] : resolved;
  return [
    ...Object.entries(receipts).map(([group, { at }]) => row(group, "handled", at)),
    ...waiting.map(group => row(group, "waiting", expectedSince(message, group))),
    ...open.map(group => row(group, "failed", deathOf(group))),
    ...closed.map(group => row(group, "resolved", resolvedAt(group)))
  ];
}

function lastNote({ notes }: MessageHead, act: Note["act"], group: string): Note | undefined {
  return notes.findLast(note => note.act === act && note.groups?.includes(group));
}

function expectedSince(message: MessageHead, group: string): Date {
  return lastNote(message, "recipients", group)?.at ?? bornAt(message);
}

function timeline(message: MessageHead): TimelineEntry[] {
  // Always the first entry, and none is dated before it: the others have the time of other clocks, which may be some ms
  // behind the producer's.
  const created = {
    at: message.createdAt,
    what: `${message.strategy === "callback" ? "emitted" : "stored"} by ${message.producer} for ${groupsText(message)}${message.sendAt ? `, to be sent at ${message.sendAt.toISOString()}` : ""}`
  };
  const entries: Entry[] = [
    ...(message.publishedAt ? [{ at: message.publishedAt, what: publishedText(message) }] : []),
    ...message.failures.map(failureEntry),
    ...notKept(message),
    ...Object.entries(message.receipts).map(receiptEntry),
    ...message.notes.map(note => ({ at: note.at, what: noteText(note) })),
    ...(message.unreachableSince
      ? [{ at: message.unreachableSince, what: `its producer ${message.producer} does not answer since then` }]
      : []),
    ...endOf(message),
    ...(message.droppedAt
      ? [{ at: message.droppedAt, what: "payload, meta, headers and texts of errors dropped" }]
      : [])
  ];
  const instantOf = ({ at }: { at: Date }) => Math.max(at.getTime(), message.createdAt.getTime());
  return [created, ...entries.sort((a, b) => instantOf(a) - instantOf(b))].map(({ at, what }) => ({
    at: new Date(instantOf({ at })).toISOString(),
    // One line each: an error's text must not look like an entry of its own.
    what: printable(what)
  }));
}

function failureEntry({ at, cause, group, attempt = 0, nodeID, runs, excused, error }: Failure): Entry {
  const whom = group && group !== ANY_GROUP ? ` in ${group}` : "";
  const where = nodeID ? ` on node ${nodeID}` : "";
  if (cause === "displaced")
    return { at, what: `attempt ${attempt}${whom} did not reach a consumer, and comes again: ${error.message}` };
  const which = attempt ? `attempt ${attempt}` : "the question to its producer";
  const after = runs ? ` after ${runs} runs` : "";
  const how = excused ? `${cause}, does not count` : cause;
  return { at, what: `${which} failed${whom}${where}${after} (${how}): ${error.name}: ${error.message}` };
}

/** Only the last ones are kept: that there may have been more is said. */
function notKept({ failures, notes }: MessageHead): Entry[] {
  const said = (what: string, kept: { at: Date }[], limit: number) =>
    kept.length < limit
      ? []
      : kept.slice(0, 1).map(({ at }) => ({ at, what: `${what}: only the last ${limit} are kept` }));
  return [...said("failures", failures, FAILURES_KEPT), ...said("what was done", notes, NOTES_KEPT)];
}

function receiptEntry([group, { at, nodeID, durationMs, attempt, runs }]: [string, Receipt]): Entry {
  const foreign = queueTargetOf(group);
  if (foreign?.settle === "confirm")
    return { at, what: `taken by queue ${foreign.queue} (attempt ${attempt}): settled by the broker's confirm` };
  const run = runs ? `, run ${runs}` : "";
  return { at, what: `handled by ${group} on node ${nodeID} in ${durationMs} ms (attempt ${attempt}${run})` };
}

function noteText({ act, by, note, group, pattern, groups = [], moreGroups, replaced = [] }: Note): string {
  const text = note ? `: ${note}` : "";
  const names = `${namesOf(groups)}${moreGroups ? ` and ${moreGroups} more` : ""}`;
  switch (act) {
    case "dead":
      return `dead${names && ` in ${names}`}${text}`;
    case "recipients":
      return `it is known now who is meant: ${names || "nobody"}, instead of ${namesOf(replaced) || "every subscribed group"}`;
    case "happened":
    case "asked":
      return `asked by ${by}${text}`;
    case "forget":
      return `forget ${group ?? names}${pattern === undefined ? "" : ` (${pattern})`} by ${by}${text}`;
    default:
      return `${act}${names && ` of ${names}`} by ${by}${text}`;
  }
}

const namesOf = (groups: string[]): string => groups.filter(group => group !== ANY_GROUP).join(", ");

function endOf(message: MessageHead): Entry[] {
  const { status, at, reason, notes } = message;
  if (status === STATUS.consumed) {
    const isQueue = queueTargetOfMessage(message)?.settle === "confirm";
    const what = isQueue
      ? "consumed: its queue has it, and no receipt will come"
      : "consumed: every expected group has handled it";
    return [{ at, what }];
  }
  // By the last receipt, of a message of which a human had resolved a group. Else his note says it.
  if (status === STATUS.resolved && !notes.some(note => note.at.getTime() === at.getTime()))
    return [{ at, what: "resolved: nobody waits for it any more" }];
  return status === STATUS.dead && !notes.some(({ act }) => act === "dead")
    ? [{ at, what: `dead: ${reason ?? ""}` }]
    : [];
}

/** A row of `callback` is made from its check: what the broker said to the first publish only the producer knows. */
function publishedText({ strategy, publishedAt, createdAt }: MessageHead): string {
  return strategy === "callback" && publishedAt?.getTime() === createdAt.getTime()
    ? "published by its producer, which was told the outcome"
    : "published: confirmed and routed";
}

/** Who was expected when it was emitted: all that it names, but for those that became known later. */
function groupsText(message: MessageHead): string {
  const foreign = queueTargetOfMessage(message);
  if (foreign)
    return `queue ${foreign.queue}, settled by ${foreign.settle === "confirm" ? "the broker's confirm" : "its worker's receipt"}`;
  const { receipts, waiting, failed, resolved, notes } = message;
  const named = notes.filter(({ act }) => act === "recipients");
  const later = new Set(named.flatMap(({ groups = [] }) => groups));
  const gone = notes.flatMap(({ act, groups = [] }) => (act === "forget" ? groups : []));
  const all = [
    ...named.flatMap(({ replaced = [] }) => replaced),
    ...Object.keys(receipts),
    ...waiting,
    ...failed,
    ...resolved,
    ...gone
  ];
  const first = [...new Set(all)].filter(group => !later.has(group));
  return first.length && !first.includes(ANY_GROUP) ? first.join(", ") : "every subscribed group";
}
