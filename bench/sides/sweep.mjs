// What runs in the background: sweeps over many rows, a backlog after an outage, partitions, an idle cluster.

import { fork } from "node:child_process";
import { connect, createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { Redis } from "ioredis";
import { encodeMessage } from "../../dist/src/stores/documents/codec.js";
import { each } from "../lib/load.mjs";
import {
  consumerService,
  DATABASE,
  emitOf,
  emitterService,
  mongo,
  payloadOf,
  reliableNode,
  runtimeOf,
  subscribed,
  until,
  urls
} from "../lib/world.mjs";
import { indexesOf, messageOf } from "./document.mjs";

const CHILD = fileURLToPath(new URL("../lib/child.mjs", import.meta.url));
const SLOW = { sweepEveryMs: 86_400_000 };
const PAYLOAD = payloadOf(512);

export const messagesOf = (client, namespace) =>
  client.db(DATABASE).collection(`${namespace}.reliable.messages`, { writeConcern: { w: "majority", j: true } });

/** Inserts `count` documents in batches. */
export async function insert(collection, count, document) {
  const batch = 1000;
  await each(Math.ceil(count / batch), 2, i =>
    collection.insertMany(Array.from({ length: Math.min(batch, count - i * batch) }, document), { ordered: false })
  );
}

export const dueDocument = () => encodeMessage(messageOf(PAYLOAD, ["group-1"], { dueAt: new Date(Date.now() - 1000) }));

export function finishedDocument(now = new Date()) {
  const receipt = { at: now, nodeID: "bench", durationMs: 1, attempt: 1 };
  const { dueAt, ...message } = messageOf(PAYLOAD, [], {
    status: "consumed",
    receipts: { "group-1": receipt },
    publishedAt: now,
    at: now
  });
  return encodeMessage(message);
}

/** Rows as after a long life; a message takes the same space in either state. */
async function fill({ namespace, finished }) {
  const client = await mongo();
  const collection = messagesOf(client, namespace);
  await collection.createIndexes(indexesOf("messages"));
  await insert(collection, finished, () => finishedDocument());
  await client.close();
  return { finished };
}

/** A node that sweeps when it is told to. */
const sweeperNode = (namespace, more = {}) =>
  reliableNode({
    namespace,
    services: mixin => [emitterService(mixin), consumerService(mixin, 1, () => undefined)],
    ...more,
    options: { ...SLOW, redis: undefined, ...more.options }
  });

async function once({ namespace, due }) {
  const broker = await sweeperNode(namespace);
  await subscribed(broker, 1);
  const { sweeper } = runtimeOf(broker).storage;
  const client = await mongo();
  const collection = messagesOf(client, namespace);
  const sweepDue = async count => {
    await insert(collection, count, dueDocument);
    const from = performance.now();
    const { claimed } = await sweeper.once();
    const ms = performance.now() - from;
    if (claimed !== count) throw new Error(`${claimed} claimed of ${count}.`);
    return ms;
  };
  await sweepDue(100);
  const ms = await sweepDue(due);
  const { totals } = runtimeOf(broker).metrics;
  await until(() => totals.consumed >= due + 100, "the swept messages to be consumed");
  await collection.deleteMany({
    _id: {
      $in: (
        await collection
          .find(
            { status: "consumed", at: { $gte: new Date(Date.now() - 600_000) } },
            { projection: { _id: 1 }, limit: 0 }
          )
          .sort({ at: -1 })
          .limit(due + 100)
          .toArray()
      ).map(({ _id }) => _id)
    }
  });
  await client.close();
  await broker.stop();
  return { ms };
}

/** RabbitMQ behind a door. */
async function door() {
  const { hostname: host, port } = new URL(urls.amqp);
  const sockets = new Set();
  const pass = client => {
    const upstream = connect({ host, port: Number(port || 5672) });
    for (const [from, to] of [
      [client, upstream],
      [upstream, client]
    ]) {
      sockets.add(from);
      from
        .setNoDelay(true)
        .on("error", () => undefined)
        .on("close", () => {
          sockets.delete(from);
          to.destroy();
        });
      from.pipe(to);
    }
  };
  let server = createServer(pass);
  await new Promise(resolve => server.listen(0, "127.0.0.1", resolve));
  const at = server.address().port;
  const url = new URL(urls.amqp);
  url.host = `127.0.0.1:${at}`;
  const close = () => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  const open = async () => {
    server = createServer(pass);
    await new Promise(resolve => server.listen(at, "127.0.0.1", resolve));
  };
  return { url: url.href, close, open };
}

/** A steady load, then the door is closed, a backlog is emitted, and the door is opened again. */
async function backlog({ namespace, bytes, concurrency, prefetch, steadyCount, backlog }) {
  const rabbitmq = await door();
  const broker = await reliableNode({
    namespace,
    options: { amqp: rabbitmq.url, maxPending: 100_000 },
    services: mixin => [emitterService(mixin), consumerService(mixin, 1, () => undefined, { maxInFlight: prefetch })]
  });
  await subscribed(broker, 1);
  const { metrics, courier } = runtimeOf(broker);
  const emit = emitOf(broker);
  const payload = payloadOf(bytes);
  const { totals } = metrics;
  const consumed = count =>
    until(() => (totals.consumed ?? 0) >= count, `${count} consumed; ${JSON.stringify(totals)}`, 580_000);
  const load = async count => {
    const from = performance.now();
    await Promise.all([each(count, concurrency, () => emit(payload)), consumed((totals.consumed ?? 0) + count)]);
    return (count / (performance.now() - from)) * 1000;
  };
  await load(Math.ceil(steadyCount / 4));
  const steady = await load(steadyCount);
  rabbitmq.close();
  await until(() => !courier.ready, "the connection to be lost");
  const before = totals.consumed;
  await each(backlog, concurrency, () => emit(payload));
  await rabbitmq.open();
  await until(() => courier.ready, "the connection to be back");
  const from = performance.now();
  await consumed(before + backlog);
  const drain = (backlog / (performance.now() - from)) * 1000;
  await broker.stop();
  rabbitmq.close();
  return { steady, drain };
}

/** A node of its own process that sweeps its partition when told to. */
async function partition({ namespace, nodes, index }) {
  const broker = await sweeperNode(namespace, { nodeID: `sweeper-${index}`, options: { sweeper: false } });
  await subscribed(broker, 1);
  const { sweep } = await import("../../dist/src/sweeper/sweep.js");
  const { bucketsOf } = await import("../../dist/src/sweeper/sweeper.js");
  const { sweeper } = runtimeOf(broker).storage;
  process.send({ ready: true });
  await new Promise(resolve => process.once("message", resolve));
  const counts = await sweep(sweeper.parts, {
    buckets: nodes === 1 ? undefined : bucketsOf([index], nodes),
    token: "bench",
    stillHeld: () => true
  });
  await broker.stop();
  return { pages: counts.pages, claimed: counts.claimed };
}

async function partitioned({ namespace, nodes, due }) {
  const client = await mongo();
  const collection = messagesOf(client, namespace);
  const children = Array.from({ length: nodes }, (_, index) =>
    fork(CHILD, ["sweep.partition", JSON.stringify({ namespace, nodes, index })])
  );
  const said = child =>
    new Promise((resolve, reject) =>
      child.once("message", resolve).once("exit", code => reject(new Error(`A sweeping node ended (${code}).`)))
    );
  await Promise.all(children.map(said));
  await insert(collection, due, dueDocument);
  const from = performance.now();
  const done = Promise.all(children.map(said)).then(counts => ({ counts, ms: performance.now() - from }));
  for (const child of children) child.send("sweep");
  const { counts, ms } = await done;
  await client.close();
  const claimed = counts.reduce((sum, count) => sum + count.claimed, 0);
  if (claimed !== due) throw new Error(`${claimed} swept of ${due}.`);
  return { pagesPerSecond: (claimed / 500 / ms) * 1000 };
}

/** Nodes with everything switched on and nothing to do. */
async function idle({ namespace, nodes, ms }) {
  const client = await mongo({ monitorCommands: true });
  const brokers = [];
  for (let n = 1; n <= nodes; n++)
    brokers.push(
      await reliableNode({
        namespace,
        nodeID: `node-${n}`,
        options: { mongo: client },
        services: mixin => [emitterService(mixin)]
      })
    );
  await until(() => brokers.some(broker => runtimeOf(broker).storage.sweeper.sweeping), "the lease");
  const monitor = await new Redis(urls.redis, { enableReadyCheck: false }).monitor();
  const count = { store: 0, redis: 0 };
  client.on(
    "commandStarted",
    ({ commandName }) => void (["hello", "ping", "endSessions"].includes(commandName) || count.store++)
  );
  monitor.on(
    "monitor",
    (_time, args, source) => void (source !== "lua" && args.some(arg => arg.includes(namespace)) && count.redis++)
  );
  await new Promise(resolve => setTimeout(resolve, ms));
  const perMinute = Object.fromEntries(Object.entries(count).map(([name, n]) => [name, (n / ms) * 60_000]));
  monitor.disconnect();
  await Promise.all(brokers.map(broker => broker.stop()));
  await client.close();
  return perMinute;
}

export default { fill, once, backlog, partition, partitioned, idle };
