import { getBorderCharacters, table } from "table";
import { ANY_GROUP } from "../../message/message";
import type { ActResult } from "../acts";
import type { AuditRow, AuditStory } from "../audit-views";
import type { Forgotten } from "../forget";
import type { Health, SubscriptionRow } from "../health";
import type { Page } from "../operations";
import type { GroupRow, MessageStory } from "../story";

/** Longest text of a cell; the whole of it is in `reliable get`. */
const WIDEST = 90;
const SECOND = 1000;
const UNITS: [string, number][] = [
  ["d", 24 * 3600 * SECOND],
  ["h", 3600 * SECOND],
  ["min", 60 * SECOND],
  ["s", SECOND]
];

type Shown<T> = Omit<Page<T>, "pageSize">;

/** A number that may be "or more", since counting ended there. */
export function counted(n: unknown, capped?: boolean): string {
  return `${typeof n === "number" ? n.toLocaleString("en-US") : n}${capped ? "+" : ""}`;
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

export function grid(head: string[], rows: unknown[][]): string {
  return table([head, ...rows.map(row => row.map((value, i) => cell(value, head[i])))], {
    border: getBorderCharacters("norc"),
    drawHorizontalLine: (at, count) => at < 2 || at === count
  }).trimEnd();
}

/** Names and values, one pair a line. */
export function pairs(values: Record<string, unknown>): string {
  return grid(
    ["", ""],
    Object.entries(values).map(([name, value]) => [name, value])
  )
    .split("\n")
    .filter((_, line) => line !== 1 && line !== 2)
    .join("\n");
}

export function healthTable(health: Health): string {
  // The breakers stand in `degraded`.
  const {
    ok,
    failing,
    degraded,
    paused = [],
    breakers: _breakers,
    nodeID,
    oldestPendingMs,
    oldestUnconsumedMs,
    ...rest
  } = health;
  return [
    `Node ${nodeID}: ${ok ? "ok" : "NOT OK"}`,
    ...failing.map(text => `  failing: ${text}`),
    ...degraded.map(text => `  degraded: ${text}`),
    ...paused.map(text => `  paused: ${text}`),
    pairs({ ...rest, oldestPending: age(oldestPendingMs), oldestUnconsumed: age(oldestUnconsumedMs) })
  ].join("\n");
}

function groupsTable(groups: GroupRow[]): string {
  return grid(
    ["group", "state", "attempts", "since", "next at", "reason"],
    groups.map(({ group, state, attempts, ageMs, nextAt, reason }) => [
      ...[group === ANY_GROUP ? "(whoever subscribes)" : group, state, attempts],
      ...[age(ageMs), nextAt, reason]
    ])
  );
}

export function storyText({ timeline, groups, payload, meta, ...row }: MessageStory): string {
  const lines = timeline.map(({ at, what }) => `${at}  ${what}`);
  return [
    pairs(row as unknown as Record<string, unknown>),
    ...(groups.length ? [groupsTable(groups)] : []),
    `payload ${row.payloadDroppedAt ? `dropped at ${row.payloadDroppedAt}` : row.partial ? "not kept: strategy callback (keepCallbackBodies)" : JSON.stringify(payload)}`,
    ...(Object.keys(meta).length ? [`meta    ${JSON.stringify(meta)}`] : []),
    "",
    ...lines
  ].join("\n");
}

export const DONE = {
  retry: "retried",
  resolve: "resolved",
  discard: "discarded",
  cancel: "cancelled",
  skip: "skipped",
  replay: "sent"
};

export function actTable(
  act: keyof typeof DONE,
  { matched, done, lost, dryRun, ids, more, capped, waiting, outcomes = [] }: ActResult
): string {
  const all = Math.max(matched, outcomes.length);
  if (!all && !waiting) return "No such messages.";
  const said = dryRun
    ? `Dry run: ${matched} message(s) would be ${DONE[act]}.`
    : `${done} of ${all} message(s) ${DONE[act]}${lost ? `; ${lost} had changed meanwhile and were left alone` : ""}.`;
  return [
    said,
    ...(waiting ? [`${waiting} message(s) are still on their way to other groups, and were not discarded.`] : []),
    ...(more
      ? [
          `${counted(more, capped)} more match, beyond the limit of ${matched}: repeat it, or give --limit (10000 at most).`
        ]
      : []),
    outcomes.length
      ? grid(
          ["id", "outcome", "reason"],
          outcomes.map(({ id, outcome, reason }) => [id, outcome, reason])
        )
      : grid(
          ["id"],
          ids.map(id => [id])
        )
  ].join("\n");
}

export function subscriptionsTable(rows: SubscriptionRow[]): string {
  if (!rows.length) return "No subscriptions.";
  return grid(
    ["group", "event", "queue", "ready", "consumers", "paused", "service", "last node", "seen"],
    rows.map(row => [
      row.group,
      row.pattern,
      row.queue,
      row.ready ?? "?",
      row.consumers ?? "?",
      row.paused,
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

export function parkedTable({ rows, total, capped, page, totalPages }: Shown<Record<string, unknown>>): string {
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
    `Page ${page} of ${counted(totalPages, capped)}, ${counted(total, capped)} parked. All of one: reliable parked <id>`
  ].join("\n");
}

export function parkedText({ body, encoding, properties, headers, ...row }: Record<string, unknown>): string {
  const lines = Object.entries({ ...row, properties, headers }).map(
    ([name, value]) => `${name.padEnd(10)} ${JSON.stringify(value)}`
  );
  return [...lines, `body       ${encoding}:`, body].join("\n");
}

export function auditsTable({ rows, total, capped, page, totalPages }: Shown<AuditRow>): string {
  if (!rows.length) return total ? `No page ${page}: there are ${counted(totalPages, capped)}.` : "No audit records.";
  return [
    grid(
      ["at", "act", "by", "on", "done", "note", "id"],
      rows.map(row => [row.at, row.act, row.by, aboutText(row), doneText(row), row.note, row.auditID])
    ),
    `Page ${page} of ${counted(totalPages, capped)}, ${counted(total, capped)} act(s). All of one: reliable audits <id>`
  ].join("\n");
}

/** What an act was about. */
function aboutText({ id, parked, group, pattern, filter, event, queue, act, ...row }: AuditRow): string {
  if (group !== undefined) return `group ${group}${pattern === undefined ? "" : ` (${pattern})`}`;
  if (act === "sweep") return "";
  const what = parked ? "parked message(s)" : "message(s)";
  const of = event ?? queue;
  return id === undefined
    ? `${row["matched"]} ${what}${filter === undefined ? "" : `: ${filter}`}`
    : `${id}${of === undefined ? "" : ` (${of})`}`;
}

function doneText({ state, done, claimed, matched }: AuditRow): string {
  if (state === "begun") return "not finished";
  const count = done === undefined ? `${claimed ?? 0} claimed` : `${done} of ${matched}`;
  return state === "failed" || state === "stopped" ? `${state}: ${count}` : count;
}

export function auditText({ ids, discarded, ...row }: AuditStory): string {
  const left = discarded.map(each => [each.id, each.event ?? each.queue, each.createdAt, each.bytes, each.reason]);
  return [
    pairs(row),
    ...(left.length ? [grid(["id", "event or queue", "of", "bytes", "reason"], left)] : []),
    ...(ids.length && !left.length
      ? [
          grid(
            ["id"],
            ids.map(id => [id])
          )
        ]
      : [])
  ].join("\n");
}
