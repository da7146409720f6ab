import type { PauseResult } from "../pause";
import type { PausedRow } from "../pause-views";
import { age, grid } from "./tables";

export function pauseTable(
  act: "pause" | "resume",
  { group, pattern, since, by, note, marked, queues }: PauseResult
): string {
  const what = pattern === undefined ? `group ${group}` : `'${pattern}' of group ${group}`;
  const taking = queues.reduce((sum, { consumers }) => sum + (consumers ?? 0), 0);
  return [
    act === "pause"
      ? `Paused: ${what}. Nothing is lost, and nothing counts as failed, until it is resumed.`
      : `Resumed: ${what}; it was paused at ${since} by ${by}: ${note}`,
    ...(marked ? [] : ["RabbitMQ does not answer: it takes effect as soon as a node with a store reaches it."]),
    ...(act === "pause" && taking
      ? [
          `${taking} consumer(s) are left: their handlers still run; or they know no pauses (another language, an older version) and still take.`
        ]
      : []),
    // After a resume they come back in a moment.
    grid(
      ["event", "queue", "ready", ...(act === "pause" ? ["consumers"] : [])],
      queues.map(({ pattern: event, queue, ready, consumers }) => [
        ...[event, queue, ready ?? "?"],
        ...(act === "pause" ? [consumers ?? "?"] : [])
      ])
    )
  ].join("\n");
}

export function pausedTable(rows: PausedRow[]): string {
  if (!rows.length) return "Nothing is paused.";
  return grid(
    ["group", "event", "for", "since", "by", "note"],
    rows.map(row => [row.group, row.pattern ?? "(all)", age(row.pausedMs), row.since, row.by, row.note])
  );
}
