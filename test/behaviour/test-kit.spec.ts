import { EventEmitter } from "node:events";
import { type Context, type Service, ServiceBroker, type ServiceSchema } from "moleculer";
import { describe, expect, it, onTestFinished } from "vitest";
import { reliableTesting } from "../../mixins/testing";
import { type EmitOptions, ReliableEmit, type ReliableOptions } from "../../src";
import { until } from "../support/brokers";
import { runtimeOf } from "../support/runtime";
import { emitterOf, errorOf, story } from "../support/services";

const SECOND = 1000;
/** However busy the machine is. */
const PATIENT = { timeoutMs: 60_000 };
const YEAR = 365 * 86_400_000;

/** As a service has it in production; nothing of it is there. */
const PRODUCTION: ReliableOptions = {
  amqp: "amqp://nowhere.invalid:5672",
  mongo: "mongodb://nowhere.invalid:27017/?replicaSet=rs0",
  redis: "redis://nowhere.invalid:6379",
  backoff: { initialMs: SECOND, jitter: "none" }
};

type Handler = (params: { n?: number }, ctx: never) => unknown;

function shop(handlers: Record<string, Handler> = {}, options: ReliableOptions = {}): ServiceSchema[] {
  const mixin = () => ReliableEmit({ ...PRODUCTION, ...options });
  return [
    { name: "emitter", mixins: [mixin()] },
    ...Object.entries(handlers).map(([name, handler]) => ({
      name,
      mixins: [mixin()],
      events: {
        "order.created": {
          reliable: true,
          handler: (ctx: { params: { n?: number } }) => handler(ctx.params, ctx as never)
        }
      }
    }))
  ] as ServiceSchema[];
}

function newBroker(nodeID = "node-1", more: object = {}): ServiceBroker {
  const broker = new ServiceBroker({ nodeID, logger: false, ...more });
  onTestFinished(() => broker.stop());
  return broker;
}

async function start(handlers?: Record<string, Handler>, options?: ReliableOptions) {
  const broker = newBroker();
  const kit = reliableTesting(broker, PATIENT);
  for (const service of shop(handlers, options)) broker.createService(service);
  await broker.start();
  return { broker, ...kit, emit: emitterOf(broker) };
}

it("what was emitted, and what has become of it", async () => {
  const { emit, emitted, settled } = await start({ stock: () => undefined, mail: () => undefined });
  const { id } = await emit(
    "order.created",
    { n: 1, lines: [{ sku: "a", count: 2 }] },
    { keys: { order: 1 }, meta: { tenant: "x" } }
  );
  expect(emitted()).toMatchObject([{ id, event: "order.created", status: "pending", waitingFor: ["mail", "stock"] }]);
  await settled();
  expect(emitted("order.created", { lines: [{ sku: "a" }] })).toEqual([
    {
      ...{ id, event: "order.created", payload: { n: 1, lines: [{ sku: "a", count: 2 }] }, producer: "emitter" },
      ...{ meta: { tenant: "x" }, headers: {}, keys: { order: "1" }, strategy: "outbox", status: "consumed" },
      ...{ groups: ["mail", "stock"], handledBy: ["mail", "stock"], waitingFor: [] },
      ...{ failedIn: [], attempts: { mail: 1, stock: 1 }, failures: [], reason: undefined, sendAt: undefined }
    }
  ]);
  expect(emitted("order.created", { n: 2 })).toEqual([]);
  expect(emitted("order.created", { lines: [] })).toEqual([]);
  expect(emitted("order.paid")).toEqual([]);
  expect(emitted("order.created", payload => (payload as { n: number }).n === 1)).toHaveLength(1);
  expect(emitted("order.created", { n: expect.any(Number) })).toHaveLength(1);
});

