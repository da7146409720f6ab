// npm run bench:order: what an order key costs, against the same emits without one, in the same round.
//   eval "$(test/servers/servers env)"; npm run bench:order
// Writes the section "In order" of bench/results.md. Loopback only; some ten minutes.
import { parseArgs } from "node:util";
import { bed, table, writeSection } from "./lib/results.mjs";
import { serverPids } from "./lib/servers.mjs";
import { inTurn, runSide } from "./lib/side.mjs";

const { values: given } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    count: { type: "string", default: "10000" },
    keys: { type: "string", default: "1000,100000,10,1" },
    behind: { type: "string", default: "100000" },
    /** Of the figures that are no bar. */
    "other-rounds": { type: "string", default: "1" },
    quick: { type: "boolean", default: false }
  }
});
const count = given.quick ? 500 : Number(given.count);
const load = { bytes: 512, strategy: "outbox", concurrency: 1000, prefetch: 500, count, warm: Math.ceil(count / 10) };
const [bar, ...others] = given.keys.split(",").map(Number);
const named = keys => `${keys.toLocaleString("en")} key${keys === 1 ? "" : "s"}`;
const rounded = n => Math.round(n).toLocaleString("en");
const spread = ratios => `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`;
const median = list => list.toSorted((a, b) => a - b)[list.length >> 1];

let pids;
try {
  pids = serverPids();
} catch {
  // Servers that test/servers/servers has not started: their share is not told.
}

/** Both sides, by turns; few of one key would take for ever. */
async function round(n, keys) {
  const most = keys < 1000 ? Math.min(count, keys * 500) : count;
  const mine = { ...load, count: most, warm: Math.ceil(most / 10), pids };
  const { ordered, plain } = await inTurn(n, {
    plain: () => runSide("ours.pipeline", mine),
    ordered: () => runSide("ours.pipeline", { ...mine, orderKeys: keys })
  });
  const ratio = ordered.perSecond / plain.perSecond;
  console.log(`${named(keys)}: ${rounded(ordered.perSecond)}/s ÷ ${rounded(plain.perSecond)}/s = ${ratio.toFixed(2)}`);
  return { ordered, plain, ratio };
}

const costs = [];
const rows = [];
for (const keys of [bar, ...others]) {
  const rounds = [];
  const wanted = given.quick ? 1 : Number(keys === bar ? given.rounds : given["other-rounds"]);
  for (let n = 1; n <= wanted; n++) rounds.push(await round(n, keys));
  const ratios = rounds.map(({ ratio }) => ratio);
  const rate = side => rounded(median(rounds.map(each => each[side].perSecond)));
  rows.push([named(keys), rate("ordered"), rate("plain"), `**${median(ratios).toFixed(2)}**`, spread(ratios), wanted]);
  if (keys !== bar) continue;
  for (const side of ["plain", "ordered"])
    for (const [name, micros] of Object.entries(rounds.at(-1)[side].cost)) costs.push([side, name, rounded(micros)]);
}

const commands = {};
for (const [side, orderKeys] of [["plain"], ["ordered", bar]])
  commands[side] = await runSide("ours.operations", { ...load, count: Math.min(count, 5000), orderKeys });
for (const [side, { perMessage, commands: of }] of Object.entries(commands))
  console.log(`${side}: ${perMessage.toFixed(3)} commands a message`, JSON.stringify(of));

const held = { none: [], many: [] };
const behind = given.quick ? 1000 : Number(given.behind);
for (let n = 1; n <= (given.quick ? 1 : 3); n++) {
  const passes = given.quick ? 1 : 5;
  const { none, many } = await inTurn(n, {
    none: () => runSide("order.sweeps", { behind: 0, due: 1000, passes }),
    many: () => runSide("order.sweeps", { behind, due: 1000, passes })
  });
  held.none.push(none.ms);
  held.many.push(many.ms);
  console.log(`a sweep: ${many.ms.toFixed(0)} ms ÷ ${none.ms.toFixed(0)} ms = ${(many.ms / none.ms).toFixed(2)}`);
}
const heldRatios = held.many.map((ms, i) => ms / held.none[i]);

if (!given.quick) {
  writeSection(
    "## In order",
    `From the first emit to the last message that is \`consumed\`, ${count.toLocaleString("en")} messages (500 of each key where there are fewer than 1,000 keys), 1,000 emits at a time, one process; with an order key against none, by turns in the same run. Promised: at least half with 1,000 keys.

${table(["keys", "ordered, /s", "unordered, /s", "ratio", "spread", "rounds"], rows)}

CPU, µs a message, with ${named(bar)}: ${["plain", "ordered"].map(side => `${side === "plain" ? "unordered" : "ordered"} ${costs.flatMap(([of, name, micros]) => (of === side ? `${name} ${micros}` : [])).join(", ")}`).join("; ")}. Store commands a message: ${commands.ordered.perMessage.toFixed(3)} against ${commands.plain.perMessage.toFixed(3)}.

A sweep of 1,000 due messages and a look at the lanes, with ${behind.toLocaleString("en")} rows behind one that is dead ÷ with none: **${median(heldRatios).toFixed(2)}** (${spread(heldRatios)}); at most 1.2 is promised.

\`npm run bench:order\`, ${new Date().toISOString().slice(0, 10)}: ${await bed()}.`
  );
  console.log("Written to bench/results.md.");
}
process.exit();
