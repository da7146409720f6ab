import { Redis } from "ioredis";
import type { ServiceBroker } from "moleculer";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { Message } from "../../src/message/message";
import type { Health } from "../../src/operator/health";
import { cluster, until } from "../support/brokers";
import { startNode } from "../support/child";
import { messageOf } from "../support/messages";
import { foreignGroup, rowOf, runtimeOf, storeOf } from "../support/runtime";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, reaches, subscribed } from "../support/services";
import type { StockNode } from "../support/stock-node";
import { tcpProxy } from "../support/tcp-proxy";

const HOUR = 3_600_000;

interface Counts {
  claimed: number;
  confirmed: number;
}

/** Messages nobody has published, due since long. */
function overdue(count: number, fields: Partial<Message> = {}): Message[] {
  return Array.from({ length: count }, (_, n) =>
    messageOf({
      _id: `m-${n}`,
      dueAt: new Date(Date.now() - HOUR - n),
      createdAt: new Date(Date.now() - HOUR),
      ...fields
    })
  );
}

const sweeping = async (broker: ServiceBroker) =>
  (await broker.call<{ sweeping: string }, object>("reliable.health", {}, { nodeID: broker.nodeID })).sweeping;
const sweeperOf = (broker: ServiceBroker) => runtimeOf(broker).needStorage().sweeper;

