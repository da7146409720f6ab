import { getBorderCharacters, table } from "table";
import { STATUSES } from "../../message/lifecycle";
import type { Forgotten } from "../forget";
import type { Health, SubscriptionRow } from "../health";
import type { ActResult } from "../operations";
import type { MessageRow, MessageStory } from "../views";

/** Longest text of a cell; the whole of it is in `reliable get`. */
const WIDEST = 90;
const SECOND = 1000;
const UNITS: [string, number][] = [
  ["d", 24 * 3600 * SECOND],
  ["h", 3600 * SECOND],
  ["min", 60 * SECOND],
  ["s", SECOND]
];

interface Page<T> {
  rows: T[];
  total: number;
  page: number;
  totalPages: number;
}

/** An age in its largest unit: 850 ms, 12 s, 3 min, 5 h, 2 d. */
export function age(ms: unknown): string {
  if (typeof ms !== "number") return "";
  const unit = UNITS.find(([, size]) => ms >= size);
  return unit ? `${Math.floor(ms / unit[1])} ${unit[0]}` : `${Math.max(0, Math.round(ms))} ms`;
}

/** A cell: one line, without control characters, which `table` refuses. Ids are whole, since they are to be copied. */
function cell(value: unknown, column?: unknown): string {
  const text = value === undefined || value === null ? "" : String(value).replace(/\p{Cc}+/gu, " ");
  return text.length > WIDEST && column !== "id" ? `${text.slice(0, WIDEST - 1)}…` : text;
}

function grid(head: string[], rows: unknown[][]): string {
  return table([head, ...rows.map(row => row.map((value, i) => cell(value, head[i])))], {
    border: getBorderCharacters("norc"),
    drawHorizontalLine: (at, count) => at < 2 || at === count
  }).trimEnd();
}

/** Names and values, one pair a line. */
function pairs(values: Record<string, unknown>): string {
  return grid(
    ["", ""],
    Object.entries(values).map(([name, value]) => [name, value])
  )
    .split("\n")
    .filter((_, line) => line !== 1 && line !== 2)
    .join("\n");
}

export function overviewTable(stats: Record<string, unknown>, health: Health): string {
  const oldest: Record<string, unknown> = {
    pending: stats["oldestPendingMs"],
    published: stats["oldestUnconsumedMs"],
    dead: stats["oldestDeadMs"]
  };
  const messages = grid(
    ["status", "messages", "oldest"],
    STATUSES.filter(status => stats[status] || (status !== "intended" && status !== "withdrawn")).map(status => [
      status,
      stats[status] ?? 0,
      age(oldest[status])
    ])
  );
  const hints = [
    ...(stats["dead"] ? ["Dead messages wait for a human: reliable list --status dead"] : []),
    ...(stats["parkedMessages"]
      ? [`${stats["parkedMessages"]} unreadable message(s) from the wire are parked: reliable parked`]
      : [])
  ];
  return [messages, healthTable(health), ...hints].join("\n");
}

export function healthTable(health: Health): string {
  const { ok, failing, degraded, nodeID, oldestPendingMs, oldestUnconsumedMs, ...rest } = health;
  return [
    `Node ${nodeID}: ${ok ? "ok" : "NOT OK"}`,
    ...failing.map(text => `  failing: ${text}`),
    ...degraded.map(text => `  degraded: ${text}`),
    pairs({ ...rest, oldestPending: age(oldestPendingMs), oldestUnconsumed: age(oldestUnconsumedMs) })
  ].join("\n");
}

export function listTable({ rows, total, page, totalPages }: Page<MessageRow>): string {
  if (!rows.length) return total ? `No page ${page}: there are ${totalPages}.` : "No messages.";
  const lines = rows.map(row => [
    row.id,
    row.event,
    row.status,
    row.waiting,
    row.handled,
    `${row.attempts}/${row.maxAttempts}`,
    age(row.ageMs),
    row.reason
  ]);
  return [
    grid(["id", "event", "status", "waiting for", "handled by", "attempts", "age", "reason"], lines),
    `Page ${page} of ${totalPages}, ${total} message(s).`
  ].join("\n");
}

