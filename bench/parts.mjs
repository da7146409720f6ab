// npm run bench:parts: what a message costs each part in CPU time, on servers that nothing else uses:
//   export AMQP_PORT=5790 REDIS_PORT=6490 MONGO_PORT=27190 PG_PORT=5590; test/servers/servers start
//   eval "$(test/servers/servers env)"; npm run bench:parts
// Writes the section "Cost of a message" of bench/results.md. Linux and test/servers/servers only, since it reads the
// servers' processes.
import { parseArgs } from "node:util";
import { bed, table, writeSection } from "./lib/results.mjs";
import { serverPids } from "./lib/servers.mjs";
import { runSide } from "./lib/side.mjs";
import { SHORT_CHECKS_MS } from "./lib/world.mjs";

const { values: given } = parseArgs({
  options: { rounds: { type: "string", default: "5" }, count: { type: "string", default: "10000" } }
});
const count = Number(given.count);
const pids = serverPids();

const load = { bytes: 512, prefetch: 500, count, warm: Math.ceil(count / 5), pids };
const emit = { concurrency: 1000 };
const KINDS = {
  "plain amqplib: publish, consume, ack": ["raw.pipeline", { window: 1000 }],
  "`outbox`, 1 group": ["ours.pipeline", { ...emit, strategy: "outbox" }],
  "`outbox`, 3 groups": ["ours.pipeline", { ...emit, strategy: "outbox", groups: 3 }],
  "`outbox`, 1 group, `inbox: false`": ["ours.pipeline", { ...emit, strategy: "outbox", options: { inbox: false } }],
  "`callback`, 1 group": ["ours.pipeline", { ...emit, strategy: "callback" }],
  "… and its check, which comes later": [
    "ours.pipeline",
    { ...emit, strategy: "callback", checked: true, options: { checkDelaysMs: SHORT_CHECKS_MS } }
  ]
};

const samples = new Map();
for (let round = 1; round <= Number(given.rounds); round++) {
  for (const [kind, [side, more]] of Object.entries(KINDS)) {
    const { cost } = await runSide(side, { ...load, ...more });
    console.log(`round ${round}, ${kind}:`, JSON.stringify(cost));
    samples.set(kind, [...(samples.get(kind) ?? []), cost]);
  }
}
const median = values => values.toSorted((a, b) => a - b)[values.length >> 1];
const names = ["process", ...Object.keys(pids)];
const rows = [...samples].map(([kind, costs]) => [
  kind,
  ...names.map(name => Math.round(median(costs.map(cost => cost[name])))),
  Math.round(median(costs.map(cost => names.reduce((sum, name) => sum + cost[name], 0))))
]);
writeSection(
  "## Cost of a message",
  `CPU time in µs per message of 512 B, from emit to recorded; medians of ${given.rounds} rounds of ${count.toLocaleString("en")} messages. "Node.js" is one process that emits, handles and tracks. Unlike rates, these figures depend little on what else runs.

${table(["", "Node.js", "RabbitMQ", "PostgreSQL (DocumentDB)", "its gateway", "all"], rows)}

\`npm run bench:parts\`, ${new Date().toISOString().slice(0, 10)}: ${await bed()}.`
);
console.log("Written to bench/results.md.");
