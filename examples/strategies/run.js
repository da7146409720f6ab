"use strict";

// The same services with strategy `outbox`, then with `callback`: node examples/strategies/run.js [outbox|callback]
// AMQP_URL, MONGO_URL and REDIS_URL set: on these servers. None set: on the embedded default. See the README.
const { randomBytes } = require("node:crypto");
const { setTimeout: delay } = require("node:timers/promises");
const { ServiceBroker } = require("moleculer");
const { ReliableService } = require("moleculer-reliable-emit");
const { clean } = require("../clean");
const { account, print, story } = require("../orders/report");
const { measure } = require("./hot-path");
const services = require("./services");

const DEADLINE_MS = 60_000;
const ORDERS = Array.from({ length: 20 }, (_, i) => `order-${i + 1}`);

const { AMQP_URL: amqp, MONGO_URL: mongo, REDIS_URL: redis } = process.env;
const real = Boolean(amqp || mongo || redis);

// Much shorter than the defaults, so that it does not take minutes.
const quick = { backoff: { initialMs: 500 }, sweepEveryMs: 200, refreshMs: 200, checkDelaysMs: [2000, 4000, 8000] };
const node = { ...quick, ...(real && { amqp }) };
const storing = { ...node, ...(real && { mongo, database: "reliable_demo" }) };

async function until(look) {
  for (const started = Date.now(); Date.now() - started < DEADLINE_MS; await delay(50)) if (await look()) return;
  throw new Error(`not finished after ${DEADLINE_MS / 1000} s`);
}

/** Returns whether nothing is missing. */
async function run(strategy) {
  const namespace = `strategies-${strategy}-${randomBytes(3).toString("hex")}`;
  const reserved = [];
  const sent = [];
  const schemas = {
    // The node with the store that all need somewhere: it tracks, sweeps, and answers checks.
    desk: ReliableService({ ...storing, ...(real && { redis }) }),
    stock: services.stock({ ...node, service: false }, reserved),
    mail: services.mail({ ...node, service: false }, sent),
    // With `callback` the producer knows RabbitMQ only.
    orders: services.orders({ ...(strategy === "outbox" ? storing : node), service: false, strategy })
  };
  // Checks ask the producer by a Moleculer call, so the nodes need a transporter; this one works within a process.
  const brokers = Object.entries(schemas).map(([nodeID, schema]) => {
    const broker = new ServiceBroker({ nodeID, namespace, transporter: "Fake", logger: false });
    broker.createService(schema);
    return broker;
  });
  const [desk, , , shop] = brokers;
  await Promise.all(brokers.map(broker => broker.start()));
  await desk.waitForServices("orders");
  // An emit waits only for groups that are known.
  await until(async () => (await desk.call("reliable.subscriptions")).length === 2);
  await delay(2 * quick.refreshMs);

  const [first, ...others] = ORDERS;
  const consumed = count => until(async () => (await desk.call("reliable.stats")).consumed === count);
  const { writes, publishes, ms } = await measure(
    () => shop.call("orders.create", { id: first }),
    () => consumed(1)
  );
  for (const id of others) await shop.call("orders.create", { id });
  await consumed(ORDERS.length);

  console.log(`\nStrategy ${strategy}, nodes ${Object.keys(schemas).join(", ")}, ${ORDERS.length} orders.`);
  story(await desk.call("reliable.get", { id: first }));
  console.log(`What the emit of ${first} cost its producer, who waited ${ms.toFixed(1)} ms:`);
  print([
    ["", "store writes", "publishes"],
    ["before it resolved", writes.before, publishes.before],
    ["in all", writes.inAll, publishes.inAll]
  ]);
  const complete = account(ORDERS, { "reserved by stock": reserved, "mailed by mail": sent });

  const queues = (await desk.call("reliable.subscriptions")).map(({ queue }) => queue);
  await Promise.all(brokers.map(broker => broker.stop()));
  await clean({ namespace, options: { ...storing, redis } }, queues);
  return complete;
}

async function main() {
  const [chosen] = process.argv.slice(2);
  if (chosen && !["outbox", "callback"].includes(chosen))
    throw new Error(`there is no strategy '${chosen}', only outbox and callback`);
  if (real && !(amqp && mongo && redis)) throw new Error("set all of AMQP_URL, MONGO_URL and REDIS_URL, or none");
  console.log(real ? "On RabbitMQ, MongoDB and Redis." : "On the embedded default: in-process courier and store.");
  for (const strategy of chosen ? [chosen] : ["outbox", "callback"])
    if (!(await run(strategy))) throw new Error(`orders are missing with strategy ${strategy}`);
  console.log("Every order is accounted for.");
}

main().catch(error => {
  console.error(`\nThe example failed: ${error.message}`);
  process.exit(1);
});
