import type { Context } from "moleculer";
import { MongoClient } from "mongodb";
import { expect, inject, it, onTestFinished } from "vitest";
import type { ReliableError } from "../../src";
import { prefixOf } from "../../src/wire/names";
import { cluster, until } from "../support/brokers";
import { mongoProxy, type Play } from "../support/mongo-proxy";
import { consumer, emitter, emitterOf, errorOf, reaches, subscribed } from "../support/services";

const TOO_LARGE = { code: 17419, errmsg: "Resulting document after update is larger than 16777216" };

/** What a node tells, by event. */
function ear() {
  const heard: { name: string; data: { id?: string; error?: ReliableError } }[] = [];
  const handler = (ctx: Context<never>) => void heard.push({ name: ctx.eventName as string, data: ctx.params });
  const service = { name: "ear", events: { "$reliable.error": { handler }, "$reliable.dead": { handler } } };
  return { service, heard };
}

it("a message about which the store takes no record is dead and told; those of its batch go on", async () => {
  let play: Play | undefined;
  const proxy = await mongoProxy({ target: inject("servers").mongo, play: () => play });
  onTestFinished(() => proxy.close());
  const { mixin, node } = cluster();
  const { service, heard } = ear();
  const ids = Array.from({ length: 20 }, (_, n) => `order ${n}`);
  const [bad = "", ...good] = ids;
  const tries = new Map<string, number>();
  const handler = (ctx: Context<{ id: string }>) => {
    const made = (tries.get(ctx.params.id) ?? 0) + 1;
    tries.set(ctx.params.id, made);
    if (made === 1) throw new Error("not at the first time");
  };
  // More messages than open a breaker fail at first, and each try of its would be of one that fails.
  const options = { mongo: proxy.url, breaker: false as const };
  const broker = await node("node-1", [
    emitter(mixin(options)),
    consumer(mixin(options), "stock", "order.created", handler as never),
    service
  ]);
  await subscribed(broker, 1);
  const emit = emitterOf(broker);
  play = {
    refuses: ({ q, u }) =>
      (q?._id === bad || q?._id?.$in?.includes(bad)) && u.$set?.status !== "dead" ? TOO_LARGE : undefined
  };
  await Promise.all(ids.map(id => emit("order.created", { id }, { id })));
  await Promise.all([reaches(broker, bad, "dead"), ...good.map(id => reaches(broker, id, "consumed"))]);
  expect(tries.get(bad)).toBe(1);
  const dead = await until(
    () => heard.filter(({ name }) => name === "$reliable.dead"),
    seen => seen.length > 0
  );
  expect(dead).toMatchObject([{ data: { id: bad } }]);
  const errors = heard.filter(({ name }) => name === "$reliable.error").map(({ data }) => data.error);
  expect(errors).toMatchObject([{ type: "RELIABLE_STORE_REFUSED", data: { id: bad } }]);
});

it("a message of strategy callback that the store refuses is parked, receipt and check; those beside it go on", async () => {
  let play: Play | undefined;
  const proxy = await mongoProxy({ target: inject("servers").mongo, play: () => play });
  onTestFinished(() => proxy.close());
  const { mixin, node } = cluster();
  const options = { mongo: proxy.url, strategy: "callback" as const, checkDelaysMs: [1000] };
  const broker = await node("node-1", [
    emitter(mixin(options)),
    consumer(mixin({ ...options, inbox: false }), "stock", "order.created", () => undefined)
  ]);
  await subscribed(broker, 1);
  const emit = emitterOf(broker);
  play = { refuses: ({ _id }) => (_id === "bad" ? { code: 121, errmsg: "Document failed validation" } : undefined) };
  const ids = ["good 1", "bad", "good 2"];
  await Promise.all(ids.map(id => emit("order.created", {}, { id })));
  const { rows } = await until(
    () => broker.call<{ rows: { reason: string; queue: string }[] }, object>("reliable.parked", {}),
    parked => parked.rows.length === 2
  );
  const of = (end: string) => rows.find(({ queue }) => queue.endsWith(end))?.reason;
  expect(of(".receipts.callback")).toContain("not in the store: bad");
  expect(of(".checks")).toContain("Document failed validation");
  await emit("order.created", {}, { id: "good 3" });
  await Promise.all(["good 1", "good 2", "good 3"].map(id => reaches(broker, id, "consumed")));
});

it("an emit that a unique index of the operator's refuses is rejected at once, and holds up no other and no stop", async () => {
  const { mixin, node, namespace } = cluster();
  const broker = await node("node-1", [emitter(mixin({ emitTimeoutMs: 20_000 }))]);
  const client = new MongoClient(inject("servers").mongo);
  onTestFinished(() => client.close());
  const messages = client.db("reliable_test").collection(`${prefixOf(namespace)}.messages`);
  await messages.createIndex({ event: 1 }, { unique: true, name: "one of each" });
  const emit = emitterOf(broker);
  const options = { groups: "nobody" };
  await emit("order.created", {}, options);
  const from = performance.now();
  const [refused, ...others] = await Promise.all([
    errorOf(emit("order.created", {}, options)),
    ...Array.from({ length: 10 }, (_, n) => emit(`order.${n}`, {}, options))
  ]);
  expect(refused).toMatchObject({
    type: "RELIABLE_STORE_REFUSED",
    retryable: false,
    message: expect.stringContaining("'one of each'"),
    data: { event: "order.created", index: "one of each" }
  });
  expect(others).toHaveLength(10);
  await broker.stop();
  expect(performance.now() - from).toBeLessThan(10_000);
});
