import type { Context, ServiceSchema } from "moleculer";
import { expect, it } from "vitest";
import { cluster } from "../support/brokers";
import { consumer, emitter, emitterOf, oneNode, reaches, serviceOf, subscribed } from "../support/services";

const line = process.env["MOLECULER_LINE"];

/** What a handler saw of its context. */
type Seen = Pick<
  Context,
  "params" | "meta" | "requestID" | "level" | "caller" | "eventName" | "eventType" | "eventGroups" | "nodeID"
> & { parentID: string | null; locals: unknown; headers: unknown };

function look(ctx: Context<never>): Seen {
  const { params, meta, requestID, level, caller, eventName, eventType, eventGroups, nodeID, locals } = ctx;
  return {
    params,
    meta: { ...meta },
    requestID,
    level,
    caller,
    eventName,
    eventType,
    eventGroups,
    nodeID,
    parentID: ctx.parentID,
    locals,
    headers: (ctx as { headers?: unknown }).headers
  };
}

const creator = (mixin: Partial<ServiceSchema>, options: object = {}) => ({
  name: "orders",
  mixins: [mixin],
  actions: {
    async create(this: { reliableEmit(...args: unknown[]): Promise<{ id: string }> }, ctx: Context<object>) {
      const { id } = await this.reliableEmit("order.created", ctx.params, { ctx, waitFor: "consumed", ...options });
      return { id, ctxID: ctx.id, requestID: ctx.requestID, level: ctx.level };
    }
  }
});

it("hands on what the context of the emit holds, from node to node", async () => {
  const made = cluster();
  const seen: Seen[] = [];
  const consumers = await made.node("consumers", [
    consumer(made.mixin(), "stock", "order.*", ctx => void seen.push(look(ctx)))
  ]);
  const producers = await made.node("producers", [
    creator(made.mixin(), { meta: { extra: [1] }, headers: { lang: "de" } })
  ]);
  await subscribed(consumers, 1);

  const made1 = await producers.call<{ id: string; ctxID: string; requestID: string; level: number }, object>(
    "orders.create",
    { n: 1, deep: { ä: "ö" } },
    { meta: { user: { id: 7 }, extra: "overwritten" } }
  );
  expect(seen).toEqual([
    {
      params: { n: 1, deep: { ä: "ö" } },
      meta: { user: { id: 7 }, extra: [1] },
      requestID: made1.requestID,
      parentID: made1.ctxID,
      level: made1.level + 1,
      caller: "orders",
      eventName: "order.created",
      eventType: "emit",
      eventGroups: ["stock"],
      nodeID: "producers",
      locals: { reliable: { id: made1.id, attempt: 1, group: "stock:order.*" } },
      headers: line === "0.15" ? { lang: "de" } : undefined
    }
  ]);
});

it("gives the handler the same context as a plain event, which the same handler still serves", async () => {
  const made = cluster();
  const seen: Seen[] = [];
  const consumers = await made.node("consumers", [
    consumer(made.mixin(), "stock", "order.created", ctx => void seen.push(look(ctx)))
  ]);
  const twice = {
    ...creator(made.mixin()),
    actions: {
      async create(this: { reliableEmit(...args: unknown[]): Promise<unknown> }, ctx: Context<object>) {
        await ctx.emit("order.created", ctx.params);
        await this.reliableEmit("order.created", ctx.params, { ctx });
      }
    }
  };
  const producers = await made.node("producers", [twice]);
  await subscribed(consumers, 1);
  await producers.waitForServices("stock");
  await producers.call("orders.create", { n: 1 }, { meta: { user: 1 } });
  await expect.poll(() => seen.length, { timeout: 10_000 }).toBe(2);
  const [first, second] = seen.map(({ locals: _, ...rest }) => rest);
  expect(first).toEqual(second);
  expect(seen.filter(({ locals }) => (locals as { reliable?: object }).reliable)).toHaveLength(1);
});

