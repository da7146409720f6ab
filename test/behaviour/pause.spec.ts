import type { Context, ServiceBroker } from "moleculer";
import { describe, expect, it } from "vitest";
import type { AuditRow, Health, PausedRow, PauseResult, SubscriptionRow } from "../../src";
import type { Page } from "../../src/operator/operations";
import { hasProcess } from "../../src/outbound/control-messages";
import { systemClock } from "../../src/platform/clock";
import { pauseMarker } from "../../src/wire/names";
import { cluster, until } from "../support/brokers";
import { courierOf, foreignGroup, rowOf, runtimeOf, storeOf } from "../support/runtime";
import { consumer, emitterOf, errorOf, oneNode, reaches, story, subscribed } from "../support/services";
import { makeDue } from "../support/strategies";
import { sweptAgainAndAgain } from "../support/swept";

const idOf = (ctx: Context<never>) => (ctx.params as { n: number }).n;
const NOTE = "the warehouse is closed";

const pause = (broker: ServiceBroker, group: string, more: object = {}) =>
  broker.call<PauseResult, object>("reliable.pause", { group, note: NOTE, by: "anna", ...more });
const resume = (broker: ServiceBroker, group: string, more: object = {}) =>
  broker.call<PauseResult, object>("reliable.resume", { group, by: "ben", ...more });

it("a paused group takes nothing, and nothing burns, however often it is swept; resumed it handles each message once", async () => {
  const made = cluster();
  const seen: Record<string, number[]> = { stock: [], mail: [] };
  const { broker, emit } = await oneNode(
    made,
    ["stock", "mail"].map(name =>
      consumer(made.mixin(), name, "order.created", ctx => void seen[name]?.push(idOf(ctx)))
    )
  );
  await subscribed(broker, 2);
  const paused = await pause(broker, "stock");
  expect(paused).toMatchObject({ group: "stock", by: "anna", note: NOTE, marked: true, queues: [{ consumers: 0 }] });
  const emitted = await Promise.all([1, 2, 3].map(n => emit("order.created", { n }, { maxAttempts: 2 })));
  const ids = emitted.map(({ id }) => id);
  await until(async () => (await Promise.all(ids.map(id => rowOf(broker, id)))).every(row => row.receipts["mail"]));
  await sweptAgainAndAgain(broker, ids);
  for (const id of ids)
    expect(await rowOf(broker, id)).toMatchObject({ status: "published", waiting: ["stock"], failures: [], spent: {} });
  expect(seen["stock"]).toEqual([]);
  await resume(broker, "stock");
  for (const id of ids) await reaches(broker, id, "consumed", 5000);
  expect(seen["stock"]?.toSorted()).toEqual([1, 2, 3]);
  expect(seen["mail"]?.toSorted()).toEqual([1, 2, 3]);
});

it("one of two patterns of a group is paused, and the other takes", async () => {
  const made = cluster();
  const seen: string[] = [];
  const handler = (ctx: Context<never>) => void seen.push((ctx as unknown as { eventName: string }).eventName);
  const { broker, emit } = await oneNode(made, [
    {
      name: "stock",
      mixins: [made.mixin()],
      events: {
        "order.created": { reliable: true, handler },
        "order.paid": { reliable: true, handler },
        "bill.*": { reliable: true, handler }
      }
    }
  ]);
  await subscribed(broker, 3);
  await pause(broker, "stock", { pattern: "order.created" });
  await pause(broker, "stock:bill.*");
  const held = [await emit("order.created", {}), await emit("bill.sent", {})].map(({ id }) => id);
  await emit("order.paid", {}, { waitFor: "consumed" });
  await sweptAgainAndAgain(broker, held);
  expect(seen).toEqual(["order.paid"]);
  for (const id of held) expect(await rowOf(broker, id)).toMatchObject({ failures: [], spent: {} });
  const rows = await broker.call<SubscriptionRow[]>("reliable.subscriptions");
  expect(rows.map(({ pattern, paused }) => [pattern, paused !== undefined]).sort()).toEqual([
    ["bill.*", true],
    ["order.created", true],
    ["order.paid", false]
  ]);
  await resume(broker, "stock", { pattern: "bill.*" });
  await resume(broker, "stock", { pattern: "order.created" });
  for (const id of held) await reaches(broker, id, "consumed", 5000);
  expect(seen.toSorted()).toEqual(["bill.sent", "order.created", "order.paid"]);
});

