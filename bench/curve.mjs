// npm run bench:curve: throughput and p99 against offered load, also beyond what can be done, and cost against payload
// size and number of groups.
//   npm run bench:curve -- [--rounds 3] [--quick]
// Writes bench/load.svg, bench/cost.svg and the section "Curves" of bench/results.md.

import { writeFileSync } from "node:fs";
import os from "node:os";
import { parseArgs } from "node:util";
import { init } from "echarts";
import { bed, table, writeSection } from "./lib/results.mjs";
import { runSide } from "./lib/side.mjs";
import { overload } from "./rows-overload.mjs";

const { values: given } = parseArgs({ options: { rounds: { type: "string" }, quick: { type: "boolean" } } });
const { quick = false } = given;
const rounds = Number(given.rounds ?? (quick ? 1 : 3));
const STRATEGIES = ["outbox", "callback"];
const TIMES = quick ? [0.5, 2] : [0.5, 1, 2, 4];
const SIZES = quick ? [100, 10_000] : [100, 512, 2_000, 10_000, 50_000, 200_000];
const GROUPS = quick ? [1, 3] : [1, 3, 10];

const load = [os.loadavg()[0]];
const median = values => values.toSorted((a, b) => a - b)[values.length >> 1];
const round = (value, digits = 0) => Number(value.toFixed(digits));

const medians = all =>
  Object.fromEntries(Object.keys(all[0]).map(name => [name, median(all.map(sample => Number(sample[name])))]));

/** By strategy and x, the medians of the rounds; the rounds go through all points in turn. */
async function measure(points, run) {
  const samples = new Map();
  for (let n = 1; n <= rounds; n++) {
    for (const x of points) {
      for (const strategy of STRATEGIES) {
        const sample = await run(strategy, x);
        load.push(os.loadavg()[0]);
        const key = `${strategy} ${x}`;
        samples.set(key, [...(samples.get(key) ?? []), sample]);
        console.log(`round ${n}, ${strategy}, ${x}:`, JSON.stringify(sample));
      }
    }
  }
  return STRATEGIES.flatMap(strategy =>
    points.map(x => ({ strategy, x, ...medians(samples.get(`${strategy} ${x}`)) }))
  );
}

/** So many times what was sustainable just before, in the same process: asked by a process of its own. */
async function measureLoad() {
  const samples = new Map();
  for (let n = 1; n <= rounds; n++) {
    for (const strategy of STRATEGIES) {
      const { sustainable, results } = await overload(runSide, strategy, {
        quick,
        times: TIMES,
        ...(!quick && { ms: 20_000 })
      });
      load.push(os.loadavg()[0]);
      for (const { factor, offered, handled, accepted, refused, p50, p99 } of results) {
        const sample = { times: factor, offered, handled, goodput: handled / sustainable, p50, p99 };
        const key = `${strategy} ${factor}`;
        samples.set(key, [...(samples.get(key) ?? []), { ...sample, refused: refused / (accepted + refused) }]);
        console.log(`round ${n}, ${strategy}, ${factor} times:`, JSON.stringify(sample));
      }
    }
  }
  return STRATEGIES.flatMap(strategy =>
    TIMES.map(factor => ({ strategy, x: factor, ...medians(samples.get(`${strategy} ${factor}`)) }))
  );
}

const byLoad = await measureLoad();
const pipeline = (strategy, more) =>
  runSide("ours.pipeline", {
    strategy,
    bytes: 512,
    concurrency: 200,
    prefetch: 200,
    ...(quick ? { count: 300, warm: 50 } : { count: 3000, warm: 500 }),
    ...more
  });
const cost = async (strategy, more) => {
  const { perSecond, cpuMicros } = await pipeline(strategy, more);
  return { perSecond, cpuMicros };
};
const bySize = await measure(SIZES, (strategy, bytes) => cost(strategy, { bytes }));
const byGroups = await measure(GROUPS, (strategy, groups) => cost(strategy, { groups }));

const COLORS = { outbox: "#1f77b4", callback: "#d9730d" };
const text = { fontFamily: "sans-serif", color: "#333" };

