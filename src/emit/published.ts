import { TIMED_OUT, withTimeout } from "../async/deadline";
import type { PublishResult } from "../couriers/courier";
import { ReliableError, ReliableRetryableError } from "../errors";
import { groupsOf, type Message } from "../message/message";
import type { Clock } from "../platform/clock";

/** A publish without an answer within the emit's time may still succeed. */
export const LATE: PublishResult = { outcome: "unknown", reason: "no answer within timeoutMs" };

/** `until`: monotonic time. */
export async function publishedBy(
  publishing: Promise<PublishResult>,
  until: number,
  clock: Clock
): Promise<PublishResult> {
  const answer = await withTimeout(publishing, leftOf(until, clock), clock);
  return answer === TIMED_OUT ? LATE : answer;
}

export function leftOf(until: number, clock: Clock): number {
  return Math.max(0, until - clock.monotonic());
}

/** The broker has the message, or may have it. */
function mayBeTaken({ outcome, sent }: PublishResult): boolean {
  return outcome === "confirmed" || (outcome === "unknown" && sent !== false);
}

/**
 * Throws RELIABLE_NOT_STORED or RELIABLE_OUTCOME_UNKNOWN. `result`: the outcome of the message's publish, if it was
 * sent too.
 */
export function assertCheckConfirmed(message: Message, check: PublishResult, result?: PublishResult): void {
  if (check.outcome === "confirmed") return;
  if (mayBeTaken(check) || (result && mayBeTaken(result))) throw outcomeUnknown(message, check, "the check");
  const { _id: id, event } = message;
  const { outcome, reason } = check;
  if (outcome === "refused") throw publishRefused(message, check, "Nothing was sent.");
  throw new ReliableRetryableError(
    "RELIABLE_NOT_STORED",
    `The broker did not take the check of '${event}' (${id}): ${outcome}, ${reason}. Nothing was sent.`,
    { id, event, outcome, reason }
  );
}

/** `then`: what has become of the message. */
export function publishRefused({ _id: id, event }: Message, { reason }: PublishResult, then: string): ReliableError {
  return new ReliableError("RELIABLE_PUBLISH_REFUSED", `The broker refuses '${event}' (${id}): ${reason}. ${then}`, {
    id,
    event,
    reason
  });
}

/** Its check was taken: it may be delivered yet, but it is not promised. */
export function notRouted(message: Message, { outcome, reason }: PublishResult): ReliableRetryableError {
  const { _id: id, event } = message;
  return new ReliableRetryableError(
    "RELIABLE_OUTCOME_UNKNOWN",
    `No queue takes '${event}' (${id}): ${reason}. Its check was taken, so it is sent again when that comes. Emit it again with this id; groups with an inbox handle it once.`,
    { id, event, outcome, reason, groups: groupsOf(message) }
  );
}

export function outcomeUnknown(
  { _id: id, event }: Message,
  { outcome, reason }: PublishResult,
  what: string
): ReliableRetryableError {
  return new ReliableRetryableError(
    "RELIABLE_OUTCOME_UNKNOWN",
    `It is not known whether '${event}' (${id}) will be delivered: ${what} was ${outcome} (${reason}). Emit it again with this id; groups with an inbox handle it once.`,
    { id, event, outcome, reason }
  );
}
