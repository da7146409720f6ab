// The steps of an outbox written by hand with nothing but the servers' clients, as fast as we know how: insert in
// batches, publish, inbox in batches, receipts by the hundred, one update for all of them. No sweeper, no due times, no
// groups, no errors: what a machine can give at most.
import { randomUUID } from "node:crypto";
import { Batcher } from "../../dist/src/async/batcher.js";
import { delayQueueDeclaration } from "../../dist/src/couriers/amqp/topology.js";
import { closedLoop, counter, pipelined } from "../lib/load.mjs";
import { amqp, DATABASE, mongo, payloadOf, rawQueue } from "../lib/world.mjs";
import { callbackHeaders, shapes } from "./document.mjs";
import { publisher, WRITE_CONCERN } from "./raw.mjs";

const BATCH = 500;

async function rowsOf(namespace) {
  const client = await mongo();
  const collection = name => client.db(DATABASE).collection(`${namespace}.${name}`, { writeConcern: WRITE_CONCERN });
  const rows = collection("rows");
  await rows.createIndexes(shapes.ours.indexes);
  const inserter = new Batcher({
    maxItems: BATCH,
    parallel: 2,
    write: documents => rows.insertMany(documents, { ordered: false }).then(() => [])
  });
  return { client, rows, inbox: collection("inbox"), insert: document => inserter.add(document) };
}

/** Stores, then publishes without waiting for it: as an emit. */
async function emits({ namespace, bytes, concurrency, warmMs, ms }) {
  const { publish, close } = await publisher(namespace);
  const { client, insert } = await rowsOf(namespace);
  const payload = payloadOf(bytes);
  const published = new Set();
  const op = async () => {
    const document = shapes.ours.document(payload);
    await insert(document);
    const sent = publish(document.body, document._id).finally(() => published.delete(sent));
    published.add(sent);
  };
  const result = await closedLoop({ concurrency, warmMs, ms, op });
  await Promise.all(published);
  await close();
  await client.close();
  return result;
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

/**
 * One message at a time, from the send until its handler runs, while the one before is answered, acked and recorded:
 * the steps of either strategy, with an inbox or without.
 */
async function throughput({ namespace, bytes, strategy, inbox: remember, warmMs, ms }) {
  const { publish, publishTo, close } = await publisher(namespace);
  const { client, rows, inbox, insert } = await rowsOf(namespace);
  const model = await amqp();
  const channel = await model.createChannel();
  const checks = await checksQueue(namespace, channel);
  const receipts = await quorumQueue(rawQueue(namespace, 4), channel);
  let arrived;
  let answered;
  await channel.prefetch(1);
  const handle = async message => {
    const { messageId: _id } = message.properties;
    JSON.parse(message.content.toString());
    if (remember) await inbox.findOne({ _id });
    arrived();
    if (remember) await inbox.insertOne({ _id, at: new Date() });
    await publishTo("", receipts, Buffer.from(JSON.stringify([_id])), _id);
    channel.ack(message);
  };
  await channel.consume(rawQueue(namespace), message => (answered = handle(message)));
  const tracking = await model.createChannel();
  let held = [];
  await tracking.consume(receipts, message => void held.push(message));
  const record = async () => {
    const messages = held;
    held = [];
    if (!messages.length) return;
    const ids = messages.flatMap(message => JSON.parse(message.content.toString()));
    const now = new Date();
    const said = { waiting: [], status: "consumed", at: now };
    if (strategy === "outbox")
      await rows.updateMany({ _id: { $in: ids }, status: "pending" }, { $set: said, $unset: { dueAt: true } });
    else
      await rows.insertMany(
        ids.map(_id => ({ ...shapes.ours.document({}), _id, ...said })),
        { ordered: false }
      );
    tracking.ack(messages.at(-1), true);
  };
  const recording = setInterval(() => void record(), 50);
  const payload = payloadOf(bytes);
  const headers = callbackHeaders(receipts);
  const op = async () => {
    const came = new Promise(resolve => (arrived = resolve));
    const document = shapes.ours.document(payload);
    const { _id, body } = document;
    if (strategy === "outbox") await insert(document);
    const sent = publish(body, _id, headers);
    if (strategy === "callback") await Promise.all([sent, publishTo("", checks, body, _id, headers)]);
    await came;
  };
  const result = await closedLoop({ concurrency: 1, warmMs, ms, op });
  await answered;
  clearInterval(recording);
  await record();
  await model.close();
  await close();
  await client.close();
  return result;
}

/** Until the last message is `consumed` in the store. */
async function pipeline({ namespace, bytes, concurrency, prefetch, count, warm, pids, inbox: remember = true }) {
  const { publish, close } = await publisher(namespace);
  const { client, rows, inbox, insert } = await rowsOf(namespace);
  const model = await amqp();
  const channel = await model.createChannel();
  const answers = await model.createConfirmChannel();
  const receipts = await quorumQueue(rawQueue(namespace, 4), channel);
  const consumed = counter();
  const handled = new Batcher({
    maxItems: BATCH,
    write: async messages => {
      const ids = messages.map(message => message.properties.messageId);
      if (remember)
        await inbox.insertMany(
          ids.map(_id => ({ _id, at: new Date() })),
          { ordered: false }
        );
      await new Promise((resolve, reject) =>
        answers.sendToQueue(receipts, Buffer.from(JSON.stringify(ids)), { persistent: true, mandatory: true }, error =>
          error ? reject(error) : resolve()
        )
      );
      channel.ack(messages.at(-1), true);
      return [];
    }
  });
  const recorded = new Batcher({
    maxItems: BATCH,
    write: async messages => {
      const ids = messages.flatMap(message => JSON.parse(message.content.toString()));
      const now = new Date();
      const receipt = { "groups.group-1.receipt": { at: now, nodeID: "bench", durationMs: 0, attempt: 1 } };
      await rows.updateMany(
        { _id: { $in: ids }, status: "pending" },
        {
          $set: { ...receipt, waiting: [], status: "consumed", at: now },
          $unset: { dueAt: true }
        }
      );
      tracking.ack(messages.at(-1), true);
      consumed.add(ids.length);
      return [];
    }
  });
  const tracking = await model.createChannel();
  await channel.prefetch(prefetch);
  await channel.consume(rawQueue(namespace), message => {
    JSON.parse(message.content.toString());
    void handled.add(message);
  });
  await tracking.consume(receipts, message => void recorded.add(message));
  const payload = payloadOf(bytes);
  const send = async () => {
    const document = shapes.ours.document(payload);
    await insert(document);
    void publish(document.body, document._id);
  };
  const result = await pipelined({ count, warm, concurrency, pids, send, reached: consumed.reach });
  await model.close();
  await close();
  await client.close();
  return result;
}

export default { emits, checkedEmits, throughput, pipeline };
