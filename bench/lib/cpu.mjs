// CPU time of servers on this Linux machine, by process id, their children included: a figure that other load hardly
// changes.
import { readdirSync, readFileSync } from "node:fs";

const TICKS_PER_S = 100;

function statOf(pid) {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    // Own time, and that of children that have ended.
    return { parent: Number(fields[1]), ticks: fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0) };
  } catch {
    return undefined;
  }
}

/** Seconds, by name. */
export function cpuOf(pids) {
  const all = new Map(readdirSync("/proc").flatMap(name => (/^\d+$/.test(name) ? [[Number(name), statOf(name)]] : [])));
  const ticks = pid =>
    (all.get(pid)?.ticks ?? 0) +
    [...all].reduce((sum, [child, stat]) => sum + (stat?.parent === pid ? ticks(child) : 0), 0);
  return Object.fromEntries(
    Object.entries(pids).map(([name, ids]) => [name, ids.reduce((sum, pid) => sum + ticks(pid), 0) / TICKS_PER_S])
  );
}

/** Counts from now on; the returned function tells µs per message, by name. */
export function meter(pids = {}) {
  const from = cpuOf(pids);
  const own = process.cpuUsage();
  return count => {
    const to = cpuOf(pids);
    const { user, system } = process.cpuUsage(own);
    return {
      process: (user + system) / count,
      ...Object.fromEntries(Object.keys(pids).map(name => [name, ((to[name] - from[name]) * 1e6) / count]))
    };
  };
}
