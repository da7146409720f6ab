// npm run bench:profile: where the time of the process goes under the load of P3, as a flame graph and by package.
//   npm run bench:profile -- [--out bench/flame.svg] [--strategy callback] [--count 20000]
// The profile itself is left beside the SVG's name in bench/profiles, for the tools of Chrome and VS Code.
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { byOwner, callTree } from "./lib/cpuprofile.mjs";
import { flameGraph } from "./lib/flame.mjs";
import { table } from "./lib/results.mjs";
import { runSide } from "./lib/side.mjs";

const { values: given } = parseArgs({
  options: {
    out: { type: "string", default: "bench/flame.svg" },
    strategy: { type: "string", default: "outbox" },
    count: { type: "string", default: "20000" }
  }
});
const { out, strategy } = given;
const count = Number(given.count);
const folder = fileURLToPath(new URL("profiles", import.meta.url));
mkdirSync(folder, { recursive: true });
const file = `${folder}/${basename(out, ".svg")}.cpuprofile`;

const load = { bytes: 512, concurrency: 1000, prefetch: 500, count, warm: Math.ceil(count / 4) };
const { cpuMicros, perSecond } = await runSide("ours.pipeline", { ...load, strategy, profile: file });
const profile = JSON.parse(readFileSync(file, "utf8"));
const tree = callTree(profile);
const title = `${strategy}: ${cpuMicros.toFixed(0)} µs of the process a message (${count.toLocaleString("en")} of 512 B, 1000 emits at a time, prefetch 500), ${new Date().toISOString().slice(0, 10)}, load average ${os.loadavg()[0].toFixed(0)}`;
writeFileSync(out, flameGraph(tree, title, cpuMicros));

const rows = byOwner(profile).map(({ owner, micros }) => {
  const share = micros / tree.micros;
  return [owner, (share * cpuMicros).toFixed(1), `${(share * 100).toFixed(1)} %`];
});
console.log(`${title}\n\n${table(["self time", "µs a message", "share"], rows)}\n`);
console.log(
  `Shares are the profile's; µs are shares of the process's CPU time by the system's count, in which the profiler is too.
${Math.round(perSecond).toLocaleString("en")} messages/s. Written: ${out}, ${file}`
);
