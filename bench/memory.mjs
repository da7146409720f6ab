// How much memory a node takes when it has to wait: emits while RabbitMQ blocks publishers, then the backlog drained.
//   eval "$(test/servers/servers env)" && npm run bench:memory
// 1,000,000 messages. `-- --messages 20000`: a short one. `-- --drain 100000`: ends when so many of the backlog are
// drained.
// Needs MongoDB and Redis (MONGO_URL, REDIS_URL) and starts a RabbitMQ of its own with test/servers/servers (Debian,
// root), on which it raises the memory alarm. Uses the library from dist. Writes the section "Memory" of
// bench/results.md (not with another number of messages).
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { MongoClient } from "mongodb";

const require = createRequire(import.meta.url);
const { ServiceBroker } = require("moleculer");
const { ReliableEmit } = require("../dist/src/index.js");

const FULL = 1_000_000;
const option = (name, otherwise) =>
  process.argv.includes(name) ? Number(process.argv[process.argv.indexOf(name) + 1]) : otherwise;
const MESSAGES = option("--messages", FULL);
/** The whole backlog takes its time. */
const DRAINED = option("--drain", MESSAGES);
const CONCURRENCY = 1000;
const WARM_UP = 5000;
const RESULTS = new URL("results.md", import.meta.url);
const HEADING = "## Memory";
const AMQP_PORT = process.env.BENCH_AMQP_PORT ?? "5797";
const payload = { order: 42, text: "x".repeat(490) };

if (!globalThis.gc) throw new Error("Run it with npm run bench:memory, or node --expose-gc.");
const mongo = process.env.MONGO_URL;
const redis = process.env.REDIS_URL;
if (!mongo || !redis) throw new Error('MONGO_URL and REDIS_URL are not set: eval "$(test/servers/servers env)"');
const script = fileURLToPath(new URL("../test/servers/servers", import.meta.url));
const servers = (...args) =>
  execFileSync(script, args, {
    env: { ...process.env, AMQP_PORT },
    encoding: "utf8",
    stdio: ["ignore", "pipe", "inherit"]
  });

/** Resident and heap, after a full collection, in MiB. */
function memory() {
  gc();
  const { rss, heapUsed, external } = process.memoryUsage();
  return { rss: rss / 2 ** 20, heap: (heapUsed + external) / 2 ** 20 };
}

const mib = value => value.toFixed(1);
const rate = (count, ms) => Math.round((count / ms) * 1000).toLocaleString("en");

/** Samples until `until` says so; returns what was most, and the first and last. */
async function watch(what, progress, done) {
  const samples = [];
  const from = performance.now();
  for (let told = 0; !done(); ) {
    await delay(1000);
    samples.push(memory());
    if (performance.now() - told > 10_000) {
      told = performance.now();
      console.log(
        `${what}: ${progress().toLocaleString("en")} after ${Math.round((performance.now() - from) / 1000)} s, RSS ${mib(samples.at(-1).rss)} MiB, heap ${mib(samples.at(-1).heap)} MiB`
      );
    }
  }
  samples.push(memory());
  return { peak: Math.max(...samples.map(({ rss }) => rss)), last: samples.at(-1), ms: performance.now() - from };
}