export function storyText({ timeline, payload, meta, ...row }: MessageStory): string {
  const lines = timeline.map(({ at, what }) => `${at}  ${what}`);
  return [
    pairs(row as unknown as Record<string, unknown>),
    `payload ${JSON.stringify(payload)}`,
    ...(Object.keys(meta).length ? [`meta    ${JSON.stringify(meta)}`] : []),
    "",
    ...lines
  ].join("\n");
}

const DONE = { retry: "retried", resolve: "resolved", discard: "discarded" };

export function actTable(act: keyof typeof DONE, { matched, done, lost, dryRun, ids, more }: ActResult): string {
  if (!matched) return "No such messages.";
  const said = dryRun
    ? `Dry run: ${matched} message(s) would be ${DONE[act]}.`
    : `${done} of ${matched} message(s) ${DONE[act]}${lost ? `; ${lost} had changed meanwhile and were left alone` : ""}.`;
  return [
    said,
    ...(more
      ? [`${more} more match, beyond the limit of ${matched}: repeat it, or give --limit (10000 at most).`]
      : []),
    grid(
      ["id"],
      ids.map(id => [id])
    )
  ].join("\n");
}

export function subscriptionsTable(rows: SubscriptionRow[]): string {
  if (!rows.length) return "No subscriptions.";
  return grid(
    ["group", "event", "queue", "ready", "consumers", "service", "last node", "seen"],
    rows.map(row => [
      row.group,
      row.pattern,
      row.queue,
      row.ready ?? "?",
      row.consumers ?? "?",
      row.service,
      row.lastNode,
      row.seenAt
    ])
  );
}

export function countsTable(counts: Record<string, unknown>): string {
  return pairs(counts);
}

export function forgottenTable({ group, messages, queues, living, dryRun }: Forgotten): string {
  const lines = [
    ...queues.map(({ pattern, queue, ready }) => [
      pattern,
      queue,
      ready ? `unbound, ${ready} message(s) left` : "gone"
    ]),
    ...living.map(({ pattern, queue, consumers }) => [pattern, queue, `left: ${consumers} consumer(s)`])
  ];
  return [
    `${dryRun ? "Would release" : "Released"} ${messages} message(s) of group ${group}.`,
    ...(lines.length ? [grid(["pattern", "queue", dryRun ? "now" : "is"], lines)] : [])
  ].join("\n");
}

export function parkedTable({ rows, total, page, totalPages }: Page<Record<string, unknown>>): string {
  if (!rows.length) return "Nothing is parked.";
  const body = (row: Record<string, unknown>) =>
    `${row["encoding"] === "base64" ? "base64: " : ""}${row["body"]}${row["cut"] ? "…" : ""}`;
  return [
    grid(
      ["id", "at", "queue", "reason", "bytes", "body"],
      rows.map(row => [row["id"], row["at"], row["queue"], row["reason"], row["bytes"], body(row)])
    ),
    ...rows
      .filter(row => row["sha256"] !== undefined)
      .map(
        row => `Only the beginning is kept of ${cell(row["id"], "id")}: ${row["bytes"]} bytes, SHA-256 ${row["sha256"]}`
      ),
    `Page ${page} of ${totalPages}, ${total} parked. All of one: reliable parked <id>`
  ].join("\n");
}

export function parkedText({ body, encoding, properties, headers, ...row }: Record<string, unknown>): string {
  const lines = Object.entries({ ...row, properties, headers }).map(
    ([name, value]) => `${name.padEnd(10)} ${JSON.stringify(value)}`
  );
  return [...lines, `body       ${encoding}:`, body].join("\n");
}

export function auditsTable(rows: Record<string, unknown>[]): string {
  if (!rows.length) return "No audit records.";
  return grid(
    ["at", "act", "by", "id", "group", "event", "queue", "note"],
    rows.map(row => [
      row["at"],
      row["act"],
      row["by"],
      row["id"],
      row["group"],
      row["event"],
      row["queue"],
      row["note"]
    ])
  );
}
