import { backoffMs, growingPauseMs } from "./backoff";
import { ANY_GROUP, type Failure, type FailureCause, type FailureError, type MessageHead } from "./message";
import { offlinePauseMs } from "./offline";
import { namesGroup } from "./pattern";
import { queueTargetOf } from "./queue-target";

/**
 * Attempts are counted per message and group, from 1, and no number is used twice. A failure names its attempt, so one
 * that is reported twice counts once. Only failures count: broker trouble, a backlog and an offline group do not.
 */
export interface AttemptFailure {
  id: string;
  event?: string;
  group: string;
  attempt: number;
  failure: Failure;
  /** null: all attempts are used up, or no further attempt can help. */
  nextAt: Date | null;
  reason: string;
  /** Of one that is in order and has failed for good: its key, which those behind it wait for, or need not any more. */
  holds?: string;
  leaves?: string;
}

/** An attempt that reached no consumer: it is made again at `nextAt`. */
export type DisplacedAttempt = Pick<AttemptFailure, "id" | "group" | "attempt" | "failure"> & {
  nextAt: Date;
  /** No queue takes it, since its group is not known (yet). */
  unroutable?: { event: string; since: Date };
};

/** A failed attempt that does not count; the next one is made at `nextAt`. */
export type ExcusedAttempt = Pick<AttemptFailure, "id" | "group" | "attempt" | "failure"> & {
  nextAt: Date;
  /** Nor does what failed before it. */
  all: boolean;
};

/** Longest pause after one, unless the message's first pause is longer: an outage may be over by then. */
const MAX_EXCUSED_PAUSE_MS = 30_000;

/** The attempt under way, or the last one made: 1 once published. One that is in order is published to each by itself. */
export function attemptsMade(message: Pick<MessageHead, "attempts" | "publishedAt" | "order">, group: string): number {
  return message.attempts[group] ?? (message.publishedAt && !message.order ? 1 : 0);
}

/** The attempt under way that has not failed, else the next one. */
export function currentAttempt(message: MessageHead, group: string): number {
  const spent = message.spent[group] ?? 0;
  return Math.max(attemptsMade(message, group), spent + 1);
}

/**
 * The highest attempt that a receipt of the group may name: a receipt may come before the record of its publish, so one
 * more than recorded. Attempts sent to a name that included the group (ANY_GROUP, the emit's `groups`) are recorded
 * under that name.
 */
export function highestAttempt(message: MessageHead, group: string): number {
  const names = [...new Set([...Object.keys(message.attempts), ...Object.keys(message.spent)])].filter(
    name => name === ANY_GROUP || namesGroup(name, group)
  );
  return (
    Math.max(
      attemptsMade(message, group),
      ...names.flatMap(name => [message.attempts[name] ?? 0, message.spent[name] ?? 0])
    ) + 1
  );
}

export function attemptsLeft(message: MessageHead, group: string, spent: number): number {
  return message.maxAttempts - (spent - (message.base[group] ?? 0));
}

/** No queue took the message. */
export function noRoute(reason = "no queue took it"): FailureError {
  return { name: "Unroutable", message: reason, code: "NO_ROUTE" };
}

/** The broker, or the encoding, refuses the message for what it is. */
export function refused(reason = "the broker refuses it"): FailureError {
  return { name: "Refused", message: reason, code: "REFUSED" };
}

/** An attempt was published, and no failure of it is known. */
export function isUnanswered(message: MessageHead, group: string): boolean {
  return attemptsMade(message, group) > (message.spent[group] ?? 0);
}

/** An attempt that found no queue of its group: it did not count, and is made again after the pause. */
export function displaced(message: MessageHead, group: string, attempt: number, now: Date): DisplacedAttempt {
  const error = { name: "Displaced", message: "there is no queue of the group at the moment", code: "NO_QUEUE" };
  return {
    id: message._id,
    group,
    attempt,
    failure: { at: now, cause: "displaced", group, attempt, error },
    nextAt: new Date(now.getTime() + offlinePauseMs(message))
  };
}

/** Until a group is tried that is known by now. */
const ANNOUNCED_MS = 1000;

