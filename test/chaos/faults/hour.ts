import { Cluster } from "../cluster";
import type { Fault, Run } from "../run";
import { CLUSTER_ACTS } from "./cluster";
import { MAJORITY_ACTS } from "./majority";
import { row } from "./row";
import { SENTINEL_ACTS } from "./sentinel";

const HOUR_MS = 3_600_000;
const GROWTH_MIB = 32;
/** More than the 100 of the other rows: with them it makes a million. */
const RATE = 260;
const HOUR_EMITS = 1_100_000;

const heapOf = async (run: Run, name: string): Promise<number> => {
  run.cluster.say(name, "heap");
  return (await run.cluster.told<number>(name, "heap")) ?? Number.NaN;
};

/** Of each node, in MiB, after a collection. */
const heaps = (run: Run): Promise<number[]> => Promise.all(Cluster.ALL.map(name => heapOf(run, name)));

export const hourFault: Fault = row({
  name: "cluster-hour",
  title: "all of these one after the other, for an hour, at 260 emits/s",
  // Of each the longest: two of three away for 40 s.
  pauseMs: 120_000,
  health: false,
  shape: { mongoSet: true, rate: RATE, cap: HOUR_EMITS },
  async fault(run) {
    const before = await heaps(run);
    const until = performance.now() + HOUR_MS;
    for (let round = 1; performance.now() < until; round++) {
      for (const act of run.shuffled([...CLUSTER_ACTS, ...SENTINEL_ACTS, ...MAJORITY_ACTS])) {
        if (performance.now() > until) break;
        run.progress(`round ${round}: ${act.name}`);
        // How long each may take is asked of its own row: here the next one comes before what it has moved is back.
        run.notes.push(...((await act(run)) ?? []));
        await run.sleep(20_000);
      }
    }
    const growth = (await heaps(run)).map((after, i) => after - (before[i] as number));
    run.notes.push(`heap ${growth.map((mib, i) => `${Cluster.ALL[i]} ${mib.toFixed(1)}`).join(", ")} MiB`);
    const most = Math.max(...growth);
    return most > GROWTH_MIB ? [`a heap has grown by ${most.toFixed(1)} MiB`] : [];
  }
});
