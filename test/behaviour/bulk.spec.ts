import type { ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import type { AuditRow, BulkBegun, BulkRow, BulkStory } from "../../src";
import type { Bulk } from "../../src/message/bulk";
import type { Message } from "../../src/message/message";
import { scopeOf } from "../../src/operator/bulk/bulk-parts";
import { FILTER_FIELDS } from "../../src/operator/filter";
import type { Page } from "../../src/operator/operations";
import { cluster, until } from "../support/brokers";
import { at, deadOf, noteOf } from "../support/messages";
import { storeOf } from "../support/runtime";
import { consumer, emitter, errorOf, subscribed } from "../support/services";

const begin = (broker: ServiceBroker, params: object) => broker.call<BulkBegun, object>("reliable.bulk", params);
const bulkOf = (broker: ServiceBroker, id: string) => broker.call<BulkStory, object>("reliable.bulks", { id });
const change = (broker: ServiceBroker, params: object) => broker.call<BulkStory, object>("reliable.bulkChange", params);
const ends = (broker: ServiceBroker, id: string, holds: (story: BulkStory) => boolean = () => true) =>
  until(
    () => bulkOf(broker, id),
    story => story.endedAt !== undefined && holds(story),
    30_000
  );

async function dead(broker: ServiceBroker, count: number, fields: Partial<Message> = {}): Promise<string[]> {
  const rows = Array.from({ length: count }, (_, n) => deadOf({ at: at(Math.floor(n / 7)), ...fields }));
  await storeOf(broker).messages.insert(rows);
  return rows.map(({ _id }) => _id);
}

/** One node with a group `stock`, whose handler is told each id. */
async function desk(handler: (id: string) => unknown = () => undefined) {
  const made = cluster();
  const handled: string[] = [];
  const take = (ctx: { locals: { reliable: { id: string } } }) => {
    const { id } = ctx.locals.reliable;
    handled.push(id);
    return handler(id);
  };
  const mixin = made.mixin();
  const stopped: unknown[] = [];
  const listener = {
    name: "listener",
    events: { "$reliable.bulkStopped": (ctx: { params: unknown }) => void stopped.push(ctx.params) }
  };
  const broker = await made.node("node-1", [
    emitter(mixin),
    consumer(mixin, "stock", "order.created", take as never),
    listener
  ]);
  await subscribed(broker, 1);
  return { made, broker, handled, stopped };
}

async function audits(broker: ServiceBroker): Promise<AuditRow[]> {
  return (await broker.call<Page<AuditRow>>("reliable.audits")).rows;
}

it("what was counted is what is done: not what has died since somebody saw the number", async () => {
  const { broker } = await desk();
  const asked = { act: "discard", event: "order.created", note: "test orders" };
  const seen = await dead(broker, 3);
  const { matched, countedAt } = await begin(broker, { ...asked, dryRun: true });
  expect(matched).toBe(3);
  const late = await dead(broker, 2, { at: new Date(Date.parse(countedAt as string) + 1) });
  // By the store's clock it is later now.
  await until(() => storeOf(broker).now() > new Date(Date.parse(countedAt as string) + 1));
  const { id, matched: begun } = await begin(broker, { ...asked, countedAt });
  expect(begun).toBe(3);
  expect(await ends(broker, id as string)).toMatchObject({ state: "done", done: 3, matched: 3 });
  const left = await storeOf(broker).messages.find([...seen, ...late]);
  expect(left.map(({ _id }) => _id).toSorted()).toEqual(late.toSorted());
  const old = new Date(Date.now() - 2 * 3_600_000).toISOString();
  expect(await errorOf(begin(broker, { ...asked, countedAt: old }))).toMatchObject({
    type: "RELIABLE_BAD_OPTION",
    data: { option: "countedAt" }
  });
});

it("a bulk retry acts once on each message that matches, and is one audit record", async () => {
  const { broker, handled } = await desk();
  const ids = await dead(broker, 620);
  const [other] = await dead(broker, 1, { event: "order.paid" });
  const params = { act: "retry", event: "order.created", note: "fixed", by: "emma", perSecond: 10_000 };
  const begun = await begin(broker, params);
  expect(begun).toMatchObject({ matched: 620, perSecond: 10_000, dryRun: false });
  expect(begun.text).toContain("Retries 620 dead message(s) of event order.created, 10000 per second");
  const story = await ends(broker, begun.id as string, ({ handled }) => handled === 620);
  const counts = { matched: 620, done: 620, overtaken: 0, refused: 0, failedAgain: 0 };
  expect(story).toMatchObject({ ...counts, state: "done", by: "emma", note: "fixed" });
  expect(handled.sort()).toEqual(ids.sort());
  for (const { notes, status } of await storeOf(broker).messages.find(ids)) {
    expect(status).toBe("consumed");
    expect(notes).toMatchObject([{ act: "retry", by: "emma", note: "fixed", bulk: begun.id, groups: ["stock"] }]);
  }
  expect(await storeOf(broker).messages.find([other as string])).toMatchObject([{ status: "dead", notes: [] }]);
  expect(await audits(broker)).toMatchObject([
    { auditID: begun.id, act: "retry", by: "emma", state: "done", matched: 620, done: 620, lost: 0, note: "fixed" }
  ]);
});

it("of one act and filter a second bulk act is refused, and told whose the first is", async () => {
  const { broker } = await desk();
  await dead(broker, 3);
  const first = await begin(broker, { act: "retry", event: "order.created", perSecond: 1, by: "emma" });
  const again = { act: "retry", event: "order.created", status: "dead", perSecond: 500, by: "otto" };
  const error = await errorOf(begin(broker, again));
  expect(error).toMatchObject({ type: "RELIABLE_BULK_RUNNING", data: { id: first.id, by: "emma", act: "retry" } });
  const underWay = { id: first.id, by: "emma", startedAt: expect.stringMatching(/Z$/) };
  expect(await begin(broker, { ...again, dryRun: true })).toMatchObject({ dryRun: true, underWay });
  expect(await audits(broker)).toHaveLength(1);
  const other = await begin(broker, { act: "resolve", event: "order.created", note: "x", dryRun: true });
  expect([other.id, other.underWay]).toEqual([undefined, undefined]);
  await ends(broker, first.id as string);
  expect((await begin(broker, { ...again, dryRun: true })).underWay).toBeUndefined();
  await dead(broker, 1);
  expect((await begin(broker, again)).id).toBeDefined();
});

it("it is paused, resumed, made quicker and stopped by hand, and tells by whom", async () => {
  const { broker } = await desk();
  const ids = await dead(broker, 30);
  const { id = "" } = await begin(broker, { act: "retry", status: "dead", perSecond: 1 });
  await until(
    () => bulkOf(broker, id),
    ({ done }) => done > 0
  );
  expect(await change(broker, { id, change: "pause", by: "otto", note: "wait" })).toMatchObject({ state: "paused" });
  await until(
    () => bulkOf(broker, id),
    ({ nodeID }) => nodeID === undefined
  );
  const { done } = await bulkOf(broker, id);
  expect(done).toBeLessThan(30);
  expect(await errorOf(change(broker, { id, change: "pause" }))).toMatchObject({
    type: "RELIABLE_ILLEGAL_TRANSITION",
    data: { id, state: "paused" }
  });
  expect((await change(broker, { id, change: "rate", perSecond: 8 })).perSecond).toBe(8);
  await change(broker, { id, change: "resume" });
  await until(
    () => bulkOf(broker, id),
    story => story.done > done
  );
  await change(broker, { id, change: "stop", by: "otto", note: "enough" });
  const story = await ends(broker, id);
  expect(story).toMatchObject({ state: "stopped", why: "stopped by otto: enough" });
  expect(story.changes.map(text => text.split(" ").slice(1).join(" "))).toEqual([
    "pause by otto: wait",
    expect.stringContaining("rate 8 per second by"),
    expect.stringContaining("resume by"),
    "stop by otto: enough"
  ]);
  const left = (await storeOf(broker).messages.find(ids)).filter(({ status }) => status === "dead");
  expect(left).toHaveLength(30 - story.done);
  expect(await audits(broker)).toMatchObject([
    { state: "stopped", done: story.done, error: "stopped by otto: enough" }
  ]);
});

it("it stops itself when more than a fifth of its last outcomes are dead again, and tells", async () => {
  const refusing = () => Promise.reject(Object.assign(new Error("still down"), { retryable: false }));
  const { made, broker, stopped } = await desk(refusing);
  await dead(broker, 400);
  const { id = "" } = await begin(broker, { act: "retry", status: "dead", perSecond: 40, by: "emma" });
  const story = await ends(broker, id);
  expect(story.state).toBe("stopped");
  expect(story.why).toMatch(/^of the last \d+ message\(s\) with an outcome \d+ are dead again$/);
  expect(story.done).toBeLessThan(400);
  expect(story.failedAgain).toBeGreaterThan(10);
  await until(() => stopped.length === 1);
  expect(stopped).toMatchObject([{ id, act: "retry", by: "emma", why: story.why, done: story.done, matched: 400 }]);
  expect(made.logs.filter(line => line.includes(`bulk retry ${id} by emma is stopped`))).toHaveLength(1);
  expect(await audits(broker)).toMatchObject([{ state: "stopped", error: story.why, matched: 400, done: story.done }]);
});

it("what dies after its start is left alone, also what it has retried itself", async () => {
  const made = { fails: true };
  const failing = () => (made.fails ? Promise.reject(Object.assign(new Error("no"), { retryable: false })) : undefined);
  const { broker, handled } = await desk(failing);
  const [first] = await dead(broker, 1);
  const { id = "" } = await begin(broker, { act: "retry", status: "dead", perSecond: 10_000 });
  const story = await ends(broker, id, ({ failedAgain }) => failedAgain === 1);
  expect(story).toMatchObject({ matched: 1, done: 1, handled: 0 });
  expect(handled).toEqual([first]);
});

it("a bulk act that a dead process has left is taken up: each message is acted on and counted once", async () => {
  const { broker, handled } = await desk();
  const ids = await dead(broker, 40, { at: at(500) });
  const store = storeOf(broker);
  const bulk: Bulk = {
    ...{ _id: "left-behind", act: "retry", filter: { status: "dead" }, key: "k", by: "emma", state: "running" },
    ...{ at: store.now(), perSecond: 10_000, matched: 40, pages: 0, done: 0, lost: 0, refused: 0, changes: [] }
  };
  // Its page was 30: of them 10 were retried, then the process died; and meanwhile somebody has retried 5 by hand.
  await store.bulks.begin(bulk);
  const past = new Date(store.now().getTime() - 1000);
  const { claimed } = await store.bulks.claim({ claim: "victim#1", now: new Date(0), until: past, most: 1 });
  await store.bulks.planned(claimed[0] as Bulk, { ids: ids.slice(0, 30), at: at(500) }, past);
  const scope = scopeOf(bulk);
  const rows = (await store.bulkMessages.select(scope, undefined, 40)).filter(({ _id }) =>
    ids.slice(0, 15).includes(_id)
  );
  const [ours, theirs] = [ids.slice(0, 10), ids.slice(10, 15)].map(some =>
    rows.filter(({ _id }) => some.includes(_id))
  );
  await store.bulkMessages.retry(scope, ours ?? [], noteOf("retry", { at: store.now() }));
  for (const row of theirs ?? []) await store.operations.retry(row, store.now(), noteOf("retry", { by: "otto" }));
  await broker.call("reliable.bulkLook");
  const story = await ends(broker, "left-behind", ({ handled }) => handled === 35);
  expect(story).toMatchObject({ state: "done", matched: 40, done: 35, overtaken: 5, refused: 0 });
  await until(() => handled.length === 40);
  expect(new Set(handled).size).toBe(40);
  for (const { notes } of await store.messages.find(ids)) expect(notes).toHaveLength(1);
  expect(await audits(broker)).toMatchObject([
    { auditID: "left-behind", by: "emma", state: "done", done: 35, lost: 5 }
  ]);
});

it("what somebody else has changed before a page reached it is counted as overtaken", async () => {
  const { broker } = await desk();
  const ids = await dead(broker, 20);
  const { id = "" } = await begin(broker, { act: "retry", status: "dead", perSecond: 1 });
  await change(broker, { id, change: "pause" });
  await broker.call("reliable.resolve", { ids: ids.slice(-8), note: "by hand" });
  await change(broker, { id, change: "rate", perSecond: 10_000 });
  await change(broker, { id, change: "resume" });
  const counts = { matched: 20, done: 12, overtaken: 8, refused: 0 };
  expect(await ends(broker, id)).toMatchObject({ state: "done", ...counts });
  expect(await audits(broker)).toContainEqual(expect.objectContaining({ auditID: id, lost: 8, done: 12 }));
});

it("resolves and discards in bulk with a note; what others wait for is not discarded", async () => {
  const { broker } = await desk();
  const resolved = await dead(broker, 20, { event: "a" });
  const discarded = await dead(broker, 20, { event: "b" });
  const [kept] = await dead(broker, 1, { event: "b", waiting: ["mail"] });
  for (const act of ["resolve", "discard"])
    expect(await errorOf(begin(broker, { act, event: "a" }))).toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      data: { option: "note" }
    });
  const first = await begin(broker, { act: "resolve", event: "a", note: "by hand", perSecond: 1000 });
  const second = await begin(broker, { act: "discard", event: "b", note: "of a test", perSecond: 1000 });
  expect(second).toMatchObject({ matched: 20, waiting: 1 });
  expect(await ends(broker, first.id as string)).toMatchObject({ state: "done", done: 20 });
  expect(await ends(broker, second.id as string)).toMatchObject({ state: "done", done: 20, waiting: 1 });
  const { messages } = storeOf(broker);
  expect((await messages.find(resolved)).map(({ status }) => status)).toEqual(resolved.map(() => "resolved"));
  expect((await messages.find([...discarded, kept as string])).map(({ _id }) => _id)).toEqual([kept]);
  const error = await errorOf(broker.call("reliable.get", { id: discarded[0] }));
  expect(error.message).toContain("of a test");
});

