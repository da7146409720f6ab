import { readFileSync } from "node:fs";
import type { Context, ServiceBroker } from "moleculer";
import { describe, expect, it } from "vitest";
import { METRICS } from "../../src/telemetry/metrics";
import { cluster, until } from "../support/brokers";
import { messageOf } from "../support/messages";
import { freePort } from "../support/ports";
import { courierOf, foreignGroup, runtimeOf, sendReceipt, storeOf } from "../support/runtime";
import { consumer, emitter, emitterOf, oneNode, reaches, subscribed } from "../support/services";

const PREFIX = "moleculer.reliable.";
/** The shortest interval of the gauges. */
const QUICK = { enabled: true, collectProcessMetrics: false, collectInterval: 0.1 };

interface Value {
  value?: number;
  count?: number;
  sum?: number;
  buckets?: Record<string, number>;
  labels: Record<string, unknown>;
}

interface Registry {
  hasMetric(name: string): boolean;
  getMetric(name: string): { type: string; snapshot(): Value[] } | null;
  list(): { name: string }[];
  register(metric: object): unknown;
}

const registryOf = (broker: ServiceBroker) => broker.metrics as unknown as Registry;
const valuesOf = (broker: ServiceBroker, name: string): Value[] =>
  registryOf(broker)
    .getMetric(PREFIX + name)
    ?.snapshot() ?? [];
/** The sum over all labels. */
const total = (broker: ServiceBroker, name: string) =>
  valuesOf(broker, name).reduce((sum, { value, count }) => sum + (value ?? count ?? 0), 0);

it("registers every metric and counts what happens to messages", async () => {
  const made = cluster();
  const handler = (ctx: Context<{ fail?: boolean }>) => {
    if (ctx.params.fail) throw new Error("no");
  };
  const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", handler)], {
    metrics: QUICK
  });
  await subscribed(broker, 1);
  expect(
    registryOf(broker)
      .list()
      .map(({ name }) => name)
      .filter(name => name.startsWith(PREFIX))
      .toSorted()
  ).toEqual(
    Object.keys(METRICS)
      .map(name => PREFIX + name)
      .toSorted()
  );
  // What has no labels is there before anything has happened.
  expect(valuesOf(broker, "dead")).toMatchObject([{ value: 0 }]);

  await emit("order.created", {}, { id: "a", waitFor: "consumed" });
  await sendReceipt(broker, "stock", { id: "a" });
  const dead = await emit("order.created", { fail: true }, { maxAttempts: 2 });
  await reaches(broker, dead.id, "dead");
  const lost = await emit("nobody.listens", {}, { maxAttempts: 1, unroutableMs: 0 });
  await reaches(broker, lost.id, "dead");
  await courierOf(broker).publish({
    to: { event: "order.created" },
    messageId: "stranger",
    type: "order.created",
    headers: {},
    body: Buffer.from("{}")
  });
  await until(
    () => total(broker, "parked"),
    count => count === 1
  );
  await until(() => total(broker, "sweeps"));
  // It is counted when it is told, a moment after the store has it.
  await until(
    () => total(broker, "dead"),
    count => count === 2
  );

  const expected = {
    emitted: 3,
    stored: 3,
    confirmed: 3,
    returned: 1,
    nacked: 0,
    handled: 1,
    failed: 2,
    duplicates: 0,
    dead: 2
  };
  expect(Object.fromEntries(Object.keys(expected).map(name => [name, total(broker, name)]))).toEqual(expected);
  expect(valuesOf(broker, "handled")).toMatchObject([{ labels: { event: "order.created", group: "stock" }, value: 1 }]);
  expect(valuesOf(broker, "emit.time")).toHaveLength(2);
  expect(total(broker, "emit.time")).toBe(3);
  expect(total(broker, "confirm.time")).toBe(3);
  // A receipt that came twice has not ended it twice.
  await until(
    () => total(broker, "end.to.end.time"),
    count => count > 0
  );
  expect(valuesOf(broker, "end.to.end.time")).toMatchObject([{ labels: { event: "order.created" }, count: 1 }]);
});

