import type { EventEmitter } from "node:events";
import v8 from "node:v8";
import { Redis } from "ioredis";
import { ServiceBroker } from "moleculer";
import { MongoClient } from "mongodb";
import { expect, it, onTestFinished } from "vitest";
import type { ReliableOptions } from "../../src";
import { Consumer } from "../../src/consumer/consumer";
import { Runtime } from "../../src/runtime/runtime";
import { backend, type Cluster, cluster, until } from "../support/brokers";
import { proxied } from "../support/proxied";
import { channelsOf } from "../support/rabbitmq";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, errorOf } from "../support/services";

const ROUNDS = 50;
/** Until modules, pools and caches have come to rest. */
const WARM_UP = 5;

const timeout = setTimeout(() => undefined, 0);
const Timeout = timeout.constructor as new () => object;
clearTimeout(timeout);

/**
 * Everything of ours or of Node.js' that a stop must not leave behind. The count of objects is taken after a
 * collection.
 */
function held(emitters: EventEmitter[]): Record<string, number> {
  const resources: Record<string, number> = {};
  for (const name of process.getActiveResourcesInfo()) resources[name] = (resources[name] ?? 0) + 1;
  const listeners = emitters.map(at => at.eventNames().reduce((sum, name) => sum + at.listenerCount(name), 0));
  const { Timeout: _, ...others } = resources;
  // Unreferenced timers, too, which that list does not name.
  return {
    ...others,
    timers: v8.queryObjects(Timeout, { format: "count" }),
    runtimes: v8.queryObjects(Runtime, { format: "count" }),
    consumers: v8.queryObjects(Consumer, { format: "count" }),
    brokers: v8.queryObjects(ServiceBroker, { format: "count" }),
    ...Object.fromEntries(listeners.map((count, i) => [`listeners ${i}`, count]))
  };
}

const node = (made: Cluster, options: ReliableOptions) => {
  const broker = new ServiceBroker({ nodeID: `leaky-${made.namespace}`, namespace: made.namespace, logger: false });
  broker.createService(emitter(made.mixin(options)));
  broker.createService(consumer(made.mixin(options), "stock", "order.created", () => undefined));
  return broker;
};

async function startAndStop(made: Cluster, options: ReliableOptions): Promise<void> {
  const broker = node(made, options);
  await broker.start();
  // Both strategies, so that every part has been used.
  await Promise.all([
    emitterOf(broker)("order.created", {}, { groups: "stock", waitFor: "consumed" }),
    emitterOf(broker)("order.created", {}, { strategy: "callback" })
  ]);
  await broker.stop();
}

async function rounds(
  made: Cluster,
  options: ReliableOptions,
  emitters: EventEmitter[] = []
): Promise<{ before: Record<string, number>; after: Record<string, number> }> {
  for (let i = 0; i < WARM_UP; i++) await startAndStop(made, options);
  const before = held([process, ...emitters]);
  for (let i = 0; i < ROUNDS; i++) await startAndStop(made, options);
  let after = before;
  // What is on its way out (sockets closing) may take its time; what is held stays.
  await until(
    () => (after = held([process, ...emitters])),
    seen => grown(before, seen).length === 0,
    10_000
  ).catch(() => undefined);
  return { before, after };
}

/** A handful of either may come and go; one a round may not stay. */
function grown(before: Record<string, number>, after: Record<string, number>): string[] {
  return Object.entries(after).flatMap(([name, count]) =>
    count - (before[name] ?? 0) > (name.startsWith("listeners") ? 0 : ROUNDS / 5)
      ? [`${name}: ${before[name] ?? 0} → ${count}`]
      : []
  );
}

it("50 starts and stops leave no timer, listener, broker or handle behind", { timeout: 240_000 }, async () => {
  const { before, after } = await rounds(cluster(), { retainMs: 60_000 });
  expect(grown(before, after)).toEqual([]);
});

it("50 services that come and go on a node that stays leave no channel, timer or listener behind", {
  timeout: 240_000
}, async () => {
  const made = cluster();
  const nodeID = `staying-${made.namespace}`;
  const broker = await made.node(nodeID, [emitter(made.mixin())]);
  const comeAndGo = async () => {
    const service = broker.createService(consumer(made.mixin(), "stock", "order.created", () => undefined));
    await broker.waitForServices("stock", 10_000, 5);
    await emitterOf(broker)("order.created", {}, { groups: ["stock"], waitFor: "consumed" });
    await broker.destroyService(service);
  };
  const channels = () => (backend === "real" ? channelsOf(nodeID) : []);
  for (let i = 0; i < WARM_UP; i++) await comeAndGo();
  const [before, open] = [held([process]), await channels()];
  for (let i = 0; i < ROUNDS; i++) await comeAndGo();
  let after = before;
  await until(
    () => (after = held([process])),
    seen => grown(before, seen).length === 0,
    10_000
  ).catch(() => undefined);
  expect(grown(before, after)).toEqual([]);
  if (backend === "real") expect(open).toHaveLength(2);
  // Channels for one declare come and go.
  await until(channels, now => now.length === open.length && now.every((count, i) => count <= Number(open[i]) + 2));
});

if (backend === "real") {
  it("nor a connection to any server, not after a start that failed either", { timeout: 240_000 }, async () => {
    const { options, proxies } = await proxied();
    const made = cluster();
    for (let i = 0; i < 10; i++) await startAndStop(made, options);
    await until(
      () => proxies.map(({ open }) => open),
      open => open.every(count => count === 0),
      10_000
    );
    await until(
      () => channelsOf(`leaky-${made.namespace}`),
      connections => connections.length === 0
    );
    const opened = proxies.map(({ accepted }) => accepted);
    // They were used.
    expect(opened.every(count => count >= 10)).toBe(true);
    for (let i = 0; i < 5; i++) {
      const broker = node(made, { ...options, amqp: (options.amqp as string).replace("guest:guest", "guest:wrong") });
      expect((await errorOf(broker.start())).type).toBe("RELIABLE_ACCESS_REFUSED");
      await broker.stop().catch(() => undefined);
    }
    await until(
      () => proxies.map(({ open }) => open),
      open => open.every(count => count === 0),
      10_000
    );
  });

  it("nor a listener on clients that were given", { timeout: 240_000 }, async () => {
    const mongo = new MongoClient(urls().mongo);
    const redis = new Redis(urls().redis);
    onTestFinished(async () => {
      await mongo.close();
      redis.disconnect();
    });
    const { before, after } = await rounds(cluster(), { mongo, redis }, [mongo, redis]);
    expect(grown(before, after)).toEqual([]);
    // Theirs, and not closed by us.
    expect([await redis.ping(), (await mongo.db("admin").command({ ping: 1 })).ok]).toEqual(["PONG", 1]);
  });
}
