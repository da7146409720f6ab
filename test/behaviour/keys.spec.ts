import type { Context, ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import type { ActResult, EmitOptions, Erased, HeldKeys, Overview } from "../../src";
import { replayId } from "../../src/message/replay";
import type { ReplayBegun } from "../../src/operator/bulk/replay";
import { cluster, until } from "../support/brokers";
import { storeOf } from "../support/runtime";
import { consumer, errorOf, oneNode, reaches, story, subscribed } from "../support/services";

interface Told {
  id: string;
  order?: { key: string };
}

const toldOf = (ctx: Context<never>) => (ctx as unknown as { locals: { reliable: Told } }).locals.reliable;

const keys = (broker: ServiceBroker, params: object = {}) =>
  broker.call<HeldKeys, object>("reliable.keys", params).then(({ rows }) => rows);
const act = (broker: ServiceBroker, name: string, params: object) =>
  broker.call<ActResult, object>(`reliable.${name}`, params);

/** A group whose handler fails for good with the ids that are in `broken`. */
async function shop(groups: string[] = ["stock"]) {
  const made = cluster();
  const broken = new Set<string>();
  const handled: Record<string, string[]> = {};
  const { broker, emit } = await oneNode(
    made,
    groups.map(name =>
      consumer(made.mixin({ breaker: false }), name, "order.created", ctx => {
        const { id } = toldOf(ctx);
        if (broken.has(id) || broken.has(`${name} ${id}`))
          throw Object.assign(new Error(`${id} has no address`), { retryable: false });
        (handled[name] ??= []).push(id);
      })
    )
  );
  await subscribed(broker, groups.length);
  const of = (key: string, more: EmitOptions = {}) => ({ orderKey: key, ...more });
  return {
    ...{ made, broker, emit, broken, handled, of },
    /** Emits these ids with the key, in their order. */
    async line(key: string, ids: string[], more: EmitOptions = {}) {
      for (const id of ids) await emit("order.created", {}, of(key, { id, ...more } as EmitOptions) as EmitOptions);
    },
    /** Until so many keys are held. */
    held: (count: number) =>
      until(
        () => keys(broker),
        rows => rows.length === count
      )
  };
}

it("a held key is seen, with what holds it, since when, why, and how many wait behind it; skipped, the next go on", async () => {
  const { broker, broken, handled, line, held } = await shop();
  broken.add("o1");
  await line("order-7", ["o1", "o2", "o3"]);
  await line("order-8", ["p1"]);
  await reaches(broker, "p1", "consumed");
  const [row] = await held(1);
  expect(row).toEqual({
    ...{ key: "order-7", group: "stock", id: "o1", event: "order.created", behind: 2 },
    since: (await story(broker, "o1")).deadAt,
    heldMs: expect.any(Number),
    reason: expect.stringContaining("o1 has no address")
  });
  expect(await broker.call("reliable.stats")).toMatchObject({ heldKeys: 1, waitForTurn: 2 });
  const overview = await broker.call<Overview>("reliable.overview");
  expect(overview.keys).toEqual({ held: 1, behind: 2, capped: [], longest: [{ ...row, heldMs: expect.any(Number) }] });
  expect([overview.level, overview.sentence]).toEqual([
    "act",
    expect.stringMatching(
      /^Key order-7 is held in stock since .* by message o1, and 2 messages wait behind it\. .*skip order-7 --note "why"$/
    )
  ]);
  const behind = await story(broker, "o2");
  expect(behind).toMatchObject({ status: "pending", orderKey: "order-7", reason: expect.stringMatching(/its turn/) });
  expect(behind).not.toHaveProperty("dueAt");
  expect(behind.groups[0]?.reason).toBe(`behind message o1, which holds the key since ${row?.since}: retry or skip it`);
  expect(await keys(broker, { key: "order-8" })).toEqual([]);
  const skipped = { key: "order-7", note: "sent by hand", by: "ann" };
  expect(await act(broker, "skip", { key: "order-7", dryRun: true })).toMatchObject({
    ids: ["o1"],
    matched: 1,
    done: 0
  });
  expect(await act(broker, "skip", skipped)).toMatchObject({ ids: ["o1"], matched: 1, done: 1 });
  for (const id of ["o2", "o3"]) await reaches(broker, id, "consumed", 5000);
  expect(handled["stock"]).toEqual(["p1", "o2", "o3"]);
  const o1 = await story(broker, "o1");
  expect(o1).toMatchObject({ status: "resolved", groups: [{ group: "stock", state: "resolved" }] });
  expect(o1.timeline.at(-1)?.what).toBe("skip of stock by ann: sent by hand");
  const { rows } = await broker.call<{ rows: object[] }, object>("reliable.audits", {});
  expect(rows).toMatchObject([
    { act: "skip", by: "ann", note: "sent by hand", id: "o1", filter: "orderKey=order-7", state: "done", done: 1 }
  ]);
  expect(await keys(broker)).toEqual([]);
});

it.each<[act: string, params: object, status: string]>([
  ["retry", {}, "consumed"],
  ["resolve", { note: "sent by hand" }, "resolved"],
  ["discard", { note: "a test" }, "gone"],
  ["bulk", { act: "retry", group: "stock" }, "consumed"],
  ["bulk", { act: "resolve", group: "stock", note: "sent by hand" }, "resolved"],
  ["bulk", { act: "discard", group: "stock", note: "a test" }, "gone"]
])("%s %o of what holds a key: the key goes on", async (name, params, status) => {
  const { broker, broken, handled, line, held } = await shop();
  broken.add("o1");
  await line("order-7", ["o1", "o2", "o3"]);
  await held(1);
  broken.clear();
  await act(broker, name, name === "bulk" ? params : { id: "o1", ...params });
  // Long before the lane itself would be looked at.
  for (const id of ["o2", "o3"]) await reaches(broker, id, "consumed", 5000);
  expect(handled["stock"]).toEqual([...(status === "consumed" ? ["o1"] : []), "o2", "o3"]);
  const after = story(broker, "o1");
  if (status === "gone") expect((await errorOf(after)).type).toBe("RELIABLE_NOT_FOUND");
  else expect(await after).toMatchObject({ status });
  expect(await keys(broker)).toEqual([]);
});

it("a retry that fails again holds the key as before, and nothing overtakes it", async () => {
  const { broker, broken, handled, line, held } = await shop();
  broken.add("o1");
  await line("order-7", ["o1", "o2"]);
  const [before] = await held(1);
  await act(broker, "retry", { id: "o1" });
  await until(
    () => keys(broker),
    ([row]) => row !== undefined && row.since > (before?.since ?? "")
  );
  expect(handled["stock"] ?? []).toEqual([]);
  expect(await keys(broker)).toMatchObject([{ id: "o1", behind: 1 }]);
});

it("of several groups each has its own: only what failed in the named one is skipped, and who is told where it is held", async () => {
  const { broker, broken, handled, line, held } = await shop(["mail", "stock"]);
  for (const each of ["mail o1", "stock o2"]) broken.add(each);
  await line("order-7", ["o1", "o2", "o3"]);
  const rows = await held(2);
  expect(rows.map(({ group, id, behind }) => [group, id, behind]).sort()).toEqual([
    ["mail", "o1", 2],
    ["stock", "o2", 1]
  ]);
  const elsewhere = await errorOf(act(broker, "skip", { key: "order-7", group: "billing", note: "x" }));
  expect(elsewhere).toMatchObject({ type: "RELIABLE_NOT_FOUND", data: { key: "order-7", group: "billing" } });
  expect(elsewhere.message).toMatch(/is not held in group 'billing': it is held in (mail, stock|stock, mail)\./);
  expect(await act(broker, "skip", { key: "order-7", group: "mail", note: "x" })).toMatchObject({ ids: ["o1"] });
  await until(() => handled["mail"]?.length === 2);
  expect(handled).toEqual({ mail: ["o2", "o3"], stock: ["o1"] });
  expect(await keys(broker)).toMatchObject([{ group: "stock", id: "o2" }]);
  await act(broker, "skip", { key: "order-7", note: "x" });
  await reaches(broker, "o3", "consumed");
  expect(handled["stock"]).toEqual(["o1", "o3"]);
});

it("a key that is not held cannot be skipped, and it is told how it stands; bad params and no note are refused", async () => {
  const { broker, broken, line, held } = await shop();
  const refused = (params: object) => errorOf(act(broker, "skip", { note: "x", ...params }));
  expect(await refused({ key: "order-7" })).toMatchObject({
    type: "RELIABLE_NOT_FOUND",
    message: "The key 'order-7' is not held: no message with this order key is known."
  });
  await line("order-7", ["o1"]);
  await reaches(broker, "o1", "consumed");
  expect(
    (
      await until(
        () => refused({ key: "order-7" }),
        ({ message }) => message.includes("under way")
      )
    ).message
  ).toBe("The key 'order-7' is not held: no message of it is under way.");
  await act(broker, "pause", { group: "stock", note: "x" });
  await line("order-7", ["o2"]);
  expect((await refused({ key: "order-7" })).message).toBe(
    "The key 'order-7' is not held: message o2 has its turn in stock."
  );
  await act(broker, "resume", { group: "stock" });
  broken.add("o3");
  await line("order-7", ["o3"]);
  await held(1);
  for (const note of [undefined, "", "  "])
    expect(await refused({ key: "order-7", note })).toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      data: { option: "note" }
    });
  for (const key of ["ö".repeat(150), "a\nb", " "])
    expect(await errorOf(act(broker, "keys", { key }))).toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      data: { option: "key" }
    });
  for (const params of [{ key: { $ne: 1 } }, { key: "" }, {}, { key: "a", ids: ["o1"] }])
    expect((await refused(params)).type).toBe("VALIDATION_ERROR");
  for (const params of [{ limit: 0 }, { limit: 501 }, { key: ["a"] }])
    expect((await errorOf(act(broker, "keys", params))).type).toBe("VALIDATION_ERROR");
  expect(await keys(broker)).toHaveLength(1);
});

