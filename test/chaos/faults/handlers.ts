import { Cluster } from "../cluster";
import { monotonic, readJournals } from "../journal";
import type { Fault, Run } from "../run";

/** Far longer than the three attempts of a message take. */
const AWAY_MS = 15_000;

const all = (run: Run, down: boolean) => {
  for (const name of Cluster.NAMES.consumer) run.cluster.say(name, "dependency", { down });
};

/** The breakers open; of a node that begins anew meanwhile too. */
const dependency: Fault = {
  name: "dependency-down",
  title: `what all handlers depend on away for ${AWAY_MS / 1000} s, a consumer killed meanwhile`,
  async inject(run) {
    all(run, true);
    await run.sleep(AWAY_MS / 3);
    const name = run.pick(Cluster.NAMES.consumer);
    await run.cluster.kill(name);
    await run.back(name, { DEPENDENCY_DOWN: "1" });
    await run.sleep((AWAY_MS * 2) / 3);
    all(run, false);
    return undefined;
  }
};

/** Longer than a message may be silent. */
const PAUSED_MS = 15_000;
/** After that nobody takes anything any more. */
const TAKES_EFFECT_MS = 5000;

const paused: Fault = {
  name: "pause",
  title: `a group paused for ${PAUSED_MS / 1000} s; a consumer and the node that paused it killed meanwhile`,
  async inject(run) {
    const asked = Cluster.NAMES.callback[0] as string;
    const params = { group: "on", note: "the fault matrix" };
    await run.cluster.call(asked, "reliable.pause", params);
    await run.sleep(TAKES_EFFECT_MS);
    const from = monotonic();
    await Promise.all([run.bounce(run.pick(Cluster.NAMES.consumer)), run.bounce(asked)]);
    await run.sleep(PAUSED_MS - TAKES_EFFECT_MS);
    const taken = [...readJournals(run.cluster.journals).handled].filter(
      ([key, handlings]) => key.startsWith("on ") && handlings.some(({ at }) => at > from)
    );
    await run.cluster.call(asked, "reliable.resume", params);
    if (taken.length) throw new Error(`${taken.length} messages were handled by a paused group: ${taken[0]?.[0]}`);
    return undefined;
  }
};

export const handlerFaults: Fault[] = [dependency, paused];
