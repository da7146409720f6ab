import type { Context } from "moleculer";
import { describe, expect, it } from "vitest";
import type { EmitOptions, EmitResult, MessageStory, ReliableError } from "../../src";
import { ANY_GROUP } from "../../src/message/message";
import { type Cluster, cluster, until } from "../support/brokers";
import { messageOf } from "../support/messages";
import { courierOf, rowOf, runtimeOf, storeOf } from "../support/runtime";
import {
  consumer,
  type Emit,
  emitter,
  emitterOf,
  errorOf,
  oneNode,
  reaches,
  story,
  subscribed
} from "../support/services";
import { LADDER, STRATEGIES } from "../support/strategies";

/** Longer than any test. */
const HOUR = 3_600_000;

const late = (made: Cluster, seen: unknown[], group = "stock", pattern = "order.created") =>
  made.node("late", [consumer(made.mixin(), group, pattern, ctx => void seen.push(ctx.params))]);

describe.each(STRATEGIES)("strategy $name", ({ name, storedAtOnce }) => {
  const producer = async (made: Cluster, options: object = {}) => {
    const mixin = made.mixin({ strategy: name, checkDelaysMs: LADDER, ...options });
    const broker = await made.node("node-1", [emitter(mixin)]);
    return { broker, emit: emitterOf(broker) };
  };

  /** With `callback` the promise needs a queue, and its check is out all the same. */
  const emitted = async (emit: Emit, id: string, options: EmitOptions = {}): Promise<EmitResult["groups"]> => {
    const emitting = emit("order.created", { n: 7 }, { id, ...options });
    if (storedAtOnce) {
      const { groups, status } = await emitting;
      expect(status).toBe("pending");
      return groups;
    }
    const { type, data } = await errorOf(emitting);
    expect(type).toBe("RELIABLE_OUTCOME_UNKNOWN");
    return data.groups as string[];
  };

  const unroutable = (broker: Parameters<typeof reaches>[0], id: string): Promise<MessageStory> =>
    until(
      () => story(broker, id).catch(() => undefined),
      // With `callback` a row begins as published; the reason is written first.
      seen => seen?.reason !== undefined && seen.status !== "published"
    ) as Promise<MessageStory>;

  it("the producer is there first: pending with the reason, no attempt burnt, and handled soon after the consumer came", async () => {
    const made = cluster();
    // Its own pauses would bring it too late: it goes out because the group has announced itself.
    const slow = { backoff: { initialMs: HOUR, maxMs: HOUR } };
    const delays = { checkDelaysMs: [LADDER[0] as number, HOUR] };
    const { broker, emit } = await producer(made, { ...slow, ...(storedAtOnce ? {} : delays) });
    expect(await emitted(emit, "order-1", { maxAttempts: 1 })).toEqual([]);
    expect(await unroutable(broker, "order-1")).toMatchObject({
      status: "pending",
      // With `callback` a row takes the publish of its producer for the first one.
      attempts: storedAtOnce ? 0 : 1,
      reason: expect.stringMatching(
        /^unroutable since .*no group is known for 'order\.created'.*costs no attempt until/
      )
    });
    const seen: unknown[] = [];
    await late(made, seen);
    const { timeline, ...row } = await reaches(broker, "order-1", "consumed");
    expect(row).toMatchObject({ attempts: 1, handled: "stock" });
    expect(row).not.toHaveProperty("reason");
    expect(seen).toEqual([{ n: 7 }]);
    expect(timeline.filter(({ what }) => what.includes("no group is known"))).toHaveLength(1);
    expect((await rowOf(broker, "order-1")).spent).toEqual({});
  });

  it("no consumer comes: looked at again and again without an attempt, and dead after `unroutableMs`", async () => {
    const made = cluster();
    const { broker, emit } = await producer(made, { unroutableMs: 1500, maxAttempts: 2 });
    await emitted(emit, "order-1");
    const { reason } = await unroutable(broker, "order-1");
    const dead = await reaches(broker, "order-1", "dead");
    expect(reason).toMatch(/^unroutable since/);
    expect(dead.reason).toMatch(/^unroutable at attempt 2: /);
    const row = await rowOf(broker, "order-1");
    expect(row).toMatchObject({ waiting: [], failed: [ANY_GROUP], spent: { [ANY_GROUP]: 2 } });
    const since = row.unroutable[ANY_GROUP] as Date;
    const burnt = row.failures.filter(({ cause }) => cause !== "displaced");
    expect(burnt.map(({ cause, attempt, error: { name, code } }) => [cause, attempt, name, code])).toEqual(
      [1, 2].map(n => ["unroutable", n, "Unroutable", "NO_ROUTE"])
    );
    expect(burnt.every(({ at }) => at.getTime() - since.getTime() >= 1500)).toBe(true);
  });

  it("a group that the emit names and that is not known yet is awaited just so, and the others get it", async () => {
    const made = cluster();
    const seen: string[] = [];
    const { broker, emit } = await producer(made);
    await made.node("there", [consumer(made.mixin(), "mail", "order.created", () => void seen.push("mail"))]);
    await subscribed(broker, 1);
    const { groups } = await emit("order.created", {}, { id: "order-1", groups: ["mail", "audit"], maxAttempts: 1 });
    expect(groups).toEqual(["mail", "audit"]);
    expect(await unroutable(broker, "order-1")).toMatchObject({
      reason: expect.stringContaining("group audit is not known for 'order.created'")
    });
    const after: unknown[] = [];
    await late(made, after, "audit", "order.**");
    expect(await reaches(broker, "order-1", "consumed")).toMatchObject({ attempts: 1 });
    expect(seen).toEqual(["mail"]);
    expect(after).toHaveLength(1);
    expect((await rowOf(broker, "order-1")).spent).toEqual({});
  });

  it("where another group has failed for good, the one that is not there is awaited all the same", async () => {
    const made = cluster();
    const { broker, emit } = await producer(made, { backoff: { initialMs: HOUR, maxMs: HOUR } });
    const fail = () => Promise.reject(new Error("no mailbox"));
    await made.node("there", [consumer(made.mixin(), "mail", "order.created", fail)]);
    await subscribed(broker, 1);
    await emit("order.created", {}, { id: "order-1", groups: ["mail", "audit"], maxAttempts: 1 });
    const missed = (row: MessageStory) => row.groups.find(({ group }) => group === "audit")?.reason;
    const dead = await until(
      () => reaches(broker, "order-1", "dead"),
      row => missed(row) !== undefined
    );
    expect(dead.reason).toMatch(/^handler in group mail/);
    expect(missed(dead)).toMatch(/^unroutable since .*: group audit is not known/);
    const seen: unknown[] = [];
    await late(made, seen, "audit");
    expect(
      await until(
        () => story(broker, "order-1"),
        row => row.handled === "audit"
      )
    ).toMatchObject({ status: "dead", failed: "mail" });
    expect(seen).toHaveLength(1);
  });

  // The first publish of `callback` looks for no queue.
  if (storedAtOnce)
    it("a group that announces itself between the look for its queue and the judgement costs no attempt", async () => {
      const made = cluster();
      const { broker, emit } = await producer(made);
      const seen: unknown[] = [];
      await late(made, seen);
      await subscribed(broker, 1);
      const { subscriptions } = runtimeOf(broker).needStorage();
      const queueOf = subscriptions.queueOf.bind(subscriptions);
      let looks = 0;
      subscriptions.queueOf = (...of) => (++looks === 1 ? undefined : queueOf(...of));
      await emit("order.created", { n: 7 }, { id: "order-1", groups: ["stock"], maxAttempts: 1 });
      expect(await reaches(broker, "order-1", "consumed")).toMatchObject({ handled: "stock" });
      expect(looks).toBeGreaterThan(0);
      expect(seen).toHaveLength(1);
    });

  it("a human's retry gives it the whole time again", async () => {
    const made = cluster();
    const { broker, emit } = await producer(made, { unroutableMs: 300, maxAttempts: 1 });
    await emitted(emit, "order-1");
    await reaches(broker, "order-1", "dead");
    const before = (await rowOf(broker, "order-1")).unroutable[ANY_GROUP] as Date;
    await broker.call("reliable.retry", { id: "order-1" });
    const row = await until(
      () => rowOf(broker, "order-1"),
      ({ status, unroutable: { [ANY_GROUP]: since } }) => status === "pending" && since !== undefined && since > before
    );
    expect(row.spent).toEqual({ [ANY_GROUP]: 1 });
    await reaches(broker, "order-1", "dead");
    const seen: unknown[] = [];
    await late(made, seen);
    await subscribed(broker, 1);
    await broker.call("reliable.retry", { id: "order-1" });
    await reaches(broker, "order-1", "consumed");
    expect(seen).toEqual([{ n: 7 }]);
  });

  it("another node sweeps, whose options are others: the message keeps its own time", async () => {
    const made = cluster();
    const { broker, emit } = await producer(made, { unroutableMs: 1000, maxAttempts: 1 });
    const other = await made.node("node-2", [
      emitter(made.mixin({ strategy: name, checkDelaysMs: LADDER, unroutableMs: HOUR }))
    ]);
    await emitted(emit, "order-1");
    await broker.stop();
    await unroutable(other, "order-1");
    expect((await reaches(other, "order-1", "dead")).reason).toMatch(/^unroutable at attempt 1: /);
  });
});

