// A load with and without finished messages beside it that are old enough to be pruned.
import { performance } from "node:perf_hooks";
import { inboxRow } from "../../dist/src/stores/documents/inbox.js";
import { each, percentiles } from "../lib/load.mjs";
import {
  consumerService,
  DATABASE,
  emitOf,
  emitterService,
  groupName,
  mongo,
  payloadOf,
  reliableNode,
  runtimeOf,
  subscribed,
  until
} from "../lib/world.mjs";
import { indexesOf } from "./document.mjs";
import { finishedDocument, insert, messagesOf } from "./sweep.mjs";

const DAY = 86_400_000;
const WARM_MS = 3000;
const now = () => performance.timeOrigin + performance.now();

const inboxOf = (client, namespace) =>
  client.db(DATABASE).collection(`${namespace}.reliable.inbox`, { writeConcern: { w: "majority", j: true } });

/** Finished a day longer ago than messages are kept by default, a second between any two thousand. */
async function fill(client, namespace, old, inboxShare) {
  const messages = messagesOf(client, namespace);
  await messages.createIndexes(indexesOf("messages"));
  let made = 0;
  const at = () => new Date(Date.now() - 8 * DAY + Math.floor(made++ / 2000) * 1000);
  await insert(messages, old, () => finishedDocument(at()));
  const inbox = inboxOf(client, namespace);
  await inbox.createIndexes(indexesOf("inbox"));
  made = 0;
  const rows = Math.round(old * inboxShare);
  if (rows) await insert(inbox, rows, () => inboxRow(groupName(1), `old-${made}`, at()));
}

async function node(namespace, handler, options = {}) {
  const broker = await reliableNode({
    namespace,
    options,
    services: mixin => [emitterService(mixin), consumerService(mixin, 1, handler, { maxInFlight: 500 })]
  });
  await subscribed(broker, 1);
  return broker;
}

/** Emits at a fixed rate; `times` from the instant an emit was due until its handler ran, of those due after the warm-up. */
async function steady({ emit, payload, rate, ms, handled }) {
  const begun = now();
  const from = begun + WARM_MS;
  const times = [];
  handled.now = ({ params: { due } }) => void (due >= from && times.push(now() - due));
  const emits = [];
  for (let sent = 0; now() < from + ms; ) {
    for (const due = Math.floor(((now() - begun) / 1000) * rate); sent < due; sent++)
      emits.push(emit({ ...payload, due: begun + ((sent + 1) / rate) * 1000 }));
    await new Promise(resolve => setTimeout(resolve, 2));
  }
  await Promise.all(emits);
  return { sent: emits.length, times };
}

const consumedOf = broker => runtimeOf(broker).metrics.totals.consumed ?? 0;

async function loaded({ broker, bytes, sustainable, ms, handled }) {
  const before = consumedOf(broker);
  const rate = sustainable / 2;
  const { sent, times } = await steady({ emit: emitOf(broker), payload: payloadOf(bytes - 30), rate, ms, handled });
  await until(() => consumedOf(broker) >= before + sent, `${sent} messages to be consumed`);
  return percentiles(times);
}

/**
 * What the node sustains; then half of it, beside as many finished rows, which are kept for longer here: what it costs a
 * database to have taken them in is not pruning. And how many rows of the inbox a message makes.
 */
async function without({ namespace, bytes, concurrency, count, ms, oldTimes }) {
  const handled = { now: () => undefined };
  const broker = await node(namespace, ctx => handled.now(ctx), { retainMs: 30 * DAY });
  const emit = emitOf(broker);
  const payload = payloadOf(bytes);
  const load = async count => {
    const before = consumedOf(broker);
    const from = performance.now();
    await each(count, concurrency, () => emit(payload));
    await until(() => consumedOf(broker) >= before + count, `${count} messages to be consumed`);
    return (count / (performance.now() - from)) * 1000;
  };
  await load(Math.ceil(count / 5));
  const sustainable = await load(count);
  const client = await mongo();
  const [rows, inbox] = await Promise.all([messagesOf, inboxOf].map(of => of(client, namespace).countDocuments({})));
  const [old, inboxShare] = [Math.ceil((sustainable * oldTimes * ms) / 1000), inbox / rows];
  await fill(client, namespace, old, inboxShare);
  await client.close();
  const times = await loaded({ broker, bytes, sustainable, ms, handled });
  await broker.stop();
  return { sustainable, inboxShare, old, ...times };
}

/** The same load on a node that has begun to prune. */
async function beside({ namespace, bytes, sustainable, inboxShare, old, ms }) {
  const client = await mongo();
  await fill(client, namespace, old, inboxShare);
  await client.close();
  const handled = { now: () => undefined };
  const broker = await node(namespace, ctx => handled.now(ctx));
  const { totals } = runtimeOf(broker).metrics;
  let begun;
  let last;
  const look = setInterval(() => {
    const pruned = totals.pruned ?? 0;
    if (pruned && !begun) begun = { at: performance.now(), pruned };
    if (pruned && pruned !== last?.pruned) last = { at: performance.now(), pruned };
  }, 20);
  const times = await loaded({ broker, bytes, sustainable, ms, handled });
  clearInterval(look);
  await broker.stop();
  if (!begun || last.pruned === begun.pruned) throw new Error(`Nothing was pruned: ${JSON.stringify(totals)}`);
  const removedPerSecond = ((last.pruned - begun.pruned) / (last.at - begun.at)) * 1000;
  return { removedPerSecond, removed: last.pruned, old, ...times };
}

export default { without, beside };
