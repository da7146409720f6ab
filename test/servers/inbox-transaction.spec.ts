import type { Context, Service } from "moleculer";
import { type ClientSession, MongoClient, MongoServerError } from "mongodb";
import { expect, it, onTestFinished } from "vitest";
import type { ReliableLocals } from "../../mixins/reliable-context";
import type { BulkStory, EmitOptions, ReliableOptions, ReplayBegun } from "../../src";
import { replayId } from "../../src/message/replay";
import { headersOf } from "../../src/wire/envelope";
import { eventQueue, prefixOf, systemQueues } from "../../src/wire/names";
import { cluster, until } from "../support/brokers";
import { finalOf } from "../support/messages";
import { courierOf, rowOf, storeOf } from "../support/runtime";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, reaches, subscribed } from "../support/services";

type Params = Record<string, unknown>;

interface Handler {
  ctx: Context<Params>;
  emit(event: string, payload: unknown, options?: EmitOptions): Promise<unknown>;
  emitMany: Service["reliableEmitMany"];
  /** In the handler's transaction. */
  count(): Promise<unknown>;
  run: number;
}

/** The group `stock` handles in transactions, on one node with the group `bills`, which hears what it emits. */
async function handling(handler: (inner: Handler) => unknown, options: ReliableOptions = {}) {
  const made = cluster();
  const client = await new MongoClient(urls().mongo).connect();
  onTestFinished(() => client.close());
  const counters = client
    .db("reliable_test")
    .collection<{ _id: string; n: number }>(`${prefixOf(made.namespace)}.counters`);
  await counters.insertOne({ _id: "one", n: 0 });
  const billed: Params[] = [];
  const mixin = made.mixin({ mongo: client, ...options });
  const stock = {
    name: "stock",
    mixins: [made.mixin({ mongo: client, ...options, inbox: "transaction" })],
    events: {
      "order.created": {
        reliable: true,
        handler(this: Service, ctx: Context<Params>) {
          const { session, run } = (ctx.locals as { reliable: ReliableLocals }).reliable;
          return handler({
            ctx,
            emit: (event, payload, more) => this.reliableEmit(event, payload, more),
            emitMany: (items, more) => this.reliableEmitMany(items, more),
            count: () => counters.updateOne({ _id: "one" }, { $inc: { n: 1 } }, { session: session as ClientSession }),
            run: run as number
          });
        }
      }
    }
  };
  const relay = {
    name: "relay",
    mixins: [mixin],
    actions: {
      send(this: Service, ctx: Context<Params>) {
        return this.reliableEmit("bill.due", ctx.params);
      }
    }
  };
  const bills = consumer(mixin, "bills", "bill.due", ctx => void billed.push(ctx.params as Params));
  const broker = await made.node("node-1", [emitter(made.mixin({ mongo: client })), stock, relay, bills]);
  await subscribed(broker, 2);
  const counted = async () => (await counters.findOne({ _id: "one" }))?.n;
  return { made, broker, emit: emitterOf(broker), billed, counted, store: storeOf(broker) };
}

const runsOn = async (broker: Awaited<ReturnType<typeof handling>>["broker"]) =>
  (await broker.call<{ node: Record<string, number> }, object>("reliable.stats", {})).node["runs"];

const conflict = () => new MongoServerError({ message: "WriteConflict", errorLabels: ["TransientTransactionError"] });

it("100 messages whose handlers write one document and emit an event produce exactly 100 events", async () => {
  let runs = 0;
  const { broker, emit, billed, counted } = await handling(async ({ ctx, emit, count }) => {
    runs++;
    await emit("bill.due", { order: ctx.params.n }, { ctx });
    await count();
  });
  await Promise.all(Array.from({ length: 100 }, (_, n) => emit("order.created", { n })));
  const stats = () => broker.call<Record<string, number>, object>("reliable.stats", {});
  await until(
    stats,
    ({ consumed = 0, dead = 0, pending, published }) => dead > 0 || (consumed >= 200 && !pending && !published),
    60_000
  );
  expect(await stats()).toMatchObject({ consumed: 200, dead: 0 });
  expect(billed.map(({ order }) => order).toSorted((a, b) => (a as number) - (b as number))).toEqual(
    Array.from({ length: 100 }, (_, n) => n)
  );
  expect(await counted()).toBe(100);
  expect(await runsOn(broker)).toBe(runs);
  // Without a limit on what runs at a time it were more than a thousand.
  expect(runs).toBeLessThan(400);
}, 600_000);

it("an undone run sends nothing, and the next one sends once, however the emit was made", async () => {
  const seen: number[] = [];
  const { broker, emit, billed, counted } = await handling(async ({ ctx, emit, count, run }) => {
    seen.push(run);
    await count();
    await Promise.all([emit("bill.due", { by: "ctx" }, { ctx }), emit("bill.due", { by: "async context" })]);
    await broker.call("relay.send", { by: "a local action" });
    void emit("bill.due", { by: "nobody's await" });
    if (run < 3) throw conflict();
  });
  const { id } = await emit("order.created", {});
  const { timeline } = await reaches(broker, id, "consumed");
  expect((await rowOf(broker, id)).receipts["stock"]).toMatchObject({ attempt: 1, runs: 3 });
  expect(timeline.map(({ what }) => what)).toContainEqual(
    expect.stringMatching(/^handled by stock on node node-1 in \d+ ms \(attempt 1, run 3\)$/)
  );
  await until(() => billed.length >= 4);
  expect(billed.map(({ by }) => by).toSorted()).toEqual(["a local action", "async context", "ctx", "nobody's await"]);
  expect(seen).toEqual([1, 2, 3]);
  expect(await counted()).toBe(1);
});

