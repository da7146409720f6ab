"use strict";

const { randomBytes } = require("node:crypto");
const { setTimeout: delay } = require("node:timers/promises");
const { ServiceBroker } = require("moleculer");
const { clean } = require("./clean");

const DEADLINE_MS = 60_000;
const { AMQP_URL: amqp, MONGO_URL: mongo, REDIS_URL: redis } = process.env;
const real = Boolean(amqp || mongo || redis);

/**
 * Options of the mixin: the servers named by AMQP_URL, MONGO_URL and REDIS_URL, or none. Quicker than the defaults, so
 * that it does not take minutes.
 */
const options = {
  ...(real && { amqp, mongo, redis, database: "reliable_demo" }),
  backoff: { initialMs: 300, jitter: "none" },
  sweepEveryMs: 200,
  refreshMs: 200,
  leaseMs: 1000
};

async function until(look) {
  for (const started = Date.now(); Date.now() - started < DEADLINE_MS; await delay(50)) if (await look()) return;
  throw new Error(`not finished after ${DEADLINE_MS / 1000} s`);
}

/** A started Moleculer node with these services. */
async function node(namespace, nodeID, services) {
  const broker = new ServiceBroker({ nodeID, namespace, transporter: "Fake", logger: false });
  for (const service of services) broker.createService(service);
  await broker.start();
  return broker;
}

/** An emit waits only for groups that are known. */
async function groupsKnown(broker, count) {
  await until(async () => (await broker.call("reliable.subscriptions")).length === count);
  await delay(2 * options.refreshMs);
}

/**
 * Runs an example in a namespace of its own, which it cleans up afterwards. `work` returns the brokers to stop; the
 * first has a store. `queues`: of others, to delete.
 */
function run(name, work, { servers = false, queues: further = [] } = {}) {
  const example = async () => {
    if (real && !(amqp && mongo && redis)) throw new Error("set all of AMQP_URL, MONGO_URL and REDIS_URL, or none");
    if (servers && !real)
      throw new Error("this example needs RabbitMQ, MongoDB and Redis: set AMQP_URL, MONGO_URL and REDIS_URL");
    console.log(
      real ? "On RabbitMQ, MongoDB and Redis.\n" : "On the embedded default: in-process courier and store.\n"
    );
    const namespace = `${name}-${randomBytes(3).toString("hex")}`;
    const brokers = await work(namespace);
    const queues = [...further, ...(await brokers[0].call("reliable.subscriptions")).map(({ queue }) => queue)];
    await Promise.all(brokers.map(broker => broker.stop()));
    await clean({ namespace, options }, queues);
  };
  example().catch(error => {
    console.error(`\nThe example failed: ${error.message}`);
    process.exit(1);
  });
}

module.exports = { groupsKnown, node, options, run, until };