/** Two plots side by side, a line per strategy in each. */
function chart(file, title, plots) {
  const echarts = init(null, null, { renderer: "svg", ssr: true, width: 1000, height: 420 });
  echarts.setOption({
    animation: false,
    backgroundColor: "#fff",
    title: { text: title, left: "center", textStyle: { ...text, fontSize: 16 } },
    legend: { bottom: 0, data: STRATEGIES, textStyle: text },
    grid: [
      { left: 80, width: 380, top: 70, bottom: 80 },
      { left: 580, width: 380, top: 70, bottom: 80 }
    ],
    xAxis: plots.map(({ x }, i) => ({
      gridIndex: i,
      type: "log",
      name: x,
      nameLocation: "middle",
      nameGap: 28,
      nameTextStyle: text
    })),
    yAxis: plots.map(({ y, log }, i) => ({
      gridIndex: i,
      type: log ? "log" : "value",
      name: y,
      nameTextStyle: { ...text, align: "left" }
    })),
    series: plots.flatMap(({ data, of, digits = 1 }, i) =>
      STRATEGIES.map(strategy => ({
        name: strategy,
        type: "line",
        xAxisIndex: i,
        yAxisIndex: i,
        color: COLORS[strategy],
        symbolSize: 7,
        data: data.filter(point => point.strategy === strategy).map(point => [point.x, round(point[of], digits)])
      }))
    )
  });
  writeFileSync(new URL(file, import.meta.url), echarts.renderToSVGString());
  echarts.dispose();
}

if (!quick) {
  chart("load.svg", "Asked for more and more, 512 B, one group, one node", [
    { x: "offered ÷ sustainable", y: "goodput: handled ÷ sustainable", data: byLoad, of: "goodput", digits: 2 },
    { x: "offered ÷ sustainable", y: "accepted ones, due → handler, p99 in ms", data: byLoad, of: "p99", log: true }
  ]);
  chart("cost.svg", "Consumed and recorded per second", [
    { x: "payload in bytes", y: "messages per second", data: bySize, of: "perSecond" },
    { x: "groups", y: "messages per second", data: byGroups, of: "perSecond" }
  ]);
  const rowsOf = (points, ...names) =>
    points.map(point => [
      point.strategy,
      point.x.toLocaleString("en"),
      ...names.map(name => (point[name] >= 10 ? round(point[name]).toLocaleString("en") : round(point[name], 1)))
    ]);
  writeSection(
    "## Curves",
    `${rounds === 1 ? "One round" : `Medians of ${rounds} rounds`}, one process with everything in it. Asked over a socket by a process of its own, in an open loop of so many times what the same process has handled just before with 1,000 messages on their way; what it cannot finish it refuses ([Overload](../docs/guide/operating.md#overload)).

${table(
  ["strategy", "offered ÷ sustainable", "offered /s", "handled /s", "goodput", "refused", "p50 ms", "p99 ms"],
  byLoad.map(({ strategy, x, offered, handled, goodput, refused, p50, p99 }) => [
    strategy,
    x,
    ...[offered, handled].map(value => round(value).toLocaleString("en")),
    round(goodput, 2),
    `${round(refused * 100)} %`,
    round(p50),
    round(p99)
  ])
)}

Emitted, handled and recorded as fast as 200 waiting callers can; CPU is that of the process, not of the servers.

${table(["strategy", "payload B", "messages /s", "CPU µs each"], rowsOf(bySize, "perSecond", "cpuMicros"))}

${table(["strategy", "groups", "messages /s", "CPU µs each"], rowsOf(byGroups, "perSecond", "cpuMicros"))}

![Handled per second and p99 against offered load](load.svg)

![Messages per second against payload size and number of groups](cost.svg)

\`npm run bench:curve\`, ${new Date().toISOString().slice(0, 10)}: ${await bed()}; load average ${Math.min(...load).toFixed(0)} – ${Math.max(...load).toFixed(0)}.`
  );
  console.log("Written to bench/results.md, bench/load.svg and bench/cost.svg.");
}

// ECharts leaves a timer running.
process.exit();
