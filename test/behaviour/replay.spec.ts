import type { Context, ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import type { AuditRow, BulkStory, MessageRow, ReliableLocals, ReplayBegun } from "../../src";
import type { Page } from "../../src/operator/operations";
import { cluster, until } from "../support/brokers";
import { deadOf, finalOf, messageOf, receiptOf } from "../support/messages";
import { storeOf } from "../support/runtime";
import { consumer, emitter, emitterOf, errorOf, reaches, subscribed } from "../support/services";
import { localsOf } from "../support/strategies";

// Not so old that it is pruned.
const START = Date.now() - 3_600_000;
const at = (ms: number) => new Date(START + ms);

const replay = (broker: ServiceBroker, params: object) => broker.call<ReplayBegun, object>("reliable.replay", params);
const WINDOW = { fromAt: at(0).toISOString(), toAt: at(60_000).toISOString(), perSecond: 10_000 };
const ends = (broker: ServiceBroker, id: string | undefined, holds: (story: BulkStory) => boolean = () => true) =>
  until(
    () => broker.call<BulkStory, object>("reliable.bulks", { id }),
    story => story.endedAt !== undefined && holds(story),
    30_000
  );

/** One node with the group `mail`, whose handler sees each delivery. */
async function desk(handler: (locals: ReliableLocals) => unknown = () => undefined, options: object = {}) {
  const made = cluster();
  const seen: ReliableLocals[] = [];
  // Moleculer 0.14 tells a handler of contexts by the name of its argument.
  const take = (ctx: Context<never>) => {
    const reliable = localsOf(ctx);
    seen.push(reliable);
    return handler(reliable);
  };
  const mixin = made.mixin(options);
  const broker = await made.node("node-1", [emitter(mixin), consumer(mixin, "mail", "order.created", take)]);
  await subscribed(broker, 1);
  return { made, broker, seen };
}

const handledByStock = { receipts: { stock: receiptOf() } };
const consumed = (n: number, fields: object = {}) =>
  finalOf("consumed", at(n + 500), { createdAt: at(n), ...handledByStock, ...fields });

async function put(broker: ServiceBroker, ...rows: ReturnType<typeof messageOf>[]): Promise<string[]> {
  await storeOf(broker).messages.insert(rows);
  return rows.map(({ _id }) => _id);
}

it("a new group gets what was emitted before it existed, once each; originals do not move", async () => {
  const { broker, seen } = await desk();
  const body = Buffer.from(JSON.stringify({ large: "x".repeat(50_000) }));
  const rows = Array.from({ length: 620 }, (_, n) => consumed(Math.floor(n / 9), n === 7 ? { body } : {}));
  const ids = await put(broker, ...rows);
  await put(broker, consumed(60_000), consumed(1, { event: "order.paid" }));
  const before = await storeOf(broker).messages.find(ids);
  const begun = await replay(broker, { group: "mail", ...WINDOW, note: "mail is new", by: "emma" });
  expect(begun).toMatchObject({ matched: 620, skipped: 0, notReplayable: 0, dryRun: false });
  expect(begun.text).toContain("Sends 620 message(s), emitted from");
  const story = await ends(broker, begun.id, ({ handled }) => handled === 620);
  expect(story).toMatchObject({ act: "replay", state: "done", done: 620, refused: 0, failedAgain: 0, by: "emma" });
  expect(seen.map(({ id }) => id).sort()).toEqual([...ids].sort());
  for (const { replay } of seen) expect(replay).toMatchObject({ id: begun.id, again: false });
  expect(await storeOf(broker).messages.find(ids)).toEqual(before);
  const { rows: audits } = await broker.call<Page<AuditRow>>("reliable.audits");
  expect(audits).toMatchObject([
    { auditID: begun.id, act: "replay", by: "emma", note: "mail is new", state: "done", done: 620 }
  ]);
  const made = await broker.call<Page<MessageRow>, object>("reliable.list", { idPrefix: `${begun.id}.`, pageSize: 1 });
  expect(made).toMatchObject({ total: 620, rows: [{ status: "consumed", handled: "mail" }] });
  expect(ids).toContain(made.rows[0]?.replayOf);
});

it("what a group has handled is not handled again, but with `again`: once more, and once", async () => {
  const { broker, seen } = await desk();
  const ids = await put(broker, consumed(1), consumed(2));
  const [theirs] = await put(broker, consumed(3, { receipts: { mail: receiptOf() } }));
  const first = await replay(broker, { group: "mail", ...WINDOW });
  expect(first).toMatchObject({ matched: 2, skipped: 1 });
  await ends(broker, first.id, ({ handled }) => handled === 2);
  // No receipt of the originals says it: those of the first replay's messages do.
  const second = await replay(broker, { group: "mail", ...WINDOW });
  expect(second).toMatchObject({ matched: 0, skipped: 3 });
  expect(second.id).toBeUndefined();
  expect(second.text).toContain("3 more are left out");
  expect(seen.map(({ id }) => id).sort()).toEqual([...ids].sort());
  expect(await errorOf(replay(broker, { group: "mail", ...WINDOW, again: true }))).toMatchObject({
    type: "RELIABLE_BAD_OPTION",
    data: { option: "note" }
  });
  const again = await replay(broker, { group: "mail", ...WINDOW, again: true, note: "lost its data" });
  expect(again.matched).toBe(3);
  await ends(broker, again.id, ({ handled }) => handled === 3);
  const more = seen.slice(2);
  expect(more.map(({ id }) => id).sort()).toEqual([...ids, theirs].sort());
  for (const { replay } of more) expect(replay).toMatchObject({ id: again.id, again: true });
});

it("without an inbox: what an earlier replay has sent is not sent again, whatever came of it; to others it is", async () => {
  const made = cluster();
  const mixin = made.mixin({ inbox: false, backoff: { initialMs: 10, maxMs: 20 } });
  const seen: string[] = [];
  const take = (name: string) => (ctx: Context<never>) => {
    const { id, attempt } = localsOf(ctx);
    if (attempt === 1) seen.push(`${name} ${id}`);
    if (id === "bad") throw new Error("no paper");
  };
  const wide = consumer(mixin, "wide", "order.*", take("wide"), { group: "mail" });
  const broker = await made.node("node-1", [
    emitter(mixin),
    consumer(mixin, "mail", "order.created", take("mail")),
    wide
  ]);
  await subscribed(broker, 2);
  const backoff = { initialMs: 10, maxMs: 20, jitter: "none" as const };
  const row = (_id: string, n: number) => consumed(n, { _id, backoff, maxAttempts: 1 });
  await put(broker, row("good", 1), row("bad", 2));
  const one = await replay(broker, { group: "mail:order.*", ...WINDOW });
  await ends(broker, one.id, ({ handled, failedAgain }) => handled === 1 && failedAgain === 1);
  expect(seen.sort()).toEqual(["wide bad", "wide good"]);
  await broker.call("reliable.pause", { group: "mail", note: "a test" });
  const { id } = await replay(broker, { group: "mail", ...WINDOW });
  expect(await ends(broker, id)).toMatchObject({ done: 2, skipped: 0 });
  // On their way.
  expect(await replay(broker, { group: "mail", ...WINDOW })).toMatchObject({ matched: 0, skipped: 2 });
  await broker.call("reliable.resume", { group: "mail" });
  await ends(broker, id, ({ handled, failedAgain }) => handled === 1 && failedAgain === 1);
  expect(await replay(broker, { group: "mail", ...WINDOW })).toMatchObject({ matched: 0, skipped: 2 });
  await put(broker, row("late", 3));
  const third = await replay(broker, { group: "mail", ...WINDOW });
  expect(third).toMatchObject({ matched: 1, skipped: 2 });
  await ends(broker, third.id, ({ handled }) => handled === 1);
  expect(seen.sort()).toEqual(["mail bad", "mail good", "mail late", "wide bad", "wide good", "wide late"]);
});

it("a handler that fails burns the replay's own budget: dead is its message, and the original stays", async () => {
  const failing = () => Promise.reject(new Error("no paper"));
  const { broker } = await desk(failing, { backoff: { initialMs: 10, maxMs: 20 } });
  const [id = ""] = await put(broker, consumed(1, { backoff: { initialMs: 10, maxMs: 20, jitter: "none" } }));
  const begun = await replay(broker, { group: "mail", ...WINDOW });
  await ends(broker, begun.id, ({ failedAgain }) => failedAgain === 1);
  const { rows } = await broker.call<Page<MessageRow>, object>("reliable.list", { status: "dead" });
  expect(rows).toMatchObject([{ replayOf: id, failed: "mail", attempts: 3, event: "order.created" }]);
  expect((await storeOf(broker).messages.find([id]))[0]).toMatchObject({ status: "consumed", failures: [] });
});

it("leaves out what is not the group's, and counts what has no payload any more", async () => {
  const { broker, seen } = await desk();
  const store = storeOf(broker);
  const [sent, dropped] = await put(
    broker,
    consumed(1),
    consumed(2, { keys: ["order=1"] }),
    consumed(3, { groups: ["stock"] }),
    consumed(4, { strategy: "callback", body: Buffer.alloc(0), source: { action: "orders.get", params: {} } }),
    deadOf({ failed: ["mail"], createdAt: at(5), at: at(600) }),
    consumed(6, { bulk: "b", replay: { bulk: "b", of: "x" } })
  );
  await store.operations.erase("order=1", { at: store.now(), by: "otto", act: "erase" }, 10);
  const dry = await replay(broker, { group: "mail", event: "order.created", ...WINDOW, dryRun: true });
  expect(dry).toMatchObject({ matched: 1, skipped: 2, notReplayable: 2, dryRun: true });
  expect(dry.text).toContain("2 more have no payload any more");
  expect(dry.id).toBeUndefined();
  const { id } = await replay(broker, { group: "mail", event: "order.created", ...WINDOW });
  const story = await ends(broker, id, ({ handled }) => handled === 1);
  expect(story).toMatchObject({ matched: 1, done: 1, skipped: 2, notReplayable: 2 });
  expect(seen.map(({ id }) => id)).toEqual([sent]);
  expect(dropped).toBeDefined();
});

it.each(["outbox", "callback"] as const)(
  "a group of a later node gets what was emitted before it: %s",
  async strategy => {
    const made = cluster();
    const mixin = made.mixin({ strategy, checkDelaysMs: [200, 400], keepCallbackBodies: true });
    const first = await made.node("first", [emitter(mixin), consumer(mixin, "mail", "order.created", () => undefined)]);
    await subscribed(first, 1);
    const fromAt = Date.now();
    const emit = emitterOf(first);
    const emitted = await Promise.all([1, 2, 3].map(n => emit("order.created", { n }, { meta: { user: "emma" } })));
    for (const { id } of emitted) await reaches(first, id, "consumed");
    // A row of `callback` has its payload once its check has come.
    await until(
      () => storeOf(first).messages.find(emitted.map(({ id }) => id)),
      rows => rows.every(({ partial }) => !partial)
    );
    const got: unknown[] = [];
    const take = (ctx: Context<never>) => {
      const { id, attempt, group } = localsOf(ctx);
      got.push({ ...(ctx.params as object), ...ctx.meta, id, attempt, group });
    };
    const second = await made.node("second", [consumer(mixin, "invoices", "order.*", take)]);
    await subscribed(second, 2);
    const begun = await replay(second, { group: "invoices", fromAt, perSecond: 10_000 });
    await ends(second, begun.id, ({ handled }) => handled === 3);
    const wanted = emitted.map(({ id }, i) => ({ n: i + 1, user: "emma", id, attempt: 1, group: "invoices:order.*" }));
    expect(got).toEqual(expect.arrayContaining(wanted));
    expect(got).toHaveLength(3);
  }
);

it("what is paused, and what ends meanwhile: nothing is sent twice, nothing is lost", async () => {
  const { broker, seen } = await desk();
  const { messages } = storeOf(broker);
  const open = messageOf({ waiting: ["stock"], createdAt: at(1), dueAt: new Date(Date.now() + 600_000) });
  const ids = await put(broker, open, ...Array.from({ length: 20 }, (_, n) => consumed(10 + n)));
  await broker.call("reliable.pause", { group: "mail", note: "a test" });
  const { id = "" } = await replay(broker, { group: "mail", ...WINDOW, perSecond: 5 });
  await until(
    () => broker.call<BulkStory, object>("reliable.bulks", { id }),
    ({ done }) => done > 0
  );
  // Its row has been passed; now it comes again, as the last one.
  await messages.handled([{ id: open._id, group: "stock", receipt: receiptOf({ at: new Date() }) }]);
  await broker.call("reliable.bulkChange", { id, change: "rate", perSecond: 10_000 });
  expect(await ends(broker, id)).toMatchObject({ done: 21, matched: 21, handled: 0, failedAgain: 0 });
  expect((await messages.find([open._id]))[0]?.status).toBe("consumed");
  await broker.call("reliable.resume", { group: "mail" });
  await ends(broker, id, ({ handled }) => handled === 21);
  expect(seen.map(({ id }) => id).sort()).toEqual([...ids].sort());
});

it("the same replay is not begun twice", async () => {
  const { broker } = await desk();
  await put(broker, consumed(1), consumed(2));
  const params = { group: "mail", fromAt: WINDOW.fromAt, perSecond: 1 };
  const { id } = await replay(broker, params);
  const error = await errorOf(replay(broker, { ...params, perSecond: 5 }));
  expect(error).toMatchObject({ type: "RELIABLE_BULK_RUNNING", data: { id, act: "replay" } });
  expect((await replay(broker, { ...params, dryRun: true })).underWay).toMatchObject({ id });
  await ends(broker, id, ({ handled }) => handled === 2);
});

it("what is wrong is named", async () => {
  const { broker } = await desk();
  const wrong: [params: object, type: string, data: object][] = [
    [{ group: "nobody", ...WINDOW }, "RELIABLE_NOT_FOUND", { group: "nobody" }],
    [{ group: "mail", event: "a.b", ...WINDOW }, "RELIABLE_NOT_FOUND", { group: "mail", event: "a.b" }],
    [{ group: "mail", fromAt: "soon" }, "RELIABLE_BAD_OPTION", { option: "fromAt" }],
    [
      { group: "mail", fromAt: at(5).toISOString(), toAt: at(1).toISOString() },
      "RELIABLE_BAD_OPTION",
      { option: "fromAt" }
    ]
  ];
  for (const [params, type, data] of wrong) expect(await errorOf(replay(broker, params))).toMatchObject({ type, data });
  expect(await errorOf(replay(broker, { group: "mail" }))).toMatchObject({ type: "VALIDATION_ERROR" });
  expect(await replay(broker, { group: "mail", ...WINDOW })).toMatchObject({ matched: 0 });
});
