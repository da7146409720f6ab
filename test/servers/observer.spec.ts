import { connect } from "amqplib";
import type { ServiceBroker } from "moleculer";
import { MongoClient } from "mongodb";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { type BulkBegun, type BulkStory, type ReliableOptions, ReliableService } from "../../src";
import type { Overview } from "../../src/operator/overview";
import { tellSweepers } from "../../src/outbound/control-messages";
import { systemClock } from "../../src/platform/clock";
import type { Look } from "../../src/wire/control";
import { prefixOf, SWEEPERS_KEY, systemQueues } from "../../src/wire/names";
import { type Cluster, cluster, until } from "../support/brokers";
import { startNode } from "../support/child";
import { at, deadOf, messageOf } from "../support/messages";
import type { ObserverNode } from "../support/observer-node";
import { courierOf, rowOf, runtimeOf, storeOf } from "../support/runtime";
import { urls } from "../support/servers";
import { consumer, emitter, errorOf, subscribed } from "../support/services";

const ALONE = { transporter: null } as never;
/** Of the cluster: so that nothing is found by the next sweep or look before the test has ended. */
const SLOW = { sweepEveryMs: 3_600_000 };
const KEY = { signingKey: "k".repeat(40), signing: "require" } as const;

const observer = (made: Cluster, options: ReliableOptions = {}) =>
  ReliableService({ ...made.options(options), observer: true });
const overviewOf = (broker: ServiceBroker) => broker.call<Overview, object>("reliable.overview", {});
const bulkOf = (broker: ServiceBroker, id: string) => broker.call<BulkStory, object>("reliable.bulks", { id });

describe.each<[string, ReliableOptions]>([
  ["unsigned", {}],
  ["signed", KEY]
])("beside a cluster, without a transporter, %s", { timeout: 400_000 }, (_, signing) => {
  async function world() {
    const made = cluster();
    const handled: string[] = [];
    const take = (ctx: { locals: { reliable: { id: string } } }) => void handled.push(ctx.locals.reliable.id);
    const options = { ...SLOW, ...signing };
    const home = await made.node(
      "home",
      [consumer(made.mixin(options), "stock", "order.created", take as never)],
      ALONE
    );
    await subscribed(home, 1);
    const desk = await made.node("desk", [observer(made, signing)], ALONE);
    return { home, desk, handled };
  }

  it("it shows the cluster, and which nodes it has not asked", async () => {
    const { desk, home } = await world();
    // A busy machine is told first, and the depth of a queue is as RabbitMQ has counted it lately.
    const overview = await until(
      () => overviewOf(desk),
      ({ level, leaseHolders, groups }) =>
        level === "ok" && groups[0]?.consumers === 1 && leaseHolders?.[0]?.startsWith("home#") === true
    );
    expect(overview).toMatchObject({
      level: "ok",
      nodeID: "desk",
      groups: [{ group: "stock", ready: 0, consumers: 1 }],
      nodes: [
        { nodeID: "desk", kind: "observer", answers: true, health: { ok: true, sweeping: "off" } },
        { nodeID: "home", kind: "unasked", answers: null }
      ]
    });
    expect((await overviewOf(home)).nodes).toMatchObject([{ nodeID: "home" }]);
  });

  it("a retry and a bulk act that it begins are the cluster's at once, and stay so when it is gone", async () => {
    const { home, desk, handled } = await world();
    const rows = Array.from({ length: 30 }, (_, n) => deadOf({ at: at(n) }));
    await storeOf(home).messages.insert(rows);
    const [first = ""] = rows.map(({ _id }) => _id);
    await desk.call("reliable.retry", { ids: [first], note: "one first", by: "anna" });
    await until(() => handled.includes(first));
    const { id = "" } = await desk.call<BulkBegun, object>("reliable.bulk", {
      ...{ act: "retry", status: "dead", perSecond: 10, note: "the rest", by: "anna" }
    });
    await until(
      () => bulkOf(home, id),
      ({ nodeID, done }) => nodeID === "home" && done > 0,
      60_000
    );
    await desk.stop();
    const story = await until(
      () => bulkOf(home, id),
      ({ state, handled }) => state === "done" && handled === 29,
      60_000
    );
    expect(story).toMatchObject({ matched: 29, done: 29, by: "anna" });
  });

  it("a pass by hand is made by the cluster", async () => {
    const { home, desk, handled } = await world();
    // Long due: a node that was busy when it asked for the store's time is behind it by that until it asks again.
    const row = messageOf({ dueAt: at(0), waiting: ["stock"] });
    await storeOf(home).messages.insert([row]);
    expect(await desk.call("reliable.sweep", { note: "now" })).toEqual({ asked: 1 });
    await until(() => handled.includes(row._id));
  });
});

