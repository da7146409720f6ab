// The steps of either strategy written by hand with nothing but the servers' clients, as fast as we know how: inserts in
// batches, publishes, many checks in one message, one look for many deliveries, one write for what many have handled,
// one ack for them. No sweeper, no groups, no options, no errors: what a machine can give at most.
import { randomUUID } from "node:crypto";
import { Batcher } from "../../dist/src/async/batcher.js";
import { delayQueueDeclaration } from "../../dist/src/couriers/amqp/topology.js";
import { closedLoop, counter, pipelined } from "../lib/load.mjs";
import { amqp, DATABASE, EVENT, mongo, payloadOf, rawQueue } from "../lib/world.mjs";
import { callbackHeaders, shapes } from "./document.mjs";
import { publisher, WRITE_CONCERN } from "./raw.mjs";

const BATCH = 500;

async function rowsOf(namespace) {
  const client = await mongo();
  const rows = client.db(DATABASE).collection(`${namespace}.rows`, { writeConcern: WRITE_CONCERN });
  await rows.createIndexes(shapes.ours.indexes);
  const inserter = new Batcher({
    maxItems: BATCH,
    parallel: 2,
    write: documents => rows.insertMany(documents, { ordered: false }).then(() => [])
  });
  return { client, rows, insert: document => inserter.add(document) };
}

async function quorumQueue(name, channel) {
  await channel.assertQueue(name, { durable: true, arguments: { "x-queue-type": "quorum" } });
  return name;
}

/** A queue that holds checks back, as ours does. */
async function checksQueue(namespace, channel) {
  const checks = rawQueue(namespace, 2);
  await quorumQueue(rawQueue(namespace, 3), channel);
  await channel.assertQueue(checks, {
    durable: true,
    arguments: delayQueueDeclaration(rawQueue(namespace, 3), 30_000).arguments
  });
  return checks;
}

/**
 * The two publishes of an emit of `callback`, with the headers of ours: the message into its group's queue, a check
 * into one that holds it back.
 */
async function checkedEmits({ namespace, bytes, concurrency, warmMs, ms }) {
  const { publish, publishTo, close } = await publisher(namespace);
  const model = await amqp();
  const checks = await checksQueue(namespace, await model.createChannel());
  const payload = payloadOf(bytes);
  const headers = callbackHeaders(`${namespace}.reliable.callback-receipts`);
  const op = () => {
    const body = Buffer.from(JSON.stringify(payload));
    const id = randomUUID();
    return Promise.all([publish(body, id, headers), publishTo("", checks, body, id, headers)]);
  };
  const result = await closedLoop({ concurrency, warmMs, ms, op });
  await model.close();
  await close();
  return result;
}

/** An emit: what is stored and sent, and what of it is waited for. */
async function emitting({ namespace, strategy, insert }) {
  const { publish, publishTo, close } = await publisher(namespace);
  const model = await amqp();
  const checks = await checksQueue(namespace, await model.createChannel());
  const headers = callbackHeaders(rawQueue(namespace, 4));
  const checked = new Batcher({
    maxItems: 100,
    write: async items => {
      await publishTo("", checks, Buffer.from(JSON.stringify(items)), randomUUID(), { "x-reliable-kind": "checks" });
      return [];
    }
  });
  const published = new Set();
  const outbox = async payload => {
    const document = shapes.ours.document(payload);
    await insert(document);
    const sent = publish(document.body, document._id).finally(() => published.delete(sent));
    published.add(sent);
  };
  const callback = payload => {
    const id = randomUUID();
    const body = Buffer.from(JSON.stringify(payload));
    return Promise.all([publish(body, id, headers), checked.add({ id, body: body.toString("base64") })]);
  };
  const end = async () => {
    await Promise.all(published);
    await model.close();
    await close();
  };
  return { emit: strategy === "outbox" ? outbox : callback, end };
}