/**
 * No queue took it, and its group is not known: its consumer may be deployed after its producer. For `unroutableMs` that
 * costs no attempt; undefined = it does now. A queue for jobs needs no consumer to be there.
 */
export function unroutableYet(
  message: MessageHead,
  group: string,
  attempt: number,
  {
    now,
    known = false,
    reason = "no queue took it",
    pauseMs
  }: { now: Date; known?: boolean | undefined; reason?: string | undefined; pauseMs?: number | undefined }
): DisplacedAttempt | undefined {
  const since = message.unroutable[group] ?? now;
  const goneMs = now.getTime() - since.getTime();
  const leftMs = message.unroutableMs - goneMs;
  if (leftMs <= 0 || queueTargetOf(group)) return undefined;
  // It has announced itself since the publish, which led to no queue because none was known.
  const pause = known ? ANNOUNCED_MS : (pauseMs ?? growingPauseMs(message.backoff, goneMs));
  const error = { ...noRoute(`${reason}; ${unknownText(message.event, group)}`), code: "NO_GROUP" };
  return {
    id: message._id,
    group,
    attempt,
    failure: { at: now, cause: "displaced", group, attempt, error },
    nextAt: new Date(now.getTime() + Math.min(leftMs, pause)),
    unroutable: { event: message.event, since }
  };
}

/** For people: who is not there. */
export function unknownText(event: string, group: string): string {
  return group === ANY_GROUP ? `no group is known for '${event}'` : `group ${group} is not known for '${event}'`;
}

/** A policy is taking its messages out of the group's queue: one that cannot be found was most likely taken too. */
export function displacedLately({ failures, receiptTimeoutMs }: MessageHead, group: string, now: Date): boolean {
  const last = failures.findLast(failure => failure.group === group);
  return last?.cause === "displaced" && last.at.getTime() > now.getTime() - 2 * receiptTimeoutMs;
}

/** Pure: what a failed attempt means for the message. */
export function judgeFailure(
  message: MessageHead,
  group: string,
  attempt: number,
  cause: FailureCause,
  error: FailureError,
  { now, retryable = true, runs, nodeID }: { now: Date; retryable?: boolean; runs?: number; nodeID?: string }
): AttemptFailure {
  const again = retryable && attemptsLeft(message, group, attempt) > 0;
  const failure: Failure = { at: now, cause, group, attempt, error };
  if (runs !== undefined) failure.runs = runs;
  if (nodeID) failure.nodeID = nodeID;
  const whom = group === ANY_GROUP ? "" : ` in group ${group}`;
  // Of one for which no group is known nobody waits.
  const { key, onDead } = (!again && group !== ANY_GROUP && message.order) || {};
  return {
    id: message._id,
    event: message.event,
    group,
    attempt,
    failure,
    nextAt: again ? new Date(now.getTime() + backoffMs(message.backoff, attempt - (message.base[group] ?? 0))) : null,
    reason: `${cause}${whom} at attempt ${attempt}: ${error.message}`.slice(0, 500),
    ...(key !== undefined && (onDead === "skip" ? { leaves: key } : { holds: key }))
  };
}

/** Pure: a failure of the handler that does not count. The pauses grow with those before it, up to some time. */
export function excuse(
  message: MessageHead,
  group: string,
  attempt: number,
  error: FailureError,
  { now, all, runs, nodeID }: { now: Date; all: boolean; runs?: number; nodeID?: string }
): ExcusedAttempt {
  const { initialMs, maxMs, jitter } = message.backoff;
  const own = message.failures.filter(each => each.group === group);
  const repeats = own.length - 1 - own.findLastIndex(each => !each.excused);
  const counted = Math.max(0, attempt - 1 - (message.base[group] ?? 0));
  const backoff = { initialMs, maxMs: Math.max(initialMs, Math.min(maxMs, MAX_EXCUSED_PAUSE_MS)), jitter };
  return {
    id: message._id,
    group,
    attempt,
    failure: {
      at: now,
      cause: "handler",
      group,
      attempt,
      ...(runs !== undefined && { runs }),
      excused: true,
      ...(nodeID && { nodeID }),
      error
    },
    nextAt: new Date(now.getTime() + backoffMs(backoff, counted + 1 + repeats)),
    all
  };
}
