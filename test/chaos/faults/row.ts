import type { Health } from "../../../src/operator/health";
import { Cluster } from "../cluster";
import { monotonic, readJournals } from "../journal";
import type { Fault, Run } from "../run";
import type { Verdict } from "../verdict";

/** On which node's word about its health the rows go, and at whose host of RabbitMQ the fault is. */
export const WATCHED = "sweeper1";

/** 100 emits/s, with the timeouts that users have. */
const SHAPE = { rate: 100, cap: 60_000, byDefault: true, stuckMs: 120_000, poisonEvery: 1000 } as const;
const LEAST_MS = 60_000;

export const healthOf = (run: Run, name = WATCHED): Promise<Health> =>
  run.cluster.call<Health>(name, "reliable.health", {});

export const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

interface Row {
  name: string;
  title: string;
  /** Handling pauses no longer than this. */
  pauseMs: number | ((faultMs: number) => number);
  /** May throw what is wrong, or return it. */
  fault(run: Run): Promise<string[] | undefined>;
  shape?: Fault["shape"];
  /** `false`: health says so meanwhile. In any case it is true in the end. */
  health?: boolean;
}

/** A row about servers of which there are several: for at least a minute, and with what is asked of it alone. */
export function row({ name, title, pauseMs, fault, shape, health = true }: Row): Fault {
  const found = new WeakMap<Run, { faultMs: number; wrong: string[] }>();
  return {
    name,
    title,
    shape: { ...SHAPE, ...shape },
    async inject(run) {
      const watched = watchHealth(run);
      const begun = performance.now();
      const wrong = (await fault(run)) ?? [];
      const faultMs = performance.now() - begun;
      const healed = await watched.true(60_000);
      if (!healed) wrong.push("health.ok is not true again 60 s later");
      if (!health && !watched.wasFalse()) wrong.push("health.ok was never false");
      await run.sleep(Math.max(0, LEAST_MS - (performance.now() - begun)));
      watched.stop();
      found.set(run, { faultMs, wrong });
      return undefined;
    },
    also(run: Run, verdict: Verdict) {
      const { faultMs = 0, wrong = [] } = found.get(run) ?? {};
      const limit = typeof pauseMs === "number" ? pauseMs : pauseMs(faultMs);
      const pause = `nothing was handled for ${seconds(verdict.pauseMs)}, ${seconds(limit)} at most`;
      return [...wrong, ...(verdict.pauseMs > limit ? [pause] : [])];
    }
  };
}

/** What `ok` of health was, from now on; its changes become a note. */
function watchHealth(run: Run): { stop(): void; wasFalse(): boolean; true(withinMs: number): Promise<boolean> } {
  const begun = performance.now();
  const changes: string[] = [];
  let last: boolean | undefined;
  let open = true;
  const look = async (): Promise<void> => {
    while (open) {
      const health = await healthOf(run).catch(() => undefined);
      const ok = health?.ok;
      const at = seconds(performance.now() - begun);
      if (ok !== last) changes.push(`${ok} after ${at}${ok ? "" : ` (${health?.failing.join("; ")})`}`);
      last = ok;
      await run.sleep(500);
    }
  };
  void look();
  return {
    async true(withinMs) {
      const until = performance.now() + withinMs;
      while (last !== true && performance.now() < until) await run.sleep(250);
      return last === true;
    },
    stop() {
      open = false;
      run.notes.push(`health.ok ${changes.join(", ")}`);
    },
    wasFalse: () => changes.some(change => change.startsWith("false"))
  };
}

/** The longest time without a sweep of either sweeper, from now until it is stopped. */
export function watchSweeps(run: Run): { stop(): number } {
  let longest = 0;
  let open = true;
  const look = async (): Promise<void> => {
    while (open) {
      const passes = await Promise.all(
        Cluster.NAMES.sweeper.map(async name => Date.parse((await healthOf(run, name)).lastSweep.slice(0, 24)) || 0)
      );
      longest = Math.max(longest, Date.now() - Math.max(...passes));
      await run.sleep(200);
    }
  };
  void look().catch((error: Error) => run.notes.push(`sweeps not watched to the end: ${error.message}`));
  return {
    stop() {
      open = false;
      return longest;
    }
  };
}

/** Emits of `outbox` that became promises in the meantime. */
export function promisesSince(run: Run, from: number, to = monotonic()): number {
  const { attempted, promised } = readJournals(run.cluster.journals);
  return [...promised].filter(([id, at]) => at >= from && at <= to && attempted.get(id)?.strategy === "outbox").length;
}
