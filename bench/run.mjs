// npm run bench: what the library costs, as ratios measured side by side in one run, in interleaved rounds.
//   npm run bench -- [--only P1,P3] [--rounds 5] [--quick] [--profile]
// Writes the section "Ratios" of bench/results.md, but for --quick and --profile (which leaves CPU profiles in
// bench/profiles).
import os from "node:os";
import { parseArgs } from "node:util";
import { bed, readSection, table, writeSection } from "./lib/results.mjs";
import { runSide } from "./lib/side.mjs";
import { rows } from "./rows.mjs";

const HEADING = "## Ratios";
const { values: given } = parseArgs({
  options: {
    only: { type: "string" },
    rounds: { type: "string" },
    quick: { type: "boolean" },
    profile: { type: "boolean" }
  }
});
const { quick = false, profile = false } = given;
const rounds = Number(given.rounds ?? (quick ? 1 : 5));
const only = given.only?.split(",");
const unknown = only?.find(id => !rows.some(row => row.id === id));
if (unknown || !Number.isInteger(rounds) || rounds < 1)
  throw new Error(
    unknown
      ? `There is no row ${unknown}: ${rows.map(row => row.id).join(", ")}.`
      : "--rounds is a number of rounds, from 1."
  );

const median = values => {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
};
const short = value =>
  value <= 0
    ? String(Number(value.toFixed(1)))
    : value >= 100
      ? Math.round(value).toLocaleString("en")
      : value >= 10
        ? value.toFixed(1)
        : value >= 0.1
          ? value.toFixed(2)
          : value.toFixed(4);
const spread = values =>
  values.length > 1 ? `${short(Math.min(...values))} – ${short(Math.max(...values))}` : "one round";

/** One line of the table from what its rounds have brought. */
function lineOf(id, samples) {
  const [{ what, target, ours, theirs }] = samples;
  const ratios = samples.map(({ ratio }) => ratio);
  const ratio = median(ratios);
  const reached =
    target === undefined
      ? "stated"
      : (target.atLeast !== undefined ? ratio >= target.atLeast : ratio <= target.atMost)
        ? "yes"
        : "no";
  const wanted =
    target === undefined ? "–" : target.atLeast !== undefined ? `≥ ${target.atLeast}` : `≤ ${target.atMost}`;
  const aim = target?.aim === undefined ? "–" : target.atLeast !== undefined ? `≥ ${target.aim}` : `≤ ${target.aim}`;
  const figure = of => (of ? `${short(median(samples.map(sample => sample[of].value)))} ${samples[0][of].unit}` : "–");
  return [
    id,
    what,
    figure(ours && "ours"),
    figure(theirs && "theirs"),
    `**${short(ratio)}**`,
    spread(ratios),
    wanted,
    aim,
    reached
  ];
}

const HEAD = [
  "",
  "measure",
  "ours",
  "peer",
  "ratio (median)",
  "spread",
  "must reach",
  "aim",
  "reached",
  "rounds",
  "load average"
];

/** Written after each row; the lines of rows that are not measured in this run stay. */
async function save(lines) {
  const before = readSection(HEADING).split("\n");
  const kept = id => before.filter(line => line.startsWith(`| ${id} |`)).map(line => line.slice(2, -2).split(" | "));
  const all = rows.flatMap(({ id }) =>
    lines.some(line => line[0] === id) ? lines.filter(line => line[0] === id) : kept(id)
  );
  const notes = rows.map(({ id, note }) => `- ${id}: ${note}`).join("\n");
  writeSection(
    HEADING,
    `512 B of payload, quorum queues, persistent + mandatory + confirmed publishes, \`noDelay\`; each side of a round is a process of its own, the sides of a ratio take turns. Figures are medians of the rounds; the spread is that of the ratio.
Only the ratios mean something beyond this machine: the servers, both sides and whatever else ran shared its cores. The load average is that of the row's rounds.

${table(HEAD, all)}

${notes}

\`npm run bench\`, last on ${new Date().toISOString().slice(0, 10)} (${lines
      .map(line => line[0])
      .filter((id, i, ids) => ids.indexOf(id) === i)
      .join(", ")}): ${await bed()}; servers and benchmark on the same machine.`
  );
}

async function measure(row) {
  const collected = new Map();
  const load = [os.loadavg()[0]];
  const world = { quick, run: (side, params, options) => runSide(side, params, { profile, ...options }) };
  const prepared = await row.prepare?.(world);
  try {
    for (let round = 1; round <= rounds; round++) {
      const started = performance.now();
      const samples = await row.round({ ...world, ...prepared, round });
      load.push(os.loadavg()[0]);
      for (const sample of samples) collected.set(sample.what, [...(collected.get(sample.what) ?? []), sample]);
      console.log(
        `${row.id} round ${round} of ${rounds}, ${((performance.now() - started) / 1000).toFixed(0)} s: ${samples.map(({ what, ratio }) => `${what} ${short(ratio)}`).join("; ")}`
      );
    }
  } finally {
    await prepared?.end?.();
  }
  const loads = `${Math.min(...load).toFixed(0)} – ${Math.max(...load).toFixed(0)}`;
  return [...collected.values()].map(samples => [...lineOf(row.id, samples), samples.length, loads]);
}

const lines = [];
const failed = [];
for (const row of rows.filter(({ id }) => !only || only.includes(id))) {
  // A row that cannot be measured here (no network for the peers, servers of another kind) takes no other along.
  try {
    lines.push(...(await measure(row)));
  } catch (error) {
    failed.push(row.id);
    console.error(`\n${row.id} IS NOT MEASURED:`, error, "\n");
    continue;
  }
  if (!quick && !profile) await save(lines);
}
console.log(`\n${table(HEAD, lines)}\n`);
if (!quick && !profile && lines.length) console.log("Written to bench/results.md.");
if (failed.length) {
  console.error(`NOT MEASURED: ${failed.join(", ")}. Their lines in bench/results.md are those of an earlier run.`);
  process.exitCode = 1;
}