it("a row that cannot be read is left, counted, and in nobody's way", async () => {
  const { broker, handled } = await desk();
  const store = storeOf(broker);
  const [damaged] = await dead(broker, 1, { at: at(1), backoff: "none" as never });
  const ids = await dead(broker, 9, { at: at(1) });
  const { id = "" } = await begin(broker, { act: "retry", status: "dead", perSecond: 4 });
  expect(await ends(broker, id)).toMatchObject({ state: "done", matched: 10, done: 9, refused: 1, overtaken: 0 });
  await until(() => handled.length === 9);
  expect(handled.sort()).toEqual(ids.sort());
  expect((await store.messages.list({ ids: [damaged as string] }, 1)).rows).toMatchObject([{ status: "dead" }]);
});

it("what is only looked at is counted up to 1,000, and what is acted on to its end", async () => {
  const { broker } = await desk();
  await dead(broker, 1100);
  await dead(broker, 1, { event: "order.paid" });
  const act = { event: "order.created", dryRun: true };
  expect(await begin(broker, { act: "retry", ...act })).toMatchObject({ matched: 1100 });
  expect(await broker.call("reliable.retry", act)).toMatchObject({ matched: 100, more: 1000 });
  expect(await broker.call("reliable.stats")).toMatchObject({ dead: 1101 });
  expect(await broker.call("reliable.overview")).toMatchObject({
    messages: { byStatus: { dead: 1101 }, capped: [] },
    groups: [{ group: "stock", dead: 1000, deadCapped: true }]
  });
  expect(await broker.call("reliable.list", { status: "dead" })).toMatchObject({ total: 1000, capped: true });
  const causes = (params: object) => broker.call("reliable.causes", params);
  expect(await causes({})).toMatchObject({ messages: 1000, capped: true, newest: 1000 });
  expect(await causes({ limit: 5 })).toMatchObject({ messages: 5, capped: true, newest: 5 });
  const all = await causes({ limit: 2000 });
  expect(all).toMatchObject({ messages: 1101 });
  expect(all).not.toHaveProperty("capped");
});

