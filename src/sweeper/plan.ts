import type { QueueDepth } from "../couriers/courier";
import { attemptsMade, displacedLately, isUnanswered, judgeFailure } from "../message/attempts";
import { ANY_GROUP, type Message, openAtOf } from "../message/message";
import { offlinePauseMs } from "../message/offline";
import { namesGroup } from "../message/pattern";
import { settledByConfirm } from "../message/queue-target";
import type { Step } from "../outbound/message-publisher";
import type { FailedRecord } from "../stores/store-records";

/** What to do with a due message. This file decides and has no side effects; `sweep.ts` acts. */
export interface SweepPlan {
  message: Message;
  /** Groups to publish to now. */
  steps: Step[];
  /** Attempts that ended in silence. */
  failures: FailedRecord[];
  /** Groups left alone, and until when: not due yet, or offline, or their message is still in the queue. */
  waits: Map<string, Date>;
  /** It is in order, and it is not its turn in these: it stands behind others. */
  behind: string[];
  /** Those of them whose queue does not exist (any more). What they were sent is gone with it. */
  missing: string[];
  /**
   * Set when real groups take the place of ANY_GROUP, or of a name that stands for wildcard handlers: the new
   * `waiting`.
   */
  renamed?: string[];
  /** Those of the new names to which nothing was sent yet: what they stand for was unroutable. */
  unsent: string[];
}

export interface SweepView {
  now: Date;
  /** The groups that are subscribed to the message's event now; never contains ANY_GROUP. */
  known: string[];
  /** Of a message that is in order: which turn of its key it is in the group; undefined = it is not. */
  turn?(group: string): number | undefined;
  /** The check of the attempts under way has come: they are due, whatever this node's clock says. */
  checked?: boolean;
  /**
   * State of the group's queue: undefined = no such queue, "unseen" = the queue could not be inspected, or there is
   * none to inspect.
   */
  depth(group: string): QueueDepth | undefined | "unseen";
  /** Since when the group is known; undefined = it is not. */
  since?(group: string): Date | undefined;
  /** Since when the group takes again after a pause; `never` while it is paused; undefined = it was not paused lately. */
  takesSince?(group: string): Date | "never" | undefined;
}

/** Groups whose queue must be inspected before their attempt may be called silent. */
export function silentGroups(
  message: Message,
  { now, known, checked }: Pick<SweepView, "now" | "known" | "checked">
): string[] {
  return [...message.waiting, ...newGroups(message, known).groups].filter(
    group => group !== ANY_GROUP && isUnanswered(message, group) && (checked || dueOf(message, group) <= now)
  );
}

/**
 * The groups that take the place of ANY_GROUP, or of a group that the emit named before it was known: its wildcard
 * handlers answer as `<group>:<pattern>`.
 */
function newGroups(
  { waiting, failed, resolved, receipts }: Message,
  known: string[]
): { groups: string[]; replaced: string[] } {
  const names = waiting.filter(name => !known.includes(name));
  const groups = known.filter(
    group =>
      !receipts[group] &&
      !failed.includes(group) &&
      !resolved.includes(group) &&
      !waiting.includes(group) &&
      names.some(name => standsFor(name, group))
  );
  return { groups, replaced: names.filter(name => groups.some(group => standsFor(name, group))) };
}

function standsFor(name: string, group: string): boolean {
  return name === ANY_GROUP || namesGroup(name, group);
}

/** No record says that it was sent to the group, and the group is younger than the message. */
function mayNeverBeSent(message: Message, group: string, { since }: SweepView): boolean {
  if (message.attempts[group] !== undefined || message.spent[group] !== undefined) return false;
  const known = since?.(group);
  return group === ANY_GROUP || (known !== undefined && known > openAtOf(message));
}

/** Not `createdAt`: that is by the emitting node's clock, which may be ahead. */
const AT_ONCE = new Date(0);

function dueOf(message: Message, group: string): Date {
  const next = message.next[group];
  if (next) return next;
  // No attempt is under way and none is scheduled: an operator has retried it, or a message that was never published.
  if (!isUnanswered(message, group)) return AT_ONCE;
  return message.publishedAt ? new Date(message.publishedAt.getTime() + message.receiptTimeoutMs) : AT_ONCE;
}