const namespace = `bench-memory-${randomBytes(4).toString("hex")}`;
const database = "reliable_bench";
let broker;
let done = 0;
servers("start", "rabbitmq");
try {
  broker = new ServiceBroker({ namespace, nodeID: "bench", logger: { type: "Console", options: { level: "warn" } } });
  const options = {
    amqp: `amqp://guest:guest@127.0.0.1:${AMQP_PORT}`,
    mongo,
    redis,
    database,
    sweepEveryMs: 200,
    receiptTimeoutMs: 3_600_000
  };
  broker.createService({
    name: "stock",
    mixins: [ReliableEmit(options)],
    events: { "order.created": { reliable: { maxInFlight: 1000 }, handler: () => void done++ } }
  });
  const orders = broker.createService({ name: "orders", mixins: [ReliableEmit(options)] });
  await broker.start();
  while ((await broker.call("reliable.subscriptions")).length === 0) await delay(50);

  const emitAll = async count => {
    let next = 0;
    let resolved = 0;
    const worker = async () => {
      while (next++ < count) {
        await orders.reliableEmit("order.created", payload);
        resolved++;
      }
    };
    const all = Promise.all(Array.from({ length: CONCURRENCY }, worker));
    let ended = false;
    void all.then(
      () => (ended = true),
      () => (ended = true)
    );
    return { all, progress: () => resolved, done: () => ended };
  };

  console.log(`warming up with ${WARM_UP} messages`);
  await (await emitAll(WARM_UP)).all;
  while (done < WARM_UP) await delay(100);

  servers("ctl", "-q", "set_vm_memory_high_watermark", "0");
  await orders.reliableEmit("order.created", payload);
  while (!(await broker.call("reliable.health")).blocked.startsWith("yes")) await delay(50);
  await delay(2000);
  const before = memory();
  console.log(`blocked; RSS ${mib(before.rss)} MiB, heap ${mib(before.heap)} MiB`);
  const emits = await emitAll(MESSAGES);
  const blocked = await watch("emitted", emits.progress, emits.done);
  await emits.all;

  servers("ctl", "-q", "set_vm_memory_high_watermark", "0.6");
  const from = done;
  const drained = await watch(
    "handled",
    () => done - from,
    () => done - from >= DRAINED
  );
  while (DRAINED === MESSAGES) {
    const { pending, published, consumed, dead } = await broker.call("reliable.stats");
    if (!pending && !published) {
      console.log(`consumed ${consumed}, dead ${dead}`);
      break;
    }
    await delay(1000);
  }
  const after = memory();

  // For the row P7 of npm run bench.
  process.send?.({ rss: after.rss - before.rss, heap: after.heap - before.heap });
  const rows = [
    [
      "emitted while RabbitMQ blocks",
      MESSAGES.toLocaleString("en"),
      rate(MESSAGES, blocked.ms),
      mib(before.rss),
      mib(blocked.peak),
      mib(blocked.last.rss),
      `${mib(blocked.last.rss - before.rss)}`,
      mib(blocked.last.heap - before.heap)
    ],
    [
      "drained of this backlog: sent, handled, recorded",
      DRAINED.toLocaleString("en"),
      rate(DRAINED, drained.ms),
      mib(blocked.last.rss),
      mib(drained.peak),
      mib(after.rss),
      mib(after.rss - before.rss),
      mib(after.heap - before.heap)
    ]
  ];
  const table = [
    ["", "messages", "per second", "RSS before", "highest", "after", "growth of RSS", "of the heap"],
    Array(8).fill("---"),
    ...rows
  ]
    .map(cells => `| ${cells.join(" | ")} |`)
    .join("\n");
  const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  const section = `${HEADING}

One process that emits, consumes, tracks and sweeps; ${CONCURRENCY} emits at a time, payload 0.5 KB. RSS and heap (with buffers) in MiB, each second and after a full collection; growth is counted from before the first emit.

${table}

\`npm run bench:memory\`, ${new Date().toISOString().slice(0, 10)}: moleculer-reliable-emit ${version}, Node.js ${process.versions.node}, ${os.type()} ${os.release()}, ${os.cpus().length} cores (${os.cpus()[0].model.trim()}), load ${os.loadavg()[0].toFixed(1)} at the end; all servers on the same machine, and it was shared.
`;
  console.log(`\n${table}`);
  if (MESSAGES === FULL) {
    const text = readFileSync(RESULTS, "utf8");
    const start = text.indexOf(HEADING);
    const next = start < 0 ? -1 : text.indexOf("\n## ", start);
    writeFileSync(
      RESULTS,
      `${(start < 0 ? text : text.slice(0, start)).trimEnd()}\n\n${section}${next < 0 ? "" : text.slice(next)}`
    );
    console.log("\nWritten to bench/results.md.");
  }
} finally {
  await broker?.stop().catch(error => console.error(error));
  servers("stop", "rabbitmq");
  const client = await new MongoClient(mongo).connect();
  for (const { name } of await client.db(database).listCollections({}, { nameOnly: true }).toArray())
    if (name.startsWith(`${namespace}.`)) await client.db(database).dropCollection(name);
  await client.close();
}