it("a dry run counts and says what it would do; without a match nothing is begun", async () => {
  const { broker } = await desk();
  await dead(broker, 3);
  const dry = await begin(broker, { act: "discard", event: "order.created", dryRun: true });
  expect(dry).toMatchObject({ matched: 3, dryRun: true });
  expect(dry.text).toMatch(
    /^Discards 3 dead message\(s\) of event order.created, 100 per second, about 1 s\. What dies after/
  );
  const none = await begin(broker, { act: "retry", event: "nobody.emits" });
  expect([none.matched, none.id]).toEqual([0, undefined]);
  expect((await broker.call<Page<BulkRow>>("reliable.bulks")).total).toBe(0);
  expect(await audits(broker)).toEqual([]);
});

it("what is wrong with a bulk act is named", async () => {
  const { broker } = await desk();
  const wrong: [params: object, type: string, data: object][] = [
    [{ act: "retry" }, "RELIABLE_BAD_OPTION", { option: "filter" }],
    [{ act: "retry", status: "consumed" }, "RELIABLE_ILLEGAL_TRANSITION", { status: "consumed" }],
    [{ act: "retry", status: "gone" }, "RELIABLE_BAD_OPTION", { option: "status" }]
  ];
  for (const [params, type, data] of wrong) expect(await errorOf(begin(broker, params))).toMatchObject({ type, data });
  const { message } = (await errorOf(begin(broker, { act: "retry" }))) as Error;
  for (const name of FILTER_FIELDS) expect(message).toMatch(new RegExp(`[( ]${name}[,)]`));
  for (const params of [
    { act: "forget", status: "dead" },
    { act: "retry", status: "dead", perSecond: 0 }
  ])
    expect(await errorOf(begin(broker, params))).toMatchObject({ type: "VALIDATION_ERROR" });
  const acts = [() => bulkOf(broker, "nope"), () => change(broker, { id: "nope", change: "stop" })];
  for (const act of acts)
    expect(await errorOf(act)).toMatchObject({ type: "RELIABLE_NOT_FOUND", data: { id: "nope" } });
  for (const params of [{ change: "rate" }, { change: "pause", perSecond: 3 }])
    expect(await errorOf(change(broker, { id: "nope", ...params }))).toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      data: { option: "perSecond" }
    });
});
