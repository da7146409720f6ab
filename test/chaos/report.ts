import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import type { Outcome } from "./run";

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
export function report(
  outcomes: Outcome[],
  { seed, messages, of }: { seed: number; messages: number; of?: number }
): string {
  const rows = outcomes.map(({ title, verdict: v, complaints }) => [
    title + (complaints.length ? " (**broken**)" : ""),
    v.promised,
    v.lost.length,
    v.redelivered,
    v.twice.length,
    v.between,
    v.doubled.length,
    v.dead,
    `${(v.recoverMs / 1000).toFixed(1)} s`
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
    ""
  ]);
  const line = (cells: (string | number)[]) => `| ${cells.join(" | ")} |`;
  const line0 = outcomes[0]?.line ?? "0.15";
  return `${line(COLUMNS)}
${line(COLUMNS.map((_, i) => (i ? "--:" : "---")))}
${rows.map(line).join("\n")}

\`npm run faults -- ${of ? "" : `--only ${outcomes.map(({ fault }) => fault).join(",")} `}--seed ${seed}\`: ${of && of > outcomes.length ? `${outcomes.length} of ${of} faults so far, ` : ""}${Math.round(sum(({ seconds }) => seconds) / 60)} min on ${execFileSync("nproc", { encoding: "utf8" }).trim()} cores; at least ${messages} emits a run; commit ${[...new Set(outcomes.map(({ commit }) => commit))].join(", ")}, Node ${process.versions.node},
Moleculer ${versionOf(line0 === "0.14" ? "moleculer-014" : "moleculer")}, amqplib ${versionOf("amqplib")}, mongodb ${versionOf("mongodb")}, ioredis ${versionOf("ioredis")}; RabbitMQ 4.3, Redis 8, DocumentDB on PostgreSQL 18 behind \`test/servers/gateway.mjs\`.
`;
}
