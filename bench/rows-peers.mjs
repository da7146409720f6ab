// Against job queues for Node.js, on servers of the same machine and disk.
import { readFileSync } from "node:fs";
import { durableRedis, installPeers, ownDatabase } from "./lib/peers.mjs";
import { inTurn } from "./lib/side.mjs";

const { dependencies } = JSON.parse(readFileSync(new URL("peers/package.json", import.meta.url), "utf8"));
const VERSIONS = ["bullmq", "pg-boss", "agenda"].map(name => `${name} ${dependencies[name]}`).join(", ");

const rate = (value, unit) => ({ value, unit });

/** What the peers share with ours: 200 callers that each wait until theirs is stored, 100 at a time in the handlers. */
const LOAD = { bytes: 512, concurrency: 200 };
const IN_FLIGHT = 100;
/** Enough for some seconds of each. */
const COUNTS = { ours: 10_000, bullmq: 20_000, pgBoss: 6000, agenda: 1500 };

const BULLMQ = { "`outbox`": 0.6, "`outbox`, `inbox: false`": 0.8, "`callback`": 0.55 };

export const peers = {
  id: "P11",
  note: `from the first of 10,000 emits to the last message that is \`consumed\` in the store, by one process that emits and handles: 200 callers that each wait for their emit, one group, \`maxInFlight\` 100, Redis lease. By hand: \`pipeline\` in \`bench/sides/byhand.mjs\`. The peers likewise: from the first job of 200 callers that each wait until theirs is stored, to the last that is completed in their store; one process, 100 at a time, handlers that do nothing, the same payload, after a seventh as many others. BullMQ: \`Queue.add\` and a \`Worker\` with \`concurrency: 100\`, all else as by default (completed jobs are kept), on a Redis of its own with \`appendfsync always\` on the same disk, started for each round; recorded = its event \`completed\`, which follows Redis's answer; 20,000 jobs. pg-boss: \`send\` and \`work\` with \`localConcurrency: 2\` and \`batchSize: 50\` (the quickest of 1 × 100, 2 × 50, 4 × 25), \`burstWhenBatchFull\`, NOTIFY, a pool of 20 connections, in a new database of the PostgreSQL that is below our store; recorded = state \`completed\`; 6,000 jobs. Agenda: \`now\` and \`define\` with \`concurrency: 100\`, \`processEvery\` 100 ms (quicker than with its in-memory notifications), on its MongoDB backend with majority writes to the store that ours uses; recorded = \`lastFinishedAt\` is stored; 1,500 jobs. ${VERSIONS} (pg-boss asks for Node.js 22.12; 20.20 warns, and runs it).`,
  prepare: installPeers,
  async round({ round, run, quick }) {
    const load = peer => ({
      ...LOAD,
      count: quick ? COUNTS[peer] / 10 : COUNTS[peer],
      warm: Math.ceil(COUNTS[peer] / (quick ? 70 : 7))
    });
    const ours = (strategy, options = {}) =>
      run("ours.pipeline", { ...load("ours"), prefetch: IN_FLIGHT, strategy, options });
    const byHand = (strategy, inbox) =>
      run("byhand.pipeline", { ...load("ours"), prefetch: IN_FLIGHT, strategy, inbox });
    const theirs = (peer, more) => run(`peers.${peer}`, { ...load(peer), inFlight: IN_FLIGHT, ...more });
    const { bullmq, pgBoss, agenda, ...others } = await inTurn(round, {
      bullmq: () => on(durableRedis, ({ url }) => theirs("bullmq", { redis: url })),
      "`outbox`": () => ours("outbox"),
      "the steps of `outbox` by hand": () => byHand("outbox", true),
      "`outbox`, `inbox: false`": () => ours("outbox", { inbox: false }),
      "the steps of `outbox`, `inbox: false`, by hand": () => byHand("outbox", false),
      "`callback`": () => ours("callback"),
      "the steps of `callback` by hand": () => byHand("callback", true),
      pgBoss: () => on(ownDatabase, ({ url }) => theirs("pgBoss", { postgres: url })),
      agenda: () => theirs("agenda")
    });
    const line = (what, of, peer, against, target) => ({
      what: `${what} ÷ ${peer}: recorded, 200 callers, 100 in flight`,
      ours: rate(of.perSecond, "/s"),
      theirs: rate(against.perSecond, "/s"),
      ratio: of.perSecond / against.perSecond,
      target
    });
    const outbox = others["`outbox`"];
    return [
      ...Object.entries(others).map(([what, of]) =>
        line(what, of, "BullMQ with `appendfsync always`", bullmq, BULLMQ[what] && { atLeast: BULLMQ[what], aim: 1 })
      ),
      line("`outbox`", outbox, "pg-boss", pgBoss, { atLeast: 4, aim: 6 }),
      line("`outbox`", outbox, "Agenda on the same store", agenda, { atLeast: 15, aim: 20 })
    ];
  }
};

/** Runs `work` with a server or database that is there for it alone. */
async function on(start, work) {
  const started = await start();
  try {
    return await work(started);
  } finally {
    await started.end();
  }
}
