// Sweeps beside a key that is held: how long they take with many rows behind one that is dead.

import { BEHIND_AT, placeOf } from "../../dist/src/message/order.js";
import { encodeMessage } from "../../dist/src/stores/documents/codec.js";
import {
  consumerService,
  DATABASE,
  emitterService,
  mongo,
  payloadOf,
  reliableNode,
  runtimeOf,
  subscribed,
  until
} from "../lib/world.mjs";
import { messageOf } from "./document.mjs";
import { dueDocument, finishedDocument, insert, messagesOf } from "./sweep.mjs";

const KEY = "held";
const GROUP = "group-1";
const payload = payloadOf(512);

const rowOf = (n, fields) =>
  encodeMessage(
    messageOf(payload, [GROUP], { order: { key: KEY }, place: placeOf(KEY, n), dueAt: BEHIND_AT, ...fields })
  );

/** A dead one, and so many behind it. */
async function hold(namespace, behind) {
  const client = await mongo();
  const messages = messagesOf(client, namespace);
  const died = { status: "dead", waiting: [], failed: [GROUP], holds: KEY, dueAt: undefined };
  const { _id: id, ...dead } = rowOf(1, died);
  await messages.insertOne({ _id: id, ...dead });
  let n = 2;
  await insert(messages, behind, () => rowOf(n++));
  const now = new Date();
  await client
    .db(DATABASE)
    .collection(`${namespace}.reliable.lanes`)
    .insertOne({
      ...{ _id: KEY, v: behind + 1, top: behind + 1, dueAt: now },
      turns: { [GROUP]: { id, at: 1, number: 1 } }
    });
  await client.close();
}

/** ms of a pass over so many due messages, and of a look at the lanes; the median of several. */
async function sweeps({ namespace, behind, finished = 0, due, passes }) {
  const broker = await reliableNode({
    namespace,
    options: { sweepEveryMs: 86_400_000, redis: undefined },
    services: mixin => [emitterService(mixin), consumerService(mixin, 1, () => undefined)]
  });
  await subscribed(broker, 1);
  if (behind) await hold(namespace, behind);
  const client = await mongo();
  const messages = messagesOf(client, namespace);
  if (finished) await insert(messages, finished, () => finishedDocument());
  const { sweeper, store } = runtimeOf(broker).storage;
  const { totals } = runtimeOf(broker).metrics;
  const times = [];
  for (let n = 0; n <= passes; n++) {
    await insert(messages, due, dueDocument);
    const from = performance.now();
    const { claimed } = await sweeper.once();
    await store.lanes.look(new Date(Date.now() + 86_400_000), 500);
    // The first one is for warming up.
    if (n) times.push(performance.now() - from);
    if (claimed !== due) throw new Error(`${claimed} claimed of ${due}.`);
    await until(() => totals.consumed >= due * (n + 1), "the swept messages to be consumed");
  }
  await client.close();
  await broker.stop();
  return { ms: times.toSorted((a, b) => a - b)[times.length >> 1] };
}

export default { sweeps };
