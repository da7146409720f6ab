import { backoffMs } from "./backoff";
import { ANY_GROUP, type Failure, type FailureCause, type FailureError, type Message } from "./message";
import { offlinePauseMs } from "./offline";
import { namesGroup } from "./pattern";

/**
 * Attempts are counted per message and group, from 1, and no number is used twice. A failure names its attempt, so one
 * that is reported twice counts once. Only failures count: broker trouble, a backlog and an offline group do not.
 */
export interface AttemptFailure {
  id: string;
  group: string;
  attempt: number;
  failure: Failure;
  /** null: all attempts are used up, or no further attempt can help. */
  nextAt: Date | null;
  reason: string;
}

/** An attempt that reached no consumer: it is made again at `nextAt`. */
export type DisplacedAttempt = Pick<AttemptFailure, "id" | "group" | "attempt" | "failure"> & { nextAt: Date };

/** The attempt under way, or the last one made: 1 once published. */
export function attemptsMade(message: Message, group: string): number {
  return message.attempts[group] ?? (message.publishedAt ? 1 : 0);
}

/** The attempt under way that has not failed, else the next one. */
export function currentAttempt(message: Message, group: string): number {
  const spent = message.spent[group] ?? 0;
  return Math.max(attemptsMade(message, group), spent + 1);
}

/**
 * The highest attempt that a receipt of the group may name: a receipt may come before the record of its publish, so one
 * more than recorded. Attempts sent to a name that included the group (ANY_GROUP, the emit's `groups`) are recorded
 * under that name.
 */
export function highestAttempt(message: Message, group: string): number {
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

export function attemptsLeft(message: Message, group: string, spent: number): number {
  return message.maxAttempts - (spent - (message.base[group] ?? 0));
}

/** No queue took the message. */
export function unroutable(reason = "no queue took it"): FailureError {
  return { name: "Unroutable", message: reason, code: "NO_ROUTE" };
}

/** The broker, or the encoding, refuses the message for what it is. */
export function refused(reason = "the broker refuses it"): FailureError {
  return { name: "Refused", message: reason, code: "REFUSED" };
}

/** An attempt was published, and no failure of it is known. */
export function isUnanswered(message: Message, group: string): boolean {
  return attemptsMade(message, group) > (message.spent[group] ?? 0);
}

/** An attempt that found no queue of its group: it did not count, and is made again after the pause. */
export function displaced(message: Message, group: string, attempt: number, now: Date): DisplacedAttempt {
  const error = { name: "Displaced", message: "there is no queue of the group at the moment", code: "NO_QUEUE" };
  return {
    id: message._id,
    group,
    attempt,
    failure: { at: now, cause: "displaced", group, attempt, error },
    nextAt: new Date(now.getTime() + offlinePauseMs(message))
  };
}

/** A policy is taking its messages out of the group's queue: one that cannot be found was most likely taken too. */
export function displacedLately({ failures, receiptTimeoutMs }: Message, group: string, now: Date): boolean {
  const last = failures.findLast(failure => failure.group === group);
  return last?.cause === "displaced" && last.at.getTime() > now.getTime() - 2 * receiptTimeoutMs;
}

/** Pure: what a failed attempt means for the message. */
export function judgeFailure(
  message: Message,
  group: string,
  attempt: number,
  cause: FailureCause,
  error: FailureError,
  { now, retryable = true, nodeID }: { now: Date; retryable?: boolean; nodeID?: string }
): AttemptFailure {
  const again = retryable && attemptsLeft(message, group, attempt) > 0;
  const failure: Failure = { at: now, cause, group, attempt, error };
  if (nodeID) failure.nodeID = nodeID;
  const whom = group === ANY_GROUP ? "" : ` in group ${group}`;
  return {
    id: message._id,
    group,
    attempt,
    failure,
    nextAt: again ? new Date(now.getTime() + backoffMs(message.backoff, attempt - (message.base[group] ?? 0))) : null,
    reason: `${cause}${whom} at attempt ${attempt}: ${error.message}`.slice(0, 500)
  };
}
