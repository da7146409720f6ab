import type { Context, ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import { cluster, until } from "../support/brokers";
import { consumer, emitter, emitterOf, reaches, subscribed } from "../support/services";

interface Heard {
  on: string;
  event: string;
  params: unknown;
}

const listener = (name: string, heard: Heard[]) => ({
  name,
  events: {
    "reliable.**": (ctx: Context) =>
      void heard.push({ on: `${ctx.broker.nodeID}/${name}`, event: ctx.eventName as string, params: ctx.params }),
    "$reliable.**": (ctx: Context) =>
      void heard.push({ on: `${ctx.broker.nodeID}/${name}`, event: ctx.eventName as string, params: ctx.params })
  }
});

const stock = (ctx: Context<{ fail?: boolean }>) => {
  if (ctx.params.fail) throw new Error("no stock");
};

/** A node with messages, and another that only listens. */
async function nodes(
  lifecycleEvents: "emit" | "broadcast" | false | undefined
): Promise<{ broker: ServiceBroker; heard: Heard[] }> {
  const made = cluster();
  const heard: Heard[] = [];
  const mixin = made.mixin(lifecycleEvents === undefined ? {} : { lifecycleEvents });
  const broker = await made.node("working", [
    emitter(mixin),
    consumer(mixin, "stock", "order.created", stock),
    listener("here", heard)
  ]);
  await made.node("watching", [listener("audit", heard), listener("audit2", heard)]);
  await broker.waitForServices(["audit", "audit2"]);
  await subscribed(broker, 1);
  return { broker, heard };
}

it.each([
  ["broadcast", ["watching/audit", "watching/audit2", "working/here"]],
  ["emit", ["watching/audit", "watching/audit2", "working/here"]],
  [false, []],
  [undefined, []]
] as const)("with lifecycleEvents: %s the nodes hear what became of messages, without payloads", async (how, on) => {
  const { broker, heard } = await nodes(how);
  const emit = emitterOf(broker);
  await emit(
    "order.created",
    { secret: "credit card" },
    { id: "good", waitFor: "consumed", meta: { token: "secret" } }
  );
  await emit("order.created", { secret: "credit card", fail: true }, { id: "bad", maxAttempts: 1 });
  await emit("order.created", { secret: "credit card", fail: true }, { id: "worse", maxAttempts: 1 });
  await Promise.all(["bad", "worse"].map(id => reaches(broker, id, "dead")));
  await broker.call("reliable.resolve", { id: "bad", by: "ann", note: "by phone" });
  await broker.call("reliable.discard", { id: "worse", by: "bob", note: "a test" });

  const told: [string, unknown][] = [
    ["consumed", { ids: ["good"] }],
    [
      "dead",
      {
        id: "bad",
        event: "order.created",
        reason: "handler in group stock at attempt 1: no stock",
        group: "stock",
        cause: "handler"
      }
    ],
    [
      "dead",
      {
        id: "worse",
        event: "order.created",
        reason: "handler in group stock at attempt 1: no stock",
        group: "stock",
        cause: "handler"
      }
    ],
    ["discarded", { ids: ["worse"], by: "bob" }],
    ["resolved", { ids: ["bad"], by: "ann" }]
  ];
  const expected = (prefix: string, places: readonly string[]) =>
    places.flatMap(place => told.map(([event, params]) => ({ on: place, event: `${prefix}.${event}`, params })));
  await until(
    () => heard.length,
    count => count === told.length * (1 + on.length)
  );
  const order = (list: Heard[]) => list.map(entry => JSON.stringify(entry)).toSorted();
  expect(order(heard)).toEqual(order([...expected("$reliable", ["working/here"]), ...expected("reliable", on)]));
  expect(JSON.stringify(heard)).not.toMatch(/credit card|secret/);
});

it("tells of a retry, and of a group's instances one each with `emit`", async () => {
  const made = cluster();
  const heard: Heard[] = [];
  const mixin = made.mixin({ lifecycleEvents: "emit" });
  let fail = true;
  const broker = await made.node("working", [
    emitter(mixin),
    consumer(mixin, "stock", "order.created", () => {
      if (fail) throw new Error("no stock");
    })
  ]);
  for (const node of ["watching-1", "watching-2"]) await made.node(node, [listener("audit", heard)]);
  await broker.waitForServices("audit");
  await until(
    () => (broker.registry.getNodeList({ onlyAvailable: true }) as unknown[]).length,
    count => count === 3
  );
  await emitterOf(broker)("order.created", {}, { id: "order-1", maxAttempts: 1 });
  await reaches(broker, "order-1", "dead");
  fail = false;
  await broker.call("reliable.retry", { id: "order-1", by: "ann" });
  await reaches(broker, "order-1", "consumed");
  await until(
    () => heard.length,
    count => count >= 3
  );
  // Whatever else was sent has come before this.
  await broker.broadcast("reliable.end");
  await until(
    () => heard.filter(({ event }) => event === "reliable.end").length,
    count => count === 2
  );
  expect(heard.map(({ event }) => event).toSorted()).toEqual([
    "reliable.consumed",
    "reliable.dead",
    "reliable.end",
    "reliable.end",
    "reliable.retried"
  ]);
});
