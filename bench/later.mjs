// npm run bench:later: how late what is scheduled comes to its handler, where 1,000 messages are due in the same second.
//   eval "$(test/servers/servers env)"; npm run bench:later
// Writes the section "Later" of bench/results.md. Loopback only; a minute.
import { parseArgs } from "node:util";
import { each } from "./lib/load.mjs";
import { bed, table, writeSection } from "./lib/results.mjs";
import {
  clean,
  consumerService,
  emitOf,
  emitterService,
  newNamespace,
  reliableNode,
  runtimeOf,
  subscribed,
  until
} from "./lib/world.mjs";

const { values: given } = parseArgs({
  options: { rounds: { type: "string", default: "5" }, count: { type: "string", default: "1000" } }
});
const count = Number(given.count);
/** Longer than all of them take to be stored. */
const AHEAD_MS = 6000;

const percentile = (sorted, p) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * p))];

async function round() {
  const namespace = newNamespace();
  const late = [];
  const came = ctx => void late.push(Date.now() - ctx.params.at);
  const broker = await reliableNode({
    namespace,
    services: mixin => [emitterService(mixin), consumerService(mixin, 1, came)]
  });
  try {
    await subscribed(broker, 1);
    const emit = emitOf(broker);
    const start = runtimeOf(broker).needStorage().store.now().getTime() + AHEAD_MS;
    // Over one second, as a human's "at nine o'clock" never is, and a batch job's often.
    await each(count, 200, n => {
      const at = start + Math.floor((n * 1000) / count);
      return emit({ at }, { sendAt: new Date(at) });
    });
    await until(() => late.length >= count, "all of them to be handled");
    if (late.length > count) throw new Error(`${late.length} were handled of ${count}.`);
  } finally {
    await broker.stop();
    await clean(namespace);
  }
  return late.toSorted((a, b) => a - b);
}

const rows = [];
for (let n = 1; n <= Number(given.rounds); n++) {
  const late = await round();
  const row = [0.5, 0.99, 1].map(p => Math.round(percentile(late, p)));
  console.log(`round ${n}: p50 ${row[0]} ms, p99 ${row[1]} ms, last ${row[2]} ms, earliest ${late[0]} ms`);
  if (late[0] < 0) throw new Error("One came before its instant.");
  rows.push([n, ...row]);
}
const median = column => rows.map(row => row[column]).toSorted((a, b) => a - b)[rows.length >> 1];
writeSection(
  "## Later",
  `From the instant of \`sendAt\` to the handler, ms, where ${count.toLocaleString("en")} messages are due in the same second; one process, \`sweepEveryMs\` 1000. None came before its instant. Promised: p99 within \`sweepEveryMs\` + 1 s.

${table(["round", "p50", "p99", "the last"], [...rows, ["median", median(1), `**${median(2)}**`, median(3)]])}

\`npm run bench:later\`, ${new Date().toISOString().slice(0, 10)}: ${await bed()}.`
);
console.log("Written to bench/results.md.");
process.exit();
