import { Cluster, ROLES, type Role } from "../cluster";
import type { Fault, Run } from "../run";

/** Longer than every timeout of `QUICK` in `cluster.ts`, and than RabbitMQ's patience with a silent connection. */
const FROZEN_MS = 9000;

/** Lives so long without coming to its point: the point is not on its way. */
const POINT_MS = 6000;

const called: Record<Role, string> = {
  producer: "a producer",
  consumer: "a consumer",
  sweeper: "a sweeper",
  callback: "the callback service"
};

const killed = (role: Role): Fault => ({
  name: `kill-${role}`,
  title: `SIGKILL of ${called[role]}, four times at random instants`,
  async inject(run) {
    for (let i = 0; i < 4; i++) {
      await run.sleep(run.int(300, 2500));
      await run.bounce(run.pick(Cluster.NAMES[role]));
    }
  }
});

const frozen = (role: Role): Fault => ({
  name: `freeze-${role}`,
  title: `SIGSTOP of ${called[role]} for ${FROZEN_MS / 1000} s, longer than every timeout, then SIGCONT`,
  async inject(run) {
    const name = run.pick(Cluster.NAMES[role]);
    run.cluster.freeze(name);
    await run.sleep(FROZEN_MS);
    run.cluster.thaw(name);
  }
});

/** What each role awaits; a run without harm finds the points, so a new await is a new point. */
const steps: Record<Role, string> = {
  producer: "emit",
  consumer: "settle",
  sweeper: "sweep and tracker",
  callback: "check and tracker"
};

const atEveryAwait = (role: Role): Fault => ({
  name: `awaits-${role}`,
  title: `SIGKILL of ${called[role]} before and after every await of ${steps[role]}`,
  shape: {
    rate: 300,
    cap: 1e6,
    poisonEvery: 100,
    env: Object.fromEntries(Cluster.NAMES[role].map(name => [name, { CRASH_POINTS: "all" }]))
  },
  async inject(run) {
    const name = Cluster.NAMES[role][0] as string;
    const points = await census(run, name);
    let reached = 0;
    for (const point of run.shuffled(points)) {
      await run.cluster.kill(name);
      await run.back(name, { CRASH_AT: point, CRASH_SKIP: String(run.int(0, 3)) });
      if (await Promise.race([run.cluster.exited(name), run.sleep(POINT_MS)])) reached++;
      run.progress(`${reached} of ${points.length} points, ${point}`);
    }
    await run.back(name);
  }
});

/** The points that this node has come by so far. */
async function census(run: Run, name: string): Promise<string[]> {
  await run.sleep(8000);
  const points = run.cluster.told<string[]>(name, "points");
  run.cluster.say(name, "points");
  return (await points) ?? [];
}

const later: Fault = {
  name: "kill-later",
  title:
    "SIGKILL of sweepers and producers, six times, while a third of all is to be sent later and some of it is called off",
  shape: { laterMs: 4000 },
  async inject(run) {
    for (let i = 0; i < 6; i++) {
      await run.sleep(run.int(300, 2500));
      await run.bounce(run.pick([...Cluster.NAMES.sweeper, ...Cluster.NAMES.producer]));
    }
  },
  also: (_run, { cancelled }) => (cancelled > 0 ? [] : ["nothing was called off"])
};

/** Kills of a run that is over sooner. */
const LEAST_KILLS = 4;

const ordered: Fault = {
  name: "kill-ordered",
  title: "SIGKILL of one of three consumers every 5 s, while all messages are in order: a hundred of each key",
  ordered: true,
  shape: { more: ["consumer3"], poisonEvery: 1e9 },
  async inject(run) {
    const consumers = run.cluster.names("consumer");
    for (let kills = 0; kills < LEAST_KILLS || run.cluster.emits < run.messages; kills++) {
      const began = performance.now();
      await run.bounce(run.pick(consumers));
      run.progress(`${run.cluster.emits} of ${run.messages} emits, ${kills + 1} kills`);
      await run.sleep(Math.max(0, 5000 - (performance.now() - began)));
    }
  },
  also: (_run, { dead }) => (dead ? [`${dead} are dead`] : [])
};

const rolling: Fault = {
  name: "rolling-restart",
  title: "rolling restart of everything, one process at a time (SIGTERM), under load",
  async inject(run) {
    for (const name of run.shuffled(Cluster.ALL)) {
      await run.cluster.stop(name);
      await run.back(name);
    }
  }
};

const everything: Fault = {
  name: "kill-everything",
  title: "SIGKILL of all seven processes at once",
  async inject(run) {
    await run.sleep(run.int(200, 2000));
    await Promise.all(Cluster.ALL.map(name => run.cluster.kill(name)));
    await Promise.all(Cluster.ALL.map(name => run.back(name)));
  }
};

const offline: Fault = {
  name: "group-offline",
  title: "the consumers are away for the whole run and come back at its end",
  async inject(run) {
    for (const name of Cluster.NAMES.consumer) await run.cluster.stop(name);
    await run.load(1);
    // Longer than a message may be silent.
    await run.sleep(8000);
    for (const name of Cluster.NAMES.consumer) await run.back(name);
  }
};

export const processFaults: Fault[] = [
  ...ROLES.map(killed),
  ...ROLES.map(frozen),
  ...ROLES.map(atEveryAwait),
  everything,
  later,
  ordered,
  rolling,
  offline
];