it("a handler that runs ends and counts; nothing burns while it runs; what none has begun is given back and handled once", async () => {
  const made = cluster();
  const seen: number[] = [];
  let finish: (() => void) | undefined;
  const handler = async (ctx: Context<never>) => {
    seen.push(idOf(ctx));
    if (idOf(ctx) === 1) await new Promise<void>(resolve => (finish = resolve));
  };
  const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", handler)]);
  await subscribed(broker, 1);
  const running = await emit("order.created", { n: 1 });
  await until(() => finish);
  // The look into the inbox before a handler begins.
  const { inbox } = storeOf(broker);
  const handled = inbox.handled.bind(inbox);
  let look: (() => void) | undefined;
  inbox.handled = (group, ids) =>
    new Promise(resolve => (look = () => resolve(handled(group, ids) as never))) as ReturnType<typeof handled>;
  const waiting = await emit("order.created", { n: 2 });
  await until(() => look);
  inbox.handled = handled;
  const { queues } = await pause(broker, "stock");
  expect(queues).toMatchObject([{ ready: 1 }]);
  look?.();
  await sweptAgainAndAgain(broker, [running.id, waiting.id]);
  finish?.();
  await reaches(broker, running.id, "consumed");
  expect(await rowOf(broker, waiting.id)).toMatchObject({ failures: [], spent: {} });
  expect(seen).toEqual([1]);
  await resume(broker, "stock");
  await reaches(broker, waiting.id, "consumed", 5000);
  expect(seen).toEqual([1, 2]);
});

it("a node that comes while the group is paused takes nothing, and all take when it is resumed", async () => {
  const made = cluster();
  const seen: string[] = [];
  const on = (node: string) =>
    consumer(made.mixin({ maxInFlight: 1 }), "stock", "order.created", ctx => void seen.push(`${idOf(ctx)}@${node}`));
  const { broker, emit } = await oneNode(made, [on("first")]);
  await subscribed(broker, 1);
  await pause(broker, "stock");
  const ids = await Promise.all([1, 2, 3, 4, 5, 6, 7, 8].map(async n => (await emit("order.created", { n })).id));
  const later = await made.node("later", [on("later")]);
  await until(() => [...runtimeOf(later).consumers].every(({ paused }) => paused));
  expect((await later.call<Health, object>("reliable.health", {}, { nodeID: "later" })).failing).toEqual([]);
  expect(seen).toEqual([]);
  await resume(broker, "stock");
  await until(
    () => subscribed(broker, 1),
    ([row]) => row?.consumers === 2
  );
  for (const id of ids) await reaches(broker, id, "consumed");
  expect(seen).toHaveLength(8);
});

it("with strategy `callback` checks come, ask, and burn nothing while the group is paused", async () => {
  const made = cluster();
  const seen: number[] = [];
  const { broker } = await oneNode(made, [
    consumer(made.mixin(), "stock", "order.created", ctx => void seen.push(idOf(ctx))),
    { name: "shop", mixins: [made.mixin({ strategy: "callback", checkDelaysMs: [100, 200] })] }
  ]);
  await subscribed(broker, 1);
  await pause(broker, "stock");
  const { id } = await emitterOf(broker, "shop")("order.created", { n: 1 });
  // The first check has made its row.
  await until(
    () => storeOf(broker).messages.find([id]),
    rows => rows[0]?.dueAt !== undefined && !rows[0].claim
  );
  await sweptAgainAndAgain(broker, [id]);
  expect(await rowOf(broker, id)).toMatchObject({ waiting: ["stock"], failures: [], spent: {} });
  await resume(broker, "stock");
  await reaches(broker, id, "consumed", 5000);
  expect(seen).toEqual([1]);
});

describe("silence", () => {
  it("of a paused group with a consumer that knows no pauses is none, nor right after it is resumed", async () => {
    const { broker, emit } = await oneNode(cluster(), []);
    await foreignGroup(broker, "far", "order.created");
    const { queues } = await pause(broker, "far");
    expect(queues).toMatchObject([{ consumers: 1 }]);
    const { id } = await emit("order.created", {});
    await until(async () => (await rowOf(broker, id)).publishedAt);
    await sweptAgainAndAgain(broker, [id]);
    await resume(broker, "far");
    await sweptAgainAndAgain(broker, [id]);
    expect(await rowOf(broker, id)).toMatchObject({ failures: [], spent: {} });
    // A while later it counts.
    await storeOf(broker).pauses.prune(new Date(Date.now() + 1000));
    await makeDue(broker, id);
    await broker.call("reliable.sweep", {});
    // The node's own pass may have claimed it just before.
    const { failures } = await until(
      () => rowOf(broker, id),
      ({ failures }) => failures.length > 0
    );
    expect(failures).toMatchObject([{ cause: "silence" }]);
  });
});

