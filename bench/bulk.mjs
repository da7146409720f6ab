// A bulk retry of 100,000 dead messages at 2,000 per second, its node killed in the middle: memory of the nodes that work
// at it, and whether each message was retried once.
//   eval "$(test/servers/servers env)" && npm run bench:bulk
// `-- --messages 20000`, `-- --per-second 500`: a smaller one. Needs RabbitMQ, MongoDB and Redis (AMQP_URL, MONGO_URL,
// REDIS_URL). Two nodes with the service `reliable` and one consumer, each a process. Uses the library from dist.
import { fork } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { createRequire } from "node:module";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { MongoClient } from "mongodb";

const require = createRequire(import.meta.url);
const option = (name, otherwise) =>
  process.argv.includes(name) ? Number(process.argv[process.argv.indexOf(name) + 1]) : otherwise;
const MESSAGES = option("--messages", 100_000);
const PER_SECOND = option("--per-second", 2000);
const DATABASE = "reliable_bench";
/** At most so much heap more than before the bulk act. */
const BAR_MIB = 32;
const GIVEN_UP_MS = 600_000;

async function child({ role, nodeID, namespace, options }) {
  const { ServiceBroker } = require("moleculer");
  const { ReliableEmit, ReliableService } = require("../dist/src/index.js");
  const broker = new ServiceBroker({ namespace, nodeID, logger: { type: "Console", options: { level: "warn" } } });
  let handled = 0;
  if (role === "node") broker.createService({ mixins: [ReliableService(options)], name: "reliable" });
  else
    broker.createService({
      name: "stock",
      mixins: [ReliableEmit(options)],
      events: { "order.created": { reliable: true, handler: () => void handled++ } }
    });
  const heap = () => {
    gc();
    const { heapUsed, external } = process.memoryUsage();
    return (heapUsed + external) / 2 ** 20;
  };
  process.on("message", async ({ what, params }) => {
    if (what === "bulk") process.send({ what, data: await broker.call("reliable.bulk", params) });
    if (what === "show") process.send({ what, data: await broker.call("reliable.bulks", params) });
    if (what === "handled") process.send({ what, data: handled });
    if (what !== "measure") return;
    const before = heap();
    setInterval(() => process.send({ what: "heap", data: heap() - before }), 500);
  });
  process.on("disconnect", () => process.exit(0));
  await broker.start();
  process.send({ what: "started" });
}

async function start(role, nodeID, namespace, options) {
  const spec = JSON.stringify({ role, nodeID, namespace, options });
  const process_ = fork(fileURLToPath(import.meta.url), ["--child"], {
    execArgv: ["--expose-gc"],
    env: { ...process.env, BENCH_BULK: spec }
  });
  const node = { nodeID, process: process_, peak: 0, up: true };
  process_.once("exit", () => (node.up = false));
  process_.on("message", ({ what, data }) => {
    if (what === "heap") node.peak = Math.max(node.peak, data);
  });
  node.ask = (what, params) =>
    new Promise(resolve => {
      const listener = message => {
        if (message.what !== what) return;
        process_.off("message", listener);
        resolve(message.data);
      };
      process_.on("message", listener);
      process_.send({ what, params });
    });
  for (;;) if ((await once(process_, "message"))[0].what === "started") return node;
}