it("what is not signed starts nothing where that is required", async () => {
  const made = cluster();
  const home = await made.node("home", [emitter(made.mixin({ ...SLOW, ...KEY }))], ALONE);
  const stranger = await made.node("stranger", [observer(made)], ALONE);
  // It looks for bulk acts by itself, when it begins to hear and to sweep; for what is due only when it is told.
  const heard: Look[] = [];
  onTestFinished(runtimeOf(home).events.on("toDo", look => heard.push(look)));
  await until(async () => (await tellSweepers(courierOf(stranger), "due", systemClock)).outcome === "confirmed");
  await until(() => made.logs.some(line => line.includes("left aside: control without a signature")));
  // News is passed on some time after it is heard, all at once: signed news ends the wait.
  const before = heard.length;
  await tellSweepers(courierOf(home), "bulks", systemClock);
  await until(() => heard.length > before);
  expect(heard).not.toContain("due");
});

it("killed in the middle of a bulk act, it changes nothing", { timeout: 400_000 }, async () => {
  const made = cluster();
  const home = await made.node("home", [consumer(made.mixin(SLOW), "stock", "order.created", () => undefined)]);
  await subscribed(home, 1);
  await storeOf(home).messages.insert(Array.from({ length: 40 }, (_, n) => deadOf({ at: at(n) })));
  const node: ObserverNode = { namespace: made.namespace, nodeID: "desk", options: made.options() };
  const desk = await startNode("test/support/observer-node.ts", { env: { NODE: JSON.stringify(node) } });
  await desk.next("started");
  desk.tell("bulk", { act: "retry", status: "dead", perSecond: 10, note: "x", by: "anna" });
  const { id = "" } = await desk.next<BulkBegun>("begun");
  await desk.kill("SIGKILL");
  const story = await until(
    () => bulkOf(home, id),
    ({ state, handled }) => state === "done" && handled === 40,
    60_000
  );
  expect(story).toMatchObject({ matched: 40, done: 40 });
});

it("of the cluster's work it does nothing, and makes nothing at the servers", async () => {
  const made = cluster();
  const quick = { sweepEveryMs: 50, refreshMs: 50, retainMs: 1000, retainBodiesMs: 1000, repairEveryMs: 100 };
  const broker = made.broker("desk", ALONE);
  broker.createService(observer(made, quick));
  await broker.start();
  const store = storeOf(broker);
  const due = messageOf({ _id: "due", dueAt: new Date(Date.now() - 60_000), waiting: ["stock"] });
  const old = messageOf({ _id: "old", status: "consumed", waiting: [], at: new Date(Date.now() - 3_600_000) });
  const dead = deadOf({ _id: "dead", at: at(0) });
  await store.messages.insert([due, old, dead]);
  const before = await Promise.all(["due", "old"].map(id => rowOf(broker, id)));
  const writes = [
    ...[vi.spyOn(store, "prune"), vi.spyOn(store, "dropPayloads"), vi.spyOn(store.messages, "claim")],
    ...[vi.spyOn(store.history, "add"), vi.spyOn(store.history, "fold"), vi.spyOn(store.bulks, "claim")],
    ...[vi.spyOn(store.messages, "due"), vi.spyOn(store.subscriptions, "announce")]
  ];
  const reads = vi.spyOn(store.subscriptions, "known");
  onTestFinished(() => {
    for (const spy of [...writes, reads]) spy.mockRestore();
  });
  await broker.call("reliable.retry", { ids: ["dead"], note: "x" });
  await broker.call("reliable.bulk", { act: "discard", status: "dead", note: "x" });
  expect((await errorOf(broker.call("reliable.sweep", { note: "x" }))).type).toBe("RELIABLE_UNAVAILABLE");
  expect((await errorOf(broker.call("reliable.bulkLook", {}))).type).toBe("RELIABLE_UNSUPPORTED");
  // Each time it reads the groups, a node of the cluster would have swept.
  await until(() => reads.mock.calls.length > 8);
  expect(runtimeOf(broker).metrics.sink).toBeUndefined();
  expect(await Promise.all(["due", "old"].map(id => rowOf(broker, id)))).toEqual(before);
  await broker.stop();
  for (const spy of writes) expect(spy, spy.getMockName()).not.toHaveBeenCalled();
  await nothingMade(made.namespace);
});

