import type { Context } from "moleculer";
import { expect, it } from "vitest";
import type { ReliableError } from "../../src";
import { ANY_GROUP } from "../../src/message/message";
import { cluster, until } from "../support/brokers";
import { courierOf, rowOf } from "../support/runtime";
import { consumer, errorOf, oneNode, reaches, subscribed } from "../support/services";

it("an event nobody subscribes to burns its attempts and is dead, with the cause", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, []);
  const error = await errorOf(emit("order.created", { n: 1 }, { id: "order-1", waitFor: "consumed" }));
  expect(error).toMatchObject({
    type: "RELIABLE_DEAD",
    data: { reason: expect.stringMatching(/^unroutable at attempt 3: /) }
  });
  const row = await rowOf(broker, "order-1");
  expect(row).toMatchObject({ status: "dead", waiting: [], failed: [ANY_GROUP] });
  expect(row.failures.map(({ cause, attempt, error: { name, code } }) => [cause, attempt, name, code])).toEqual(
    [1, 2, 3].map(n => ["unroutable", n, "Unroutable", "NO_ROUTE"])
  );
  // Never with the broker, so never told to be published.
  expect(row.publishedAt).toBeUndefined();
  expect(row.attempts).toEqual({});
});

it("a message that nobody took is not confirmed", async () => {
  const { emit } = await oneNode(cluster(), []);
  expect(await errorOf(emit("order.created", {}, { waitFor: "confirmed", maxAttempts: 1 }))).toMatchObject({
    type: "RELIABLE_DEAD"
  });
});

it("a subscriber that appears in time gets it", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, []);
  const { id } = await emit("order.created", { n: 7 }, { maxAttempts: 100, backoff: { initialMs: 1, maxMs: 20 } });
  await until(
    () => rowOf(broker, id),
    row => (row.spent[ANY_GROUP] ?? 0) >= 2
  );
  const seen: unknown[] = [];
  await made.node("late", [consumer(made.mixin(), "stock", "order.created", ctx => void seen.push(ctx.params))]);
  await reaches(broker, id, "consumed");
  expect(seen).toEqual([{ n: 7 }]);
});

it("a dead one is delivered after all, when retried with somebody there", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, []);
  const { id } = await emit("order.created", { n: 7 }, { maxAttempts: 1 });
  await reaches(broker, id, "dead");
  const seen: unknown[] = [];
  await made.node("late", [consumer(made.mixin(), "stock", "order.created", ctx => void seen.push(ctx.params))]);
  await subscribed(broker, 1);
  await broker.call("reliable.retry", { id });
  await reaches(broker, id, "consumed");
  expect(seen).toEqual([{ n: 7 }]);
});

it("a wildcard group that was named by the emit before it was known gets it", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, []);
  const { id } = await emit(
    "order.created",
    { n: 7 },
    { groups: "audit", maxAttempts: 100, backoff: { initialMs: 1, maxMs: 20 } }
  );
  await until(
    () => rowOf(broker, id),
    row => row.failures.length > 0
  );
  const seen: unknown[] = [];
  await made.node("late", [consumer(made.mixin(), "audit", "order.**", ctx => void seen.push(ctx.params))]);
  await reaches(broker, id, "consumed");
  expect(seen).toEqual([{ n: 7 }]);
});

it("a group whose queue has been deleted is offline: its message waits without an attempt, and $reliable.error names it", async () => {
  const made = cluster();
  const told: { error: ReliableError; module: string }[] = [];
  const watch = {
    name: "watch",
    events: { "$reliable.error": (ctx: Context<(typeof told)[0]>) => void told.push(ctx.params) }
  };
  const { broker, emit } = await oneNode(made, [watch]);
  const stock = consumer(made.mixin(), "stock", "order.created", () => undefined);
  const mail = consumer(made.mixin(), "mail", "order.created", () => undefined);
  const other = await made.node("other", [stock, mail]);
  const [row] = (await subscribed(broker, 2)).filter(({ group }) => group === "mail");
  await other.stop();
  await courierOf(broker).remove(row?.queue as string);
  const { id } = await emit("order.created", {}, { maxAttempts: 1, groups: ["mail", "stock"] });
  await until(() => told.some(({ error, module }) => module === "sweeper" && error.type === "RELIABLE_QUEUE_MISSING"));
  expect(told.find(({ module }) => module === "sweeper")?.error).toMatchObject({
    message: expect.stringContaining("group mail"),
    data: { group: "mail", queue: row?.queue, event: "order.created", id }
  });
  const { waiting, failed, spent } = await rowOf(broker, id);
  expect({ waiting, failed, spent }).toEqual({ waiting: ["mail", "stock"], failed: [], spent: {} });
  await made.node("back", [
    consumer(made.mixin(), "stock", "order.created", () => undefined),
    consumer(made.mixin(), "mail", "order.created", () => undefined)
  ]);
  expect(await reaches(broker, id, "consumed")).toMatchObject({ attempts: 1 });
});