it("measures from the emit to the last receipt", async () => {
  const made = cluster();
  const { broker } = await oneNode(made, [], { metrics: QUICK });
  await foreignGroup(broker, "stock", "order.created");
  await foreignGroup(broker, "mail", "order.created");
  const old = messageOf({
    _id: "old",
    event: "order.created",
    status: "published",
    waiting: ["stock", "mail"],
    createdAt: new Date(Date.now() - 100_000),
    dueAt: new Date(Date.now() + 60_000)
  });
  await storeOf(broker).messages.insert([old]);
  await sendReceipt(broker, "stock", { id: "old" });
  await until(
    async () => (await storeOf(broker).messages.find(["old"]))[0]?.waiting.length,
    left => left === 1
  );
  expect(total(broker, "end.to.end.time")).toBe(0);
  await sendReceipt(broker, "mail", { id: "old" });
  await until(
    () => total(broker, "end.to.end.time"),
    count => count === 1
  );
  const [{ buckets, sum } = {} as Value] = valuesOf(broker, "end.to.end.time");
  expect(sum).toBeGreaterThanOrEqual(100_000);
  expect(buckets).toMatchObject({ 60000: 0, 300000: 1 });
});

it("tells the ages of the oldest messages on the node that sweeps alone, and what is in the hands of handlers", async () => {
  const made = cluster();
  const gate = () => {
    let open = (): void => undefined;
    return { passed: new Promise<void>(resolve => (open = resolve)), open: () => open() };
  };
  const [held, probe] = [gate(), gate()];
  const broker = await made.node(
    "sweeping",
    [emitter(made.mixin()), consumer(made.mixin(), "stock", "order.created", () => held.passed)],
    { metrics: QUICK }
  );
  const idle = await made.node(
    "tracking",
    [
      emitter(made.mixin({ sweeper: false })),
      consumer(made.mixin({ sweeper: false }), "probe", "probe", () => probe.passed)
    ],
    { metrics: QUICK }
  );
  await subscribed(broker, 2);
  const old = {
    event: "order.created",
    waiting: ["stock"],
    createdAt: new Date(Date.now() - 100_000),
    dueAt: new Date(Date.now() + 60_000)
  };
  await storeOf(broker).messages.insert([
    messageOf({ ...old, _id: "p", status: "pending" }),
    messageOf({ ...old, _id: "u", status: "published", createdAt: new Date(Date.now() - 200_000) })
  ]);
  await emitterOf(broker)("order.created", {});
  await until(
    () => total(broker, "handler.inflight"),
    count => count === 1
  );
  await until(
    () => total(broker, "oldest.pending.seconds"),
    age => age >= 100 && age < 150
  );
  expect(total(broker, "oldest.unconsumed.seconds")).toBeGreaterThanOrEqual(200);
  // From one refresh to the next, the other node has looked as well.
  await emitterOf(idle)("probe", {});
  await until(
    () => total(idle, "handler.inflight"),
    count => count === 1
  );
  probe.open();
  await until(
    () => total(idle, "handler.inflight"),
    count => count === 0
  );
  expect([total(idle, "oldest.pending.seconds"), total(idle, "oldest.unconsumed.seconds")]).toEqual([0, 0]);
  held.open();
  await until(
    () => total(broker, "handler.inflight"),
    count => count === 0
  );
  await broker.stop();
  expect([total(broker, "oldest.pending.seconds"), total(broker, "oldest.unconsumed.seconds")]).toEqual([0, 0]);
});

