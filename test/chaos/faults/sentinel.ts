import type { Fault, Run } from "../run";
import { row, seconds, watchSweeps } from "./row";

/** Sweeps pause no longer, whatever becomes of the master. */
const SWEEP_MS = 5000;

/** Until the Sentinels have another master. */
async function failsOver(run: Run, from: string): Promise<void> {
  for (const until = performance.now() + 30_000; (await masterOf(run)) === from; await run.sleep(250))
    if (performance.now() > until) throw new Error(`The Sentinels still have ${from} as master after 30 s.`);
}

const masterOf = async (run: Run) => (await run.servers.sentinel("master")).trim();

/** The master is taken away, and comes back as it is when the Sentinels have another one. */
function away(take: string, back: string): (run: Run) => Promise<string[]> {
  return async run => {
    const sweeps = watchSweeps(run);
    const master = await masterOf(run);
    await run.servers.sentinel(take, master);
    const begun = performance.now();
    await failsOver(run, master);
    run.notes.push(`another master after ${seconds(performance.now() - begun)}`);
    await run.sleep(15_000);
    // The old one, frozen or cut off, still is a master for a second: two nodes may hold the lease.
    await run.servers.sentinel(back, master);
    await run.sleep(15_000);
    const pause = sweeps.stop();
    run.notes.push(`longest time without a sweep ${seconds(pause)}`);
    return pause > SWEEP_MS ? [`no sweep for ${seconds(pause)}, ${seconds(SWEEP_MS)} at most`] : [];
  };
}

const [killed, frozen, cut] = [away("kill", "boot"), away("freeze", "thaw"), away("cut", "heal")];

export const SENTINEL_ACTS = [killed, frozen, cut];

export const sentinelFaults: Fault[] = [
  row({ name: "sentinel-kill", title: "Redis Sentinel: the master killed", pauseMs: 2000, fault: killed }),
  row({
    name: "sentinel-freeze",
    title: "Redis Sentinel: the master frozen until there is another; then both",
    pauseMs: 2000,
    fault: frozen
  }),
  row({
    name: "sentinel-cut",
    title: "Redis Sentinel: the master cut off from all until there is another; then both",
    pauseMs: 2000,
    fault: cut
  })
];
