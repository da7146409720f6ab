import { expect, it } from "vitest";
import type { ActResult, EmitOptions } from "../../src";
import { type Cluster, cluster, until } from "../support/brokers";
import { storeOf } from "../support/runtime";
import {
  consumer,
  emitter,
  emitterOf,
  errorOf,
  oneNode,
  reaches,
  serviceOf,
  story,
  subscribed
} from "../support/services";

const HOUR = 3_600_000;
const inAnHour = () => new Date(Date.now() + HOUR);

/** A node with a group, and what that has handled. */
async function shop(made: Cluster = cluster()) {
  const handled: string[] = [];
  const stock = consumer(made.mixin(), "stock", "order.created", ctx => {
    handled.push((ctx as unknown as { locals: { reliable: { id: string } } }).locals.reliable.id);
  });
  const { broker, emit } = await oneNode(made, [stock]);
  const { reliableCancel } = serviceOf(broker, "emitter");
  return { broker, emit, cancel: reliableCancel, handled };
}

it("is stored at once and sent at its instant, not before, to all that are subscribed then", async () => {
  const made = cluster();
  const { broker, emit, handled } = await shop(made);
  await made.node("other", [consumer(made.mixin(), "mail", "order.*", () => undefined)]);
  await subscribed(broker, 2);
  const before = storeOf(broker).now().getTime();
  const { id, ...rest } = await emit("order.created", {}, { delayMs: 1500 });
  expect(rest).toEqual({ status: "scheduled", groups: [] });
  const row = await story(broker, id);
  expect(row).toMatchObject({ status: "scheduled", waiting: "*", attempts: 0 });
  expect(row.sendAt).toBe(row.dueAt);
  expect(row.timeline[0]?.what).toBe(`stored by emitter for every subscribed group, to be sent at ${row.sendAt}`);
  expect(handled).toEqual([]);
  const done = await reaches(broker, id, "consumed");
  expect(done.handled.split(", ").sort()).toEqual(["mail:order.*", "stock"]);
  expect(done.attempts).toBe(1);
  const sendAt = Date.parse(done.sendAt ?? "");
  expect(sendAt).toBeGreaterThanOrEqual(before + 1500);
  const [{ publishedAt, receipts }] = (await storeOf(broker).messages.find([id])) as never as [
    { publishedAt?: Date; receipts: Record<string, { at: Date }> }
  ];
  const first = Math.min(...[publishedAt, receipts["stock"]?.at].flatMap(at => at?.getTime() ?? []));
  expect(first).toBeGreaterThanOrEqual(sendAt);
});

it("an instant that has passed, and no delay, are sent at once", async () => {
  const { emit } = await shop();
  for (const options of [{ sendAt: new Date(0) }, { delayMs: 0 }] satisfies EmitOptions[])
    expect(await emit("order.created", {}, options)).toMatchObject({ status: "pending" });
});

it("years ahead, a named group, an id of its own: emitted again, the first stays", async () => {
  const { broker, emit } = await shop();
  const sendAt = new Date("9999-12-31T23:59:59.999Z");
  const options = { id: "party", sendAt, groups: "stock" };
  expect(await emit("order.created", { n: 1 }, options)).toEqual({
    id: "party",
    status: "scheduled",
    groups: ["stock"]
  });
  expect(await emit("order.created", { n: 1 }, { ...options, sendAt: inAnHour() })).toMatchObject({
    status: "scheduled"
  });
  expect(await story(broker, "party")).toMatchObject({ sendAt: sendAt.toISOString() });
  expect((await errorOf(emit("order.created", { n: 2 }, { id: "party" }))).type).toBe("RELIABLE_DUPLICATE_ID");
});

it("with strategy callback the store keeps it until then, and it goes as outbox", async () => {
  const { broker, emit, handled } = await shop();
  const { id } = await emit("order.created", {}, { strategy: "callback", delayMs: 300 });
  expect(await story(broker, id)).toMatchObject({ status: "scheduled", strategy: "outbox" });
  await reaches(broker, id, "consumed");
  expect(handled).toEqual([id]);
});

it.each<[what: string, options: object, option: string, text: RegExp]>([
  ["both", { sendAt: inAnHour(), delayMs: 5 }, "sendAt", /says the same as 'delayMs'/],
  ["no date", { sendAt: "tomorrow" }, "sendAt", /must be a Date/],
  ["an invalid date", { sendAt: new Date(Number.NaN) }, "sendAt", /must be a Date/],
  ["beyond all calendars", { sendAt: new Date(8.64e15) }, "sendAt", /not later than 9999-12-31/],
  ["a negative delay", { delayMs: -1 }, "delayMs", /delayMs/],
  ["half a millisecond", { delayMs: 0.5 }, "delayMs", /delayMs/],
  ["with commit", { delayMs: 5, commit: () => undefined, barrier: true }, "delayMs", /'commit'/],
  ["waiting for its end", { sendAt: inAnHour(), waitFor: "consumed" }, "sendAt", /not sent before that instant/]
])("%s is refused, and nothing is stored", async (_, options, option, text) => {
  const { broker, emit } = await shop();
  const error = await errorOf(emit("order.created", {}, { id: "o1", ...options } as EmitOptions));
  expect(error).toMatchObject({ type: "RELIABLE_BAD_OPTION", data: { option } });
  expect(error.message).toMatch(text);
  expect(await storeOf(broker).messages.find(["o1"])).toEqual([]);
});