describe("failNext", () => {
  it("fails the next delivery like its handler, which is not called; settled() goes on through the backoff", async () => {
    const handled: unknown[] = [];
    const { emit, emitted, settled, failNext, now } = await start(
      { mail: ({ n }) => void handled.push(n) },
      { backoff: { initialMs: 250 * SECOND, jitter: "none" } }
    );
    const began = now().getTime();
    failNext("mail", new Error("the mail server is down"));
    await emit("order.created", { n: 1 });
    await settled();
    expect(handled).toEqual([1]);
    expect(emitted()).toMatchObject([
      {
        ...{ status: "consumed", attempts: { mail: 2 } },
        failures: [{ group: "mail", attempt: 1, cause: "handler", error: "Error: the mail server is down" }]
      }
    ]);
    // In less than the test's own limit.
    expect(now().getTime() - began).toBe(250 * SECOND);
  });

  it("as often as it is told, until the message is dead", async () => {
    const handled: unknown[] = [];
    const { emit, emitted, settled, failNext } = await start({ mail: ({ n }) => void handled.push(n) });
    failNext("mail", new Error("550"), 3);
    await emit("order.created", { n: 1 });
    await settled();
    expect(emitted()).toMatchObject([
      { status: "dead", failedIn: ["mail"], reason: expect.stringMatching(/mail at attempt 3: 550/) }
    ]);
    await emit("order.created", { n: 2 });
    await settled();
    expect(handled).toEqual([2]);
  });

  it("at once, where the error says that it is not to be tried again; other groups handle it", async () => {
    const handled: unknown[] = [];
    const { emit, emitted, settled, failNext } = await start({
      mail: () => undefined,
      stock: ({ n }) => void handled.push(n)
    });
    failNext("mail", Object.assign(new Error("no such mailbox"), { retryable: false }));
    await emit("order.created", { n: 1 });
    await settled();
    expect(emitted()).toMatchObject([
      { status: "dead", failedIn: ["mail"], handledBy: ["stock"], attempts: { mail: 1 } }
    ]);
    expect(handled).toEqual([1]);
  });

  it("of a group with a wildcard by its plain name; one that nobody has is refused, and so is what is no error", async () => {
    const broker = newBroker();
    const { failNext, settled, emitted } = reliableTesting(broker, PATIENT);
    const [emitter] = shop();
    broker.createService(emitter as ServiceSchema);
    broker.createService({
      name: "audit",
      mixins: [ReliableEmit(PRODUCTION)],
      events: { "order.*": { reliable: true, handler: () => undefined } }
    } as unknown as ServiceSchema);
    await broker.start();
    failNext("audit", new Error("full"));
    await emitterOf(broker)("order.created", {});
    await settled();
    expect(emitted()).toMatchObject([{ status: "consumed", attempts: { "audit:order.*": 2 } }]);
    expect(await errorOf(() => failNext("audti", new Error("x")))).toMatchObject({
      type: "RELIABLE_NOT_FOUND",
      message: expect.stringContaining("audit:order.*")
    });
    for (const wrong of [
      ["", new Error("x")],
      ["audit", "x"],
      ["audit", new Error("x"), 0]
    ] as [string, Error, number?][])
      expect(await errorOf(() => failNext(...wrong))).toMatchObject({ type: "RELIABLE_BAD_OPTION" });
  });
});