it("what is dead with `onDead: skip` holds nothing", async () => {
  const { broker, broken, handled, line } = await shop();
  broken.add("o1");
  await line("order-7", ["o1", "o2"], { onDead: "skip" } as EmitOptions);
  await reaches(broker, "o1", "dead");
  await reaches(broker, "o2", "consumed");
  expect(handled["stock"]).toEqual(["o2"]);
  expect(await keys(broker)).toEqual([]);
  // Its turn is over: those after it do not wait for its retry.
  broken.clear();
  await act(broker, "retry", { id: "o1" });
  await reaches(broker, "o1", "consumed");
  await line("order-7", ["o3"]);
  await reaches(broker, "o3", "consumed");
  expect(handled["stock"]).toEqual(["o2", "o1", "o3"]);
});

it("a group that is paused keeps its keys as they are: what was held stays, and what is skipped meanwhile goes on when it is resumed", async () => {
  const { broker, broken, handled, line, held } = await shop();
  broken.add("o1");
  await line("order-7", ["o1", "o2"]);
  await held(1);
  await act(broker, "pause", { group: "stock", note: "the warehouse is closed" });
  expect(await keys(broker)).toMatchObject([{ id: "o1", behind: 1 }]);
  await act(broker, "skip", { key: "order-7", note: "by hand" });
  expect(await keys(broker)).toEqual([]);
  await until(
    () => storeOf(broker).lanes.holders("order-7"),
    turns => turns?.get("stock") === "o2"
  );
  expect(handled["stock"] ?? []).toEqual([]);
  await act(broker, "resume", { group: "stock" });
  await reaches(broker, "o2", "consumed");
});

