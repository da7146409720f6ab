import { type Context, Errors } from "moleculer";
import { describe, expect, it } from "vitest";
import type { ReliableLocals } from "../../mixins/reliable-context";
import type { ReliableOptions } from "../../src";
import { cluster, until } from "../support/brokers";
import { foreignGroup, rowOf, sendReceipt } from "../support/runtime";
import { consumer, emitter, emitterOf, errorOf, oneNode, reaches, story, subscribed } from "../support/services";

const localsOf = (ctx: Context<never>) => (ctx.locals as { reliable: ReliableLocals }).reliable;

/** One node with one group, its handler given by the test. */
async function stock(handler: (ctx: Context<never>) => unknown, options: ReliableOptions = {}, more: object = {}) {
  const made = cluster();
  const { broker } = await oneNode(made, [
    consumer(made.mixin(options), "stock", "order.created", handler, more),
    emitter(made.mixin(options), "shop")
  ]);
  await subscribed(broker, 1);
  return { broker, emit: emitterOf(broker, "shop") };
}

/** All messages fail at the same time, which would look like an outage. */
const NO_BREAKER = { breaker: false } as const;

describe("a handler that fails", () => {
  it("twice is tried again after each backoff, and then handled", async () => {
    const attempts = new Map<number, number[]>();
    const { broker, emit } = await stock(ctx => {
      const { n } = ctx.params as { n: number };
      const { attempt } = localsOf(ctx);
      attempts.set(n, [...(attempts.get(n) ?? []), attempt]);
      if (attempt < 3) throw new Error(`not yet (${attempt})`);
    }, NO_BREAKER);
    // Many at once: some fail before the sweep that resent them has written down what it did.
    const emitted = await Promise.all(
      Array.from({ length: 60 }, (_, n) => emit("order.created", { n }, { waitFor: "consumed", timeoutMs: 20_000 }))
    );
    for (const seen of attempts.values()) expect(seen).toEqual([1, 2, 3]);
    const { timeline, status } = await story(broker, emitted[0]?.id as string);
    expect(status).toBe("consumed");
    expect(timeline.filter(({ what }) => what.includes("failed")).map(({ what }) => what)).toEqual([
      expect.stringMatching(/^attempt 1 failed .*stock.*node-1.*handler.*not yet \(1\)/),
      expect.stringMatching(/^attempt 2 failed .*stock.*node-1.*handler.*not yet \(2\)/)
    ]);
  });

  it("always makes the message dead after maxAttempts, with the reason and every failure", async () => {
    const attempts: number[] = [];
    const { broker, emit } = await stock(ctx => {
      attempts.push(localsOf(ctx).attempt);
      throw Object.assign(new Error("no stock"), { code: "E_STOCK" });
    });
    const told = new Promise<unknown>(resolve =>
      broker.createService({
        name: "watch",
        events: { "$reliable.dead": (ctx: Context<unknown>) => resolve(ctx.params) }
      })
    );
    const error = await errorOf(emit("order.created", { n: 1 }, { id: "order-1", waitFor: "consumed" }));
    expect(error).toMatchObject({
      type: "RELIABLE_DEAD",
      data: { id: "order-1", reason: "handler in group stock at attempt 3: no stock" }
    });
    expect(attempts).toEqual([1, 2, 3]);
    // The last failure may come before the sweep has recorded its publish (`attempts`); it counts all the same.
    expect(await story(broker, "order-1")).toMatchObject({ attempts: 3 });
    // It is told at the first write, and taken out of what is due by the next.
    const row = await until(
      () => rowOf(broker, "order-1"),
      ({ dueAt }) => dueAt === undefined
    );
    expect(row).toMatchObject({
      status: "dead",
      waiting: [],
      failed: ["stock"],
      spent: { stock: 3 },
      reason: "handler in group stock at attempt 3: no stock"
    });
    expect(
      row.failures.map(({ cause, group, attempt, nodeID, error: { message, code } }) => [
        cause,
        group,
        attempt,
        nodeID,
        message,
        code
      ])
    ).toEqual([1, 2, 3].map(n => ["handler", "stock", n, "node-1", "no stock", "E_STOCK"]));
    expect(await told).toEqual({
      ...{ id: "order-1", event: "order.created", group: "stock", cause: "handler" },
      reason: row.reason
    });
  });

  it("counts attempts as the emit wants them", async () => {
    const { broker, emit } = await stock(() => Promise.reject(new Error("no")));
    const { id } = await emit("order.created", {}, { maxAttempts: 5, backoff: { initialMs: 1 } });
    expect((await reaches(broker, id, "dead")).attempts).toBe(5);
  });

  it.each([
    ["retryable: false", () => Promise.reject(Object.assign(new Error("never"), { retryable: false })), {}, "handler"],
    ["a client error of Moleculer's", () => Promise.reject(new Errors.MoleculerClientError("never")), {}, "handler"],
    ["invalid params", () => undefined, { params: { n: "string" } }, "rejected"]
  ])("with %s makes it dead at once", async (_, handler, more, cause) => {
    const { broker, emit } = await stock(handler, {}, more);
    const { id } = await emit("order.created", { n: 1 });
    await reaches(broker, id, "dead");
    const { failures, attempts, spent } = await rowOf(broker, id);
    expect([attempts.stock ?? 1, spent.stock, failures.map(failure => failure.cause)]).toEqual([1, 1, [cause]]);
  });

  it("with a huge error leaves a bounded row", async () => {
    const long = "x".repeat(50_000);
    const { broker, emit } = await stock(
      () =>
        Promise.reject(
          Object.assign(new Error(`amqp://me:secret@host ${long}`), {
            name: long,
            code: long,
            type: long,
            data: { long }
          })
        ),
      { maxAttempts: 25, backoff: { initialMs: 1, maxMs: 1 } }
    );
    const { id } = await emit("order.created", {});
    await reaches(broker, id, "dead");
    const { failures, reason = "" } = await rowOf(broker, id);
    expect(failures.map(({ attempt }) => attempt)).toEqual(Array.from({ length: 20 }, (_, n) => n + 6));
    expect(reason.length).toBeLessThanOrEqual(500);
    for (const { error } of failures) expect(JSON.stringify(error).length).toBeLessThan(10_000);
    expect(JSON.stringify(failures)).not.toContain("secret");
  });
});