describe("advance", () => {
  it("a retry comes when its backoff is over, to the millisecond", async () => {
    const handled: unknown[] = [];
    const { emit, emitted, settled, failNext, advance } = await start({ mail: ({ n }) => void handled.push(n) });
    failNext("mail", new Error("down"));
    await emit("order.created", { n: 1 });
    await advance(0);
    expect(emitted()).toMatchObject([{ status: "published", waitingFor: ["mail"], failures: [{ attempt: 1 }] }]);
    await advance(SECOND - 1);
    expect(handled).toEqual([]);
    await advance(1);
    expect(handled).toEqual([1]);
    await settled();
  });

  it.each([
    ["delayMs", () => ({ delayMs: YEAR })],
    ["sendAt", () => ({ sendAt: new Date(Date.now() + YEAR) })]
  ])("what is scheduled for a year ahead by %s is sent then; settled() leaves it alone", async (_, later) => {
    const handled: unknown[] = [];
    const { emit, emitted, settled, advance, now } = await start({ mail: ({ n }) => void handled.push(n) });
    const options = later();
    await emit("order.created", { n: 1 }, options);
    await settled();
    const [message] = emitted();
    expect(message).toMatchObject({ status: "scheduled" });
    expect(message?.sendAt).toEqual("sendAt" in options ? options.sendAt : new Date(now().getTime() + YEAR));
    await advance(YEAR - SECOND);
    expect(handled).toEqual([]);
    await advance(SECOND);
    expect(handled).toEqual([1]);
    expect(emitted()).toMatchObject([{ status: "consumed" }]);
  });

  it("what is scheduled is as far ahead after settled(), however long the backoffs were", async () => {
    const handled: unknown[] = [];
    const { emit, emitted, settled, advance, failNext, now } = await start({ mail: ({ n }) => void handled.push(n) });
    await emit("order.created", { n: 1 }, { delayMs: SECOND });
    failNext("mail", new Error("down"), 2);
    await emit("order.created", { n: 2 });
    await settled();
    expect(handled).toEqual([2]);
    const [later] = emitted();
    expect(later).toMatchObject({ status: "scheduled", sendAt: new Date(now().getTime() + SECOND) });
    await advance(SECOND - 1);
    expect(handled).toEqual([2]);
    await advance(1);
    expect(handled).toEqual([2, 1]);
  });

  it("a breaker is tried as often as in that time", async () => {
    const handled: unknown[] = [];
    const { emit, failNext, advance } = await start(
      { mail: ({ n }) => void handled.push(n) },
      { breaker: { failures: 2, pauseMs: SECOND }, backoff: { initialMs: 100 * SECOND, jitter: "none" } }
    );
    failNext("mail", new Error("down"), 4);
    for (let n = 0; n < 2; n++) await emit("order.created", { n });
    await advance(0);
    for (let n = 2; n < 8; n++) await emit("order.created", { n });
    await advance(0);
    expect(handled).toEqual([]);
    // After pauses of at most 1, 2 and 4 s; nothing else is due so soon.
    await advance(10 * SECOND);
    expect(handled.length).toBeGreaterThan(0);
  });

  it("an instant that a service reckons by the process's clock is as far ahead after an advance", async () => {
    const handled: unknown[] = [];
    const { emit, advance } = await start({ mail: ({ n }) => void handled.push(n) });
    await advance(YEAR);
    const sendAt = new Date(Date.now() + 60 * SECOND);
    await emit("order.created", { n: 1 }, { sendAt });
    await advance(59 * SECOND);
    expect(handled).toEqual([]);
    await advance(SECOND);
    expect(handled).toEqual([1]);
  });

  it("many instants in their order, each at its own time", async () => {
    const handled: [number | undefined, number][] = [];
    const { emit, advance, now } = await start({ mail: ({ n }) => void handled.push([n, now().getTime()]) });
    const began = now().getTime();
    for (const n of [3, 1, 2]) await emit("order.created", { n }, { delayMs: n * 60 * SECOND });
    await advance(10 * 60 * SECOND);
    expect(handled).toEqual([1, 2, 3].map(n => [n, began + n * 60 * SECOND]));
    expect(now().getTime()).toBe(began + 10 * 60 * SECOND);
  });

  it("a handler that hangs is late, and what has been kept for long enough is gone", async () => {
    let calls = 0;
    const hangs = () => (++calls === 1 ? new Promise(() => undefined) : undefined);
    const { broker, emit, emitted, settled, advance } = await start({ mail: hangs }, { drainTimeoutMs: 0 });
    const { id } = await emit("order.created", { n: 1 });
    await until(() => calls === 1);
    await advance(31 * SECOND);
    expect(emitted()).toMatchObject([
      { failures: [{ error: expect.stringContaining("did not answer within 30000 ms") }] }
    ]);
    await settled();
    expect(emitted()).toMatchObject([{ status: "consumed", attempts: { mail: 2 } }]);
    await advance(8 * 86_400_000);
    expect(await errorOf(story(broker, id))).toMatchObject({ type: "RELIABLE_NOT_FOUND" });
    expect(emitted()).toMatchObject([{ id, status: "consumed" }]);
  });

  it("what no group takes is dead after its hour; settled() does not wait for it", async () => {
    const { emit, emitted, settled, advance } = await start();
    await emit("order.created", { n: 1 });
    await settled();
    expect(emitted()).toMatchObject([{ status: "pending", groups: [] }]);
    await advance(2 * 3600 * SECOND);
    expect(emitted()).toMatchObject([
      { status: "dead", failures: expect.arrayContaining([expect.objectContaining({ cause: "unroutable" })]) }
    ]);
  });
});

