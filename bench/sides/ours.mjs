// Our side.
import { delayQueueName } from "../../dist/src/couriers/amqp/topology.js";
import { systemQueues } from "../../dist/src/wire/names.js";
import { closedLoop, each, oneByOne, percentiles, pipelined } from "../lib/load.mjs";
import {
  amqp,
  consumerService,
  emitOf,
  emitterService,
  mongo,
  payloadOf,
  reliableNode,
  runtimeOf,
  subscribed,
  until
} from "../lib/world.mjs";

/** A group's queue and its subscription, left behind by a consumer that is gone: messages stay in it. */
async function groupAway(namespace) {
  const broker = await reliableNode({
    namespace,
    nodeID: "away",
    options: { redis: undefined },
    services: mixin => [consumerService(mixin, 1, () => undefined)]
  });
  await until(
    async () => (await runtimeOf(broker).storage.store.subscriptions.list()).length === 1,
    "the group's announcement"
  );
  await broker.stop();
}

/** Emits as fast as `concurrency` waiting callers can, on a node that does nothing else. */
async function emits({ namespace, bytes, strategy, concurrency, warmMs, ms, options = {} }) {
  await groupAway(namespace);
  const broker = await reliableNode({
    namespace,
    options: {
      strategy,
      service: false,
      redis: undefined,
      ...(strategy === "callback" && { mongo: undefined }),
      ...options
    },
    services: mixin => [emitterService(mixin)]
  });
  const emit = emitOf(broker);
  const payload = payloadOf(bytes);
  const result = await closedLoop({ concurrency, warmMs, ms, op: () => emit(payload) });
  const totals = { ...runtimeOf(broker).metrics.totals };
  await broker.stop();
  return { ...result, totals };
}

/** Whether no check is on its way: none in the queues that hold them back, none that waits for a tracker. */
async function checksOf(namespace, delays) {
  const model = await amqp();
  const channel = await model.createChannel();
  const { checks } = systemQueues(namespace);
  // Each is answered by its first one: all messages are consumed by then.
  const queues = [checks, delayQueueName(checks, delays[0])];
  let empty = 0;
  const came = async () => {
    const counts = await Promise.all(queues.map(queue => channel.checkQueue(queue)));
    empty = counts.some(({ messageCount }) => messageCount) ? 0 : empty + 1;
    // Of what is delivered and not acked, the count says nothing.
    return empty > 1;
  };
  return { came, close: () => model.close() };
}

/** Of so many order keys one after the other; without: none. */
const orderOf = keys => n => (keys ? { orderKey: `key-${n % keys}` } : undefined);

/**
 * Emits until the last one is `consumed` in the store; with `checked` until each one's check has come, too.
 * Without a `prefetch`: the default.
 */
async function pipeline({
  namespace,
  bytes,
  strategy,
  concurrency,
  prefetch,
  count,
  warm,
  groups = 1,
  pids,
  options = {},
  checked = false,
  profile,
  idleMs,
  orderKeys
}) {
  const numbers = Array.from({ length: groups }, (_, i) => i + 1);
  const broker = await reliableNode({
    namespace,
    options: { strategy, ...options },
    services: mixin => [
      emitterService(mixin),
      ...numbers.map(n => consumerService(mixin, n, () => undefined, prefetch ? { maxInFlight: prefetch } : {}))
    ]
  });
  await subscribed(broker, groups);
  const emit = emitOf(broker);
  const { totals } = runtimeOf(broker).metrics;
  const payload = payloadOf(bytes);
  const order = orderOf(orderKeys);
  const send = n => emit(payload, order(n));
  const reached = async count => {
    await until(() => (totals.consumed ?? 0) >= count, `${count} messages to be consumed; ${JSON.stringify(totals)}`);
    if (checked) await until(checks.came, `the checks of ${count} messages`, { everyMs: 500 });
  };
  const checks = checked && (await checksOf(namespace, options.checkDelaysMs));
  const result = await pipelined({ count, warm, concurrency, pids, send, reached, profile, idleMs });
  if (checked) await checks.close();
  await broker.stop();
  return result;
}

/** From the call of an emit until the handler has it, one after the other. */
async function latency({ namespace, bytes, strategy, count, warm, pauseMs, options = {} }) {
  let arrived;
  const broker = await reliableNode({
    namespace,
    options: { strategy, ...options },
    services: mixin => [emitterService(mixin), consumerService(mixin, 1, () => arrived())]
  });
  await subscribed(broker, 1);
  const emit = emitOf(broker);
  const payload = payloadOf(bytes);
  const op = async () => {
    const from = performance.now();
    let ms;
    const came = new Promise(resolve => (arrived = () => resolve((ms = performance.now() - from))));
    await Promise.all([emit(payload), came]);
    return ms;
  };
  const result = await oneByOne({ count, warm, pauseMs, op });
  await broker.stop();
  return result;
}