describe("a handler that takes too long", () => {
  it("has failed, is tried again, and may still succeed", async () => {
    const { broker, emit } = await stock(
      ctx => (localsOf(ctx).attempt === 1 ? new Promise(() => undefined) : undefined),
      { handlerTimeoutMs: 50 }
    );
    const { id } = await emit("order.created", {}, { waitFor: "consumed" });
    const { failures, receipts } = await rowOf(broker, id);
    expect(failures.map(({ error }) => error.type)).toEqual(["RELIABLE_HANDLER_TIMEOUT"]);
    expect(receipts.stock?.attempt).toBe(2);
  });

  it("and succeeds after the message was given up: handled stays handled", async () => {
    let release: () => void = () => undefined;
    const { broker, emit } = await stock(() => new Promise<void>(resolve => (release = resolve)), {
      handlerTimeoutMs: 50,
      maxAttempts: 1
    });
    const { id } = await emit("order.created", {});
    expect((await reaches(broker, id, "dead")).reason).toContain("did not answer within 50 ms");
    release();
    const row = await reaches(broker, id, "consumed").then(() => rowOf(broker, id));
    expect(row).toMatchObject({ waiting: [], failed: [], receipts: { stock: { attempt: 1 } } });
    expect(row.reason).toBeUndefined();
  });
});