it("with `unroutableMs: 0` it burns its attempts at once and is dead, with the cause", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, []);
  const error = await errorOf(emit("order.created", { n: 1 }, { id: "order-1", unroutableMs: 0, waitFor: "consumed" }));
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
  expect(await errorOf(emit("order.created", {}, { waitFor: "confirmed", timeoutMs: 1_000 }))).toMatchObject({
    type: "RELIABLE_WAIT_TIMEOUT"
  });
});

it("a node died before it could write that no queue took it: the next sweep finds that, and burns nothing", async () => {
  const made = cluster();
  const { broker } = await oneNode(made, []);
  // Due long since; nobody knows what became of its publish.
  const message = messageOf({ waiting: [ANY_GROUP], maxAttempts: 1 });
  await storeOf(broker).messages.insert([message]);
  const row = await until(
    () => rowOf(broker, message._id),
    ({ unroutable }) => ANY_GROUP in unroutable
  );
  expect(row).toMatchObject({ status: "pending", spent: {}, failures: [{ cause: "displaced" }] });
});

it("many messages of an event that nobody takes are one line of the log", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, []);
  const ids = Array.from({ length: 50 }, (_, n) => `order-${n}`);
  await Promise.all(ids.map(id => emit("order.created", {}, { id })));
  await emit("order.paid", {}, { id: "paid" });
  for (const id of [...ids, "paid"])
    await until(
      () => story(broker, id),
      ({ reason }) => reason !== undefined
    );
  const told = made.logs.filter(line => line.includes(" warn ") && line.includes("unroutable"));
  expect(told.map(line => /'order\.\w+'/.exec(line)?.[0])).toEqual(["'order.created'", "'order.paid'"]);
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