describe("settled", () => {
  it("rejects in time, and names what is open and why", async () => {
    const { emit, settled, now } = await start({ mail: () => new Promise(() => undefined) }, { drainTimeoutMs: 0 });
    const { id } = await emit("order.created", { n: 1 });
    const error = await errorOf(settled({ timeoutMs: 100 }));
    expect(error).toMatchObject({
      type: "RELIABLE_NOT_SETTLED",
      retryable: true,
      message: expect.stringContaining(`'order.created' (${id}) is published, the handler in mail has not ended`),
      data: { timeoutMs: 100, now: now(), open: [{ id, event: "order.created", status: "published" }] }
    });
  });

  it("waits for handlers that emit, and for what they emit", async () => {
    const done: unknown[] = [];
    const { emit, emitted, settled } = await start({
      async mail({ n = 0 }) {
        await new Promise(resolve => setTimeout(resolve, 20));
        if (n < 3) await emit("order.created", { n: n + 1 }, { id: `after-${n}` });
        done.push(n);
      }
    });
    await emit("order.created", { n: 0 });
    await settled();
    expect(done).toEqual([0, 1, 2, 3]);
    expect(emitted().map(({ status }) => status)).toEqual(Array(4).fill("consumed"));
  });

  it("waits for the hook onDead", async () => {
    const dead: string[] = [];
    const onDead = async ({ id }: { id: string }) => {
      await new Promise(resolve => setTimeout(resolve, 20));
      dead.push(id);
    };
    const { emit, settled, failNext } = await start({ mail: () => undefined }, { onDead });
    failNext("mail", new Error("550"), 3);
    const { id } = await emit("order.created", {});
    await settled();
    expect(dead).toEqual([id]);
  });

  it("of ten that fail and an open breaker: all are handled", async () => {
    const { emit, emitted, settled, failNext } = await start({ mail: () => undefined });
    failNext("mail", new Error("down"), 12);
    for (let n = 0; n < 12; n++) await emit("order.created", { n });
    await settled();
    expect(emitted().map(({ status }) => status)).toEqual(Array(12).fill("consumed"));
  });

  it("rejects as soon as more time changes nothing, and waits for a group that is paused", async () => {
    const { broker, emit, emitted, settled } = await start({ mail: () => undefined, stock: () => undefined });
    await settled();
    await broker.call("reliable.pause", { group: "mail", note: "why not" });
    await emit("order.created", {});
    expect(await errorOf(settled({ timeoutMs: 100 }))).toMatchObject({
      type: "RELIABLE_NOT_SETTLED",
      message: expect.stringContaining("waits for mail; paused: mail")
    });
    // Its row comes with its check.
    const { id } = await emit("order.created", {}, { strategy: "callback", groups: "mail" });
    expect(await errorOf(settled({ timeoutMs: 2000 }))).toMatchObject({
      message: expect.stringMatching(new RegExp(`${id}\\) is \\w+, waits for mail; paused: mail`))
    });
    const settling = settled();
    await broker.call("reliable.resume", { group: "mail" });
    await settling;
    expect(emitted().map(({ status }) => status)).toEqual(["consumed", "consumed"]);
    await broker.destroyService(broker.getLocalService("stock") as Service);
    await emit("order.created", {});
    expect(await errorOf(settled({ timeoutMs: 60_000 }))).toMatchObject({
      type: "RELIABLE_NOT_SETTLED",
      message: expect.stringMatching(/more time changes nothing; open: .* waits for stock/)
    });
  });

  it("before the start, and with bad options: an error with a type", async () => {
    const broker = newBroker();
    const { settled, advance, emitted } = reliableTesting(broker, PATIENT);
    for (const service of shop()) broker.createService(service);
    expect(await errorOf(settled())).toMatchObject({ type: "RELIABLE_NOT_STARTED" });
    expect(await errorOf(advance(1))).toMatchObject({ type: "RELIABLE_NOT_STARTED" });
    for (const wrong of [-1, 0.5, Number.NaN, "1"])
      expect(await errorOf(advance(wrong as number))).toMatchObject({
        type: "RELIABLE_BAD_OPTION",
        data: { option: "ms" }
      });
    for (const wrong of [{ timeoutMs: 0 }, null, { timeout: 9 }])
      expect(await errorOf(settled(wrong as never))).toMatchObject({ type: "RELIABLE_BAD_OPTION" });
    expect(await errorOf(() => emitted(1 as never))).toMatchObject({ type: "RELIABLE_BAD_OPTION" });
    expect(emitted()).toEqual([]);
  });
});