it("what is not finished keeps its payload, and what is scheduled stands in no line: an erase and a cancel leave the key held", async () => {
  const { broker, broken, line, held } = await shop();
  broken.add("o1");
  await line("order-7", ["o1", "o2"], { keys: { customer: 7 } });
  await line("order-7", ["later"], { delayMs: 3_600_000 });
  const before = await held(1);
  expect(before).toMatchObject([{ id: "o1", behind: 1 }]);
  const { left } = await broker.call<Erased, object>("reliable.erase", { key: "customer=7", note: "asked for" });
  expect(left.map(({ status, messages }) => [status, messages]).sort()).toEqual([
    ["dead", 1],
    ["pending", 1]
  ]);
  expect(await act(broker, "cancel", { id: "later", note: "paid" })).toMatchObject({ done: 1 });
  expect(await keys(broker)).toEqual(before.map(row => ({ ...row, heldMs: expect.any(Number) })));
  expect((await story(broker, "o1")).payload).toEqual({});
});

it("what is replayed has no order key: it neither waits for a held key nor holds it", async () => {
  const { broker, broken, handled, line, held } = await shop();
  await line("order-7", ["o1"]);
  await reaches(broker, "o1", "consumed");
  broken.add("o2");
  await line("order-7", ["o2", "o3"]);
  await held(1);
  const replay = async () => {
    const params = { group: "stock", fromAt: Date.now() - 3_600_000, again: true, note: "lost" };
    const { id } = await broker.call<ReplayBegun, object>("reliable.replay", params);
    return replayId(id as string, "o1");
  };
  const copies = [await replay()];
  await reaches(broker, copies[0] as string, "consumed");
  expect(handled["stock"]).toEqual(["o1", "o1"]);
  broken.add("o1");
  copies.push(await replay());
  await reaches(broker, copies[1] as string, "dead");
  for (const row of await storeOf(broker).messages.find(copies)) {
    expect(row).toMatchObject({ replay: { of: "o1" } });
    for (const field of ["order", "place", "holds"]) expect(row).not.toHaveProperty(field);
  }
  expect(await keys(broker)).toMatchObject([{ id: "o2", behind: 1 }]);
});

it("what is forgotten of a group holds no key there any more, and what is left of the group goes on", async () => {
  const made = cluster();
  const handled: string[] = [];
  const { broker, emit } = await oneNode(made, [
    consumer(made.mixin(), "mail", "order.paid", ctx => void handled.push(toldOf(ctx).id))
  ]);
  const failing = () => {
    throw Object.assign(new Error("no"), { retryable: false });
  };
  const old = await made.node("old", [
    consumer(made.mixin({ service: false, breaker: false }), "mail", "order.created", failing)
  ]);
  await subscribed(broker, 2);
  await emit("order.created", {}, { id: "o1", orderKey: "order-7" } as EmitOptions);
  await emit("order.paid", {}, { id: "o2", orderKey: "order-7" } as EmitOptions);
  await until(
    () => keys(broker),
    ([row]) => row?.behind === 1
  );
  await old.stop();
  await act(broker, "forget", { group: "mail", pattern: "order.created", note: "gone" });
  expect(await keys(broker)).toEqual([]);
  await reaches(broker, "o2", "consumed", 5000);
  expect(handled).toEqual(["o2"]);
  expect((await story(broker, "o1")).status).toBe("resolved");
});