async function main() {
  const { AMQP_URL: amqp, MONGO_URL: mongo, REDIS_URL: redis } = process.env;
  if (!amqp || !mongo || !redis)
    throw new Error('AMQP_URL, MONGO_URL and REDIS_URL are not set: eval "$(test/servers/servers env)"');
  const { encodeMessage } = require("../dist/src/stores/documents/codec.js");
  const { bucketOf } = require("../dist/src/message/message.js");
  const namespace = `bench-bulk-${randomBytes(4).toString("hex")}`;
  const options = { amqp, mongo, redis, database: DATABASE, leaseMs: 5000 };
  const client = await new MongoClient(mongo).connect();
  const of = name => client.db(DATABASE).collection(`${namespace}.reliable.${name}`);
  const nodes = [];
  try {
    const stock = await start("consumer", "stock", namespace, { amqp });
    nodes.push(stock);
    for (const name of ["a", "b"]) nodes.push(await start("node", name, namespace, options));
    while (!(await of("subscriptions").countDocuments())) await delay(100);
    const body = Buffer.from(JSON.stringify({ order: 42, text: "x".repeat(490) }));
    const died = Date.now() - 3_600_000;
    for (let from = 0; from < MESSAGES; from += 5000)
      await of("messages").insertMany(
        Array.from({ length: Math.min(5000, MESSAGES - from) }, (_, i) => {
          const _id = `m-${from + i}`;
          const at = new Date(died + from + i);
          const error = { cause: "handler", name: "Error", message: "down", at };
          const empty = {
            meta: {},
            headers: {},
            origin: {},
            resolved: [],
            receipts: {},
            attempts: {},
            base: {},
            next: {}
          };
          const dead = { status: "dead", waiting: [], failed: ["stock"], spent: { stock: 3 }, deadAt: { stock: at } };
          const rest = { errors: { stock: error }, unroutable: {}, unroutableMs: 3_600_000, maxAttempts: 3 };
          const times = { backoff: { initialMs: 1000, maxMs: 300_000, jitter: "half" }, receiptTimeoutMs: 60_000 };
          const story = { failures: [], notes: [], reason: "handler in group stock: down", createdAt: at, at };
          const own = { _id, v: 2, event: "order.created", body, strategy: "outbox", producer: "orders" };
          return encodeMessage({ ...own, bucket: bucketOf(_id), ...empty, ...dead, ...rest, ...times, ...story });
        })
      );
    const [, a] = nodes;
    for (const node of nodes) node.process.send({ what: "measure" });
    await delay(1000);
    const from = performance.now();
    const params = { act: "retry", event: "order.created", perSecond: PER_SECOND, by: "bench" };
    const { id, matched, capped } = await a.ask("bulk", params);
    console.log(`bulk ${id}: ${matched}${capped ? "+" : ""} matched`);
    let killed;
    let paused = 0;
    let said = 0;
    let bulk;
    for (;;) {
      bulk = await of("bulks").findOne({ _id: id });
      if (performance.now() - said > 5000) {
        said = performance.now();
        console.log(
          `${Math.round((said - from) / 1000)} s: ${bulk.done} done, ${bulk.state}, by ${bulk.claim ?? "nobody"}`
        );
      }
      if (bulk.endedAt || performance.now() - from > GIVEN_UP_MS) break;
      const holder = nodes.find(({ nodeID }) => bulk.claim?.startsWith(`${nodeID}#`));
      if (!killed && bulk.done >= MESSAGES / 2 && holder?.up) {
        killed = holder;
        holder.process.kill("SIGKILL");
        paused = performance.now();
        console.log(`killed ${holder.nodeID} at ${bulk.done}`);
      }
      if (paused > 0 && killed && bulk.claim && !bulk.claim.startsWith(`${killed.nodeID}#`)) {
        paused = paused - performance.now();
        console.log(`taken over after ${Math.round(-paused / 1000)} s`);
      }
      await delay(100);
    }
    const seconds = (performance.now() - from) / 1000;
    const open = () => of("messages").countDocuments({ status: { $ne: "consumed" } });
    for (let left = await open(); left; left = await open()) {
      if (performance.now() - from > GIVEN_UP_MS) break;
      await delay(1000);
    }
    const handledIn = (performance.now() - from) / 1000;
    const once_ = { notes: { $size: 1 }, "notes.0.act": "retry", "notes.0.bulk": id };
    const retried = await of("messages").countDocuments(once_);
    const audits = await of("audit").find({}).toArray();
    const working = Math.max(...nodes.filter(({ nodeID }) => nodeID !== "stock").map(({ peak }) => peak));
    const rate = Math.round(MESSAGES / (seconds + Math.min(0, paused) / 1000));
    console.log(
      [
        `${bulk.state}: ${bulk.done} of ${bulk.matched} done, ${bulk.lost} overtaken, ${bulk.pages} pages, in ${Math.round(seconds)} s (${rate}/s without the takeover)`,
        `retried once: ${retried} of ${MESSAGES}; not consumed: ${await open()}, after ${Math.round(handledIn)} s`,
        `audit records: ${audits.length}, ${audits[0]?.state} ${JSON.stringify(audits[0]?.counts)}`,
        `heap of the working nodes: at most ${working.toFixed(1)} MiB more than before (bar: ${BAR_MIB})`
      ].join("\n")
    );
    const fine = bulk.state === "done" && bulk.done === MESSAGES && retried === MESSAGES && audits.length === 1;
    if (!fine || working > BAR_MIB) process.exitCode = 1;
  } finally {
    for (const { process: each } of nodes) each.kill("SIGKILL");
    for (const { name } of await client.db(DATABASE).listCollections({}, { nameOnly: true }).toArray())
      if (name.startsWith(`${namespace}.`)) await client.db(DATABASE).dropCollection(name);
    await client.close();
  }
}

if (process.argv.includes("--child")) await child(JSON.parse(process.env.BENCH_BULK));
else await main();
