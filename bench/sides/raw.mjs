// The peers: what the servers do for a program that knows nothing but their clients.
import { randomUUID } from "node:crypto";
import { closedLoop, counter, oneByOne, pipelined } from "../lib/load.mjs";
import { amqp, DATABASE, EVENT, mongo, payloadOf, rawExchange, rawQueue } from "../lib/world.mjs";

export const WRITE_CONCERN = { w: "majority", j: true };

/** A topic exchange with quorum queues bound to it, and a function that publishes into it as carefully as one can. */
export async function publisher(namespace, groups = 1) {
  const model = await amqp();
  const channel = await model.createConfirmChannel();
  const exchange = rawExchange(namespace);
  await channel.assertExchange(exchange, "topic", { durable: true });
  for (let n = 1; n <= groups; n++) {
    await channel.assertQueue(rawQueue(namespace, n), { durable: true, arguments: { "x-queue-type": "quorum" } });
    await channel.bindQueue(rawQueue(namespace, n), exchange, EVENT);
  }
  const publishTo = (exchange, key, body, messageId, headers) =>
    new Promise((resolve, reject) => {
      const properties = {
        persistent: true,
        mandatory: true,
        messageId,
        type: EVENT,
        contentType: "application/json",
        headers
      };
      channel.publish(exchange, key, body, properties, error => (error ? reject(error) : resolve()));
    });
  const publish = (body, messageId = randomUUID(), headers) => publishTo(exchange, EVENT, body, messageId, headers);
  return { publish, publishTo, close: () => model.close() };
}

/** On a connection of its own, like ours. */
async function consumer(namespace, prefetch, onMessage, n = 1) {
  const model = await amqp();
  const channel = await model.createChannel();
  await channel.prefetch(prefetch);
  await channel.consume(rawQueue(namespace, n), message => {
    onMessage(JSON.parse(message.content.toString()));
    channel.ack(message);
  });
  return { close: () => model.close() };
}

async function publish({ namespace, bytes, window, warmMs, ms }) {
  const { publish, close } = await publisher(namespace);
  const body = Buffer.from(JSON.stringify(payloadOf(bytes)));
  const result = await closedLoop({ concurrency: window, warmMs, ms, op: () => publish(body) });
  await close();
  return result;
}

/** Until the last message has been consumed and acked: what a pipeline without any tracking reaches. */
async function pipeline({ namespace, bytes, window, prefetch, count, warm, pids, idleMs }) {
  const { publish, close } = await publisher(namespace);
  const consumed = counter();
  const consuming = await consumer(namespace, prefetch, () => consumed.add());
  const body = payloadOf(bytes);
  const send = () => publish(Buffer.from(JSON.stringify(body)));
  const result = await pipelined({ count, warm, concurrency: window, pids, send, reached: consumed.reach, idleMs });
  await consuming.close();
  await close();
  return result;
}

/** One after the other: the insert, then the publish, until the consumer has it. */
async function latency({ namespace, bytes, count, warm, pauseMs, insert = true, lookup = false }) {
  const { publish, close } = await publisher(namespace);
  let arrived;
  const client = await mongo();
  const inbox = client.db(DATABASE).collection(`${namespace}.inbox`);
  const consuming = await consumer(namespace, 50, () =>
    lookup ? void inbox.findOne({ _id: randomUUID() }).then(() => arrived()) : arrived()
  );
  const collection = client.db(DATABASE).collection(`${namespace}.rows`, { writeConcern: WRITE_CONCERN });
  const body = payloadOf(bytes);
  const op = async () => {
    const from = performance.now();
    const came = new Promise(resolve => (arrived = resolve));
    const bytes = Buffer.from(JSON.stringify(body));
    if (insert)
      await collection.insertOne({ _id: randomUUID(), body: bytes, status: "pending", createdAt: new Date() });
    await Promise.all([came, publish(bytes)]);
    await came;
    return performance.now() - from;
  };
  const result = await oneByOne({ count, warm, pauseMs, op });
  await consuming.close();
  await close();
  await client.close();
  return result;
}

/** `rows`: "ours" = the documents and indexes of our store, "plain" = the least a hand-written outbox would keep. */
async function insertMany({ namespace, bytes, batch, parallel, warmMs, ms, rows }) {
  const client = await mongo();
  const collection = client.db(DATABASE).collection(`${namespace}.rows`, { writeConcern: WRITE_CONCERN });
  const body = payloadOf(bytes);
  const { document, indexes } = await import("./document.mjs").then(({ shapes }) => shapes[rows]);
  await collection.createIndexes(indexes);
  const op = async () => {
    const documents = Array.from({ length: batch }, () => document(body));
    await collection.insertMany(documents, { ordered: false });
  };
  const { perSecond, ...rest } = await closedLoop({ concurrency: parallel, warmMs, ms, op });
  await client.close();
  return { perSecond: perSecond * batch, ...rest };
}

/** Closes what was inserted before: batches of ids, one command each. */
async function closing({ namespace, bytes, batch, parallel, batches, rows }) {
  const client = await mongo();
  const collection = client.db(DATABASE).collection(`${namespace}.rows`, { writeConcern: WRITE_CONCERN });
  const body = payloadOf(bytes);
  const { document, closing, indexes } = await import("./document.mjs").then(({ shapes }) => shapes[rows]);
  await collection.createIndexes(indexes);
  const open = [];
  for (let n = 0; n < batches; n++) {
    const documents = Array.from({ length: batch }, () => document(body));
    await collection.insertMany(documents, { ordered: false });
    open.push(documents.map(({ _id }) => _id));
  }
  const from = performance.now();
  const close = async () => {
    for (let ids = open.pop(); ids; ids = open.pop()) {
      const { matchedCount } = await collection.bulkWrite(await closing(ids), { ordered: false });
      if (matchedCount !== ids.length) throw new Error(`${matchedCount} of ${ids.length} rows were closed.`);
    }
  };
  await Promise.all(Array.from({ length: parallel }, close));
  const perSecond = (batches * batch * 1000) / (performance.now() - from);
  await client.close();
  return { perSecond };
}

export default { publish, pipeline, latency, insertMany, closing };