describe("the registry of the broker", () => {
  it("keeps metrics that are there, and one of another type is left alone", async () => {
    const made = cluster();
    const broker = made.broker("node-1", { metrics: QUICK });
    const mine = registryOf(broker).register({ type: "counter", name: `${PREFIX}emitted`, labelNames: ["event"] });
    registryOf(broker).register({ type: "gauge", name: `${PREFIX}handled` });
    registryOf(broker).register({ type: "info", name: `${PREFIX}emit.time` });
    broker.createService(emitter(made.mixin()));
    broker.createService(consumer(made.mixin(), "stock", "order.created", () => undefined));
    await broker.start();
    await emitterOf(broker)("order.created", {}, { waitFor: "consumed" });
    expect(registryOf(broker).getMetric(`${PREFIX}emitted`)).toBe(mine);
    expect(valuesOf(broker, "emitted")).toMatchObject([{ value: 1, labels: { event: "order.created" } }]);
    expect(total(broker, "handled")).toBe(0);
    expect(made.logs.filter(line => line.includes("registered with another type"))).toHaveLength(2);
  });

  it("has nothing of ours where metrics are off", async () => {
    const made = cluster();
    const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", () => undefined)]);
    await emit("order.created", {}, { waitFor: "consumed" });
    expect(registryOf(broker).list()).toEqual([]);
    expect(runtimeOf(broker).metrics.sink).toBeUndefined();
    expect(made.logs.filter(line => line.includes("metric"))).toEqual([]);
  });

  it("that throws comes between nobody and nothing", async () => {
    const made = cluster();
    const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", () => undefined)], {
      metrics: QUICK
    });
    const { increment } = broker.metrics;
    broker.metrics.increment = function (name, ...rest) {
      if (name.startsWith(PREFIX)) throw new Error("the reporter is broken");
      return increment.call(this, name, ...rest);
    };
    expect(await emit("order.created", {}, { waitFor: "consumed" })).toMatchObject({ status: "consumed" });
    expect(made.logs.filter(line => line.includes("the reporter is broken"))).toHaveLength(1);
  });
});

it("every metric and label in the Grafana dashboard is exported by the Prometheus reporter", async () => {
  const made = cluster();
  const port = await freePort();
  const metrics = { ...QUICK, reporter: [{ type: "Prometheus", options: { port, host: "127.0.0.1" } }] };
  const handler = (ctx: Context<{ fail?: boolean }>) => {
    if (ctx.params.fail) throw new Error("no");
  };
  const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", handler)], {
    metrics
  });
  await subscribed(broker, 1);
  const { id } = await emit("order.created", { fail: true }, { maxAttempts: 1 });
  await reaches(broker, id, "dead");
  await emit("order.created", {}, { waitFor: "consumed" });
  await until(() => total(broker, "end.to.end.time"));
  await broker.call("reliable.pause", { group: "stock", note: "a test" });
  await until(() => total(broker, "paused"));

  const dashboard = JSON.parse(readFileSync("examples/grafana/dashboard.json", "utf8")) as {
    panels: { targets: { expr: string; legendFormat: string }[] }[];
  };
  const targets = dashboard.panels.flatMap(panel => panel.targets);
  const used = new Set(targets.flatMap(({ expr }) => expr.match(/moleculer_reliable_\w+/g) ?? []));
  const known = Object.entries(METRICS).map(
    ([name, { type }]) => `moleculer_reliable_${name.replace(/\./g, "_")}${type === "histogram" ? "_bucket" : ""}`
  );
  // Every metric has its place in it, too.
  expect([...used].toSorted()).toEqual(known.toSorted());

  const exported = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  // Counters with labels appear with their first count.
  const silent = Object.entries(METRICS)
    .filter(([name, { type, labels }]) => type === "counter" && labels.length && !total(broker, name))
    .map(([name]) => `moleculer_reliable_${name.replace(/\./g, "_")}`);
  expect(silent.toSorted()).toEqual(
    ["bulk_stopped", "duplicates", "nacked", "parked", "refused", "returned", "runs", "unknown", "unsigned"].map(
      name => `moleculer_reliable_${name}`
    )
  );
  const missing = [...used].filter(
    name =>
      !silent.includes(name) &&
      !new RegExp(`^${name}\\{.*namespace="${made.namespace}".*\\} [\\d.e+-]+$`, "m").test(exported)
  );
  expect(missing).toEqual([]);
  for (const { expr, legendFormat } of targets) {
    for (const [, name, selected] of expr.matchAll(/moleculer_reliable_(\w+?)(?:_bucket)?\{([^}]*)\}/g)) {
      const metric = Object.entries(METRICS).find(([key]) => key.replace(/\./g, "_") === name) as [
        string,
        { labels: readonly string[] }
      ];
      const labels = ["namespace", "nodeID", ...metric[1].labels];
      const asked = [
        ...(selected as string).matchAll(/(\w+)=~/g),
        ...expr.matchAll(/by \((\w+)\)/g),
        ...legendFormat.matchAll(/\{\{(\w+)\}\}/g)
      ].map(([, label]) => label);
      expect(asked.filter(label => label !== "le" && !labels.includes(label as string))).toEqual([]);
    }
  }
});
