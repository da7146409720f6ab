// What every side of a measurement shares: addresses, names, payload, the servers' own clients, and how all of it is
// removed again.

import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import { connect } from "amqplib";
import { MongoClient } from "mongodb";
import { delayQueueName } from "../../dist/src/couriers/amqp/topology.js";
import { OPTIONS } from "../../dist/src/options/options.js";
import { eventQueue, prefixOf, systemQueues } from "../../dist/src/wire/names.js";

const require = createRequire(import.meta.url);
/** The store's and the sides' collections; nothing else is ever dropped. */
export const DATABASE = "reliable_bench";
export const EVENT = "bench.event";
export const GROUPS = 10;
/** Delays of checks that a side waits for. */
export const SHORT_CHECKS_MS = [8000, 60_000];

export const urls = {
  amqp: process.env.AMQP_URL ?? "amqp://guest:guest@127.0.0.1:5672",
  mongo: process.env.MONGO_URL ?? "mongodb://127.0.0.1:27017/?replicaSet=rs0",
  redis: process.env.REDIS_URL ?? "redis://127.0.0.1:6379"
};

// Servers that others rely on must not be loaded by mistake.
for (const url of Object.values(urls)) {
  if (!["127.0.0.1", "localhost", "[::1]"].includes(new URL(url).hostname))
    throw new Error(`The benchmark is for servers on this machine only, not for ${new URL(url).host}.`);
}

export const newNamespace = () => `bench-${randomBytes(5).toString("hex")}`;
export const groupName = n => `group-${n}`;
export const groupQueue = (namespace, n) => eventQueue(namespace, groupName(n), EVENT);
export const rawQueue = (namespace, n = 1) => `${namespace}.raw.${n}`;
export const rawExchange = namespace => `${namespace}.raw`;

/** A payload whose JSON has exactly so many bytes. */
export function payloadOf(bytes) {
  const frame = JSON.stringify({ order: 1_000_000, text: "" }).length;
  return { order: 1_000_000, text: "x".repeat(Math.max(0, bytes - frame)) };
}

export async function mongo(options = {}) {
  return new MongoClient(urls.mongo, options).connect();
}

export async function amqp(options = {}) {
  const model = await connect(urls.amqp, { noDelay: true, ...options });
  model.on("error", () => undefined);
  return model;
}

/** A Moleculer broker with our services, started. `mixin` gets the addresses unless told otherwise. */
export async function reliableNode({ namespace, nodeID = "bench", options = {}, services, broker: more = {} }) {
  const { ServiceBroker } = require("moleculer");
  const { ReliableEmit } = require("../../dist/src/index.js");
  const broker = new ServiceBroker({ nodeID, namespace, logger: false, metrics: false, tracing: false, ...more });
  const mixin = ReliableEmit({ amqp: urls.amqp, mongo: urls.mongo, redis: urls.redis, database: DATABASE, ...options });
  for (const service of services(mixin)) broker.createService(service);
  await broker.start();
  return broker;
}

export const emitterService = mixin => ({ name: "producer", mixins: [mixin] });
export const consumerService = (mixin, n, handler, consumer = {}) => ({
  name: groupName(n),
  mixins: [mixin],
  events: { [EVENT]: { reliable: consumer, handler } }
});
export const emitOf = broker => {
  const service = broker.getLocalService("producer");
  return (payload, options) => service.reliableEmit(EVENT, payload, options);
};
export const runtimeOf = broker => broker[Symbol.for("moleculer-reliable-emit.node")].runtime;

/** Until the emits of this node wait for so many groups. */
export async function subscribed(broker, groups) {
  const { subscriptions } = runtimeOf(broker).storage;
  const known = async () => {
    await subscriptions.refresh();
    return subscriptions.groupsFor(EVENT).length >= groups;
  };
  await until(known, "the groups to be known");
}

export async function until(look, what, { timeoutMs = 120_000, everyMs = 10 } = {}) {
  const deadline = performance.now() + timeoutMs;
  while (!(await look())) {
    if (performance.now() > deadline) throw new Error(`Waited ${timeoutMs / 1000} s for ${what}.`);
    await new Promise(resolve => setTimeout(resolve, everyMs));
  }
}

/** Everything a side of this namespace can have made. */
export async function clean(namespace) {
  const client = await mongo();
  for (const { name } of await client.db(DATABASE).listCollections({}, { nameOnly: true }).toArray())
    if (name.startsWith(namespace)) await client.db(DATABASE).dropCollection(name);
  await client.close();
  const system = systemQueues(namespace);
  const numbers = Array.from({ length: GROUPS }, (_, i) => i + 1);
  const queues = [
    ...Object.values(system),
    ...[...SHORT_CHECKS_MS, ...OPTIONS.checkDelaysMs.default].map(delay => delayQueueName(system.checks, delay)),
    ...numbers.flatMap(n => [groupQueue(namespace, n), rawQueue(namespace, n), `${groupName(n)}.${namespace}.${EVENT}`])
  ];
  const model = await amqp();
  const channel = await model.createChannel();
  await Promise.all([
    ...queues.map(queue => channel.deleteQueue(queue)),
    ...[
      `${prefixOf(namespace)}.events`,
      `${prefixOf(namespace)}.control`,
      rawExchange(namespace),
      `${namespace}.${EVENT}`
    ].map(exchange => channel.deleteExchange(exchange))
  ]);
  await model.close();
}