export function planSweep(message: Message, world: SweepView): SweepPlan {
  const { now } = world;
  const plan: SweepPlan = { message, steps: [], failures: [], waits: new Map(), behind: [], missing: [], unsent: [] };
  let { waiting } = message;
  const { groups, replaced } = newGroups(message, world.known);
  if (replaced.length) plan.renamed = waiting = [...waiting.filter(group => !replaced.includes(group)), ...groups];
  const unroutable = replaced.filter(name => message.unroutable[name]);
  plan.unsent = groups.filter(group => unroutable.some(name => standsFor(name, group)));
  for (const group of waiting) {
    const turn = world.turn?.(group);
    if (message.order && turn === undefined && group !== ANY_GROUP) {
      plan.behind.push(group);
      continue;
    }
    const step = (attempt: number) => plan.steps.push({ group, attempt, ...(turn !== undefined && { turn }) });
    if (plan.unsent.includes(group)) {
      step((message.spent[group] ?? 0) + 1);
      continue;
    }
    const due = dueOf(message, group);
    if (due > now && !(world.checked && isUnanswered(message, group))) {
      plan.waits.set(group, due);
      continue;
    }
    const made = attemptsMade(message, group);
    const spent = message.spent[group] ?? 0;
    if (made <= spent) {
      step(spent + 1);
      continue;
    }
    // The broker has it, and only the record of that is missing: the publisher writes the record and sends nothing.
    if (settledByConfirm(group) && message.strategy === "outbox") {
      step(made);
      continue;
    }
    const depth = group === ANY_GROUP ? "unseen" : world.depth(group);
    const held = heldBack(message, group, world);
    if (depth === undefined && world.known.includes(group)) {
      // It is declared again by its consumer. Until then the group is offline, and the attempt was none.
      plan.waits.set(group, new Date(now.getTime() + offlinePauseMs(message)));
      plan.missing.push(group);
    } else if (depth === undefined) step(made);
    else if (depth !== "unseen" && (depth.ready > 0 || depth.consumers === 0))
      plan.waits.set(group, new Date(now.getTime() + message.receiptTimeoutMs));
    else if (depth === "unseen" && group !== ANY_GROUP)
      plan.waits.set(group, new Date(now.getTime() + message.backoff.initialMs));
    // It is not known whether the group was subscribed when the message went to the exchange: it gets its first attempt
    // now.
    else if (groups.includes(group)) step(made);
    // With `callback` the producer alone was told whether a queue took it.
    else if (message.strategy === "callback" && mayNeverBeSent(message, group, world)) step(made);
    else if (displacedLately(message, group, now)) step(made);
    else if (held) plan.waits.set(group, held);
    else {
      const failure = silence(message, group, made, now);
      plan.failures.push(failure);
      // The delay of the check was the pause.
      if (message.strategy === "callback" && failure.nextAt) step(made + 1);
    }
  }
  return plan;
}

/**
 * A paused group answers nothing, though a consumer that does not know of it yet may be there; after it, it gets the
 * time that it had at first. Until when it is left alone; undefined = its silence counts.
 */
function heldBack({ receiptTimeoutMs }: Message, group: string, { now, takesSince }: SweepView): Date | undefined {
  const since = takesSince?.(group);
  if (since === undefined) return undefined;
  const until = new Date((since === "never" ? now : since).getTime() + receiptTimeoutMs);
  return until > now ? until : undefined;
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
 * One publish to the exchange instead of one per group. Only if no group has answered and every group would get its
 * first attempt: so no group gets again what it has handled.
 */
export function reachesAllAtOnce({ message, steps, renamed }: SweepPlan): boolean {
  return (
    steps.length > 1 &&
    !message.groups &&
    !message.order &&
    !renamed &&
    steps.length === message.waiting.length &&
    steps.every(step => step.attempt === 1) &&
    !Object.keys(message.receipts).length &&
    !message.failed.length &&
    !message.resolved.length
  );
}
