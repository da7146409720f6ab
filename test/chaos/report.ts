import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import type { Outcome } from "./run";

export interface ReportOptions {
  seed: number;
  messages: number;
  /** Of how many faults, if not of some by name. */
  of?: number | undefined;
  clustered?: boolean;
}

const COLUMNS = [
  "fault",
  "promised",
  "lost",
  "delivered again",
  "handled twice, inbox on",
  "… around the crash",
  "effects twice, in transaction",
  "dead",
  "recovered in"
];

const versionOf = (name: string): string =>
  (JSON.parse(readFileSync(`node_modules/${name}/package.json`, "utf8")) as { version: string }).version;

/** The table of `results.md` and of the guide, in Markdown. */
export function report(outcomes: Outcome[], { seed, messages, of, clustered = false }: ReportOptions): string {
  const rows = outcomes.map(({ title, verdict: v, complaints }) => [
    title + (complaints.length ? " (**broken**)" : ""),
    v.promised,
    v.lost.length,
    v.redelivered,
    v.twice.length,
    v.between,
    v.doubled.length,
    v.dead,
    `${(v.recoverMs / 1000).toFixed(1)} s`,
    ...(clustered ? [`${(v.pauseMs / 1000).toFixed(1)} s`] : [])
  ]);
  const sum = (pick: (outcome: Outcome) => number) => outcomes.reduce((total, outcome) => total + pick(outcome), 0);
  rows.push([
    "**all**",
    sum(({ verdict }) => verdict.promised),
    sum(({ verdict }) => verdict.lost.length),
    sum(({ verdict }) => verdict.redelivered),
    sum(({ verdict }) => verdict.twice.length),
    sum(({ verdict }) => verdict.between),
    sum(({ verdict }) => verdict.doubled.length),
    sum(({ verdict }) => verdict.dead),
    "",
    ...(clustered ? [""] : [])
  ]);
  const columns = clustered ? [...COLUMNS, "nothing handled for"] : COLUMNS;
  const line = (cells: (string | number)[]) => `| ${cells.join(" | ")} |`;
  const line0 = outcomes[0]?.line ?? "0.15";
  return `${line(columns)}
${line(columns.map((_, i) => (i ? "--:" : "---")))}
${rows.map(line).join("\n")}

${clustered ? notesOf(outcomes) : ""}\`npm run faults -- ${clustered ? "--cluster " : ""}${of ? "" : `--only ${outcomes.map(({ fault }) => fault).join(",")} `}--seed ${seed}\`: ${of && of > outcomes.length ? `${outcomes.length} of ${of} faults so far, ` : ""}${Math.round(sum(({ seconds }) => seconds) / 60)} min on ${execFileSync("nproc", { encoding: "utf8" }).trim()} cores; at least ${messages} emits a run; commit ${[...new Set(outcomes.map(({ commit }) => commit))].join(", ")}, Node ${process.versions.node},
Moleculer ${versionOf(line0 === "0.14" ? "moleculer-014" : "moleculer")}, amqplib ${versionOf("amqplib")}, mongodb ${versionOf("mongodb")}, ioredis ${versionOf("ioredis")}; RabbitMQ 4.3, Redis 8, DocumentDB on PostgreSQL 18 behind \`test/servers/gateway.mjs\`.
`;
}

/** What each row has seen beside the figures. */
function notesOf(outcomes: Outcome[]): string {
  const seen = outcomes.filter(({ notes }) => notes.length);
  return `${seen.map(({ title, notes }) => `- ${title}: ${notes.join("; ")}`).join("\n")}\n\n`;
}
