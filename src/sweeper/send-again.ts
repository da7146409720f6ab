import { currentAttempt, judgeFailure, noRoute, refused, unroutableYet } from "../message/attempts";
import { backoffMs } from "../message/backoff";
import { STATUS } from "../message/lifecycle";
import { offlinePauseMs } from "../message/offline";
import { BEHIND_AT } from "../message/order";
import type { DisplacedRecord, RescheduleRecord } from "../stores/store-records";
import { LOST_CHECK_MARGIN_MS } from "../wire/check";
import { delayOf } from "../wire/plan";
import { type Published, resendByProducer, type StepResult } from "./ask-producer";
import type { SweepCounts } from "./counts";
import { reachesAllAtOnce, type SweepPlan } from "./plan";
import type { Settled, SweepParts } from "./sweep-parts";

/** Publishes the steps of a plan, or has the producer publish them if it keeps the payload. */
async function publish(parts: SweepParts, plan: SweepPlan): Promise<Published> {
  const { message, steps } = plan;
  if (!steps.length) return { results: [] };
  if (message.strategy === "callback") return resendByProducer(parts, message, steps);
  if (reachesAllAtOnce(plan))
    return parts.publisher.toAll(message, 1).then(result => ({ results: steps.map(() => result) }));
  return { results: await parts.publisher.toGroups(message, steps) };
}

/** Nothing was sent, and no group has a step of its own: it stands behind others. */
function dueWithout({ behind }: SweepPlan, answerBy: Date): Date {
  return behind.length ? BEHIND_AT : answerBy;
}

/** Sends what the plan says, and returns what is to be written about the message. */
export async function sendAgain(
  parts: SweepParts,
  plan: SweepPlan,
  claim: string,
  counts: SweepCounts
): Promise<Settled> {
  const { message, steps, waits } = plan;
  const { results, round, unreachableSince, pauseMs = backoffMs(message.backoff, 1) } = await publish(parts, plan);
  const at = parts.store.now();
  const answerBy = new Date(
    at.getTime() +
      (message.strategy === "callback" ? delayOf(message, round ?? message.round ?? 1) : message.receiptTimeoutMs)
  );
  const failures = [...plan.failures];
  const missing = [...plan.missing];
  const next = new Map(waits);
  const unroutable: DisplacedRecord[] = [];
  const known = (group: string) => parts.subscriptions.knows(group, message.event);
  const attempts: Record<string, number> = {};
  for (const group of missing) attempts[group] = message.spent[group] ?? 0;
  steps.forEach(({ group, attempt }, i) => {
    const result = results[i] as StepResult;
    if ("error" in result) {
      failures.push(
        judgeFailure(message, group, attempt, "source", result.error, { now: at, retryable: result.retryable })
      );
      return;
    }
    const { outcome, reason, code } = result;
    counts[outcome]++;
    parts.metrics.outcome(message.event, outcome);
    if (outcome === "confirmed") {
      attempts[group] = attempt;
      next.set(group, answerBy);
    } else if (outcome === "refused") {
      failures.push(judgeFailure(message, group, attempt, "refused", refused(reason), { now: at }));
    } else if (outcome === "returned" && code === "NO_ROUTE" && known(group)) {
      next.set(group, new Date(at.getTime() + offlinePauseMs(message)));
      missing.push(group);
    } else if (outcome === "returned") {
      // With `callback` a check was sent, too: it comes when an answer would be due.
      const pause = round ? answerBy.getTime() - at.getTime() : undefined;
      const yet = unroutableYet(message, group, attempt, { now: at, known: known(group), reason, pauseMs: pause });
      if (!yet) failures.push(judgeFailure(message, group, attempt, "unroutable", noRoute(reason), { now: at }));
      else {
        attempts[group] = attempt - 1;
        next.set(group, yet.nextAt);
        if (!message.unroutable[group]) unroutable.push(yet);
      }
    } else {
      next.set(group, new Date(at.getTime() + pauseMs));
    }
  });
  // A failed attempt that was followed by the next one at once is due when that one is. With an earlier date another
  // sweep would take the message before this one has recorded its work.
  failures.forEach((failure, i) => {
    const nextAt = failure.nextAt && next.get(failure.group);
    if (nextAt) failures[i] = { ...failure, nextAt };
  });
  counts.waiting += waits.size;
  counts.silent += plan.failures.length;
  // Failures write their own schedule.
  const instants = [
    ...next.values(),
    ...failures.flatMap(({ group, nextAt }) => (nextAt && !next.has(group) ? nextAt : []))
  ].map(date => date.getTime());
  const confirmed = results.some(result => "outcome" in result && result.outcome === "confirmed");
  // The check of a round comes by itself. If it gets lost, the row is due a little later.
  const margin = confirmed && message.strategy === "callback" ? LOST_CHECK_MARGIN_MS : 0;
  const tried = new Map(steps.map(({ group, attempt }) => [group, attempt]));
  const record: RescheduleRecord = {
    id: message._id,
    claim,
    // If no group is left to wait for, it is a human's by now, and this record changes nothing.
    dueAt: instants.length ? new Date(Math.min(...instants) + margin) : dueWithout(plan, answerBy),
    next: Object.fromEntries(next),
    about: Object.fromEntries(
      [...next.keys()].map(group => [group, Math.max(currentAttempt(message, group), tried.get(group) ?? 0)])
    )
  };
  if (Object.keys(attempts).length) record.attempts = attempts;
  const taken = (group: string) => tried.has(group) && attempts[group] === tried.get(group);
  const waiting = plan.renamed ?? message.waiting;
  const routed = Object.keys(message.unroutable).filter(
    group => taken(group) || known(group) || !waiting.includes(group)
  );
  if (routed.length) record.routed = routed;
  if (confirmed && !message.publishedAt) record.publishedAt = at;
  // A dead one stays dead: of this sweep are the other groups.
  if (message.status !== STATUS.dead) {
    if (confirmed) record.status = "published";
    else if (steps.length && !failures.length) record.status = "pending";
  }
  if (round) record.round = round;
  if (unreachableSince !== undefined) record.unreachableSince = unreachableSince;
  return { record, failures, missing, unroutable };
}
