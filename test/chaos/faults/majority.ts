import type { Command, Play } from "../../support/mongo-proxy";
import { monotonic } from "../journal";
import type { Fault, Run } from "../run";
import { healthOf, promisesSince, row, seconds } from "./row";

/** The store's wait for its write concern. */
const CONCERN_MS = 10_000;
const AWAY_MS = 40_000;
const ELECTIONS = 4;

const WRITES = ["insert", "update", "delete", "findAndModify", "commitTransaction", "createIndexes"];

/** A primary, a secondary that is down, and an arbiter: writes are done there, and never known to be safe. */
function withoutMajority({ name }: Command): Play | undefined {
  if (!WRITES.includes(name)) return undefined;
  const writeConcernError = { code: 64, codeName: "WriteConcernTimeout", errmsg: "injected: waiting for replication" };
  return { change: reply => ({ ...reply, writeConcernError }), afterMs: CONCERN_MS };
}

async function elect(run: Run): Promise<undefined> {
  for (let times = 0; times < ELECTIONS; times++) {
    await run.cluster.mongo.elect();
    await run.sleep(10_000);
  }
}

async function losesMajority(run: Run): Promise<string[]> {
  const { mongo } = run.cluster;
  const wrong: string[] = [];
  const begun = performance.now();
  mongo.play = withoutMajority;
  // What was on its way when it began may still be answered.
  await run.sleep(500);
  const from = monotonic();
  for (let told = false; !told; await run.sleep(500)) {
    told = (await healthOf(run)).ok === false;
    const after = performance.now() - begun;
    if (told) run.notes.push(`health.ok false after ${seconds(after)}`);
    if (told || after < 15_000) continue;
    wrong.push("health.ok was not false within 15 s");
    break;
  }
  await run.sleep(Math.max(0, AWAY_MS - (performance.now() - begun)));
  const kept = promisesSince(run, from);
  mongo.play = undefined;
  return kept ? [...wrong, `${kept} emits of \`outbox\` resolved meanwhile`] : wrong;
}

export const MAJORITY_ACTS = [elect, losesMajority];

export const majorityFaults: Fault[] = [
  row({
    name: "store-election",
    title: "store: four elections",
    pauseMs: 15_000,
    shape: { mongoSet: true },
    fault: elect
  }),
  row({
    name: "store-no-majority",
    title: "store: primary, arbiter, and the secondary down for 40 s",
    pauseMs: ms => ms + 15_000,
    health: false,
    shape: { mongoSet: true },
    fault: losesMajority
  })
];