describe("emits of all kinds", () => {
  it("many; a duplicate is one message; what was refused is none", async () => {
    const { broker, emitted, settled } = await start({ mail: () => undefined });
    const service = broker.getLocalService("emitter") as Service;
    const items = [1, 2, 2, 3].map(n => ({ event: "order.created", payload: { n }, id: `order-${n}` }));
    await service.reliableEmitMany([...items, { event: "order.created", payload: { n: 4 }, id: "order-1" }]);
    expect(await errorOf(service.reliableEmit("$order", {}))).toMatchObject({ type: "RELIABLE_BAD_EVENT" });
    await settled();
    expect(emitted().map(({ id, payload }) => [id, payload])).toEqual([1, 2, 3].map(n => [`order-${n}`, { n }]));
  });

  it("waitFor: it resolves though the first attempt fails, in its own time, or at once by settled()", async () => {
    const { emit, emitted, settled, failNext } = await start({ mail: () => undefined });
    failNext("mail", new Error("down"), 1);
    const slow = emit("order.created", { n: 1 }, { waitFor: "consumed" });
    expect(await slow).toMatchObject({ status: "consumed" });
    failNext("mail", new Error("down"), 1);
    const quick = emit("order.created", { n: 2 }, { waitFor: "consumed" });
    await settled();
    expect(await quick).toMatchObject({ status: "consumed" });
    failNext("mail", new Error("550"), 3);
    const dead = errorOf(emit("order.created", { n: 3 }, { waitFor: "consumed" }));
    await settled();
    expect(await dead).toMatchObject({ type: "RELIABLE_DEAD" });
    expect(emitted().map(({ status }) => status)).toEqual(["consumed", "consumed", "dead"]);
  });

  it("strategy callback: handled, tried again by its check, dead", async () => {
    const calls: unknown[] = [];
    const { emit, emitted, settled, failNext } = await start(
      { mail: ({ n }) => void calls.push(n) },
      { strategy: "callback" }
    );
    await emit("order.created", { n: 1 });
    expect(emitted()).toMatchObject([{ strategy: "callback", payload: { n: 1 } }]);
    await settled();
    failNext("mail", new Error("down"));
    await emit("order.created", { n: 2 });
    await settled();
    expect(calls).toEqual([1, 2]);
    failNext("mail", new Error("550"), 100);
    await emit("order.created", { n: 3 });
    await settled();
    expect(emitted()).toMatchObject([
      { status: "consumed", payload: { n: 1 } },
      { status: "consumed", payload: { n: 2 }, attempts: { mail: 2 } },
      { status: "dead", payload: { n: 3 }, failedIn: ["mail"] }
    ]);
  });

  it("strategy callback: what is pruned is settled, and told of", async () => {
    const { emit, emitted, settled, advance } = await start({ mail: () => undefined }, { strategy: "callback" });
    await emit("order.created", { n: 1 });
    await advance(30 * 86_400_000);
    await settled();
    expect(emitted()).toMatchObject([{ status: "consumed", payload: { n: 1 } }]);
  });

  it("not awaited: settled() waits for it", async () => {
    const { emit, emitted, settled } = await start({ mail: () => undefined });
    const emits = [1, 2].map(n => emit("order.created", { n }));
    await settled();
    expect(emitted().map(({ status }) => status)).toEqual(["consumed", "consumed"]);
    await Promise.all(emits);
  });

  it("with a session: at its commit, and not after an abort; a stand-in has none, and is taken for committed", async () => {
    const { emit, emitted, settled } = await start({ mail: () => undefined });
    const session = (state: string) =>
      Object.assign(new EventEmitter(), { hasEnded: false, transaction: { state }, inTransaction: () => true });
    const committed = session("TRANSACTION_COMMITTED");
    const aborted = session("TRANSACTION_ABORTED");
    await emit("order.created", { n: 1 }, { session: committed });
    await emit("order.created", { n: 2 }, { session: aborted });
    await emit("order.created", { n: 3 }, { session: {} });
    await settled();
    expect(emitted().map(({ payload, status }) => [payload, status])).toEqual([[{ n: 3 }, "consumed"]]);
    committed.emit("ended");
    aborted.emit("ended");
    await settled();
    expect(emitted().map(({ payload, status }) => [payload, status])).toEqual([
      [{ n: 1 }, "consumed"],
      [{ n: 3 }, "consumed"]
    ]);
    const ended = Object.assign(session("TRANSACTION_COMMITTED"), { hasEnded: true });
    expect(await errorOf(emit("order.created", {}, { session: ended }))).toMatchObject({
      type: "RELIABLE_BAD_SESSION"
    });
  });

  it('inbox: "transaction": what a failed run has emitted is not there', async () => {
    const broker = newBroker();
    const { emitted, settled } = reliableTesting(broker, PATIENT);
    let runs = 0;
    broker.createService(shop()[0] as ServiceSchema);
    broker.createService({
      name: "invoices",
      mixins: [ReliableEmit(PRODUCTION)],
      events: {
        "order.created": {
          reliable: { inbox: "transaction" },
          async handler(this: Service, ctx: Context) {
            await this.reliableEmit("invoice.made", { run: ++runs }, { ctx });
            if (runs === 1) throw new Error("down");
          }
        }
      }
    } as unknown as ServiceSchema);
    await broker.start();
    await emitterOf(broker)("order.created", {});
    await settled();
    expect(runs).toBe(2);
    expect(emitted("invoice.made").map(({ payload }) => payload)).toEqual([{ run: 2 }]);
  });

  it("an intent: its message once its write has happened, none where it has failed", async () => {
    const { emit, emitted, settled } = await start({ mail: () => undefined });
    const barrier = (fails: boolean): EmitOptions => ({
      barrier: true,
      async commit(message) {
        if (fails) throw new Error("no");
        await message.barrier({});
      }
    });
    await emit("order.created", { n: 1 }, barrier(false));
    await errorOf(emit("order.created", { n: 2 }, barrier(true)));
    await settled();
    expect(emitted().map(({ status }) => status)).toEqual(["consumed", "withdrawn"]);
  });

  it("with an order key: one after the other through a backoff; a key that is held is settled, and a reset forgets it", async () => {
    const handled: number[] = [];
    const { emit, emitted, settled, failNext, reset } = await start({ stock: ({ n = -1 }) => void handled.push(n) });
    const emitAll = () => Promise.all([0, 1, 2].map(n => emit("order.created", { n }, { orderKey: "order-7" })));
    failNext("stock", new Error("not yet"));
    await emitAll();
    await settled();
    expect(handled).toEqual([0, 1, 2]);
    failNext("stock", Object.assign(new Error("no stock"), { retryable: false }));
    await emitAll();
    await settled();
    expect(emitted().map(({ status }) => status)).toEqual([...Array(3).fill("consumed"), "dead", "pending", "pending"]);
    await reset();
    await emitAll();
    await settled();
    expect(handled).toEqual([0, 1, 2, 0, 1, 2]);
  });

  it("with an order key groups do not wait for each other, whatever one fails and when", async () => {
    const seen: string[] = [];
    const note =
      (group: string) =>
      ({ n = -1 }: { n?: number }) =>
        void seen.push(`${group} ${n}`);
    const { emit, advance, settled, failNext } = await start(
      { bad: note("bad"), good: note("good") },
      { backoff: { initialMs: 600 * SECOND, maxMs: 600 * SECOND, jitter: "none" } }
    );
    failNext("bad", new Error("not yet"));
    for (const n of [0, 1, 2]) await emit("order.created", { n }, { orderKey: "order-7" });
    await advance(1);
    expect(seen).toEqual(["good 0", "good 1", "good 2"]);
    await settled();
    expect(seen.slice(3)).toEqual(["bad 0", "bad 1", "bad 2"]);
  });

  it("one that is not awaited ends before the next one begins", async () => {
    const { emit, emitted, advance, now } = await start({ stock: () => undefined });
    const begun = now().getTime();
    await emit("order.created", {}, { delayMs: 60 * SECOND });
    const first = advance(120 * SECOND);
    await advance(5);
    expect(emitted()).toMatchObject([{ status: "consumed" }]);
    expect(now().getTime()).toBe(begun + 120 * SECOND + 5);
    await first;
  });

  it("encoded payloads are shown as they were emitted", async () => {
    const seen: unknown[] = [];
    const encode = (payload: unknown) => ({ hidden: Buffer.from(JSON.stringify(payload)).toString("base64") });
    const decode = ({ hidden }: { hidden: string }) => JSON.parse(Buffer.from(hidden, "base64").toString());
    const { emit, emitted, settled } = await start({ mail: params => void seen.push(params) }, {
      encode,
      decode
    } as ReliableOptions);
    await emit("order.created", { n: 1 });
    await settled();
    expect(emitted("order.created", { n: 1 })).toHaveLength(1);
    expect(seen).toEqual([{ n: 1 }]);
  });
});

