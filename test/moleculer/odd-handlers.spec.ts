import type { Context } from "moleculer";
import { expect, it } from "vitest";
import { cluster, until } from "../support/brokers";

type Orders = {
  reliableEmit(event: string, payload: unknown, options?: object): Promise<{ id: string; status: string }>;
};
type Row = { status: string; attempts: number; reason: string };

const THROWN: Record<string, { thrown: () => unknown; attempts: number; reason: string }> = {
  frozen: { thrown: () => Object.freeze(new Error("frozen")), attempts: 2, reason: "frozen" },
  "with a ctx of its own": {
    thrown: () => Object.defineProperty(new Error("mine"), "ctx", { value: 1, writable: false, configurable: false }),
    attempts: 2,
    reason: "mine"
  },
  "a proxy": {
    thrown: () => new Proxy(new Error("proxied"), { defineProperty: () => false }),
    attempts: 2,
    reason: "proxied"
  },
  "a string": { thrown: () => "503 try later", attempts: 2, reason: "503 try later" },
  undefined: { thrown: () => undefined, attempts: 2, reason: "threw undefined" },
  "an object": { thrown: () => ({ code: 5 }), attempts: 2, reason: '{"code":5}' },
  "frozen and not retryable": {
    thrown: () => Object.freeze(Object.assign(new Error("for ever"), { retryable: false })),
    attempts: 1,
    reason: "for ever"
  }
};

it("whatever a handler throws is a failure, with its own words, on both lines", async () => {
  const { node, mixin } = cluster();
  const handler = (ctx: Context<{ what: string }>) => {
    throw THROWN[ctx.params.what]?.thrown();
  };
  const broker = await node("node-1", [
    { name: "shop", mixins: [mixin({ maxAttempts: 2 })], events: { "order.created": { reliable: true, handler } } }
  ]);
  await until(
    () => broker.call<object[], object>("reliable.subscriptions", {}),
    rows => rows.length === 1
  );
  const shop = broker.getLocalService("shop") as unknown as Orders;
  const ends = await Promise.all(
    Object.keys(THROWN).map(async what => {
      const { id } = await shop.reliableEmit("order.created", { what });
      const { status, attempts, reason } = await until(
        () => broker.call<Row, object>("reliable.get", { id }),
        row => row.status === "dead" || row.status === "consumed"
      );
      return [what, status, attempts, reason.includes(THROWN[what]?.reason as string) ? THROWN[what]?.reason : reason];
    })
  );
  expect(ends).toEqual(Object.entries(THROWN).map(([what, { attempts, reason }]) => [what, "dead", attempts, reason]));
});

it.each([
  ["mistyped", { reliable: true, hanlder: () => undefined }],
  ["missing", { reliable: true }]
])("a reliable event whose handler is %s is refused when the service is created", (_, event) => {
  const { broker, mixin } = cluster();
  const create = () =>
    broker("node-1").createService({ name: "shop", mixins: [mixin()], events: { "order.created": event } } as never);
  expect(create).toThrow(
    expect.objectContaining({
      type: "RELIABLE_BAD_CONSUMER",
      message: expect.stringContaining("'order.created'") as string
    })
  );
});

it("the same id with the same payload in another order of keys is the same message", async () => {
  const { node, mixin } = cluster();
  const broker = await node("node-1", [{ name: "shop", mixins: [mixin()] }]);
  const shop = broker.getLocalService("shop") as unknown as Orders;
  await shop.reliableEmit("order.created", { id: 1, lines: [{ a: 1, b: 2 }] }, { id: "one" });
  expect(await shop.reliableEmit("order.created", { lines: [{ b: 2, a: 1 }], id: 1 }, { id: "one" })).toMatchObject({
    id: "one"
  });
  await expect(shop.reliableEmit("order.created", { id: 2, lines: [] }, { id: "one" })).rejects.toMatchObject({
    type: "RELIABLE_DUPLICATE_ID"
  });
});

it.each([
  ["a Map", { m: new Map([[1, 2]]) }],
  ["a Set", { s: new Set([1]) }],
  ["an Error", { e: new Error("x") }],
  ["NaN", { n: NaN }],
  ["Infinity", [Infinity]],
  [
    "a getter that throws no Error",
    {
      get a() {
        throw "s";
      }
    }
  ]
])("a payload with %s is refused, not changed", async (_, payload) => {
  const { node, mixin } = cluster();
  const broker = await node("node-1", [{ name: "shop", mixins: [mixin()] }]);
  const shop = broker.getLocalService("shop") as unknown as Orders;
  await expect(shop.reliableEmit("order.created", payload)).rejects.toMatchObject({ type: "RELIABLE_BAD_PAYLOAD" });
});
