import type { Fault, Run } from "../run";
import { healthOf, row, seconds, WATCHED } from "./row";

const NODES = [1, 2, 3];

/** Of RabbitMQ's nodes, where the watched one is connected to; undefined while it is not. */
async function hostOf(run: Run): Promise<number | undefined> {
  const found = /32\.(\d)/.exec((await healthOf(run)).publish)?.[1];
  return found === undefined ? undefined : Number(found);
}

async function homeOf(run: Run): Promise<number> {
  const home = await hostOf(run);
  if (home === undefined) throw new Error(`${WATCHED} is not connected.`);
  return home;
}

/** Until it is back where it belongs. */
async function comesHome(run: Run, home: number, withinMs: number): Promise<string[]> {
  const begun = performance.now();
  while ((await hostOf(run)) !== home) {
    if (performance.now() - begun > withinMs)
      return [`${WATCHED} is not back at node ${home} ${seconds(withinMs)} after that was up`];
    await run.sleep(1000);
  }
  run.notes.push(`back at its host ${seconds(performance.now() - begun)} after that was up`);
  return [];
}

async function kill(run: Run): Promise<string[]> {
  const home = await homeOf(run);
  await run.servers.cluster("kill", String(home));
  await run.sleep(15_000);
  await run.servers.cluster("start", String(home));
  return comesHome(run, home, 120_000);
}

async function freeze(run: Run): Promise<undefined> {
  const home = String(await homeOf(run));
  await run.servers.cluster("freeze", home);
  await run.sleep(60_000);
  await run.servers.cluster("thaw", home);
}

async function isolate(run: Run): Promise<undefined> {
  await run.servers.cluster("partition", String(await homeOf(run)));
  await run.sleep(100_000);
  await run.servers.cluster("heal");
}

async function noQuorum(run: Run): Promise<string[]> {
  const home = await homeOf(run);
  const others = NODES.filter(node => node !== home).map(String);
  await run.servers.cluster("kill", ...others);
  await run.sleep(5000);
  const begun = performance.now();
  if (run.cluster.isUp("sweeper2")) await run.cluster.stop("sweeper2");
  await run.cluster.launch("sweeper2");
  const took = performance.now() - begun;
  run.notes.push(`a node started in ${seconds(took)}`);
  await run.sleep(Math.max(0, 35_000 - took));
  await Promise.all(others.map(node => run.servers.cluster("start", node)));
  return took > 15_000 ? [`a node started in ${seconds(took)}, 15 s at most`] : [];
}

async function killAll(run: Run): Promise<undefined> {
  await run.servers.cluster("kill", ...NODES.map(String));
  await run.sleep(3000);
  await run.servers.cluster("start");
}

async function roll(run: Run): Promise<undefined> {
  for (const node of NODES.map(String)) {
    await run.servers.cluster("drain", node);
    await run.servers.cluster("stop", node);
    await run.servers.cluster("start", node);
    await run.sleep(6000);
  }
}

async function replaceMember(run: Run): Promise<undefined> {
  const home = await homeOf(run);
  const [gone, from] = NODES.filter(node => node !== home).map(String) as [string, string];
  await run.servers.cluster("forget", gone, from);
  await run.servers.cluster("rejoin", gone, from);
  await run.servers.cluster("queues", from, "rebalance", "quorum");
}

/** What the rows do, for the run in which they come one after the other. */
export const CLUSTER_ACTS: ((run: Run) => Promise<string[] | undefined>)[] = [
  ...[kill, freeze, isolate, noQuorum, killAll, roll, replaceMember]
];

export const clusterFaults: Fault[] = [
  row({
    name: "cluster-kill",
    title: "RabbitMQ: SIGKILL of the node with clients and leaders, started again after 15 s",
    pauseMs: 3000,
    fault: kill
  }),
  row({
    name: "cluster-freeze",
    title: "RabbitMQ: that node frozen for 60 s",
    pauseMs: 33_000,
    health: false,
    fault: freeze
  }),
  row({
    name: "cluster-isolated",
    title: "RabbitMQ: that node cut off from the others for 100 s, its clients not",
    pauseMs: 45_000,
    health: false,
    fault: isolate
  }),
  row({
    name: "cluster-no-quorum",
    title: "RabbitMQ: two of three killed for 40 s; a node of ours starts meanwhile",
    pauseMs: ms => ms + 10_000,
    health: false,
    shape: { absent: ["sweeper2"] },
    fault: noQuorum
  }),
  row({
    name: "cluster-all-killed",
    title: "RabbitMQ: all three killed and started",
    pauseMs: ms => ms + 10_000,
    health: false,
    fault: killAll
  }),
  row({
    name: "cluster-rolling",
    title: "RabbitMQ: rolling restart with `rabbitmq-upgrade drain`",
    pauseMs: 2000,
    fault: roll
  }),
  row({
    name: "cluster-member",
    title: "RabbitMQ: a member wiped, forgotten, joined and grown; leaders rebalanced",
    pauseMs: 2000,
    fault: replaceMember
  })
];