it("an emit goes out of a run that is undone if it asks for that", async () => {
  const { broker, emit, billed } = await handling(
    async ({ ctx, emit }) => {
      await emit("bill.due", { by: "null" }, { ctx, session: null });
      await emit("bill.due", { by: "wait" }, { ctx, waitFor: "confirmed" });
      await emit("bill.due", { by: "callback" }, { ctx, strategy: "callback" });
      await emit("bill.due", { by: "commit" }, { ctx, source: { action: "relay.send" }, commit: () => undefined });
      await emit("bill.due", { by: "joined" }, { ctx });
      throw new Error("no");
    },
    { sources: ["relay.send"] }
  );
  const { id } = await emit("order.created", {}, { maxAttempts: 1 });
  await reaches(broker, id, "dead");
  await until(() => billed.length >= 4);
  expect(billed.map(({ by }) => by).toSorted()).toEqual(["callback", "commit", "null", "wait"]);
});

it("many that a handler emits are stored with its writes or not at all, also where it ignores that one has failed", async () => {
  const { broker, emit, billed, counted, store } = await handling(async ({ ctx, emitMany, count }) => {
    await count();
    const items = ["b1", ctx.params.second as string].map(id => ({ event: "bill.due", payload: { id }, id }));
    await emitMany(items, { ctx }).catch(() => undefined);
  });
  await emit("order.created", { second: "b2" }, { waitFor: "consumed" });
  expect(await counted()).toBe(1);
  for (const id of ["b1", "b2"]) await reaches(broker, id, "consumed");
  expect(billed).toHaveLength(2);
  await emit("other", { id: "taken" }, { id: "taken", groups: "nobody" });
  const { id } = await emit("order.created", { second: "taken" }, { maxAttempts: 1 });
  expect((await reaches(broker, id, "dead")).reason).toMatch(/RELIABLE_DUPLICATE_ID|was used before/);
  expect(await counted()).toBe(1);
  expect((await store.messages.find(["taken"]))[0]?.event).toBe("other");
});

it("many that a handler does not await are in its transaction, too", async () => {
  let runs = 0;
  const { broker, emit, billed } = await handling(async ({ ctx, emitMany, count }) => {
    await count();
    const ids = ["b1", "b2"];
    void emitMany(
      ids.map(id => ({ event: "bill.due", payload: { id, run: runs }, id: `${id} of ${runs}` })),
      { ctx }
    );
    if (runs++ === 0) throw conflict();
  });
  await emit("order.created", {}, { waitFor: "consumed" });
  for (const id of ["b1 of 1", "b2 of 1"]) await reaches(broker, id, "consumed");
  expect(billed.map(({ run }) => run)).toEqual([1, 1]);
});

it("of many in a handler's transaction none may be outside of it", async () => {
  const errors: unknown[] = [];
  const { emit, counted } = await handling(async ({ ctx, emitMany, count }) => {
    await count();
    for (const own of [{ strategy: "callback" as const }, { waitFor: "confirmed" as const }])
      await emitMany([{ event: "bill.due", payload: {}, ...own }], { ctx }).catch(error => errors.push(error));
  });
  await emit("order.created", {}, { waitFor: "consumed" });
  expect(errors).toMatchObject([{ type: "RELIABLE_BAD_OPTION" }, { type: "RELIABLE_BAD_OPTION" }]);
  expect(await counted()).toBe(1);
});

it("strategy callback: stored with the handler's writes as outbox", async () => {
  const { broker, emit, billed, store } = await handling(
    ({ ctx, emit }) => emit("bill.due", { n: 1 }, { ctx, id: "bill" }),
    { strategy: "callback" }
  );
  const { id } = await emit("order.created", {});
  await reaches(broker, id, "consumed");
  await reaches(broker, "bill", "consumed");
  expect((await store.messages.find(["bill"]))[0]).toMatchObject({ strategy: "outbox", producer: "stock" });
  expect(billed).toEqual([{ n: 1 }]);
});

it("an emit after the handler's end goes its own way", async () => {
  let later: Promise<unknown> = Promise.reject(new Error("never"));
  later.catch(() => undefined);
  let release: () => void = () => undefined;
  const ended = new Promise<void>(resolve => (release = resolve));
  const { broker, emit, billed } = await handling(({ ctx, emit }) => {
    later = ended.then(() =>
      Promise.all([emit("bill.due", { by: "ctx" }, { ctx }), emit("bill.due", { by: "async" })])
    );
  });
  const { id } = await emit("order.created", {});
  await reaches(broker, id, "consumed");
  release();
  await later;
  await until(() => billed.length === 2);
});