it("is shown wherever one looks, and told once", async () => {
  const made = cluster();
  const told: [string, unknown][] = [];
  const { broker, emit } = await oneNode(made, [
    consumer(made.mixin(), "stock", "order.created", () => undefined),
    {
      name: "listener",
      events: {
        "$reliable.paused": (ctx: Context) => void told.push(["paused", ctx.params]),
        "$reliable.resumed": (ctx: Context) => void told.push(["resumed", ctx.params])
      }
    }
  ]);
  await subscribed(broker, 1);
  const { since } = await pause(broker, "stock");
  const text = `stock, since ${since} by anna: ${NOTE}`;
  expect(await broker.call("reliable.health")).toMatchObject({ ok: true, failing: [], paused: [text] });
  expect(await broker.call("reliable.stats")).toMatchObject({ paused: "stock" });
  expect(await broker.call("reliable.subscriptions")).toMatchObject([{ group: "stock", paused: text }]);
  const [row, ...more] = await broker.call<PausedRow[]>("reliable.paused");
  expect(row).toMatchObject({ group: "stock", since, by: "anna", note: NOTE, text });
  expect(more).toEqual([]);
  expect(await broker.call("reliable.paused", { event: "order.created" })).toHaveLength(1);
  expect(await broker.call("reliable.paused", { event: "order.paid" })).toEqual([]);
  const error = await errorOf(emit("order.created", {}, { waitFor: "consumed", timeoutMs: 1_000 }));
  expect(error.type).toBe("RELIABLE_WAIT_TIMEOUT");
  expect(error.message).toContain(`Paused: ${text}.`);
  expect(error.data).toMatchObject({ paused: [text] });
  await resume(broker, "stock", { note: "it is open" });
  expect(await broker.call("reliable.paused")).toEqual([]);
  expect(await broker.call("reliable.health")).toMatchObject({ paused: [] });
  expect(told).toEqual([
    ["paused", { group: "stock", by: "anna", note: NOTE }],
    ["resumed", { group: "stock", by: "ben", note: "it is open" }]
  ]);
  const { rows } = await broker.call<Page<AuditRow>>("reliable.audits");
  expect(rows).toMatchObject([
    { act: "resume", state: "done", by: "ben", group: "stock", note: "it is open", done: 1 },
    { act: "pause", state: "done", by: "anna", group: "stock", note: NOTE, done: 1 }
  ]);
});

describe("what cannot be done is refused", () => {
  it.each([
    ["an unknown group", "pause", { group: "stork" }, "RELIABLE_NOT_FOUND", /'stork'/],
    ["an unknown pattern", "pause", { group: "stock", pattern: "order.*" }, "RELIABLE_NOT_FOUND", /'order\.\*'/],
    ["a queue for jobs that is not there", "pause", { group: "queue/jobs" }, "RELIABLE_NOT_FOUND", /'jobs'/],
    ["no note", "pause", { group: "stock", note: " " }, "RELIABLE_BAD_OPTION", /note/],
    ["all groups", "pause", { group: "*" }, "RELIABLE_BAD_OPTION", /'\*'/],
    ["twice", "pause", { group: "mail" }, "RELIABLE_ILLEGAL_TRANSITION", /paused already: mail, since .* by anna/],
    ["what is not paused", "resume", { group: "stock" }, "RELIABLE_ILLEGAL_TRANSITION", /stock is not paused/],
    [
      "a pattern of a paused group",
      "resume",
      { group: "mail", pattern: "order.created" },
      "RELIABLE_ILLEGAL_TRANSITION",
      /Paused is: mail, since/
    ],
    ["a group nobody knows", "resume", { group: "stork" }, "RELIABLE_NOT_FOUND", /'stork'/]
  ])("%s", async (_, act, params, type, text) => {
    const made = cluster();
    const { broker } = await oneNode(
      made,
      ["stock", "mail"].map(name => consumer(made.mixin(), name, "order.created", () => undefined))
    );
    await subscribed(broker, 2);
    await pause(broker, "mail");
    const error = await errorOf(broker.call(`reliable.${act}`, act === "pause" ? { note: NOTE, ...params } : params));
    expect([error.type, error.message]).toEqual([type, expect.stringMatching(text)]);
    const { rows } = await broker.call<Page<AuditRow>>("reliable.audits");
    expect(rows).toHaveLength(1);
  });
});