it("works without a context: own request, the emitting service as caller", async () => {
  const made = cluster();
  const seen: Seen[] = [];
  const { emit } = await oneNode(made, [
    consumer(made.mixin(), "stock", "order.created", ctx => void seen.push(look(ctx)))
  ]);
  await emit("order.created", null, { waitFor: "consumed", meta: { a: 1 } });
  expect(seen).toMatchObject([
    { params: null, meta: { a: 1 }, caller: "emitter", level: 1, parentID: null, nodeID: "node-1" }
  ]);
  expect(seen[0]?.requestID).toBeTruthy();
});

it.each(["ctx", "parentCtx"])("takes the context as `%s`", async name => {
  const made = cluster();
  const seen: Seen[] = [];
  const { emit, broker } = await oneNode(made, [
    consumer(made.mixin(), "stock", "order.created", ctx => void seen.push(look(ctx)))
  ]);
  const ctx = (broker as unknown as { ContextFactory: { create(...args: unknown[]): Context } }).ContextFactory.create(
    broker,
    null,
    {},
    { requestID: "request-1", meta: { a: 1 } }
  );
  await emit("order.created", {}, { [name]: ctx, waitFor: "consumed" });
  expect(seen).toMatchObject([{ requestID: "request-1", parentID: ctx.id, meta: { a: 1 } }]);
});

it("refuses params the event's schema forbids: dead at once, the handler is not called", async () => {
  const made = cluster();
  let called = 0;
  const { broker, emit } = await oneNode(made, [
    consumer(made.mixin(), "stock", "order.created", () => void called++, { params: { n: "number" } })
  ]);
  await subscribed(broker, 1);
  const bad = await emit("order.created", { n: "one" }, { maxAttempts: 5 });
  const dead = await reaches(broker, bad.id, "dead");
  expect(dead).toMatchObject({ attempts: 1, failed: "stock", reason: expect.stringContaining("rejected") });
  expect(dead.timeline.filter(({ what }) => what.includes("ValidationError"))).toHaveLength(1);
  expect(called).toBe(0);
  await emit("order.created", { n: 1 }, { waitFor: "consumed" });
  expect(called).toBe(1);
});

it("calls the handler on its service, and all handlers where mixins add some", async () => {
  const made = cluster();
  const seen: string[] = [];
  const part = {
    events: {
      "order.created": {
        reliable: true,
        handler(this: { name: string }) {
          seen.push(`mixin:${this.name}`);
        }
      }
    }
  };
  const whole = {
    name: "stock",
    mixins: [made.mixin(), part],
    events: {
      "order.created"(this: { name: string; fullName: string }, ctx: Context<{ fail?: boolean }>) {
        seen.push(`service:${this.fullName}`);
        if (ctx.params.fail) throw new Error("one of two");
      }
    }
  };
  const { broker, emit } = await oneNode(made, [whole]);
  await subscribed(broker, 1);
  await emit("order.created", {}, { waitFor: "consumed" });
  expect(seen.sort()).toEqual(["mixin:stock", "service:stock"]);

  const { id } = await emit("order.created", { fail: true }, { maxAttempts: 1 });
  expect((await reaches(broker, id, "dead")).reason).toContain("one of two");
});

it("counts the broker's own event metrics", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "stock", "order.*", () => undefined)], {
    metrics: true
  });
  await emit("order.created", {}, { waitFor: "consumed" });
  const received = () =>
    (broker.metrics as unknown as { getMetric(name: string): { get(labels: object): { value: number } | undefined } })
      .getMetric("moleculer.event.received.total")
      .get({ service: "stock", group: "stock", event: "order.created", caller: "emitter" })?.value;
  await expect.poll(received, { timeout: 10_000 }).toBe(1);
  expect(
    (broker.metrics as unknown as { getMetric(name: string): { get(labels: object): { value: number } } })
      .getMetric("moleculer.reliable.handled")
      .get({ event: "order.created", group: "stock:order.*" }).value
  ).toBe(1);
});

it("does not mistake a method of the service for the mixin's", async () => {
  const made = cluster();
  const { broker } = await oneNode(made, []);
  expect(emitterOf(broker)).toBeTypeOf("function");
  expect(
    Object.keys(serviceOf(broker, "emitter")).filter(key => /reliable/i.test(key) && !key.startsWith("$"))
  ).toEqual(["reliableEmit", "reliableEmitMany", "reliableCancel"]);
  expect(emitter(made.mixin()).name).toBe("emitter");
});
