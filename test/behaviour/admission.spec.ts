import type { Context } from "moleculer";
import { expect, it } from "vitest";
import type { Health } from "../../src";
import { cluster, until } from "../support/brokers";
import { courierOf, foreignGroup, rowOf, runtimeOf, storeOf } from "../support/runtime";
import { consumer, type Emit, errorOf, oneNode, subscribed } from "../support/services";
import { makeDue } from "../support/strategies";

const numberOf = (ctx: Context<never>) => (ctx.params as { n: number }).n;
const order = (n: number) => `order-${n}`;
/** What any machine is overloaded by. */
const FLOOD = { admission: { targetMs: 20, waitMs: 0, minPerSecond: 1 }, maxPending: 1_000_000 };

interface Refused {
  n: number;
  error: unknown;
}

/** Emits on and on without waiting for any of them. */
function flood(emit: Emit) {
  const emits: Promise<Refused | undefined>[] = [];
  const refused: Refused[] = [];
  let first: () => void = () => undefined;
  const overloaded = new Promise<void>(resolve => (first = resolve));
  let ends = false;
  const running = (async () => {
    for (let n = 0; !ends; await new Promise(resolve => setTimeout(resolve, 5)))
      for (const to = n + 300; n < to; n++) {
        const at = n;
        const fails = (error: unknown) => {
          refused.push({ n: at, error });
          first();
          return { n: at, error };
        };
        emits.push(emit("order.created", { n }, { id: order(n) }).then(() => undefined, fails));
      }
  })();
  return {
    overloaded,
    async end() {
      ends = true;
      await running;
      const accepted = (await Promise.all(emits)).flatMap((end, n) => (end ? [] : [n]));
      return { accepted, refused };
    }
  };
}

it("a flood is refused, and nothing was stored of that; what was accepted is handled; what a handler emits is never held", async () => {
  const made = cluster();
  const handled = new Set<number>();
  let begin: () => void = () => undefined;
  const begun = new Promise<void>(resolve => (begin = resolve));
  let emitNow: (() => void) | undefined;
  let emitted: Promise<unknown> | undefined;
  const services = [
    consumer(made.mixin(FLOOD), "stock", "order.created", ctx => void handled.add(numberOf(ctx))),
    consumer(made.mixin(), "mail", "mail.due", async ctx => {
      const overloaded = new Promise<void>(resolve => (emitNow = resolve));
      begin();
      await overloaded;
      emitted = Promise.all(Array.from({ length: 100 }, (_, n) => emit("mail.sent", { n }, { ctx })));
      await emitted;
    })
  ];
  const { broker, emit } = await oneNode(made, services);
  await subscribed(broker, 2);
  await emit("mail.due", {});
  await begun;

  const load = flood(emit);
  await load.overloaded;
  const { degraded } = await broker.call<Health, object>("reliable.health", {});
  expect(degraded.join()).toMatch(/overloaded: late is the .*; \d+ emits per second are let in/);
  emitNow?.();
  await until(() => emitted);
  await expect(emitted).resolves.toHaveLength(100);
  const { accepted, refused } = await load.end();

  for (const { error } of refused)
    expect(error).toMatchObject({
      type: "RELIABLE_UNAVAILABLE",
      retryable: true,
      data: { event: "order.created", option: "admission", stored: false, retryAfterMs: expect.any(Number) }
    });
  const some = refused.filter((_, i) => i % Math.ceil(refused.length / 500) === 0);
  expect(await storeOf(broker).messages.find(some.map(({ n }) => order(n)))).toEqual([]);
  await until(
    () => handled.size,
    size => size >= accepted.length
  );
  expect([...handled].toSorted((a, b) => a - b)).toEqual(accepted);
  // All is well again: the first look after some seconds opens it.
  await until(
    () => broker.call<Health, object>("reliable.health", {}),
    health => !health.degraded.some(text => text.startsWith("overloaded"))
  );
  expect(await emit("order.created", { n: -1 })).toMatchObject({ status: "pending" });
}, 120_000);

it("a thousand callers that wait for each of their emits are never refused", async () => {
  const made = cluster();
  let handled = 0;
  const { broker, emit } = await oneNode(made, [
    consumer(made.mixin({ admission: { targetMs: 20 } }), "stock", "order.created", () => void handled++)
  ]);
  await subscribed(broker, 1);
  const caller = async () => {
    for (let n = 0; n < 5; n++) await emit("order.created", { n });
  };
  await Promise.all(Array.from({ length: 1000 }, caller));
  await until(
    () => handled,
    count => count === 5000
  );
}, 120_000);

it.each(["its group is paused", "RabbitMQ is away"])(
  "an outbox emit is not refused because %s",
  async why => {
    const made = cluster();
    const { broker, emit } = await oneNode(made, [
      consumer(made.mixin({ admission: { targetMs: 20, waitMs: 0 } }), "stock", "order.created", () => undefined)
    ]);
    await subscribed(broker, 1);
    if (why.startsWith("its"))
      await broker.call("reliable.pause", { group: "stock", note: "the warehouse is closed", by: "anna" });
    else Object.defineProperty(courierOf(broker), "ready", { get: () => false, configurable: true });
    const caller = async () => {
      for (let n = 0; n < 30; n++) await emit("order.created", { n });
    };
    await Promise.all(Array.from({ length: 100 }, caller));
    const { degraded } = await broker.call<Health, object>("reliable.health", {});
    expect(degraded.filter(text => text.includes("deliveries"))).toEqual([]);
  },
  120_000
);

it("what this node was late with is not taken for silence, and a pass ends with its page", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, [
    { name: "options", mixins: [made.mixin({ sweeper: false, pageSize: 1 })] }
  ]);
  const { deliveries } = await foreignGroup(broker, "away", "order.created");
  const ids = await Promise.all([1, 2].map(async n => (await emit("order.created", { n })).id));
  await until(() => deliveries.length === 2);
  for (const id of ids)
    await until(
      () => rowOf(broker, id),
      ({ publishedAt }) => publishedAt !== undefined
    );
  const { load } = runtimeOf(broker);
  for (const id of ids) await makeDue(broker, id);
  load.overloaded("store");
  const { sweeper } = runtimeOf(broker).needStorage();
  expect(await sweeper.once()).toMatchObject({ pages: 1, silent: 0, stopped: "overloaded" });
  await until(() => load.calmMs > 1000);
  expect(await sweeper.once()).toMatchObject({ silent: 0 });
  for (const id of ids) expect(await rowOf(broker, id)).toMatchObject({ failures: [], spent: {} });
});

it("bad limits are refused where they are written", async () => {
  const made = cluster();
  for (const admission of [{ targetMs: 1 }, { waitMs: -1 }, { minPerSecond: 0 }, { limit: 1 }, 7])
    expect(await errorOf(() => made.mixin({ admission } as object)), JSON.stringify(admission)).toMatchObject({
      type: "RELIABLE_BAD_OPTION"
    });
});