it("a failing group does not make another handle again", async () => {
  const made = cluster();
  const seen: string[] = [];
  const { broker, emit } = await oneNode(made, [
    // Without its inbox, so that nothing but compensation's own care keeps a second delivery away.
    consumer(
      made.mixin({ inbox: false }),
      "stock",
      "order.created",
      ctx => void seen.push(`stock ${localsOf(ctx).attempt}`)
    ),
    consumer(made.mixin({ inbox: false }), "mail", "order.created", ctx => {
      seen.push(`mail ${localsOf(ctx).attempt}`);
      throw new Error("no");
    })
  ]);
  await subscribed(broker, 2);
  const { id } = await emit("order.created", {}, { maxAttempts: 4 });
  const { reason, failed, handled } = await reaches(broker, id, "dead");
  expect(seen.sort()).toEqual(["mail 1", "mail 2", "mail 3", "mail 4", "stock 1"]);
  expect([reason, failed, handled]).toEqual(["handler in group mail at attempt 4: no", "mail", "stock"]);
});

describe("no receipt", () => {
  const QUICK = { receiptTimeoutMs: 100 };

  /** Waits until that many sweeps have looked at the message and put it off. */
  async function putOff(broker: Parameters<typeof rowOf>[0], id: string, times: number): Promise<void> {
    const seen = new Set<number>();
    await until(
      async () => seen.add((await rowOf(broker, id)).next.stock?.getTime() ?? 0).size,
      count => count > times
    );
  }

  it("from a group that is offline burns nothing, however long it takes", async () => {
    const made = cluster();
    const producers = await made.node("producers", [emitter(made.mixin(QUICK), "shop")]);
    const handled: number[] = [];
    const service = () =>
      consumer(made.mixin(QUICK), "stock", "order.created", ctx => void handled.push(localsOf(ctx).attempt));
    const first = await made.node("first", [service()]);
    await subscribed(producers, 1);
    await first.stop();
    const { id } = await emitterOf(producers, "shop")("order.created", {}, { waitFor: "confirmed", maxAttempts: 2 });
    await putOff(producers, id, 4);
    expect(await rowOf(producers, id)).toMatchObject({ status: "published", failures: [], spent: {} });
    await made.node("second", [service()]);
    await reaches(producers, id, "consumed");
    expect(handled).toEqual([1]);
  });

  it("for a message that still waits in its queue burns nothing", async () => {
    const released: (() => void)[] = [];
    const seen: string[] = [];
    const { broker, emit } = await stock(
      ctx => {
        seen.push(`${(ctx.params as { n: number }).n} at ${localsOf(ctx).attempt}`);
        return new Promise<void>(resolve => released.push(resolve));
      },
      { ...QUICK, maxInFlight: 1, maxAttempts: 2 }
    );
    const ids = (await Promise.all([1, 2, 3].map(n => emit("order.created", { n }, { waitFor: "confirmed" })))).map(
      ({ id }) => id
    );
    await Promise.all(ids.map(id => putOff(broker, id, 3)));
    for (const id of ids) expect(await rowOf(broker, id)).toMatchObject({ failures: [], spent: {} });
    for (let n = 0; n < 3; n++) (await until(() => released[n]))();
    for (const id of ids) await reaches(broker, id, "consumed");
    expect(seen.sort()).toEqual(["1 at 1", "2 at 1", "3 at 1"]);
  });

  it("from a group that took the message burns one attempt after the other", async () => {
    const made = cluster();
    const { broker } = await oneNode(made, [emitter(made.mixin(QUICK), "shop")]);
    const { deliveries } = await foreignGroup(broker, "stock", "order.created");
    const { id } = await emitterOf(broker, "shop")("order.created", {});
    const { reason } = await reaches(broker, id, "dead");
    expect(reason).toBe("silence in group stock at attempt 3: no receipt within 100 ms and nothing left in the queue");
    expect(deliveries.map(({ messageId, headers }) => [messageId, headers["x-reliable-attempt"]])).toEqual(
      [1, 2, 3].map(n => [id, n])
    );
    expect(new Set(deliveries.map(({ body }) => body.toString())).size).toBe(1);

    // It had handled the message after all.
    await sendReceipt(broker, "stock", { id, attempt: 2 });
    await reaches(broker, id, "consumed");
    expect((await rowOf(broker, id)).receipts.stock).toMatchObject({ nodeID: "elsewhere", attempt: 2 });
  });
});
