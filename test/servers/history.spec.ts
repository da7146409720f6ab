import type { ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import type { History } from "../../src/operator/history";
import { systemQueues } from "../../src/wire/names";
import { cluster, until } from "../support/brokers";
import { courierOf, storeOf } from "../support/runtime";
import { consumer, emitter, emitterOf, reaches, subscribed } from "../support/services";

const historyOf = (broker: ServiceBroker, params: object = {}) =>
  broker.call<History, object>("reliable.history", { toAt: Date.now() + 60_000, ...params });

const HANDLED = 3;

it("a node that stops has written its last minute, a node without a store too; told twice it is there once", async () => {
  const made = cluster();
  const desk = await made.node("desk", [emitter(made.mixin())]);
  const handler = (ctx: { params: { fails?: boolean } }) => {
    if (ctx.params.fails) throw Object.assign(new Error("no"), { retryable: false });
  };
  const { amqp } = made.options() as { amqp: string };
  const withoutStore = await made.node("consumer", [
    consumer(
      made.mixin({ mongo: undefined, redis: undefined, database: undefined } as never),
      "stock",
      "order.created",
      handler as never
    )
  ]);
  expect(amqp).toBeTruthy();
  await subscribed(desk, 1);
  const emit = emitterOf(desk);
  for (let n = 0; n < HANDLED; n++) await emit("order.created", { n }, { waitFor: "consumed" });
  const { id } = await emit("order.created", { fails: true });
  await reaches(desk, id, "dead");
  await withoutStore.stop();
  const { total } = await until(
    () => historyOf(desk, { group: "stock" }),
    ({ total: { handled } }) => handled > 0
  );
  expect(total).toMatchObject({ emitted: 0, handled: HANDLED, failed: 1, dead: 0 });
  expect(total.times.reduce((sum, count) => sum + count, 0)).toBe(HANDLED + 1);
  expect(total.p95Ms).toBeGreaterThan(0);

  // The very same announcement once more, as a broker may deliver it.
  const now = storeOf(desk).now();
  const { records } = await storeOf(desk).history.between("minute", new Date(0), new Date(now.getTime() + 60_000), 10);
  const [record] = records.filter(({ nodeID }) => nodeID === "consumer");
  const [row] = await desk.call<{ queue: string }[], object>("reliable.subscriptions", {});
  const announce = (counts: object) =>
    courierOf(desk).publish({
      to: { queue: systemQueues(made.namespace).announcements },
      messageId: "again",
      type: "reliable.announcement",
      headers: {},
      body: Buffer.from(
        JSON.stringify({
          ...{
            v: 1,
            pattern: "order.created",
            group: "stock",
            queue: row?.queue,
            nodeID: "consumer",
            service: "stock"
          },
          counts
        })
      )
    });
  const start = record?._id.split("|").at(-1);
  await announce({ minute: record?.at.getTime(), start, rows: record?.rows });
  // Another part of that minute, to know that the first has come.
  await announce({
    minute: record?.at.getTime(),
    start: "later",
    rows: [{ event: "order.paid", group: "stock", handled: 1 }]
  });
  await until(
    () => historyOf(desk, { event: "order.paid" }),
    ({ total: { handled } }) => handled === 1
  );
  expect((await historyOf(desk, { group: "stock", event: "order.created" })).total.handled).toBe(HANDLED);

  const another = await made.node("another", [emitter(made.mixin())]);
  await desk.stop();
  expect((await historyOf(another)).total).toMatchObject({
    ...{ emitted: HANDLED + 1, confirmed: HANDLED + 1, handled: HANDLED + 1, failed: 1, dead: 1 }
  });
});

it.each([
  ["fromAt", { fromAt: "yesterday" }, /'fromAt' must be an instant/],
  ["fromAt", { fromAt: 10, toAt: 5 }, /'fromAt' must be before 'toAt'/],
  ["stepMs", { stepMs: 61_000 }, /'stepMs' must be whole minutes/],
  ["stepMs", { fromAt: Date.now() - 25 * 3_600_000 }, /older than 24 h is kept by the hour/],
  [
    "stepMs",
    { fromAt: Date.now() - 90 * 24 * 3_600_000, stepMs: 3_600_000 },
    /2160 steps, more than 1500|2161 steps, more than 1500/
  ]
])("refuses a bad %s: %j", async (option, params, text) => {
  const made = cluster();
  const desk = await made.node("desk", [emitter(made.mixin())]);
  await expect(desk.call("reliable.history", params)).rejects.toMatchObject({
    type: "RELIABLE_BAD_OPTION",
    message: expect.stringMatching(text),
    data: { option }
  });
});
