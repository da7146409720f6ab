import type { Context } from "moleculer";
import { expect, it } from "vitest";
import { cluster, until } from "../support/brokers";

type Emit = {
  reliableEmit(event: string, payload: unknown, options?: object): Promise<{ id: string; status: string }>;
};

const producer = (mixin: object, options: object = {}) => ({
  name: "orders",
  mixins: [mixin],
  actions: {
    create(this: Emit, ctx: Context<object>) {
      return this.reliableEmit("order.created", ctx.params, { ctx, ...options });
    }
  }
});

it("is consumed without a row of the producer, and its check finds it finished", async () => {
  const { node, mixin } = cluster();
  const callback = mixin({ strategy: "callback", checkDelaysMs: [300, 600], keepCallbackBodies: true });
  const seen: unknown[] = [];
  const consumers = await node("consumers", [
    {
      name: "stock",
      mixins: [mixin({ keepCallbackBodies: true })],
      events: { "order.created": { reliable: true, handler: (ctx: Context<object>) => void seen.push(ctx.params) } }
    }
  ]);
  const producers = await node("producers", [producer(callback, { waitFor: "consumed" })]);
  await until(
    () => consumers.call<object[], object>("reliable.subscriptions", {}),
    rows => rows.length === 1
  );
  const { id, status } = await producers.call<{ id: string; status: string }, object>("orders.create", { n: 1 });
  expect(status).toBe("consumed");
  expect(seen).toEqual([{ n: 1 }]);
  const story = await until(
    () => consumers.call<{ partial?: true; payload: unknown; status: string }, object>("reliable.get", { id }),
    story => (story.payload as { n?: number } | null)?.n === 1
  );
  expect(story).toMatchObject({ status: "consumed", payload: { n: 1 } });
  expect(seen).toHaveLength(1);
});

it("has the producer send again what nobody has answered, by its check", async () => {
  const { node, mixin } = cluster();
  let fail = 1;
  const seen: number[] = [];
  const handler = (ctx: Context<{ n: number }>) => {
    seen.push(ctx.params.n);
    if (fail-- > 0) throw new Error("not yet");
  };
  const consumers = await node("consumers", [
    { name: "stock", mixins: [mixin()], events: { "order.created": { reliable: true, handler } } }
  ]);
  const producers = await node("producers", [
    producer(mixin({ strategy: "callback", checkDelaysMs: [5000, 6000] }), { waitFor: "consumed" })
  ]);
  await Promise.all([
    consumers.waitForServices(["orders"]),
    until(
      () => consumers.call<object[], object>("reliable.subscriptions", {}),
      rows => rows.length === 1
    )
  ]);
  const { id } = await producers.call<{ id: string }, object>("orders.create", { n: 2 });
  expect(seen).toEqual([2, 2]);
  const story = await consumers.call<{ timeline: { what: string }[] }, object>("reliable.get", { id });
  expect(story.timeline.map(({ what }) => what).join("\n")).toMatch(
    /attempt 1 failed.*stock.*not yet[\s\S]*handled by stock.*attempt 2/
  );
});