/** As many messages on their way, from emit to handler, as may be in flight. */
async function throughput({ namespace, bytes, strategy, inFlight, warmMs, ms, options = {} }) {
  const waiting = [];
  const broker = await reliableNode({
    namespace,
    options: { strategy, ...options },
    services: mixin => [
      emitterService(mixin),
      consumerService(mixin, 1, () => waiting.shift()?.(), { maxInFlight: inFlight })
    ]
  });
  await subscribed(broker, 1);
  const emit = emitOf(broker);
  const payload = payloadOf(bytes);
  const op = async () => {
    const came = new Promise(resolve => waiting.push(resolve));
    await emit(payload);
    await came;
  };
  const result = await closedLoop({ concurrency: inFlight, warmMs, ms, op });
  await broker.stop();
  return result;
}

/**
 * Emits at a fixed rate, whether the system keeps up or not: from the instant an emit was due until its handler ran,
 * and what was handled in time.
 */
async function offered({ namespace, bytes, strategy, rate, warmMs, ms }) {
  const times = [];
  let from = Infinity;
  let handledInTime = 0;
  let handled = 0;
  const to = () => from + ms;
  const onEvent = ctx => {
    handled++;
    const now = performance.timeOrigin + performance.now();
    if (now >= from && now < to()) handledInTime++;
    if (ctx.params.due >= from && ctx.params.due < to()) times.push(now - ctx.params.due);
  };
  const broker = await reliableNode({
    namespace,
    options: { strategy, maxPending: 100_000 },
    services: mixin => [emitterService(mixin), consumerService(mixin, 1, onEvent, { maxInFlight: 500 })]
  });
  await subscribed(broker, 1);
  const emit = emitOf(broker);
  const payload = payloadOf(bytes - 30);
  const begun = performance.timeOrigin + performance.now();
  from = begun + warmMs;
  let sent = 0;
  let refused = 0;
  const emits = [];
  while (true) {
    const now = performance.timeOrigin + performance.now();
    if (now >= to()) break;
    for (const due = Math.floor(((now - begun) / 1000) * rate); sent < due; sent++) {
      const at = begun + ((sent + 1) / rate) * 1000;
      emits.push(emit({ ...payload, due: at }).catch(() => refused++));
    }
    await new Promise(resolve => setTimeout(resolve, 2));
  }
  await Promise.all(emits);
  // What is late belongs to the p99 as well.
  await until(() => handled >= sent - refused, "the late ones", { timeoutMs: 60_000 }).catch(() => undefined);
  const { p50, p99 } = percentiles(times);
  await broker.stop();
  return { perSecond: (handledInTime / ms) * 1000, p50, p99, refused };
}

/** Commands sent to the store per message, from the first emit to the last `consumed`. */
async function operations({ namespace, bytes, strategy, concurrency, prefetch, count, producerOnly, orderKeys }) {
  if (producerOnly) await groupAway(namespace);
  const client = await mongo({ monitorCommands: true });
  const services = mixin =>
    producerOnly
      ? [emitterService(mixin)]
      : [emitterService(mixin), consumerService(mixin, 1, () => undefined, { maxInFlight: prefetch })];
  const broker = await reliableNode({
    namespace,
    options: {
      strategy,
      mongo: client,
      ...(producerOnly && { service: false, redis: undefined, refreshMs: 3_600_000 })
    },
    services
  });
  await subscribed(broker, 1);
  const commands = {};
  const counting = ({ commandName, command }) => {
    const collection = String(command[commandName]).replace(`${namespace}.reliable.`, "");
    if (["ping", "hello", "endSessions"].includes(commandName)) return;
    commands[`${commandName} ${collection}`] = (commands[`${commandName} ${collection}`] ?? 0) + 1;
  };
  client.on("commandStarted", counting);
  const emit = emitOf(broker);
  const payload = payloadOf(bytes);
  const order = orderOf(orderKeys);
  await each(count, concurrency, n => emit(payload, order(n)));
  const { totals } = runtimeOf(broker).metrics;
  if (!producerOnly) await until(() => (totals.consumed ?? 0) >= count, "the last receipt");
  client.off("commandStarted", counting);
  await broker.stop();
  await client.close();
  return { perMessage: Object.values(commands).reduce((sum, n) => sum + n, 0) / count, commands };
}

export default { emits, pipeline, latency, throughput, offered, operations };
