import { expect, it } from "vitest";
import type { Health } from "../../src";
import { cluster, until } from "../support/brokers";
import { courierOf, foreignGroup, rowOf, runtimeOf } from "../support/runtime";
import { consumer, errorOf, oneNode, subscribed } from "../support/services";
import { makeDue } from "../support/strategies";

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
