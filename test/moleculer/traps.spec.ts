import type { ServiceSchema } from "moleculer";
import { expect, it } from "vitest";
import { type Cluster, cluster, until } from "../support/brokers";
import { runtimeOf } from "../support/runtime";
import { consumer, emitter, emitterOf, oneNode, reaches, subscribed } from "../support/services";

const warnings = ({ logs }: Cluster) =>
  logs.filter(line => / warn .*Reliable: /.test(line)).map(line => line.slice(line.indexOf("Reliable: ") + 10));

const plain = (name: string, event: string, more: object = {}) =>
  ({ name, events: { [event]: { handler: () => undefined, ...more } } }) as unknown as ServiceSchema;

it("a service that declares an event reliable and has no mixin is told once, on this node and on another", async () => {
  const made = cluster();
  const { broker } = await oneNode(made, [plain("mail", "order.created", { reliable: true })]);
  await made.node("far", [plain("bills\u001b[2J", "order.paid", { reliable: { maxInFlight: 2 } })]);
  const { traps } = runtimeOf(broker);
  const known = () => JSON.stringify(broker.registry.getServiceList({ withEvents: true } as never));
  await until(() => known().includes("order.paid"));
  traps.look();
  traps.look();
  const told = warnings(made);
  expect(told).toHaveLength(2);
  expect(told[0]).toMatch(/Service 'mail' declares its event 'order\.created' reliable and does not have the mixin/);
  expect(told[1]).toMatch(/'order\.paid'/);
  expect(told.join()).not.toContain("\u001b");
});

it("a reliable emit that only plain handlers hear is told once, with their services; one that nobody or a reliable one hears is not", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, [
    plain("mail", "order.*"),
    consumer(made.mixin(), "stock", "order.paid", () => undefined),
    plain("stock-view", "order.paid")
  ]);
  await subscribed(broker, 1);
  for (const event of ["order.created", "order.created", "order.paid", "nobody.hears"])
    await emit(event, {}, { maxAttempts: 1 });
  runtimeOf(broker).traps.look();
  await emit("order.created", {}, { maxAttempts: 1 });
  runtimeOf(broker).traps.look();
  expect(warnings(made).filter(text => text.includes("reliableEmit"))).toEqual([
    expect.stringMatching(/'order\.created' is emitted with reliableEmit, and only plain handlers hear it \('mail'\)/)
  ]);
});

const versioned = (made: Cluster, version: number, seen: number[], options: object = {}) => ({
  ...consumer(made.mixin(options), "stock", "order.created", () => void seen.push(version)),
  version
});

it("two versions of a service that share a queue are told once", async () => {
  const made = cluster();
  const seen: number[] = [];
  const { broker } = await oneNode(made, [versioned(made, 1, seen), versioned(made, 2, seen)]);
  await subscribed(broker, 1);
  runtimeOf(broker).traps.look();
  runtimeOf(broker).traps.look();
  expect(warnings(made)).toEqual([
    expect.stringMatching(/'v1\.stock' and 'v2\.stock' share the group 'stock' for 'order\.created'.*groupByVersion/)
  ]);
});

it("with groupByVersion each version is a group of its own, and nothing is told", async () => {
  const made = cluster();
  const seen: number[] = [];
  const own = { groupByVersion: true };
  const { broker } = await oneNode(made, [versioned(made, 1, seen, own), versioned(made, 2, seen, own)]);
  const rows = await subscribed(broker, 2);
  expect(rows.map(({ group }) => group)).toEqual(["v1.stock", "v2.stock"]);
  const { id } = await emitterOf(broker)("order.created", {}, { waitFor: "consumed" });
  await reaches(broker, id, "consumed");
  expect(seen.sort()).toEqual([1, 2]);
  runtimeOf(broker).traps.look();
  expect(warnings(made)).toEqual([]);
});

it("a set-up without traps is told nothing, whatever other nodes publish", async () => {
  const made = cluster();
  const { broker } = await oneNode(made, [consumer(made.mixin(), "stock", "order.**", () => undefined)]);
  const odd = {
    name: "odd",
    events: { "[": { handler: () => undefined }, "a.*": { group: 5, handler: () => undefined } }
  };
  await made.node("far", [emitter(made.mixin(), "other"), odd]);
  await subscribed(broker, 1);
  await emitterOf(broker)("order.created", {}, { waitFor: "consumed" });
  runtimeOf(broker).traps.look();
  expect(warnings(made)).toEqual([]);
});