it("a handler that conflicts for ever is dead after a small number of runs, which are counted and told", async () => {
  const seen: [attempt: number, run: number][] = [];
  const { broker, emit, store } = await handling(({ ctx, run }) => {
    seen.push([(ctx.locals as { reliable: ReliableLocals }).reliable.attempt, run]);
    throw conflict();
  });
  const { id } = await emit("order.created", {}, { maxAttempts: 2 });
  const { reason, timeline } = await reaches(broker, id, "dead");
  expect(seen).toEqual([1, 2].flatMap(attempt => [1, 2, 3, 4, 5, 6, 7, 8].map(run => [attempt, run])));
  expect(await runsOn(broker)).toBe(16);
  expect(reason).toMatch(/runs of the handler: 8/);
  expect((await rowOf(broker, id)).failures.map(({ runs }) => runs)).toEqual([8, 8]);
  for (const attempt of [1, 2])
    expect(timeline.map(({ what }) => what)).toContainEqual(
      expect.stringMatching(`^attempt ${attempt} failed in stock on node node-1 after 8 runs \\(handler\\): `)
    );
  expect(await store.inbox.handled("stock", [id])).toEqual(new Set());
});

it("of a replay: what it has handled is not handled again; with `again` once more, and once", {
  timeout: 400_000
}, async () => {
  const seen: { id: string; attempt: number; run: number; again: boolean | undefined }[] = [];
  // One at a time: no other conflicts.
  const { made, broker, billed, counted, store } = await handling(
    async ({ ctx, emit, count, run }) => {
      const { id, attempt, replay } = (ctx.locals as { reliable: ReliableLocals }).reliable;
      seen.push({ id, attempt, run, again: replay?.again });
      await count();
      await emit("bill.due", { of: id, again: replay?.again }, { ctx });
      if (run === 1) throw conflict();
      if (attempt === 1) throw new Error("once");
    },
    { maxInFlight: 1 }
  );
  const createdAt = new Date(Date.now() - 3_600_000);
  const backoff = { initialMs: 10, maxMs: 20, jitter: "none" } as const;
  const originals = [1, 2].map(() => finalOf("consumed", createdAt, { createdAt, backoff }));
  await store.messages.insert(originals);
  const ids = originals.map(({ _id }) => _id);
  /** What was seen by the replay, when all of it has ended. */
  const replayed = async (more: object = {}) => {
    const before = seen.length;
    const params = { group: "stock", fromAt: createdAt.getTime(), perSecond: 10_000, ...more };
    const { id = "" } = await broker.call<ReplayBegun, object>("reliable.replay", params);
    const { done, handled } = await until(
      () => broker.call<BulkStory, object>("reliable.bulks", { id }),
      ({ endedAt, handled = 0, failedAgain = 0 }) => endedAt !== undefined && handled + failedAgain === 2
    );
    expect([done, handled]).toEqual([2, 2]);
    return { id, runs: seen.slice(before) };
  };
  const each = (again: boolean) =>
    ids.flatMap(id => [1, 2].flatMap(attempt => [1, 2].map(run => ({ id, attempt, run, again }))));
  const first = await replayed();
  expect(first.runs).toHaveLength(8);
  expect(first.runs).toEqual(expect.arrayContaining(each(false)));
  expect(await counted()).toBe(2);
  const once = { group: "stock", fromAt: createdAt.getTime(), perSecond: 10_000 };
  expect(await broker.call("reliable.replay", once)).toMatchObject({ matched: 0, skipped: 2 });
  const again = await replayed({ again: true, note: "lost its data" });
  expect(again.runs).toHaveLength(8);
  expect(again.runs).toEqual(expect.arrayContaining(each(true)));
  expect(await counted()).toBe(4);
  // Its messages come once more.
  const queue = eventQueue(made.namespace, "stock", "order.created");
  const { receipts } = systemQueues(made.namespace);
  for (const message of await store.messages.find(ids.map(id => replayId(again.id, id)))) {
    const { _id: messageId, event: type, body, producer: appId } = message;
    const headers = headersOf(message, 2, [], receipts);
    await courierOf(broker).publish({ to: { queue }, messageId, type, body, headers, appId });
  }
  const stats = () => broker.call<{ node: Record<string, number> }, object>("reliable.stats", {});
  await until(stats, ({ node }) => node["duplicates"] === 2);
  expect(seen).toHaveLength(16);
  expect(await counted()).toBe(4);
  await until(() => billed.length >= 4);
  const bills = [false, true].flatMap(again => ids.map(of => ({ of, again })));
  expect(billed).toHaveLength(bills.length);
  expect(billed).toEqual(expect.arrayContaining(bills));
});

it("says at start that a handler may take longer than MongoDB lets a transaction live", async () => {
  const { made } = await handling(() => undefined, { handlerTimeoutMs: 61_000, receiptTimeoutMs: 120_000 });
  expect(made.logs.filter(line => /stock.*61000 ms.*ends its transaction.*60000 ms/.test(line))).toHaveLength(1);
});
