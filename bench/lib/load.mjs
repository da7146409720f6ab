// How a load is made and what is kept of it; the same for every side.
import { performance } from "node:perf_hooks";
import { meter } from "./cpu.mjs";
import { startProfile } from "./cpuprofile.mjs";

export const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];

export function percentiles(samples) {
  const sorted = Float64Array.from(samples).sort();
  return { p50: at(sorted, 0.5), p99: at(sorted, 0.99) };
}

/**
 * Keeps `concurrency` calls of `op` going for `warmMs` + `ms`, and counts those that end in the second part; then waits
 * for the rest. Returns calls per second and their times in ms.
 */
export async function closedLoop({ concurrency, warmMs, ms, op }) {
  const from = performance.now() + warmMs;
  const to = from + ms;
  const times = [];
  let cpu;
  const timer = setTimeout(() => (cpu = process.cpuUsage()), warmMs);
  const loop = async () => {
    for (let now = performance.now(); now < to; ) {
      const started = now;
      await op();
      now = performance.now();
      if (now >= from && now < to) times.push(now - started);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, loop));
  clearTimeout(timer);
  const { user, system } = process.cpuUsage(cpu);
  return { perSecond: (times.length / ms) * 1000, ...percentiles(times), cpuMicros: (user + system) / times.length };
}

/**
 * One call after the other, with a pause between them in which everything comes to rest; `warm` others before, without
 * a pause, since code that ran a few times only is interpreted. `op` returns its time in ms.
 */
export async function oneByOne({ count, warm = 20, pauseMs, op }) {
  const times = [];
  for (let i = 0; i < warm; i++) await op();
  for (let i = 0; i < count; i++) {
    await new Promise(resolve => setTimeout(resolve, pauseMs));
    times.push(await op());
  }
  return percentiles(times);
}

/** Runs `start` for each of `count` items, at most `concurrency` at a time. */
export async function each(count, concurrency, start) {
  let next = 0;
  const loop = async () => {
    while (next < count) await start(next++);
  };
  await Promise.all(Array.from({ length: Math.min(concurrency, count) }, loop));
}

/** Counts what comes, and tells when so many have. */
export function counter() {
  let seen = 0;
  let awaited;
  return {
    add(n = 1) {
      seen += n;
      if (awaited && seen >= awaited.count) awaited.resolve();
    },
    reach: count => new Promise(resolve => (seen >= count ? resolve() : (awaited = { count, resolve })))
  };
}

/** µs in each ms, by name. */
async function idling(pids, ms) {
  const spent = meter(pids);
  await new Promise(resolve => setTimeout(resolve, ms));
  return spent(ms);
}

/**
 * From the first of `count` sends, after `warm` others, until all that came of them has `reached` its end: per second,
 * and what each cost, without what the same processes take while nothing is asked of them, measured for `idleMs` before.
 * `profile`: the file for a CPU profile of this part.
 */
export async function pipelined({ count, warm, concurrency, pids, send, reached, profile, idleMs = 0 }) {
  await Promise.all([each(warm, concurrency, send), reached(warm)]);
  const idle = idleMs ? await idling(pids, idleMs) : {};
  const profiled = profile && (await startProfile(profile));
  const from = performance.now();
  const spent = meter(pids);
  await Promise.all([each(count, concurrency, send), reached(warm + count)]);
  const ms = performance.now() - from;
  const perSecond = (count / ms) * 1000;
  const cost = Object.fromEntries(
    Object.entries(spent(count)).map(([name, micros]) => [name, micros - ((idle[name] ?? 0) * ms) / count])
  );
  await profiled?.();
  return { perSecond, cpuMicros: cost.process, cost };
}
