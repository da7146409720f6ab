import { baseGroup } from "./pattern";
import { queueGroup, queueTargetOf } from "./queue-target";
import type { Pause, Subscription } from "./records";

/** The group as a pause names it, of the name under which one of its handlers answers, or one of a queue for jobs. */
export function pausableGroup(group: string): string {
  const target = queueTargetOf(group);
  // Whatever settles a job, its queue has one kind of workers.
  return target ? queueGroup({ ...target, settle: "receipt" }) : baseGroup(group);
}

/** Whether the pause is of this handler of a group. */
export function pauses(
  { group, pattern }: Pick<Pause, "group" | "pattern">,
  sub: Pick<Subscription, "group" | "pattern">
) {
  return baseGroup(sub.group) === group && (pattern === undefined || sub.pattern === pattern);
}

/** As an operator names it: `stock`, or `stock 'order.created'` for one of its patterns. */
export function pausedName({ group, pattern }: Pick<Pause, "group" | "pattern">): string {
  return pattern === undefined ? group : `${group} '${pattern}'`;
}

export function pauseText({ group, pattern, at, by, note }: Pause): string {
  return `${pausedName({ group, ...(pattern !== undefined && { pattern }) })}, since ${at.toISOString()} by ${by}: ${note}`;
}
