// How late a delayed message comes: RabbitMQ's TTL buckets and the embedded courier's timers, side by side in one run.
//   AMQP_URL=amqp://guest:guest@127.0.0.1:5672 npm run bench:lateness
// Writes the section "Lateness of checks" of bench/results.md. Uses the library's own couriers, from dist. A few
// minutes, loopback only.

import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import os from "node:os";
import { setTimeout as delay } from "node:timers/promises";
import { connect } from "amqplib";
import { AmqpCourier } from "../dist/src/couriers/amqp/courier.js";
import { MemoryCourier } from "../dist/src/couriers/memory/courier.js";
import { systemClock } from "../dist/src/platform/clock.js";

const DELAYS_MS = [1000, 5000];
const ROUNDS = 3;
const TRICKLE = { name: "trickle", count: 200, everyMs: 20 };
const BURST = { name: "burst", count: 2000, everyMs: 0 };
/** What has not come this long after its time is missing. */
const PATIENCE_MS = 60_000;
const BODY = Buffer.from(JSON.stringify({ order: 42, text: "x".repeat(200) }));
const RESULTS = new URL("results.md", import.meta.url);
const HEADING = "## Lateness of checks";

const url = process.env.AMQP_URL ?? "amqp://guest:guest@127.0.0.1:5672";
if (!["127.0.0.1", "localhost", "[::1]"].includes(new URL(url).hostname))
  throw new Error("This benchmark is for a RabbitMQ on this machine only.");

const namespace = `bench-${randomBytes(4).toString("hex")}`;
const target = `${namespace}.reliable.checks`;
const silent = Object.fromEntries(
  ["fatal", "error", "warn", "info", "debug", "trace"].map(level => [level, () => undefined])
);
const logger = { ...silent, warn: console.warn, error: console.error };

/**
 * One load through one delay: per message how late it came, and how long its publish took; from the call of `publish`
 * on.
 */
async function measure(courier, sent, { count, everyMs }, delayMs) {
  const waiting = [];
  const publishes = [];
  for (let i = 0; i < count; i++) {
    const messageId = `${delayMs}-${i}-${randomBytes(4).toString("hex")}`;
    const at = performance.now();
    waiting.push(new Promise(resolve => sent.set(messageId, { at, came: now => resolve(now - at - delayMs) })));
    const publish = courier.publish({
      to: { queue: target, delayMs },
      messageId,
      type: "bench",
      headers: {},
      body: BODY
    });
    publishes.push(
      publish.then(({ outcome, reason }) => {
        if (outcome !== "confirmed") throw new Error(`A publish was ${outcome}: ${reason}.`);
        return performance.now() - at;
      })
    );
    if (everyMs) await delay(everyMs);
  }
  const confirmed = await Promise.all(publishes);
  const patience = new AbortController();
  const late = await Promise.race([Promise.all(waiting), delay(delayMs + PATIENCE_MS, undefined, patience)]);
  patience.abort();
  if (!late) throw new Error(`${sent.size} messages have not come ${PATIENCE_MS / 1000} s after their time.`);
  return { late, confirmed };
}

async function withCourier(courier, use) {
  const sent = new Map();
  let consumption;
  await courier.start();
  try {
    const onDelivery = delivery => {
      const now = performance.now();
      sent.get(delivery.messageId)?.came(now);
      sent.delete(delivery.messageId);
      delivery.ack();
    };
    consumption = await courier.consume({ queue: { name: target }, prefetch: 1000, onDelivery });
    // The buckets are declared at their first use, which is not what is measured.
    await Promise.all(DELAYS_MS.map(delayMs => measure(courier, sent, { count: 1, everyMs: 0 }, delayMs)));
    return await use((load, delayMs) => measure(courier, sent, load, delayMs));
  } finally {
    await consumption?.close();
    // With its buckets.
    await courier.remove(target);
    await courier.close(1000);
  }
}

async function connected() {
  try {
    return await connect(url, { noDelay: true });
  } catch (error) {
    throw new Error(
      `No RabbitMQ at ${new URL(url).host} (${error.message}). To start one: npm run test:servers && eval "$(test/servers/servers env)"`
    );
  }
}