describe("isolation", () => {
  it("reset() forgets messages, what was handled, failNext, pauses and breakers, and the clock is back", async () => {
    const handled: unknown[] = [];
    const { broker, emit, emitted, settled, failNext, advance, reset, now } = await start({
      mail: ({ n }) => void handled.push(n)
    });
    // Open in every way: waiting for a retry, scheduled, in a group that is paused, and behind an open breaker.
    failNext("mail", new Error("down"), 1000);
    await emit("order.created", { n: 0 }, { id: "order" });
    await emit("order.created", { n: 0 }, { delayMs: YEAR });
    for (let n = 0; n < 12; n++) await emit("order.created", { n: 0 });
    await advance(5 * SECOND);
    await broker.call("reliable.pause", { group: "mail", note: "why not" });
    await emit("order.created", { n: 0 }, { strategy: "callback" });
    const opened = () => [...runtimeOf(broker).consumers].map(({ breaker }) => breaker?.opened !== undefined);
    expect(opened()).toEqual([true]);
    await reset();
    expect(opened()).toEqual([false]);
    expect(emitted()).toEqual([]);
    expect(Math.abs(now().getTime() - Date.now())).toBeLessThan(SECOND);
    expect(await broker.call("reliable.stats")).toMatchObject({
      ...{ scheduled: 0, pending: 0, published: 0, dead: 0, parkedMessages: 0, paused: "" }
    });
    await emit("order.created", { n: 1 }, { id: "order" });
    await settled();
    expect(handled).toEqual([1]);
    expect(emitted()).toMatchObject([{ id: "order", status: "consumed", attempts: { mail: 1 } }]);
    await advance(2 * YEAR);
    expect(handled).toEqual([1]);
    failNext("mail", new Error("down"));
    await emit("order.created", { n: 2 });
    await settled();
    expect(emitted()).toMatchObject([{ id: "order" }, { status: "consumed", attempts: { mail: 2 } }]);
  });

  it("reset() goes on without a handler that hangs, and what that answers later counts for nothing", async () => {
    let end: () => void = () => undefined;
    const handled: unknown[] = [];
    const hangs = ({ n }: { n?: number }) =>
      n === 0 ? new Promise<void>(resolve => (end = resolve)) : void handled.push(n);
    const { emit, emitted, settled, reset } = await start({ mail: hangs });
    await emit("order.created", { n: 0 }, { id: "order" });
    await errorOf(settled({ timeoutMs: 50 }));
    await reset({ timeoutMs: 50 });
    await emit("order.created", { n: 1 }, { id: "order-1" });
    await settled();
    end();
    await settled();
    expect(emitted().map(({ id }) => id)).toEqual(["order-1"]);
    expect(handled).toEqual([1]);
  });

  it("two kits of the same namespace in one process do not meet, nor does a broker without one", async () => {
    const seen: string[] = [];
    const a = await start({ mail: ({ n }) => void seen.push(`a${n}`) });
    const b = await start({ mail: ({ n }) => void seen.push(`b${n}`) });
    const plain = newBroker();
    const own = { ...PRODUCTION, amqp: undefined, mongo: undefined, redis: undefined };
    for (const service of shop({ mail: ({ n }) => void seen.push(`plain${n}`) }, own)) plain.createService(service);
    await plain.start();
    await a.emit("order.created", { n: 1 });
    await b.emit("order.created", { n: 2 });
    await a.advance(YEAR);
    await b.settled();
    expect(seen.toSorted()).toEqual(["a1", "b2"]);
    expect(a.emitted().map(({ payload }) => payload)).toEqual([{ n: 1 }]);
    expect(a.now().getTime() - b.now().getTime()).toBeGreaterThan(YEAR - 60 * SECOND);
    expect(await emitterOf(plain)("order.created", { n: 3 }, { waitFor: "consumed" })).toMatchObject({
      status: "consumed"
    });
    expect(seen).toContain("plain3");
  });

  it("two nodes of a cluster with one kit: emitted here, handled there, tried again, and reset together", async () => {
    const namespace = "shop";
    const nodes = ["orders", "mail"].map(nodeID => newBroker(nodeID, { namespace, transporter: "Fake" }));
    const [orders, mail] = nodes as [ServiceBroker, ServiceBroker];
    const { emitted, settled, failNext, reset, advance } = reliableTesting(nodes, PATIENT);
    const handled: unknown[] = [];
    const [emitter, consumer] = shop({ mail: ({ n }) => void handled.push(n) });
    orders.createService(emitter as ServiceSchema);
    mail.createService(consumer as ServiceSchema);
    await Promise.all(nodes.map(node => node.start()));
    failNext("mail", new Error("down"));
    const { groups } = await emitterOf(orders)("order.created", { n: 1 });
    expect(groups).toEqual(["mail"]);
    await settled();
    expect(emitted()).toMatchObject([{ status: "consumed", attempts: { mail: 2 } }]);
    await emitterOf(orders)("order.created", { n: 2 }, { strategy: "callback" });
    await emitterOf(orders)("order.created", { n: 3 }, { delayMs: YEAR });
    await settled();
    await reset();
    await advance(2 * YEAR);
    expect(emitted()).toEqual([]);
    expect(handled).toEqual([1, 2]);
  });

  it("is to be made before the start, once, for brokers; after the services is early enough", async () => {
    const broker = newBroker();
    const [emitter, mail] = shop({ mail: () => undefined }, { mongo: undefined } as never);
    for (const service of [emitter, mail]) broker.createService(service as ServiceSchema);
    await Promise.resolve();
    const { settled, emitted } = reliableTesting(broker, PATIENT);
    const bad = { type: "RELIABLE_BAD_OPTION" };
    expect(await errorOf(() => reliableTesting(broker))).toMatchObject(bad);
    expect(await errorOf(() => reliableTesting([]))).toMatchObject(bad);
    expect(await errorOf(() => reliableTesting({} as never))).toMatchObject(bad);
    for (const wrong of [{ timeoutMs: -1 }, { timeout: 9 }, null, 7])
      expect(await errorOf(() => reliableTesting(newBroker(), wrong as never))).toMatchObject(bad);
    await broker.start();
    await emitterOf(broker)("order.created", {});
    await settled();
    expect(emitted()).toMatchObject([{ status: "consumed" }]);
    const started = newBroker("node-2", { namespace: "other" });
    started.createService(shop({}, { amqp: undefined, mongo: undefined, redis: undefined })[0] as ServiceSchema);
    await started.start();
    expect(await errorOf(() => reliableTesting(started))).toMatchObject({
      ...bad,
      message: expect.stringContaining("broker.start()")
    });
  });
});
