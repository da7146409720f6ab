import type { BrokerOptions, ServiceBroker } from "moleculer";
import { expect, it, onTestFinished, vi } from "vitest";
import type { Overview } from "../../src/operator/overview";
import { cluster, until } from "../support/brokers";
import { startNode } from "../support/child";
import { proxied } from "../support/proxied";
import { courierOf, storeOf } from "../support/runtime";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, reaches, subscribed } from "../support/services";
import type { StockNode } from "../support/stock-node";

const overviewOf = (broker: ServiceBroker) => broker.call<Overview, object>("reliable.overview", {});

it("says what is dead, in which group, and what the group does", async () => {
  const made = cluster();
  const failing = () => Promise.reject(new Error("550 no such mailbox"));
  const broker = await made.node("desk", [
    emitter(made.mixin()),
    consumer(made.mixin({ maxAttempts: 1 }), "mail", "order.created", failing)
  ]);
  await subscribed(broker, 1);
  const { id } = await emitterOf(broker)("order.created", {}, { maxAttempts: 1 });
  await reaches(broker, id, "dead");
  const overview = await until(
    () => overviewOf(broker),
    ({ level }) => level === "act"
  );
  expect(overview.sentence).toMatch(/^1 message is dead: mail, since \d\d:\d\d UTC\. Somebody has to act\.$/);
  expect(overview).toMatchObject({
    nodeID: "desk",
    messages: { byStatus: { dead: 1, pending: 0 }, parked: 0, oldestDeadMs: expect.any(Number) },
    groups: [{ group: "mail", ready: 0, consumers: 1, dead: 1, lastNode: "desk" }],
    servers: [
      { name: "RabbitMQ", ok: true },
      { name: "store", ok: true },
      { name: "Redis", ok: true }
    ],
    nodes: [{ nodeID: "desk", kind: "reliable", answers: true, health: { ok: true } }]
  });
  expect(overview.leaseHolders?.[0]).toMatch(/^desk#/);
});

it("a group without a consumer: how many messages wait in its queue, and that nothing is lost", async () => {
  const made = cluster();
  const desk = await made.node("desk", [emitter(made.mixin())]);
  const away = await made.node("away", [
    consumer(made.mixin({ service: false }), "mail", "order.created", () => undefined)
  ]);
  await subscribed(desk, 1);
  await away.stop();
  for (let n = 0; n < 2; n++) await emitterOf(desk)("order.created", { n }, { waitFor: "confirmed" });
  const { sentence, groups } = await until(
    () => overviewOf(desk),
    ({ level }) => level === "act"
  );
  expect(sentence).toMatch(
    /^Group mail has no consumer since \d\d:\d\d UTC; 2 messages wait in its queue\. Start it; nothing is lost\.$/
  );
  expect(groups).toMatchObject([{ group: "mail", ready: 2, consumers: 0, dead: 0 }]);
});

it("any number of viewers share one read, and `subscriptions` the look at the queues", async () => {
  const made = cluster();
  const broker = await made.node("desk", [
    emitter(made.mixin()),
    consumer(made.mixin(), "mail", "order.created", () => undefined)
  ]);
  await subscribed(broker, 1);
  const spies = [
    vi.spyOn(storeOf(broker).messages, "stats"),
    vi.spyOn(storeOf(broker).messages, "oldest"),
    vi.spyOn(storeOf(broker).history, "between"),
    vi.spyOn(courierOf(broker), "depth")
  ];
  onTestFinished(() => {
    for (const spy of spies) spy.mockRestore();
  });
  const seen = await Promise.all(Array.from({ length: 30 }, () => overviewOf(broker)));
  await Promise.all(Array.from({ length: 30 }, () => broker.call("reliable.subscriptions", {})));
  await overviewOf(broker);
  expect(new Set(seen.map(({ at }) => at)).size).toBe(1);
  const mine = `${made.namespace}.reliable.on.mail/order.created`;
  expect(spies[0]?.mock.calls).toHaveLength(1);
  expect(spies[1]?.mock.calls).toHaveLength(0);
  expect(spies[2]?.mock.calls).toHaveLength(1);
  // The look of `subscribed` may serve them all.
  expect(spies[3]?.mock.calls.filter(([queue]) => queue === mine).length).toBeLessThanOrEqual(1);
});

it("RabbitMQ away: since when, how many messages wait, and that they go out by themselves", async () => {
  const made = cluster();
  const { options, proxies } = await proxied();
  const broker = await made.node("desk", [emitter(made.mixin(options))]);
  await proxies[0]?.down();
  await until(() => !courierOf(broker).ready);
  await emitterOf(broker)("order.created", {});
  const { sentence, level, servers } = await until(
    () => overviewOf(broker),
    seen => seen.messages?.byStatus.pending === 1
  );
  expect(sentence).toMatch(/^RabbitMQ does not answer since \d\d:\d\d UTC; 1 message waits and goes out by itself\.$/);
  expect(level).toBe("act");
  expect(servers[0]).toMatchObject({ name: "RabbitMQ", ok: false, awaySinceAt: expect.any(String) });
  await proxies[0]?.up();
});

it("RabbitMQ frozen: it counts as connected, and the first overview says that it answers nothing", async () => {
  const made = cluster();
  const { options, proxies } = await proxied();
  const broker = await made.node("desk", [
    emitter(made.mixin(options)),
    consumer(made.mixin(options), "mail", "order.created", () => undefined)
  ]);
  await subscribed(broker, 1);
  proxies[0]?.hold();
  onTestFinished(() => proxies[0]?.release());
  const { sentence, level, servers } = await until(
    () => overviewOf(broker),
    // On a busy machine the store may be slow to answer for a moment.
    seen => seen.level !== "ok" && !seen.sentence.startsWith("The store")
  );
  // The look at a queue is up to 5 s old; by then the connection that asks may have been given up, which tells as well.
  expect(sentence).toMatch(
    /^RabbitMQ is connected and answers slowly since .*: no answer (about 1 queue within 2 s|for \d+ s)[.,]/
  );
  expect(level).toBe("watch");
  expect(servers[0]).toMatchObject({ ok: false, awaySinceAt: expect.any(String) });
});

it("the store away: it answers all the same, within its time", async () => {
  const made = cluster();
  const { options, proxies } = await proxied();
  const broker = await made.node("desk", [emitter(made.mixin(options))]);
  proxies[1]?.hold();
  onTestFinished(() => proxies[1]?.release());
  const from = performance.now();
  const { sentence, messages, nodes } = await overviewOf(broker);
  expect(performance.now() - from).toBeLessThan(10_000);
  expect(sentence).toMatch(/^The store \(mongodb\) (answers slowly|takes no writes) since /);
  expect(messages).toBeNull();
  expect(nodes).toMatchObject([{ nodeID: "desk", answers: true, health: { ok: false } }]);
  // The driver has noticed.
  const { level } = await until(
    () => overviewOf(broker),
    seen => seen.sentence.startsWith("The store (mongodb) takes no writes since "),
    30_000
  );
  expect(level).toBe("act");
});

it("a frozen node is a row, a killed one too, and a stopped one is none", { timeout: 400_000 }, async () => {
  const made = cluster();
  const transporter = urls().redis;
  const [desk, stopped] = ["desk", "stopped"].map(nodeID => {
    const broker = made.broker(nodeID, { transporter } as BrokerOptions);
    broker.createService(emitter(made.mixin()));
    return broker;
  }) as [ServiceBroker, ServiceBroker];
  const node: StockNode = { namespace: made.namespace, nodeID: "frozen", options: made.options(), transporter };
  const frozen = await startNode("test/support/stock-node.ts", { env: { NODE: JSON.stringify(node) } });
  await Promise.all([desk.start(), stopped.start()]);
  await frozen.next("started");
  const seen = (wanted: (answers: Record<string, boolean | null>, overview: Overview) => boolean) =>
    until(
      () => overviewOf(desk),
      overview => wanted(Object.fromEntries(overview.nodes.map(row => [row.nodeID, row.answers])), overview),
      30_000
    );
  await seen(answers => answers["frozen"] === true && answers["stopped"] === true);
  await stopped.stop();
  await frozen.kill("SIGSTOP");
  const { sentence, also } = await seen(answers => answers["frozen"] === false && !("stopped" in answers));
  expect([sentence, ...also]).toContainEqual(
    expect.stringMatching(/^Node frozen does not answer since \d\d:\d\d UTC; the others do its work\.$/)
  );
  await frozen.kill("SIGCONT");
  await seen(answers => answers["frozen"] === true);
  await frozen.kill("SIGKILL");
  await seen(answers => answers["desk"] === true && answers["frozen"] === false);
});
