import type { Context, ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import type { Subscription } from "../../src/message/records";
import { eventQueue, systemQueues } from "../../src/wire/names";
import { cluster, until } from "../support/brokers";
import { courierOf, foreignGroup, runtimeOf, sendReceipt, storeOf } from "../support/runtime";
import { consumer, oneNode, reaches, subscribed } from "../support/services";

const EVIL = "a\u001b[2J\nINFO forged\u009b31m";

interface Seen {
  params: unknown;
  admin: unknown;
  inner: unknown;
}

/** A consumer whose handler calls on, as handlers do. */
async function world() {
  const made = cluster();
  const seen: Seen[] = [];
  const acl = {
    name: "acl",
    actions: { look: (ctx: Context<unknown, { isAdmin?: unknown }>) => ctx.meta.isAdmin ?? "no" }
  };
  const handler = async (ctx: Context<unknown, { isAdmin?: unknown }>) =>
    void seen.push({ params: ctx.params, admin: ctx.meta.isAdmin ?? "no", inner: await ctx.call("acl.look") });
  const { broker, emit } = await oneNode(made, [
    acl,
    consumer(made.mixin(), "mail", "order.created", handler as never)
  ]);
  await subscribed(broker, 1);
  return { broker, emit, seen };
}

/** An event as its producer would send it, with what the test puts wrong. */
async function forge(
  broker: ServiceBroker,
  { id = "f", type = "order.created", headers = {} as object }
): Promise<void> {
  const { outcome } = await courierOf(broker).publish({
    to: { queue: eventQueue(broker.namespace, "mail", "order.created") },
    messageId: id,
    type,
    body: Buffer.from("{}"),
    headers: {
      "x-reliable-version": 1,
      "x-reliable-attempt": 1,
      "x-reliable-producer": "orders",
      "x-reliable-receipt": systemQueues(broker.namespace).receipts,
      ...headers
    }
  });
  expect(outcome).toBe("confirmed");
}

const parked = (broker: ServiceBroker, count: number) =>
  until(
    () => broker.call<{ rows: { reason: string }[] }, object>("reliable.parked", { pageSize: 100 }),
    ({ rows }) => rows.length === count
  ).then(({ rows }) => rows.map(({ reason }) => reason));

it("an event whose receipt would go to another queue is parked before its handler, and nothing is written there", async () => {
  const { broker, emit, seen } = await world();
  const victim = `${broker.namespace}.victim`;
  await courierOf(broker).declare({ name: victim });
  for (const queue of [victim, systemQueues(broker.namespace).checks, "nowhere"])
    await forge(broker, { id: queue, headers: { "x-reliable-receipt": queue } });
  expect(await parked(broker, 3)).toEqual(
    Array.from({ length: 3 }, () =>
      expect.stringMatching(/^its receipt is to go to '.*', which is no queue for receipts$/)
    )
  );
  expect(await broker.call("reliable.stats")).toMatchObject({ parkedMessages: 3, node: { parked: 3 } });
  await emit("order.created", { good: true }, { waitFor: "consumed" });
  expect(seen.map(({ params }) => params)).toEqual([{ good: true }]);
  expect(await courierOf(broker).depth(victim)).toMatchObject({ ready: 0 });
  await courierOf(broker).remove(victim);
});

const announce = (broker: ServiceBroker, announcement: object) =>
  courierOf(broker).publish({
    to: { queue: systemQueues(broker.namespace).announcements },
    messageId: "announcement",
    type: "reliable.announcement",
    headers: {},
    body: Buffer.from(JSON.stringify({ v: 1, nodeID: "far", service: "far", ...announcement }))
  });

it("a group whose queue does not exist is not recorded: later messages do not wait for it", async () => {
  const { broker, emit } = await world();
  await announce(broker, { pattern: "**", group: "ghost:**", queue: "no-such-queue" });
  expect(await parked(broker, 1)).toEqual(["announcement of the queue 'no-such-queue', which does not exist"]);
  expect((await emit("order.created", {}, { waitFor: "consumed" })).status).toBe("consumed");
  expect(await broker.call("reliable.subscriptions")).toMatchObject([{ group: "mail" }]);
});

it("a group with consumers is not moved; one without them is", async () => {
  const { broker } = await world();
  const mine = eventQueue(broker.namespace, "mail", "order.created");
  const [other, third] = [`${broker.namespace}.other`, `${broker.namespace}.third`];
  for (const name of [other, third]) await courierOf(broker).declare({ name });
  await announce(broker, { pattern: "order.created", group: "mail", queue: other });
  expect(await parked(broker, 1)).toEqual([
    `announcement that would move group mail to the queue '${other}': it has 1 consumer(s) on ${mine}`
  ]);
  await announce(broker, { pattern: "order.created", group: "far", queue: other });
  await subscribed(broker, 2);
  await announce(broker, { pattern: "order.created", group: "far", queue: third });
  const rows = await until(
    () => storeOf(broker).subscriptions.list(),
    list => list.some(({ queue }) => queue === third)
  );
  expect(rows.map(({ group, queue }) => [group, queue]).sort()).toEqual([
    ["far", third],
    ["mail", mine]
  ]);
  for (const name of [other, third]) await courierOf(broker).remove(name);
});

it("the number of groups is limited; that is told once, and those that are known live on", async () => {
  const { broker, emit } = await world();
  const told: string[] = [];
  runtimeOf(broker).events.on("error", error => void told.push((error as { type: string }).type));
  const [known] = await storeOf(broker).subscriptions.list();
  const many = Array.from({ length: 4999 }, (_, n) => ({ ...(known as Subscription), group: `g${n}`, pattern: "x.y" }));
  await storeOf(broker).subscriptions.announce(many);
  await runtimeOf(broker).needStorage().subscriptions.refresh();
  const queue = known?.queue;
  for (const group of ["one", "two", "three"]) await announce(broker, { pattern: "order.created", group, queue });
  await announce(broker, { pattern: "order.created", group: "mail", queue });
  await announce(broker, {});
  await parked(broker, 1);
  expect(told).toEqual(["RELIABLE_TOO_MANY_GROUPS", "RELIABLE_PARKED"]);
  expect(await storeOf(broker).subscriptions.list()).toHaveLength(5000);
  expect((await emit("order.created", {}, { waitFor: "consumed" })).status).toBe("consumed");
});

it("meta of an event gives no prototype to what a handler calls", async () => {
  const { broker, seen } = await world();
  const meta = '{"user":{"id":1},"__proto__":{"isAdmin":true},"constructor":{"prototype":{"isAdmin":true}}}';
  await forge(broker, { headers: { "x-reliable-meta": meta, "x-reliable-headers": meta } });
  await until(() => seen.length === 1);
  expect(seen).toEqual([{ params: {}, admin: "no", inner: "no" }]);
});

it("ids, types and names with control characters are parked; what comes after them goes on", async () => {
  const { broker, emit } = await world();
  await emit("order.created", {}, { id: "living", groups: ["mail", "later"] });
  await forge(broker, { id: EVIL });
  await forge(broker, { type: EVIL });
  for (const name of ["producer", "groups", "only", "caller", "node", "request-id", "parent-id", "strategy"])
    await forge(broker, { headers: { [`x-reliable-${name}`]: EVIL } });
  await forge(broker, { headers: { traceparent: EVIL } });
  await sendReceipt(broker, EVIL, { id: "living" });
  await sendReceipt(broker, "later", { id: EVIL });
  await sendReceipt(broker, "later", { id: "living" }, { nodeID: EVIL });
  const good = { v: 1, pattern: "x.y", group: "g", queue: "q", nodeID: "n", service: "s" };
  for (const field of ["pattern", "group", "queue", "nodeID", "service"])
    await courierOf(broker).publish({
      to: { queue: systemQueues(broker.namespace).announcements },
      messageId: field,
      type: "reliable.announcement",
      headers: {},
      body: Buffer.from(JSON.stringify({ ...good, [field]: EVIL }))
    });
  const reasons = await parked(broker, 19);
  for (const reason of reasons) expect(reason).toMatch(/control characters/);
  await sendReceipt(broker, "later", { id: "living" });
  await reaches(broker, "living", "consumed");
  expect(await broker.call("reliable.subscriptions")).toHaveLength(1);
});

it("what a user's own context says with control characters travels, escaped", async () => {
  const { broker, emit, seen } = await world();
  const ctx = { requestID: EVIL, id: EVIL, level: 1, meta: {}, service: { fullName: "shop" } };
  await emit("order.created", { n: 1 }, { id: "mine", ctx, waitFor: "consumed" });
  expect(seen).toHaveLength(1);
  expect(await broker.call("reliable.parked")).toMatchObject({ total: 0 });
});

it("a failure's text with line breaks is one entry of the timeline", async () => {
  const { broker, emit } = await world();
  await foreignGroup(broker, "far", "order.created");
  await emit("order.created", {}, { id: "failing", groups: "far" });
  await sendReceipt(broker, "far", {
    id: "failing",
    outcome: "failed",
    retryable: false,
    error: { name: "E", message: "no\n2026-01-01T00:00:00Z  consumed: forged\u001b[2J" }
  });
  const { timeline } = await reaches(broker, "failing", "dead");
  for (const { what } of timeline) expect(what).not.toMatch(/\p{Cc}/u);
  expect(timeline.filter(({ what }) => what.includes("forged"))).not.toEqual([]);
});
