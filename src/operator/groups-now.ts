import { type COUNTS, type HistoryRecord, OTHER, Tally } from "../message/history";
import type { Subscription } from "../message/records";
import type { DeadGroups } from "../stores/store-records";
import type { QueueWait } from "./advice";

/** A group, now. */
export interface GroupNow {
  group: string;
  /** Of all its queues; null = RabbitMQ does not say, or there is none. */
  ready: number | null;
  consumers: number | null;
  /** Messages that it has failed for good, as far as they were looked at (`deadCapped`: there are more). */
  dead: number;
  deadCapped?: true;
  handledPerMinute: number;
  failedPerMinute: number;
  lastNode: string | null;
  /** Its last announcement. */
  lastSeenAt: string | null;
  queues: QueueWait[];
}

export interface GroupFacts {
  subscriptions: readonly Subscription[];
  /** By queue. */
  depths: ReadonlyMap<string, { ready: number; consumers: number } | null | undefined>;
  /** Queues without a consumer that a process has in its hands. */
  living: ReadonlySet<string>;
  dead: DeadGroups | undefined;
  minutes: readonly HistoryRecord[];
  /** How many minutes these are. */
  rateMinutes: number;
}

const sumOf = (numbers: (number | null)[]) => {
  const known = numbers.filter(each => each !== null);
  return known.length ? known.reduce((sum, each) => sum + each, 0) : null;
};

/** Pure: what is known of each group. One that has only dead messages left is among them. */
export function groupsNow({ subscriptions, depths, living, dead, minutes, rateMinutes }: GroupFacts): GroupNow[] {
  const tally = new Tally(Infinity);
  for (const row of minutes.flatMap(({ rows }) => rows)) tally.add({ ...row, event: OTHER });
  const counted = new Map(tally.rows.map(row => [row.group, row]));
  const names = [
    ...new Set([...subscriptions.map(({ group }) => group), ...(dead?.groups ?? []).map(({ group }) => group)])
  ];
  return names.toSorted().map(group => {
    const own = subscriptions.filter(subscription => subscription.group === group);
    const queues = own.map(({ pattern, queue }): QueueWait => {
      const depth = depths.get(queue);
      return {
        pattern,
        queue,
        ready: depth?.ready ?? null,
        consumers: depth?.consumers ?? null,
        known: depth !== undefined,
        ...(living.has(queue) && { lives: true as const })
      };
    });
    const last = own.toSorted((a, b) => b.seenAt.getTime() - a.seenAt.getTime())[0];
    const perMinute = (name: (typeof COUNTS)[number]) =>
      Math.round(((counted.get(group)?.[name] ?? 0) / rateMinutes) * 10) / 10;
    return {
      group,
      ready: sumOf(queues.map(({ ready }) => ready)),
      consumers: sumOf(queues.map(({ consumers }) => consumers)),
      dead: dead?.groups.find(each => each.group === group)?.count ?? 0,
      ...(dead?.more && { deadCapped: true as const }),
      handledPerMinute: perMinute("handled"),
      failedPerMinute: perMinute("failed"),
      lastNode: last?.nodeID ?? null,
      lastSeenAt: last?.seenAt.toISOString() ?? null,
      queues
    };
  });
}