/** Everything this has made, seen to be gone. Returns the broker's name and version. */
async function cleaned() {
  const connection = await connected();
  try {
    const channel = await connection.createChannel();
    await channel.deleteExchange(`${namespace}.reliable.events`);
    for (const queue of [target, ...DELAYS_MS.map(ms => `${target}.delay.${ms}`)]) {
      const looking = await connection.createChannel();
      looking.on("error", () => undefined);
      const left = await looking.checkQueue(queue).then(
        () => true,
        () => false
      );
      if (left) throw new Error(`The queue ${queue} was not removed.`);
    }
    const { product, version, platform } = connection.connection.serverProperties;
    return `${product} ${version} on ${platform}`;
  } finally {
    await connection.close();
  }
}

const samples = new Map();
const couriers = {
  RabbitMQ: () => new AmqpCourier({ urls: url, namespace, nodeID: "bench", logger, clock: systemClock, window: 1000 }),
  embedded: () => new MemoryCourier({ namespace, logger, clock: systemClock })
};
let broker;
await (await connected()).close();
try {
  for (let round = 1; round <= ROUNDS; round++) {
    for (const [name, create] of Object.entries(couriers)) {
      console.log(`round ${round} of ${ROUNDS}: ${name}`);
      await withCourier(create(), async run => {
        const keep = (load, delayMs, result) => {
          const key = [name, `${delayMs / 1000} s`, load.name].join("|");
          const kept = samples.get(key) ?? { late: [], confirmed: [] };
          samples.set(key, {
            late: [...kept.late, ...result.late],
            confirmed: [...kept.confirmed, ...result.confirmed]
          });
        };
        await Promise.all(DELAYS_MS.map(async delayMs => keep(TRICKLE, delayMs, await run(TRICKLE, delayMs))));
        for (const delayMs of DELAYS_MS) keep(BURST, delayMs, await run(BURST, delayMs));
      });
    }
  }
} finally {
  broker = await cleaned();
}

const ms = value => value.toFixed(1);
const at = (sorted, share) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
const rows = [...samples]
  .sort(
    ([a], [b]) =>
      b.split("|")[2].localeCompare(a.split("|")[2]) ||
      a.split("|")[1].localeCompare(b.split("|")[1]) ||
      b.localeCompare(a)
  )
  .map(([key, { late, confirmed }]) => {
    const sorted = late.toSorted((a, b) => a - b);
    const publishes = confirmed.toSorted((a, b) => a - b);
    return [
      ...key.split("|"),
      late.length,
      ms(at(sorted, 0.5)),
      ms(at(sorted, 0.99)),
      ms(sorted.at(-1)),
      ms(sorted[0]),
      ms(at(publishes, 0.5)),
      ms(at(publishes, 0.99))
    ];
  });
const table = [
  ["courier", "delay", "load", "messages", "late p50", "p99", "max", "min", "confirm p50", "p99"],
  Array(10).fill("---"),
  ...rows
]
  .map(cells => `| ${cells.join(" | ")} |`)
  .join("\n");
const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
const amqplib = JSON.parse(
  readFileSync(new URL("../node_modules/amqplib/package.json", import.meta.url), "utf8")
).version;
const section = `${HEADING}

How long after its delay a message came out, in milliseconds, counted from the call that published it; so the publish is part of it, and its share is in the last two columns.
Trickle: ${TRICKLE.count} messages, one each ${TRICKLE.everyMs} ms, through both delays at the same time. Burst: ${BURST.count} at once. ${ROUNDS} rounds, the couriers by turns; every message came. None is early, but for the fraction of a millisecond by which a Node.js timer is (min).

${table}

\`npm run bench:lateness\`, ${new Date().toISOString().slice(0, 10)}: moleculer-reliable-emit ${version}, ${broker}, amqplib ${amqplib}, Node.js ${process.versions.node}, ${os.type()} ${os.release()}, ${os.cpus().length} cores (${os.cpus()[0].model.trim()}), ${Math.round(os.totalmem() / 2 ** 30)} GiB, load ${os.loadavg()[0].toFixed(1)} at the end; broker and benchmark on the same machine.
`;
const before = existsSync(RESULTS) ? readFileSync(RESULTS, "utf8") : "# Results\n";
const from = before.indexOf(HEADING);
const next = from < 0 ? -1 : before.indexOf("\n## ", from);
writeFileSync(
  RESULTS,
  `${(from < 0 ? before : before.slice(0, from)).trimEnd()}\n\n${section}${next < 0 ? "" : before.slice(next)}`
);
console.log(`\n${table}\n\nWritten to bench/results.md.`);