it("another takes over within the lease when the holder is killed", async () => {
  const made = cluster();
  const leaseMs = 3000;
  const node: StockNode = { namespace: made.namespace, nodeID: "victim", options: made.options({ leaseMs }) };
  const victim = await startNode("test/support/stock-node.ts", { env: { NODE: JSON.stringify(node) } });
  await victim.next("started");
  const heir = await made.node("heir", [emitter(made.mixin({ leaseMs }))]);
  const holder = async () => (await heir.call<{ leaseHolders: string }, object>("reliable.health", {})).leaseHolders;
  expect(await holder()).toMatch(/^0: victim#/);
  expect(await sweeping(heir)).toBe("standby");
  const { deliveries } = await foreignGroup(heir, "stock", "order.created");
  await victim.kill("SIGKILL");
  const killed = performance.now();
  await storeOf(heir).messages.insert(overdue(3));
  await until(
    () => deliveries.length,
    count => count === 3
  );
  // The lease, and what a sweep and a shared machine may take.
  expect(performance.now() - killed).toBeLessThan(leaseMs + 10_000);
  expect(await sweeping(heir)).toBe("held");
  expect(await holder()).toMatch(/^0: heir#/);
});

it("a holder that stops in order hands over at once", async () => {
  const made = cluster();
  const first = await made.node("first", [emitter(made.mixin({ leaseMs: 60_000 }))]);
  expect(await sweeping(first)).toBe("held");
  await first.stop();
  const second = await made.node("second", [emitter(made.mixin({ leaseMs: 60_000 }))]);
  expect(await sweeping(second)).toBe("held");
});

it("two sweepers at once publish nothing twice and lose nothing", async () => {
  const made = cluster();
  const options = { sweeper: false, pageSize: 20 };
  const nodes = [
    await made.node("a", [emitter(made.mixin(options))]),
    await made.node("b", [emitter(made.mixin(options))])
  ];
  const [a, b] = nodes as [ServiceBroker, ServiceBroker];
  const { deliveries } = await foreignGroup(a, "stock", "order.created");
  await runtimeOf(b).needStorage().subscriptions.refresh();
  const messages = overdue(300);
  await storeOf(a).messages.insert(messages);
  const passes = await Promise.all(
    [a, b, a, b].map(broker => broker.call<Counts, object>("reliable.sweep", {}, { nodeID: broker.nodeID }))
  );
  expect(passes.map(({ confirmed }) => confirmed).reduce((sum, n) => sum + n, 0)).toBe(300);
  await until(
    () => deliveries.length,
    count => count >= 300
  );
  expect(deliveries.map(({ messageId }) => messageId).sort()).toEqual(messages.map(({ _id }) => _id).sort());
  const rows = await storeOf(a).messages.find(messages.map(({ _id }) => _id));
  expect(
    rows.filter(({ status, attempts, claim }) => status !== "published" || attempts["stock"] !== 1 || claim)
  ).toEqual([]);
});

it("what a killed sweeper had claimed is taken by another when the claim ends", async () => {
  const made = cluster();
  const broker = await made.node("heir", [emitter(made.mixin())]);
  const { deliveries } = await foreignGroup(broker, "stock", "order.created");
  const [message] = overdue(1) as [Message];
  await storeOf(broker).messages.insert([{ ...message, dueAt: new Date(Date.now() + 1000), claim: "victim#1#gone" }]);
  await until(
    () => deliveries.length,
    count => count === 1
  );
  // It is delivered before it is recorded.
  await until(
    () => rowOf(broker, message._id),
    ({ status, attempts }) => status === "published" && attempts["stock"] === 1
  );
});

it("a page that was claimed ahead is not left behind when RabbitMQ goes away under the one before", async () => {
  const { hostname, port } = new URL(urls().amqp);
  const proxy = await tcpProxy({ host: hostname, port: Number(port) });
  onTestFinished(() => proxy.close());
  const made = cluster();
  const options = {
    sweeper: false,
    pageSize: 20,
    claimMs: 60_000,
    backoff: { initialMs: 100, jitter: "none" as const }
  };
  const amqp = Object.assign(new URL(urls().amqp), { host: `127.0.0.1:${proxy.port}` }).href;
  const broker = await made.node("a", [emitter(made.mixin({ ...options, amqp }))]);
  const other = await made.node("b", [emitter(made.mixin(options))]);
  const { deliveries } = await foreignGroup(other, "stock", "order.created");
  await runtimeOf(broker).needStorage().subscriptions.refresh();
  const store = storeOf(broker);
  const claim = store.messages.claim.bind(store.messages);
  let pages = 0;
  store.messages.claim = async query => {
    const page = await claim(query);
    // The second is claimed while the first is being published.
    if (++pages === 2) await proxy.down();
    return page;
  };
  const messages = overdue(100);
  await store.messages.insert(messages);
  await broker.call("reliable.sweep", {}, { nodeID: "a" });
  expect(pages).toBeLessThanOrEqual(3);
  const from = performance.now();
  await until(
    async () => {
      await other.call("reliable.sweep", {}, { nodeID: "b" });
      return new Set(deliveries.map(({ messageId }) => messageId)).size;
    },
    count => count === 100
  );
  // Long before a claim runs out.
  expect(performance.now() - from).toBeLessThan(40_000);
});

it("several partitions are swept by several nodes, each its own", async () => {
  const made = cluster();
  const options = { partitions: 4, leaseMs: 1500 };
  const nodes: ServiceBroker[] = [];
  for (const id of ["a", "b", "c"]) nodes.push(await made.node(id, [emitter(made.mixin(options))]));
  const heldBy = () => nodes.map(broker => [...(sweeperOf(broker).leases?.held().keys() ?? [])]);
  const held = await until(heldBy, all => all.flat().length === 4 && all.every(partitions => partitions.length <= 2));
  expect(held.flat().sort()).toEqual([0, 1, 2, 3]);
  const [first] = nodes as [ServiceBroker];
  const { deliveries } = await foreignGroup(first, "stock", "order.created");
  await Promise.all(nodes.map(broker => runtimeOf(broker).needStorage().subscriptions.refresh()));
  const messages = overdue(200);
  await storeOf(first).messages.insert(messages);
  await until(
    () => deliveries.length,
    count => count >= 200
  );
  expect(deliveries.map(({ messageId }) => messageId).sort()).toEqual(messages.map(({ _id }) => _id).sort());
  const confirmed = nodes.map(broker => runtimeOf(broker).metrics.totals["confirmed"] ?? 0);
  expect(confirmed.filter(count => count > 0).length).toBeGreaterThanOrEqual(2);
  expect(confirmed.reduce((sum, n) => sum + n, 0)).toBe(200);
});

describe("without Redis", () => {
  async function behindProxy() {
    const { hostname, port } = new URL(urls().redis);
    const proxy = await tcpProxy({ host: hostname, port: Number(port) });
    onTestFinished(() => proxy.close());
    return { proxy, redis: `redis://127.0.0.1:${proxy.port}` };
  }

  const service = (mixin: object) => [
    emitter(mixin),
    consumer(mixin, "stock", "order.created", ctx =>
      (ctx.locals as { reliable: { attempt: number } }).reliable.attempt < 2
        ? Promise.reject(new Error("once"))
        : undefined
    )
  ];

  it("that goes away, all go on unlocked, and nothing is published twice; it is held again when it is back", async () => {
    const { proxy, redis } = await behindProxy();
    const made = cluster();
    const nodes = [
      await made.node("a", service(made.mixin({ redis, leaseMs: 600 }))),
      await made.node("b", [emitter(made.mixin({ redis, leaseMs: 600 }))])
    ] as [ServiceBroker, ServiceBroker];
    await subscribed(nodes[0], 1);
    await until(
      () => Promise.all(nodes.map(sweeping)),
      modes => modes.sort().join() === "held,standby"
    );
    await proxy.down();
    await until(
      () => Promise.all(nodes.map(sweeping)),
      modes => modes.every(mode => mode === "unlocked")
    );
    const health = await nodes[0].call<Health, object>("reliable.health", {});
    expect(health).toMatchObject({ ok: true, redis: "down", degraded: [expect.stringContaining("Redis")] });

    const emitted = await Promise.all(
      Array.from({ length: 20 }, (_, n) => emitterOf(nodes[0])("order.created", { n }, { waitFor: "consumed" }))
    );
    for (const { id } of emitted)
      expect(await rowOf(nodes[0], id)).toMatchObject({ receipts: { stock: { attempt: 2 } }, spent: { stock: 1 } });
    await proxy.up();
    await until(
      () => Promise.all(nodes.map(sweeping)),
      modes => modes.sort().join() === "held,standby"
    );
  });

  it("that says nothing, a node goes on too", async () => {
    const { proxy, redis } = await behindProxy();
    const made = cluster();
    const broker = await made.node("a", service(made.mixin({ redis, leaseMs: 600 })));
    await subscribed(broker, 1);
    proxy.hold();
    await until(
      () => sweeperOf(broker).mode,
      mode => mode === "unlocked"
    );
    const { id } = await emitterOf(broker)("order.created", {});
    await reaches(broker, id, "consumed");
    proxy.release();
    await until(
      () => sweeperOf(broker).mode,
      mode => mode === "held"
    );
  });

  it.each([
    ["of default options", {}],
    ["that waits for ever", { maxRetriesPerRequest: null }]
  ])(
    "that says nothing to a client %s that was handed in, a node starts, sweeps on, answers, and stops",
    async (_, own) => {
      const { proxy, redis } = await behindProxy();
      const client = new Redis(redis, own);
      client.on("error", () => undefined);
      onTestFinished(() => client.disconnect());
      const made = cluster();
      const first = await made.node("a", service(made.mixin({ redis: client })));
      await subscribed(first, 1);
      await until(
        () => sweeperOf(first).mode,
        mode => mode === "held"
      );
      proxy.hold();
      const second = made.broker("b");
      second.createService(emitter(made.mixin({ redis: client }), "emitter-b"));
      const started = performance.now();
      await second.start();
      expect(performance.now() - started).toBeLessThan(10_000);
      await until(
        () => sweeperOf(second).mode,
        mode => mode === "unlocked"
      );
      const { id } = await emitterOf(first)("order.created", {});
      await reaches(second, id, "consumed");
      const asked = performance.now();
      expect(await second.call<Health, object>("reliable.health", {})).toMatchObject({ ok: true, redis: "down" });
      expect(performance.now() - asked).toBeLessThan(10_000);
      await second.stop();
      expect(client.status).toBe("ready");
      proxy.release();
      await until(
        () => sweeping(first),
        mode => mode === "held"
      );
    }
  );

  it.each([
    ["a client of ours", undefined],
    ["a client that was handed in", {}],
    ["one that waits for ever", { maxRetriesPerRequest: null }]
  ] as const)("that was never there for %s, a node starts, delivers and answers", async (_, own) => {
    // Where ioredis prints an error that nobody listens to.
    const printed = vi.spyOn(console, "error").mockImplementation(() => undefined);
    onTestFinished(() => printed.mockRestore());
    const { proxy, redis: url } = await behindProxy();
    await proxy.down();
    const client = own && new Redis(url, own);
    onTestFinished(() => client?.disconnect());
    const made = cluster();
    const started = performance.now();
    const broker = await made.node("a", service(made.mixin({ redis: client ?? url, leaseMs: 600 })));
    expect(performance.now() - started).toBeLessThan(10_000);
    printed.mockClear();
    await subscribed(broker, 1);
    const { id } = await emitterOf(broker)("order.created", {});
    await reaches(broker, id, "consumed");
    const asked = performance.now();
    expect(await sweeping(broker)).toBe("unlocked");
    expect(performance.now() - asked).toBeLessThan(10_000);
    const told = await until(
      () => made.logs.filter(line => / warn .*Redis (127|\(your client)/.test(line)),
      ({ length }) => length > 0
    );
    expect(told.length, told.join("\n")).toBeLessThanOrEqual(2);
    await proxy.up();
    await until(
      () => sweeperOf(broker).mode,
      mode => mode === "held"
    );
    await broker.stop();
    expect(printed.mock.calls.filter(([text]) => String(text).includes("ioredis"))).toEqual([]);
    if (client) expect([client.status, client.listenerCount("error")]).toEqual(["ready", 0]);
  });
});
