import type { QueueDepth } from "../couriers/courier";
import { attemptsMade, isUnanswered, judgeFailure } from "../message/attempts";
import { ANY_GROUP, type Message } from "../message/message";
import { namesGroup } from "../message/pattern";
import { settledByConfirm } from "../message/queue-target";
import type { Step } from "../outbound/message-publisher";
import type { FailedRecord } from "../stores/store";

/** What to do with a due message. Decided purely; `sweep.ts` acts. */
export interface SweepPlan {
  message: Message;
  /** Groups to publish to now. */
  steps: Step[];
  /** Attempts that ended in silence. */
  failures: FailedRecord[];
  /** Groups left alone, until when: not due yet, or still in their queue. */
  waits: Map<string, Date>;
  /**
   * Set when ANY_GROUP, or a name that stands for wildcard handlers, gives way to real groups: `waiting` as it shall
   * be.
   */
  renamed?: string[];
}

export interface SweepView {
  now: Date;
  /** Who is subscribed to the message's event now; never contains ANY_GROUP. */
  known: string[];
  /** The check of the attempts that are out has come: they are due, whatever this node's clock says. */
  checked?: boolean;
  /** State of the group's queue: undefined = no such queue, "unseen" = could not look or nothing to look at. */
  depth(group: string): QueueDepth | undefined | "unseen";
}

/** Groups of the message whose queue must be looked at before an attempt may be called silent. */
export function silentGroups(
  message: Message,
  { now, known, checked }: Pick<SweepView, "now" | "known" | "checked">
): string[] {
  return [...message.waiting, ...newGroups(message, known).groups].filter(
    group => group !== ANY_GROUP && isUnanswered(message, group) && (checked || dueOf(message, group) <= now)
  );
}

/**
 * Who takes the place of ANY_GROUP, and of a group the emit had named before it was known: its wildcard handlers answer
 * as `<group>:<pattern>`.
 */
function newGroups({ waiting, failed, receipts }: Message, known: string[]): { groups: string[]; replaced: string[] } {
  const standsFor = (name: string, group: string) => name === ANY_GROUP || namesGroup(name, group);
  const names = waiting.filter(name => !known.includes(name));
  const groups = known.filter(
    group =>
      !receipts[group] &&
      !failed.includes(group) &&
      !waiting.includes(group) &&
      names.some(name => standsFor(name, group))
  );
  return { groups, replaced: names.filter(name => groups.some(group => standsFor(name, group))) };
}

function dueOf(message: Message, group: string): Date {
  const next = message.next[group];
  if (next) return next;
  // Nothing is out, nothing is scheduled: a human retry, or a message that was never published.
  if (!isUnanswered(message, group)) return message.createdAt;
  return message.publishedAt ? new Date(message.publishedAt.getTime() + message.receiptTimeoutMs) : message.createdAt;
}

export function planSweep(message: Message, world: SweepView): SweepPlan {
  const { now } = world;
  const plan: SweepPlan = { message, steps: [], failures: [], waits: new Map() };
  let { waiting } = message;
  const { groups, replaced } = newGroups(message, world.known);
  if (replaced.length) plan.renamed = waiting = [...waiting.filter(group => !replaced.includes(group)), ...groups];
  for (const group of waiting) {
    const due = dueOf(message, group);
    if (due > now && !(world.checked && isUnanswered(message, group))) {
      plan.waits.set(group, due);
      continue;
    }
    const made = attemptsMade(message, group);
    const spent = message.spent[group] ?? 0;
    if (made <= spent) {
      plan.steps.push({ group, attempt: spent + 1 });
      continue;
    }
    // The broker has it, and nothing but the record of that is missing: the publisher writes it and sends nothing
    // again.
    if (settledByConfirm(group) && message.strategy === "outbox") {
      plan.steps.push({ group, attempt: made });
      continue;
    }
    const depth = group === ANY_GROUP ? "unseen" : world.depth(group);
    if (depth === undefined) plan.steps.push({ group, attempt: made });
    else if (depth !== "unseen" && (depth.ready > 0 || depth.consumers === 0))
      plan.waits.set(group, new Date(now.getTime() + message.receiptTimeoutMs));
    else if (depth === "unseen" && group !== ANY_GROUP)
      plan.waits.set(group, new Date(now.getTime() + message.backoff.initialMs));
    // Nobody knows whether it was subscribed when the message went to the exchange: it gets its first attempt now.
    else if (groups.includes(group)) plan.steps.push({ group, attempt: made });
    else {
      const failure = silence(message, group, made, now);
      plan.failures.push(failure);
      // The check's delay was pause enough.
      if (message.strategy === "callback" && failure.nextAt) plan.steps.push({ group, attempt: made + 1 });
    }
  }
  return plan;
}

function silence(message: Message, group: string, attempt: number, now: Date): FailedRecord {
  const error = {
    name: "NoReceipt",
    message: `no receipt within ${message.receiptTimeoutMs} ms and nothing left in the queue`,
    code: "NO_RECEIPT"
  };
  return judgeFailure(message, group, attempt, "silence", error, { now });
}

/**
 * One publish to the exchange instead of one per group: only while nobody has answered anything and every group would
 * get its first attempt, so that no group gets what it has handled already.
 */
export function reachesAllAtOnce({ message, steps, renamed }: SweepPlan): boolean {
  return (
    steps.length > 1 &&
    !message.groups &&
    !renamed &&
    steps.length === message.waiting.length &&
    steps.every(step => step.attempt === 1) &&
    !Object.keys(message.receipts).length &&
    !message.failed.length
  );
}
