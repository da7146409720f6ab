// What an outage of something that a handler depends on costs: 10,000 messages, three attempts each, and a service that
// is away for ten minutes, shortened ten times with all pauses that matter.
//   eval "$(test/servers/servers env)" && npm run bench:outage
// `-- --messages 2000 --outage-ms 5000`: a short one. Uses the library from dist. Ends with exit code 1 if a message that
// could be handled is dead, if one is not handled, or if poison is not dead.
import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { setTimeout as delay } from "node:timers/promises";
import { clean, amqp as connectAmqp } from "./lib/world.mjs";

const require = createRequire(import.meta.url);
const { ServiceBroker } = require("moleculer");
const { ReliableEmit } = require("../dist/src/index.js");

const option = (name, otherwise) =>
  process.argv.includes(name) ? Number(process.argv[process.argv.indexOf(name) + 1]) : otherwise;
const MESSAGES = option("--messages", 10_000);
const OUTAGE_MS = option("--outage-ms", 60_000);
/** Ten minutes and 30 s, 1 s and 5 min are as 60 s and 3 s, 0.1 s and 30 s. */
const SHORTENED = {
  breaker: { pauseMs: 100, maxPauseMs: 3000 },
  backoff: { initialMs: 100, maxMs: 30_000 },
  sweepEveryMs: 200
};
const CONCURRENCY = 500;
const database = "reliable_bench";
const { AMQP_URL: amqp, MONGO_URL: mongo, REDIS_URL: redis } = process.env;
if (!amqp || !mongo || !redis)
  throw new Error('eval "$(test/servers/servers env)" first: AMQP_URL, MONGO_URL, REDIS_URL');

/** A node, a group, and what its handler depends on. */
async function cluster(own) {
  const namespace = `bench-outage-${randomBytes(4).toString("hex")}`;
  const service = { down: false, poison: () => false, calls: 0, failed: 0, handled: new Set(), told: [] };
  const options = { amqp, mongo, redis, database, ...own };
  const broker = new ServiceBroker({
    namespace,
    nodeID: "bench",
    logger: { type: "Console", options: { level: "error" } }
  });
  broker.createService({
    name: "mail",
    mixins: [ReliableEmit(options)],
    events: {
      "order.created": {
        reliable: true,
        async handler({ params: { n } }) {
          service.calls++;
          await delay(2);
          if (service.down || service.poison(n)) {
            service.failed++;
            throw new Error(service.down ? "the service does not answer" : "poison");
          }
          service.handled.add(n);
        }
      },
      "$reliable.breaker": ({ params: { state } }) => void service.told.push(state)
    }
  });
  const orders = broker.createService({ name: "orders", mixins: [ReliableEmit(options)] });
  await broker.start();
  while ((await broker.call("reliable.subscriptions")).length === 0) await delay(50);
  return {
    service,
    async emitAll(count) {
      let next = 0;
      const worker = async () => {
        for (let n = next++; n < count; n = next++) await orders.reliableEmit("order.created", { n }, { id: `${n}` });
      };
      await Promise.all(Array.from({ length: CONCURRENCY }, worker));
    },
    stats: () => broker.call("reliable.stats"),
    async dead() {
      const ids = [];
      for (let cursor = {}; cursor; ) {
        const { rows, nextCursor } = await broker.call("reliable.list", { status: "dead", pageSize: 500, ...cursor });
        ids.push(...rows.map(({ id }) => Number(id)));
        cursor = nextCursor && { cursor: nextCursor };
      }
      return ids;
    },
    async end() {
      const [{ queue }] = await broker.call("reliable.subscriptions");
      await broker.stop();
      await clean(namespace);
      const model = await connectAmqp();
      const channel = await model.createChannel();
      await channel.deleteQueue(queue);
      await model.close();
    }
  };
}

async function settled(stats) {
  for (;;) {
    const { pending, published } = await stats();
    if (pending + published === 0) return;
    await delay(200);
  }
}

const rows = [];
let bad = 0;
const row = (what, figures, ok) => {
  if (!ok) bad++;
  rows.push({ what, ...figures, ok });
  console.log(
    `${ok ? "ok " : "BAD"} ${what}: ${Object.entries(figures)
      .map(([name, value]) => `${name} ${value}`)
      .join(", ")}`
  );
};

async function outage(what, poisonEvery) {
  const { service, emitAll, stats, dead, end } = await cluster(SHORTENED);
  try {
    const poison = new Set();
    if (poisonEvery) for (let n = 0; n < MESSAGES; n += poisonEvery) poison.add(n);
    service.poison = n => poison.has(n);
    service.down = true;
    const emitting = emitAll(MESSAGES);
    await Promise.all([emitting, delay(OUTAGE_MS)]);
    const deadMeanwhile = (await stats()).dead;
    const { calls } = service;
    service.down = false;
    const from = performance.now();
    await settled(stats);
    const ids = await dead();
    const wrong = ids.filter(n => !poison.has(n)).length;
    const spared = [...poison].filter(n => !ids.includes(n)).length;
    row(
      what,
      {
        messages: MESSAGES,
        "away s": OUTAGE_MS / 1000,
        "calls meanwhile": calls,
        "dead meanwhile": deadMeanwhile,
        dead: ids.length,
        "of them wrongly": wrong,
        "poison not dead": spared,
        handled: service.handled.size,
        "handled twice": service.calls - service.failed - service.handled.size,
        "s until all was done": ((performance.now() - from) / 1000).toFixed(1),
        told: service.told.join(" ")
      },
      !wrong && !spared && deadMeanwhile === 0 && service.handled.size === MESSAGES - poison.size
    );
  } finally {
    await end();
  }
}

async function lone() {
  const { service, emitAll, stats, dead, end } = await cluster({});
  try {
    service.poison = () => true;
    const from = performance.now();
    await emitAll(1);
    await settled(stats);
    const seconds = (performance.now() - from) / 1000;
    const ids = await dead();
    row(
      "a message that fails alone, all defaults",
      { calls: service.calls, dead: ids.length, "dead after s": seconds.toFixed(1) },
      service.calls === 3 && ids.length === 1 && seconds < 10
    );
  } finally {
    await end();
  }
}

await outage("an outage", 0);
await outage("an outage, 1 in 100 is poison", 100);
await lone();
process.exitCode = bad ? 1 : 0;