/** No queue or exchange but that of its own news, and no index. */
async function nothingMade(namespace: string): Promise<void> {
  const connection = await connect(urls().amqp);
  const there = async (look: (channel: Awaited<ReturnType<typeof connection.createChannel>>) => Promise<unknown>) => {
    const channel = await connection.createChannel();
    channel.on("error", () => undefined);
    return look(channel).then(
      () => channel.close().then(() => true),
      () => false
    );
  };
  const queues = Object.values(systemQueues(namespace));
  expect(await Promise.all(queues.map(name => there(channel => channel.checkQueue(name))))).toEqual(
    queues.map(() => false)
  );
  expect(await there(channel => channel.checkExchange(`${prefixOf(namespace)}.events`))).toBe(false);
  await connection.close();
  const client = await new MongoClient(urls().mongo).connect();
  const messages = client.db("reliable_test").collection(`${prefixOf(namespace)}.messages`);
  expect((await messages.indexes()).map(({ name }) => name)).toEqual(["_id_"]);
  await client.close();
}

describe("with a transporter", () => {
  it("it asks the nodes of the cluster, and answers none of them", async () => {
    const made = cluster();
    const home = await made.node("home", [emitter(made.mixin())]);
    const desk = await made.node("desk", [observer(made)]);
    const nodes = await until(
      async () => (await overviewOf(desk)).nodes,
      ({ length }) => length === 2
    );
    expect(nodes).toMatchObject([
      { nodeID: "desk", kind: "observer" },
      { nodeID: "home", kind: "reliable", answers: true }
    ]);
    await until(() =>
      home.registry.getNodeList({ withServices: true }).some(({ id }: { id: string }) => id === "desk")
    );
    expect((await overviewOf(home)).nodes.map(({ nodeID }) => nodeID)).toEqual(["home"]);
    const refused = await errorOf(home.call("reliable.stats", {}, { nodeID: "desk" }));
    expect(refused.type).toBe("SERVICE_NOT_FOUND");
  });

  it("a service that emits or handles events does not start on it", async () => {
    const made = cluster();
    const broker = made.broker("desk");
    broker.createService(observer(made));
    broker.createService(consumer(made.mixin(), "stock", "order.created", () => undefined));
    expect(await errorOf(broker.start())).toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      data: { option: "observer", service: "stock" }
    });
  });
});

it("who listens is told: no node that sweeps, no ear", async () => {
  const made = cluster();
  const idle = await made.node("idle", [emitter(made.mixin({ sweeper: false }))], ALONE);
  expect(await tellSweepers(courierOf(idle), "bulks", systemClock)).toMatchObject({ outcome: "returned" });
  await made.node("home", [emitter(made.mixin())], ALONE);
  await until(async () => (await tellSweepers(courierOf(idle), "bulks", systemClock)).outcome === "confirmed");
  expect(SWEEPERS_KEY).toContain(":");
});
