import { STATUSES, type Status } from "../../message/lifecycle";
import type { GroupNow } from "../groups-now";
import type { History, HistoryStep } from "../history";
import type { MessagesNow, Overview } from "../overview";
import { age, counted, grid } from "./tables";

/** The sentence first: whoever is woken reads no further if there is nothing to do. */
export function overviewText({ sentence, also, messages, groups, servers, nodes, ...rest }: Overview): string {
  const { paused, breakers, bulks, leaseHolders, nodeID, keys } = rest;
  return [
    sentence,
    ...also.map(text => `  ${text}`),
    messages ? messagesTable(messages) : "The store does not say how many messages there are.",
    ...(groups.length ? [groupsTable(groups)] : ["No group is known."]),
    grid(
      ["server", "", "away since"],
      servers.map(({ name, text, awaySinceAt }) => [name, text, awaySinceAt])
    ),
    grid(
      ["node", "is", "sweeps", "publishes", "handlers", "seen"],
      nodes.map(({ nodeID: name, kind, answers, reason, lastSeenAt, health }) => [
        ...[name, UNASKED[kind] ?? (answers ? stateOf(health) : `silent: ${reason}`)],
        ...[health?.sweeping, health?.inFlightPublishes, health?.inFlightHandlers, lastSeenAt]
      ])
    ),
    ...(leaseHolders
      ? [`Leases: ${leaseHolders.map((holder, partition) => `${partition}: ${holder ?? "nobody"}`).join(", ")}`]
      : []),
    ...paused.map(
      ({ group, pattern, sinceAt, by }) =>
        `Paused: ${group}${pattern === undefined ? "" : ` (${pattern})`} since ${isoOf(sinceAt)} by ${by}`
    ),
    ...breakers.map(({ group, nodeID: on, sinceAt }) => `Breaker open: ${group} on ${on} since ${isoOf(sinceAt)}`),
    ...heldOf(keys),
    ...bulks.map(({ id, act, state }) => `Bulk ${act} ${id}: ${state}`),
    ...hintsOf(messages),
    `Told by ${nodeID}, at most 5 s old. By minute: reliable history`
  ].join("\n");
}

/** A Date that came from another node is text. */
const isoOf = (at: Date | string) => new Date(at).toISOString();

/** Of nodes that are not asked. */
const UNASKED: Partial<Record<Overview["nodes"][number]["kind"], string>> = {
  consumer: "a consumer without a store",
  unasked: "not asked"
};

/** Shown where there is one. */
const RARE: readonly Status[] = ["scheduled", "intended", "withdrawn", "cancelled"];

function stateOf(health: Overview["nodes"][number]["health"]): string {
  if (!health) return "";
  const { ok, failing, degraded } = health;
  return ok ? ["ok", ...degraded].join("; ") : `NOT OK: ${failing.join("; ")}`;
}

function messagesTable({ byStatus, capped, oldestPendingMs, oldestUnconsumedMs, oldestDeadMs }: MessagesNow): string {
  const oldest: Record<string, number | null> = {
    pending: oldestPendingMs,
    published: oldestUnconsumedMs,
    dead: oldestDeadMs
  };
  return grid(
    ["status", "messages", "oldest"],
    STATUSES.filter(status => byStatus[status] || !RARE.includes(status)).map(status => [
      ...[status, counted(byStatus[status], capped.includes(status)), age(oldest[status])]
    ])
  );
}

function groupsTable(groups: GroupNow[]): string {
  return grid(
    ["group", "ready", "consumers", "dead", "handled/min", "failed/min", "last node", "seen"],
    groups.map(group => [
      ...[group.group, group.ready ?? "?", group.consumers ?? "?", counted(group.dead, group.deadCapped)],
      ...[group.handledPerMinute, group.failedPerMinute, group.lastNode, group.lastSeenAt]
    ])
  );
}

function heldOf(keys: Overview["keys"]): string[] {
  if (!keys?.held) return [];
  const [held, behind] = (["held", "behind"] as const).map(name => counted(keys[name], keys.capped.includes(name)));
  const wait = keys.behind ? `; ${behind} message(s) wait for their turn` : "";
  return [`Held keys: ${held}${wait}: reliable keys`];
}

function hintsOf(messages: MessagesNow | null): string[] {
  if (!messages) return [];
  const { byStatus, parked, capped } = messages;
  return [
    ...(byStatus.dead ? ["Dead messages wait for a human: reliable list --status dead"] : []),
    ...(parked
      ? [
          `${counted(parked, capped.includes("parked"))} unreadable message(s) from the wire are parked: reliable parked`
        ]
      : [])
  ];
}

export function historyTable({ fromAt, toAt, steps, total, capped }: History): string {
  const busy = steps.filter(({ times, ...step }) => COLUMNS.some(name => step[name]));
  if (!busy.length) return `Nothing was counted from ${fromAt} to ${toAt}.`;
  const lines = [...busy.map(step => [step.at, ...cellsOf(step)]), ["all", ...cellsOf(total)]];
  return [
    grid(["at", ...COLUMNS, "p50 ms", "p95 ms", "p99 ms"], lines),
    `From ${fromAt} to ${toAt}; steps in which nothing happened are left out.`,
    ...(capped ? ["There was more to read than one call reads: give a shorter time."] : [])
  ].join("\n");
}

const COLUMNS = ["emitted", "confirmed", "handled", "failed", "duplicates", "dead"] as const;

function cellsOf(step: Omit<HistoryStep, "at">): unknown[] {
  return [...COLUMNS.map(name => counted(step[name])), step.p50Ms, step.p95Ms, step.p99Ms];
}