/** Stores, then publishes without waiting for it; nobody consumes. */
async function emits({ namespace, bytes, concurrency, warmMs, ms }) {
  const { client, insert } = await rowsOf(namespace);
  const { emit, end } = await emitting({ namespace, strategy: "outbox", insert });
  const payload = payloadOf(bytes);
  const result = await closedLoop({ concurrency, warmMs, ms, op: () => emit(payload) });
  await end();
  await client.close();
  return result;
}

/** A consumer whose deliveries are looked for (`remember`), handled by `onMessage`, recorded and acked, many at a time. */
async function handling({ namespace, strategy, rows, remember, prefetch, onMessage, onRecorded }) {
  const model = await amqp();
  const channel = await model.createChannel();
  const recorded = new Batcher({
    maxItems: BATCH,
    write: async messages => {
      const ids = messages.map(message => message.properties.messageId);
      const at = new Date();
      const receipt = { at, nodeID: "bench", durationMs: 0, attempt: 1 };
      const closed = { waiting: [], status: "consumed", at };
      if (strategy === "outbox")
        await rows.updateMany(
          { _id: { $in: ids }, status: "pending" },
          { $set: { "groups.group-1.receipt": receipt, ...closed }, $unset: { dueAt: true } }
        );
      else
        await rows.insertMany(
          ids.map(_id => ({
            _id,
            v: 2,
            event: EVENT,
            strategy,
            groups: { "group-1": { receipt } },
            ...closed,
            createdAt: at
          })),
          { ordered: false }
        );
      channel.ack(messages.at(-1), true);
      onRecorded(ids.length);
      return [];
    }
  });
  const handle = message => {
    JSON.parse(message.content.toString());
    onMessage();
    void recorded.add(message);
  };
  const looked = new Batcher({
    maxItems: BATCH,
    write: async messages => {
      const ids = messages.map(message => message.properties.messageId);
      await rows.find({ _id: { $in: ids }, status: "consumed" }, { projection: { _id: 1 } }).toArray();
      for (const message of messages) handle(message);
      return [];
    }
  });
  await channel.prefetch(prefetch);
  await channel.consume(rawQueue(namespace), message => (remember ? void looked.add(message) : handle(message)));
  return async () => {
    await recorded.idle();
    await model.close();
  };
}

/** As many messages on their way, from the send until the handler runs, as may be in flight. */
async function throughput({ namespace, bytes, strategy, inFlight, inbox: remember, warmMs, ms }) {
  const { client, rows, insert } = await rowsOf(namespace);
  const waiting = [];
  const { emit, end } = await emitting({ namespace, strategy, insert });
  const stop = await handling({
    ...{ namespace, strategy, rows, remember, prefetch: inFlight },
    onMessage: () => waiting.shift()?.(),
    onRecorded: () => undefined
  });
  const payload = payloadOf(bytes);
  const op = async () => {
    const came = new Promise(resolve => waiting.push(resolve));
    await emit(payload);
    await came;
  };
  const result = await closedLoop({ concurrency: inFlight, warmMs, ms, op });
  await stop();
  await end();
  await client.close();
  return result;
}

/** Until the last message is `consumed` in the store. */
async function pipeline({ strategy = "outbox", inbox: remember = true, ...load }) {
  const { namespace, bytes, concurrency, prefetch, count, warm, pids, idleMs } = load;
  const { client, rows, insert } = await rowsOf(namespace);
  const consumed = counter();
  const { emit, end } = await emitting({ namespace, strategy, insert });
  const stop = await handling({
    ...{ namespace, strategy, rows, remember, prefetch },
    onMessage: () => undefined,
    onRecorded: consumed.add
  });
  const payload = payloadOf(bytes);
  const send = () => emit(payload);
  const result = await pipelined({ count, warm, concurrency, pids, idleMs, send, reached: consumed.reach });
  await stop();
  await end();
  await client.close();
  return result;
}

export default { emits, checkedEmits, throughput, pipeline };
