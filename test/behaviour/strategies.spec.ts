import type { Context } from "moleculer";
import { describe, expect, it } from "vitest";
import { cluster, until } from "../support/brokers";
import { foreignGroup, rowOf, sendReceipt } from "../support/runtime";
import { consumer, emitter, emitterOf, errorOf, reaches, story, subscribed } from "../support/services";
import { localsOf, STRATEGIES, world } from "../support/strategies";

const numberOf = (ctx: Context<never>) => (ctx.params as { n: number }).n;
const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);
const boom = () => Promise.reject(Object.assign(new Error("no stock"), { code: "E_STOCK" }));

/** One suite for both strategies; what they do differently is asked for by the name of a feature. */
describe.each(STRATEGIES)("strategy $name", ({ name, resolvesAs, storedAtOnce, session }) => {
  it("brings an event to its group, and the message to consumed", async () => {
    const seen: unknown[] = [];
    const { broker, emit } = await world(name, { stock: ctx => void seen.push(ctx.params) });
    const { id, status } = await emit("order.created", { n: 1 });
    expect(status).toBe(resolvesAs);
    if (storedAtOnce) expect((await story(broker, id)).strategy).toBe(name);
    await until(
      () => story(broker, id).catch(() => undefined),
      row => row?.status === "consumed" && (row.payload as { n?: number } | null)?.n === 1
    );
    expect(seen).toEqual([{ n: 1 }]);
    expect(await story(broker, id)).toMatchObject({
      strategy: name,
      event: "order.created",
      producer: "shop",
      handled: "stock",
      waiting: "",
      attempts: 1
    });
  });

  it("waits for every group, each handles it once", async () => {
    const seen: string[] = [];
    let open: () => void = () => undefined;
    const gate = new Promise<void>(resolve => (open = resolve));
    const { broker, emit } = await world(
      name,
      {
        stock: ctx => void seen.push(`stock ${numberOf(ctx)}`),
        mail: ctx => gate.then(() => void seen.push(`mail ${numberOf(ctx)}`))
      },
      { options: { checkDelaysMs: [20_000], receiptTimeoutMs: 20_000 } }
    );
    const emitted = await Promise.all(numbers(20).map(n => emit("order.created", { n })));
    await until(
      async () => seen.length,
      count => count === 20
    );
    for (const { id } of emitted)
      await until(
        () => story(broker, id).catch(() => undefined),
        row => row?.handled === "stock" && row.status !== "consumed"
      );
    open();
    for (const { id } of emitted)
      expect(await reaches(broker, id, "consumed")).toMatchObject({ waiting: "", attempts: 1 });
    expect(seen.sort()).toEqual(["mail", "stock"].flatMap(group => numbers(20).map(n => `${group} ${n}`)).sort());
  });

  it("`groups` restricts who gets it, and who it waits for", async () => {
    const seen: string[] = [];
    const { broker, emit } = await world(name, {
      stock: () => void seen.push("stock"),
      mail: () => void seen.push("mail")
    });
    const { id } = await emit("order.created", {}, { groups: "mail", waitFor: "consumed" });
    expect(await story(broker, id)).toMatchObject({ handled: "mail", waiting: "" });
    // Whoever was left out is not remembered later either.
    await emit("order.created", {}, { waitFor: "consumed" });
    expect(seen.sort()).toEqual(["mail", "mail", "stock"]);
  });

  it("waits for what the emit wants to wait for", async () => {
    const { emit } = await world(name, { stock: () => undefined });
    expect(["published", "consumed"]).toContain((await emit("order.created", {}, { waitFor: "confirmed" })).status);
    expect((await emit("order.created", {}, { waitFor: "consumed" })).status).toBe("consumed");
  });

  it("gives up waiting after timeoutMs, and goes on delivering", async () => {
    let open: () => void = () => undefined;
    const gate = new Promise<void>(resolve => (open = resolve));
    const { broker, emit } = await world(name, { stock: () => gate }, { options: { checkDelaysMs: [20_000] } });
    const error = await errorOf(emit("order.created", {}, { id: "slow", waitFor: "consumed", timeoutMs: 1_000 }));
    expect(error).toMatchObject({ type: "RELIABLE_WAIT_TIMEOUT", retryable: true, data: { id: "slow" } });
    open();
    await until(
      () => story(broker, "slow").catch(() => undefined),
      row => row?.status === "consumed"
    );
  });

  it("handles an id once, however often it is emitted", async () => {
    const seen: number[] = [];
    const { emit } = await world(name, { stock: ctx => void seen.push(numberOf(ctx)) });
    await emit("order.created", { n: 1 }, { id: "order 1", waitFor: "consumed" });
    expect(await emit("order.created", { n: 1 }, { id: "order 1", waitFor: "consumed" })).toEqual({
      id: "order 1",
      status: "consumed",
      groups: ["stock"]
    });
    await Promise.all(numbers(5).map(() => emit("order.created", { n: 2 }, { id: "order 2", waitFor: "consumed" })));
    await emit("order.created", { n: 3 }, { waitFor: "consumed" });
    expect(seen.sort()).toEqual([1, 2, 3]);
  });

  it("makes what a handler never sees dead at once", async () => {
    const { broker, emit } = await world(name, { stock: () => undefined }, { event: { params: { n: "number" } } });
    const error = await errorOf(emit("order.created", { n: "one" }, { id: "bad", waitFor: "consumed" }));
    expect(error).toMatchObject({
      type: "RELIABLE_DEAD",
      data: { id: "bad", reason: expect.stringMatching(/^rejected in group stock at attempt 1: /) }
    });
    expect(await story(broker, "bad")).toMatchObject({
      status: "dead",
      payload: { n: "one" },
      attempts: 1,
      event: "order.created",
      producer: "shop"
    });
  });

  it("tries again after each backoff what failed, until it is handled", async () => {
    const attempts: number[] = [];
    const handler = (ctx: Context<never>) => {
      attempts.push(localsOf(ctx).attempt);
      if (attempts.length < 3) throw new Error("not yet");
    };
    // The failures bring the next attempt forward: no check comes that soon.
    const { broker, emit } = await world(
      name,
      { stock: handler },
      { options: { checkDelaysMs: [20_000, 30_000, 40_000] } }
    );
    const { id } = await emit("order.created", {}, { waitFor: "consumed" });
    expect(attempts).toEqual([1, 2, 3]);
    expect((await rowOf(broker, id)).failures.map(({ cause, attempt, group }) => [cause, attempt, group])).toEqual([
      ["handler", 1, "stock"],
      ["handler", 2, "stock"]
    ]);
  });

  it("ends as dead what fails for ever, with the reason and every failure", async () => {
    const attempts: number[] = [];
    const { broker, emit } = await world(name, {
      stock: ctx => {
        attempts.push(localsOf(ctx).attempt);
        return boom();
      },
      mail: () => undefined
    });
    const told = new Promise<unknown>(resolve =>
      broker.createService({
        name: "watch",
        events: { "$reliable.dead": (ctx: Context<unknown>) => resolve(ctx.params) }
      })
    );
    const reason = "handler in group stock at attempt 3: no stock";
    const error = await errorOf(emit("order.created", { n: 1 }, { id: "order 1", waitFor: "consumed" }));
    expect(error).toMatchObject({ type: "RELIABLE_DEAD", data: { id: "order 1", reason } });
    // It is told at the first write, which the last one of that failure may follow.
    const row = await until(
      () => rowOf(broker, "order 1"),
      ({ dueAt, receipts }) => dueAt === undefined && receipts.mail !== undefined
    );
    expect(row).toMatchObject({
      status: "dead",
      waiting: [],
      failed: ["stock"],
      receipts: { mail: {} },
      spent: { stock: 3 },
      reason
    });
    expect(row.failures.map(({ cause, group, attempt, error: { code } }) => [cause, group, attempt, code])).toEqual(
      [1, 2, 3].map(n => ["handler", "stock", n, "E_STOCK"])
    );
    expect(attempts).toEqual([1, 2, 3]);
    expect(await told).toEqual({ id: "order 1", event: "order.created", group: "stock", cause: "handler", reason });
  });

  it("a human retries, resolves or discards what is dead, and that stays so", async () => {
    let working = false;
    const seen: number[] = [];
    const { broker, emit } = await world(
      name,
      {
        stock: ctx => {
          seen.push(numberOf(ctx));
          return working ? undefined : boom();
        }
      },
      { options: { maxAttempts: 1 } }
    );
    for (const [n, id] of ["retried", "resolved", "discarded"].entries())
      await errorOf(emit("order.created", { n }, { id, waitFor: "consumed" }));
    await broker.call("reliable.resolve", { id: "resolved", note: "by phone", by: "ann" });
    await broker.call("reliable.discard", { id: "discarded", note: "a test order", by: "bob" });
    working = true;
    await broker.call("reliable.retry", { id: "retried", by: "ann" });
    expect((await reaches(broker, "retried", "consumed")).payload).toEqual({ n: 0 });
    // Whatever of them is still on its way is older than this one, and has come when it has.
    await emit("order.created", { n: 3 }, { id: "later", waitFor: "consumed" });
    const checked = () => story(broker, "later").then(({ payload }) => (payload as { n?: number } | null)?.n === 3);
    await until(checked);
    expect(await story(broker, "resolved")).toMatchObject({ status: "resolved", payload: { n: 1 } });
    expect(await errorOf(story(broker, "discarded"))).toMatchObject({ type: "RELIABLE_NOT_FOUND" });
    expect(await broker.call("reliable.audits")).toMatchObject({
      rows: [
        { act: "retry", id: "retried", by: "ann" },
        { act: "discard", id: "discarded", by: "bob", note: "a test order" },
        { act: "resolve", id: "resolved", by: "ann", note: "by phone" }
      ]
    });
    expect(seen).toEqual([0, 1, 2, 0, 3]);
  });

  it("a late receipt makes what is dead consumed: handled stays handled", async () => {
    const { broker, emit } = await world(name, { stock: () => undefined });
    const group = await foreignGroup(broker, "far", "order.created");
    const { id } = await emit("order.created", { n: 1 }, { maxAttempts: 1 });
    const [delivery] = await until(
      async () => group.deliveries,
      deliveries => deliveries.length > 0
    );
    const echo =
      delivery && name === "callback"
        ? { event: "order.created", producer: "shop", plan: delivery.headers["x-reliable-echo"] as string }
        : undefined;
    await sendReceipt(broker, "far", {
      id,
      outcome: "failed",
      retryable: false,
      error: { name: "Error", message: "no" },
      echo
    });
    await reaches(broker, id, "dead");
    await sendReceipt(broker, "far", { id });
    expect(await reaches(broker, id, "consumed")).toMatchObject({ waiting: "" });
  });

  it("two namespaces never meet", async () => {
    const seen: string[] = [];
    const one = await world(name, { stock: () => void seen.push("one") });
    const two = await world(name, { stock: () => void seen.push("two") });
    await one.emit("order.created", {}, { id: "same id", waitFor: "consumed" });
    expect(await errorOf(story(two.broker, "same id"))).toMatchObject({ type: "RELIABLE_NOT_FOUND" });
    await two.emit("order.created", {}, { id: "same id", waitFor: "consumed" });
    expect(seen).toEqual(["one", "two"]);
  });

  it.each<[string, unknown[], string]>([
    ["an event that is no name", ["order.*", {}], "RELIABLE_BAD_EVENT"],
    ["a payload JSON cannot carry", ["order.created", { n: 1n }], "RELIABLE_BAD_PAYLOAD"],
    ["a payload that is too large", ["order.created", "x".repeat(300_000)], "RELIABLE_PAYLOAD_TOO_LARGE"],
    ["an unknown option", ["order.created", {}, { stratgy: "outbox" }], "RELIABLE_BAD_OPTION"],
    ["a bad id", ["order.created", {}, { id: "" }], "RELIABLE_BAD_OPTION"],
    ["an id with a control character", ["order.created", {}, { id: "a\u009b" }], "RELIABLE_BAD_OPTION"],
    ["a group with a line break", ["order.created", {}, { groups: ["stock", "a\n"] }], "RELIABLE_BAD_OPTION"],
    ["options that are no object", ["order.created", {}, null], "RELIABLE_BAD_OPTION"],
    [
      "a session that is none",
      ["order.created", {}, { session: {} }],
      session ? "RELIABLE_BAD_SESSION" : "RELIABLE_BAD_OPTION"
    ],
    ["a source without action", ["order.created", {}, { source: { params: 1 } }], "RELIABLE_BAD_OPTION"],
    [
      "a source with params that cannot travel",
      ["order.created", {}, { source: { action: "asked.happened", params: { n: 1n } } }],
      "RELIABLE_BAD_OPTION"
    ],
    [
      "a source with params that are too large",
      ["order.created", {}, { source: { action: "asked.happened", params: "x".repeat(5000) } }],
      "RELIABLE_BAD_OPTION"
    ],
    [
      "a source that the service does not list",
      ["order.created", {}, { source: { action: "$node.list" } }],
      "RELIABLE_BAD_OPTION"
    ],
    ["commit without a way to ask", ["order.created", {}, { commit: () => undefined }], "RELIABLE_BAD_OPTION"],
    ["barrier without commit", ["order.created", {}, { barrier: true }], "RELIABLE_BAD_OPTION"],
    [
      "commit with session",
      ["order.created", {}, { commit: () => undefined, barrier: true, session: {} }],
      "RELIABLE_BAD_OPTION"
    ]
  ])("refuses %s and harms nothing else", async (_, args, type) => {
    const seen: number[] = [];
    const { broker, emit } = await world(name, { stock: ctx => void seen.push(numberOf(ctx)) });
    expect(await errorOf(emit(...(args as Parameters<typeof emit>)))).toMatchObject({ type });
    await emit("order.created", { n: 1 }, { waitFor: "consumed" });
    expect(seen).toEqual([1]);
    expect(await broker.call("reliable.stats")).toMatchObject({ consumed: 1, dead: 0, pending: 0, published: 0 });
  });

  it("a stop lets the emits under way finish, and does not wait for receipts", async () => {
    const made = cluster();
    const seen: number[] = [];
    let open: () => void = () => undefined;
    const gate = new Promise<void>(resolve => (open = resolve));
    const handler = (ctx: Context<never>) => {
      seen.push(numberOf(ctx));
      return numberOf(ctx) === 50 ? gate : undefined;
    };
    const home = await made.node("home", [consumer(made.mixin(), "stock", "order.created", handler)]);
    await subscribed(home, 1);
    const shop = await made.node("shop", [
      emitter(
        made.mixin({ strategy: name, checkDelaysMs: [20_000], receiptTimeoutMs: 20_000, drainTimeoutMs: 30_000 }),
        "shop"
      )
    ]);
    const emit = emitterOf(shop, "shop");
    const waiting = errorOf(emit("order.created", { n: 50 }, { waitFor: "consumed", timeoutMs: 20_000 }));
    await until(
      async () => seen,
      numbers => numbers.includes(50)
    );
    const emits = numbers(50).map(n => emit("order.created", { n }).then(() => n));
    const started = performance.now();
    await shop.stop();
    expect(performance.now() - started).toBeLessThan(20_000);
    expect(await waiting).toMatchObject({ type: "RELIABLE_WAIT_STOPPED" });
    expect(await Promise.all(emits)).toEqual(numbers(50));
    await until(
      async () => numbers(50).filter(n => !seen.includes(n)),
      missing => missing.length === 0
    );
    expect(await errorOf(emit("order.created", {}))).toMatchObject({ type: "RELIABLE_STOPPED" });
    open();
  });

  it("the operator's actions show it", async () => {
    const { broker, emit } = await world(name, { stock: boom }, { options: { maxAttempts: 1 } });
    await errorOf(emit("order.created", { n: 7 }, { id: "order 7", waitFor: "consumed", meta: { user: "ann" } }));
    expect(await broker.call("reliable.stats")).toMatchObject({ dead: 1, consumed: 0 });
    expect(
      await broker.call("reliable.list", { status: "dead", event: "order.created", group: "stock", producer: "shop" })
    ).toMatchObject({
      total: 1,
      rows: [{ id: "order 7", strategy: name, failed: "stock", attempts: 1, maxAttempts: 1 }]
    });
    const { timeline, ...rest } = await until(
      () => story(broker, "order 7"),
      ({ timeline }) => timeline.some(({ what }) => what.startsWith("published"))
    );
    expect(rest).toMatchObject({
      payload: { n: 7 },
      meta: { user: "ann" },
      status: "dead",
      reason: expect.stringContaining("no stock")
    });
    expect(timeline.map(({ what }) => what)).toEqual([
      expect.stringMatching(/^(stored|emitted) by shop for stock/),
      expect.stringContaining("published"),
      expect.stringMatching(/attempt 1 failed in stock on node node-1 \(handler\).*no stock/),
      expect.stringMatching(/^dead/)
    ]);
  });
});