describe("where RabbitMQ and the store differ", () => {
  it("a marker that got lost is set again, and one that was left is taken away", async () => {
    const made = cluster();
    const { broker } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", () => undefined)]);
    await subscribed(broker, 1);
    const [only] = runtimeOf(broker).consumers;
    const { pauseMarks, subscriptions } = runtimeOf(broker).needStorage();
    const { control } = courierOf(broker);
    const marker = pauseMarker(made.namespace, "stock");
    await pause(broker, "stock");
    await control.unmark(marker);
    await pauseMarks.agreeAll();
    expect(await control.marked(marker)).toBe(true);
    // A resume whose process has died after its write.
    await storeOf(broker).pauses.resume({ group: "stock" }, { at: new Date(), by: "ben" });
    await subscriptions.refresh();
    await pauseMarks.agreeAll();
    expect(await control.marked(marker)).toBe(false);
    await until(() => only?.consuming);
    // A pause whose process has died before the marker.
    await storeOf(broker).pauses.pause({ group: "stock", at: new Date(), by: "anna", note: NOTE });
    await subscriptions.refresh();
    await pauseMarks.agreeAll();
    await until(() => only?.paused);
  });

  it("a marker alone keeps the group from taking, is shown, and is taken away by `resume`", async () => {
    const made = cluster();
    const { broker } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", () => undefined)]);
    await subscribed(broker, 1);
    const [only] = runtimeOf(broker).consumers;
    await pause(broker, "stock");
    await until(() => only?.paused);
    // As a backup of the store would have it.
    await storeOf(broker).pauses.resume({ group: "stock" }, { at: new Date(0), by: "ben" });
    await storeOf(broker).pauses.unmarked({ group: "stock" }, new Date(0));
    await runtimeOf(broker).needStorage().subscriptions.refresh();
    const { paused } = await broker.call<Health>("reliable.health");
    expect(paused).toEqual([expect.stringContaining("by a marker at RabbitMQ alone")]);
    await resume(broker, "stock");
    await until(() => only?.consuming);
    expect((await errorOf(resume(broker, "stock"))).type).toBe("RELIABLE_ILLEGAL_TRANSITION");
  });
});

it("`forget` does not take a paused group for one that is gone, and ends the pause of one that is", async () => {
  const made = cluster();
  const { broker } = await oneNode(made, []);
  const shop = await made.node("node-2", [
    consumer(made.mixin({ service: false }), "stock", "order.created", () => undefined)
  ]);
  const [row] = await subscribed(broker, 1);
  await pause(broker, "stock");
  const forget = () => broker.call("reliable.forget", { group: "stock", note: "gone" });
  const error = await errorOf(forget());
  expect([error.type, error.message]).toEqual(["RELIABLE_GROUP_ACTIVE", expect.stringContaining("is paused")]);
  // They may be just starting anew, as long as the last announcement is not old.
  await shop.stop();
  expect((await errorOf(forget())).message).toContain("is paused");
  const store = storeOf(broker);
  const [known] = await store.subscriptions.list();
  await store.operations.forget([{ group: "stock", pattern: "order.created" }]);
  const old = new Date(Date.now() - 3_600_000);
  if (known) await store.subscriptions.announce([{ ...known, firstSeenAt: old, seenAt: old }]);
  // Its queue for control messages goes with its connection, some ms after that.
  await until(async () => row && (await hasProcess(courierOf(broker), row, systemClock)) === false);
  await forget();
  expect(await broker.call("reliable.paused")).toEqual([]);
  expect(await courierOf(broker).control.marked(pauseMarker(made.namespace, "stock"))).toBe(false);
  expect(row?.group).toBe("stock");
});

it("is read in a message's story as waiting, and not as failed", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", () => undefined)]);
  await subscribed(broker, 1);
  await pause(broker, "stock");
  const { id } = await emit("order.created", {});
  expect(await story(broker, id)).toMatchObject({
    groups: [{ group: "stock", state: "waiting", reason: expect.stringMatching(/^paused: stock, since .* by anna/) }]
  });
});