it("is called off until it is sent: by its service, by an operator, alone or by a filter, with who and why", async () => {
  const { broker, emit, cancel, handled } = await shop();
  const later = () => emit("order.created", {}, { sendAt: inAnHour(), keys: { order: 7 } });
  const [own, one, other] = [await later(), await later(), await later()];
  await cancel(own.id, { note: "paid", ctx: { meta: { user: { username: "ann" } } } });
  const row = await story(broker, own.id);
  expect(row).toMatchObject({ status: "cancelled", waiting: "", sendAt: expect.any(String) });
  expect(row).not.toHaveProperty("dueAt");
  expect(row.timeline.at(-1)?.what).toBe("cancel by ann: paid");
  const act = (params: object) => broker.call<ActResult, object>("reliable.cancel", params);
  expect((await errorOf(act({ id: one.id }))).message).toMatch(/'cancel' needs a 'note'/);
  expect(await act({ id: one.id, dryRun: true })).toMatchObject({ matched: 1, done: 0 });
  expect(await act({ id: one.id, note: "paid too", by: "desk" })).toMatchObject({ matched: 1, done: 1 });
  expect(await act({ key: "order=7", note: "all paid" })).toMatchObject({ done: 1, ids: [other.id] });
  const audits = await broker.call<{ rows: object[] }, object>("reliable.audits", {});
  expect(audits.rows).toMatchObject([
    { act: "cancel", note: "all paid" },
    { act: "cancel", note: "paid too", by: "desk", id: one.id },
    { act: "cancel", note: "paid", by: "ann", id: own.id }
  ]);
  // Its end is kept, and so is its id.
  expect(await emit("order.created", {}, { id: own.id })).toMatchObject({ status: "cancelled" });
  expect(handled).toEqual([]);
});

it("whoever waits for it is told that it was called off; a check of its id is parked", async () => {
  const made = cluster();
  const broker = await made.node("shop", [emitter(made.mixin({ checkDelaysMs: [150, 300] }))]);
  const [emit, { reliableCancel: cancel }] = [emitterOf(broker), serviceOf(broker, "emitter")];
  await emit("order.created", {}, { id: "o1", sendAt: inAnHour() });
  const waits = errorOf(emit("order.created", {}, { id: "o1", waitFor: "consumed" }));
  await cancel("o1");
  expect(await waits).toMatchObject({ type: "RELIABLE_RESOLVED", retryable: false });
  // Nobody takes it, so that it is not promised; its check comes all the same.
  await errorOf(emit("order.created", {}, { id: "o1", strategy: "callback" }));
  const parked = await until(
    () => broker.call<{ rows: { reason: string }[] }, object>("reliable.parked", {}),
    ({ rows }) => rows.length > 0
  );
  expect(parked.rows[0]?.reason).toMatch(/the id 'o1' is that of a message that is cancelled/);
});

it("what is not scheduled cannot be called off, and is told so", async () => {
  const { broker, emit, cancel } = await shop();
  const { id } = await emit("order.created", {}, { waitFor: "consumed" });
  expect(await errorOf(cancel(id))).toMatchObject({
    type: "RELIABLE_ILLEGAL_TRANSITION",
    data: { id, status: "consumed", act: "cancel" }
  });
  expect((await errorOf(cancel("nobody"))).type).toBe("RELIABLE_NOT_FOUND");
  expect((await errorOf(cancel({ $ne: 1 } as never))).type).toBe("RELIABLE_BAD_OPTION");
  expect((await errorOf(cancel(id, { note: 5 as never }))).type).toBe("RELIABLE_BAD_OPTION");
  const filtered = broker.call("reliable.cancel", { status: "dead", note: "x" });
  expect((await errorOf(filtered)).type).toBe("RELIABLE_ILLEGAL_TRANSITION");
});

it("of a cancel and the sending one wins, each time: cancelled and never handled, or handled and not cancelled", async () => {
  const { broker, emit, cancel, handled } = await shop();
  const emitted = await Promise.all(
    Array.from({ length: 100 }, (_, n) => emit("order.created", { n }, { delayMs: 400 + n }))
  );
  const ids = emitted.map(({ id }) => id);
  const cancelled: string[] = [];
  const refused: string[] = [];
  // Each is called off as soon as the store's clock comes near its instant.
  await Promise.all(
    ids.map(async (id, n) => {
      await until(
        () => storeOf(broker).messages.find([id]),
        ([row]) => row !== undefined && storeOf(broker).now().getTime() >= (row.sendAt as Date).getTime() - (n % 5) * 20
      );
      await cancel(id).then(
        () => cancelled.push(id),
        error => refused.push(error.type)
      );
    })
  );
  expect(new Set(refused)).toEqual(new Set(refused.length ? ["RELIABLE_ILLEGAL_TRANSITION"] : []));
  const sent = ids.filter(id => !cancelled.includes(id));
  for (const id of sent) await reaches(broker, id, "consumed");
  for (const id of cancelled) expect((await story(broker, id)).status).toBe("cancelled");
  expect(handled.toSorted()).toEqual(sent.toSorted());
});
