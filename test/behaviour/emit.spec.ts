import { expect, it } from "vitest";
import type { EmitOptions } from "../../src";
import { cluster, until } from "../support/brokers";
import { consumer, emitter, emitterOf, errorOf, oneNode, reaches, serviceOf, subscribed } from "../support/services";

interface Listed {
  total: number;
  rows: { id: string; status: string }[];
}

interface Bad {
  type: string;
  event?: unknown;
  payload?: unknown;
  options?: EmitOptions;
  says: string;
}

/** Each is refused with its type and its reason, nothing is stored, and the next emit works. */
async function allRefused(bad: Bad[]) {
  const made = cluster();
  const { broker, emit } = await oneNode(made, []);
  const ends = await Promise.all(
    bad.map(async row => {
      const { type, message, retryable } = await errorOf(
        emit(
          ("event" in row ? row.event : "order.created") as string,
          "payload" in row ? row.payload : {},
          "options" in row ? row.options : {}
        )
      );
      return { type, retryable, says: message.includes(row.says) ? row.says : message };
    })
  );
  expect(ends).toEqual(bad.map(({ type, says }) => ({ type, retryable: false, says })));
  expect((await broker.call<Listed, object>("reliable.list", {})).total).toBe(0);
  expect((await emit("order.created", {})).status).toBe("pending");
}

it("resolves when stored, when confirmed, when consumed: as asked", async () => {
  const made = cluster();
  let open: () => void = () => undefined;
  const gate = new Promise<void>(resolve => (open = resolve));
  const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", () => gate)]);
  await subscribed(broker, 1);
  const stored = await emit("order.created", { n: 1 });
  expect(stored).toEqual({ id: expect.stringMatching(/^[0-9a-f-]{36}$/), status: "pending", groups: ["stock"] });
  const confirmed = await emit("order.created", { n: 2 }, { waitFor: "confirmed" });
  expect(confirmed.status).toBe("published");
  const late = await errorOf(emit("order.created", { n: 3 }, { waitFor: "consumed", timeoutMs: 1_000, id: "third" }));
  expect(late).toMatchObject({
    type: "RELIABLE_WAIT_TIMEOUT",
    retryable: true,
    data: { id: "third", goal: "consumed", timeoutMs: 1_000 }
  });
  await reaches(broker, "third", "published");
  const consumed = emit("order.created", { n: 4 }, { waitFor: "consumed" });
  open();
  expect((await consumed).status).toBe("consumed");
  await Promise.all([stored.id, confirmed.id, "third"].map(id => reaches(broker, id, "consumed")));
});

it("waiting for `consumed` ends when the message is dead", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, [
    consumer(made.mixin(), "stock", "order.created", () => {
      throw new Error("no stock");
    })
  ]);
  await subscribed(broker, 1);
  expect(
    await errorOf(emit("order.created", {}, { waitFor: "consumed", maxAttempts: 1, id: "dead one" }))
  ).toMatchObject({ type: "RELIABLE_DEAD", retryable: false, message: expect.stringContaining("no stock") });
  expect(
    await errorOf(emit("nobody.listens", {}, { waitFor: "confirmed", maxAttempts: 1, unroutableMs: 0 }))
  ).toMatchObject({
    type: "RELIABLE_DEAD",
    message: expect.stringContaining("unroutable")
  });
});

it("the same id with the same payload is one message, at once and later; with another payload or event it is refused", async () => {
  const made = cluster();
  let handled = 0;
  const { broker, emit } = await oneNode(made, [
    consumer(made.mixin(), "stock", "order.created", () => void handled++)
  ]);
  await subscribed(broker, 1);
  const all = await Promise.all(
    Array.from({ length: 20 }, () => emit("order.created", { n: 1 }, { id: "order-1", waitFor: "consumed" }))
  );
  expect(new Set(all.map(({ id, status }) => `${id} ${status}`))).toEqual(new Set(["order-1 consumed"]));
  expect(await emit("order.created", { n: 1 }, { id: "order-1" })).toEqual({
    id: "order-1",
    status: "consumed",
    groups: ["stock"]
  });
  expect(handled).toBe(1);

  expect(await errorOf(emit("order.created", { n: 2 }, { id: "order-1" }))).toMatchObject({
    type: "RELIABLE_DUPLICATE_ID",
    retryable: false,
    data: { id: "order-1" }
  });
  expect(await errorOf(emit("order.paid", { n: 1 }, { id: "order-1" }))).toMatchObject({
    type: "RELIABLE_DUPLICATE_ID",
    message: expect.stringContaining("order.created")
  });
  expect((await broker.call<Listed, object>("reliable.list", {})).total).toBe(1);
  expect(handled).toBe(1);
});

it("emits at the same time with one id and different payloads: one is stored, the others are told", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, []);
  const results = await Promise.allSettled(
    Array.from({ length: 10 }, (_, n) => emit("order.created", { n }, { id: "same" }))
  );
  expect(results.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  for (const result of results)
    if (result.status === "rejected") expect(result.reason).toMatchObject({ type: "RELIABLE_DUPLICATE_ID" });
  expect((await broker.call<Listed, object>("reliable.list", {})).total).toBe(1);
});

it("1000 emits at once are all stored and all consumed, each once", async () => {
  const made = cluster();
  const seen: number[] = [];
  const { broker, emit } = await oneNode(made, [
    consumer(made.mixin(), "stock", "order.created", ctx => void seen.push((ctx.params as { n: number }).n))
  ]);
  await subscribed(broker, 1);
  const emitted = await Promise.all(Array.from({ length: 1000 }, (_, n) => emit("order.created", { n })));
  expect(new Set(emitted.map(({ id }) => id)).size).toBe(1000);
  await until(
    () => broker.call<{ consumed: number }, object>("reliable.stats", {}),
    ({ consumed }) => consumed === 1000
  );
  expect(seen.sort((a, b) => a - b)).toEqual(Array.from({ length: 1000 }, (_, n) => n));
});

const circular: { self?: object } = {};
circular.self = circular;

it("payloads that JSON cannot carry are refused, and nothing is stored", () => {
  const rows: [unknown, string][] = [
    [undefined, "undefined"],
    [circular, "circular"],
    [{ price: { cents: 10n } }, "payload.price.cents is a bigint"],
    [10n, "bigint"],
    [{ items: [{ toString: () => "" }] }, "payload.items[0].toString is a function"],
    [() => undefined, "function"],
    [Symbol("s"), "symbol"],
    [Promise.resolve({}), "payload is a Promise: was an await forgotten?"],
    [{ order: { total: Promise.resolve(5) } }, "payload.order.total is a Promise: was an await forgotten?"],
    [
      {
        get bad() {
          throw new Error("of the getter");
        }
      },
      "of the getter"
    ]
  ];
  return allRefused(rows.map(([payload, says]) => ({ type: "RELIABLE_BAD_PAYLOAD", payload, says })));
});

it("a payload over the cap is refused, one at the cap is taken", async () => {
  const made = cluster();
  const broker = await made.node("node-1", [emitter(made.mixin({ maxPayloadBytes: 1000 }))]);
  const emit = emitterOf(broker);
  expect((await emit("order.created", "x".repeat(998))).status).toBe("pending");
  expect(await errorOf(emit("order.created", "ä".repeat(500)))).toMatchObject({
    type: "RELIABLE_PAYLOAD_TOO_LARGE",
    data: { bytes: 1002, maxPayloadBytes: 1000 }
  });
  await allRefused([
    {
      type: "RELIABLE_PAYLOAD_TOO_LARGE",
      payload: "x".repeat(256 * 1024 - 1),
      says: "262145 bytes, maxPayloadBytes is 262144"
    }
  ]);
});

it("bad event names are refused, and nothing is stored", () => {
  const rows: [unknown, string][] = [
    ["", "empty"],
    ["   ", "empty"],
    ["$node.started", "starts with '$'"],
    ["order.*", "wildcard"],
    ["order.#", "wildcard"],
    ["order.?", "wildcard"],
    ["order\n", "control character"],
    ["order\u009b31m", "control character"],
    ["order\u2028", "control character"],
    ["ä".repeat(128), "255 bytes"],
    [5, "string"],
    [undefined, "string"]
  ];
  return allRefused(rows.map(([event, says]) => ({ type: "RELIABLE_BAD_EVENT", event, says })));
});

it("event names of 255 bytes, payloads of every JSON kind and ids of 200 bytes travel", async () => {
  const made = cluster();
  const seen: unknown[] = [];
  const { broker, emit } = await oneNode(made, [
    consumer(made.mixin(), "stock", "**", ctx => void ("reliable" in ctx.locals && seen.push(ctx.params)))
  ]);
  await subscribed(broker, 1);
  const payloads = [null, 0, false, "", [], {}, "ünïcödé \u2028", { $where: 1, "a.b": { __proto__x: 1 } }, [[1.5e300]]];
  for (const payload of payloads)
    await emit("e".repeat(255), payload, { waitFor: "consumed", id: `${"i".repeat(195)}-${seen.length}` });
  expect(seen).toEqual(payloads);
});

it("bad emit options are refused with a suggestion, and nothing is stored", () => {
  const rows: [object, string][] = [
    [{ waitfor: "consumed" }, "Did you mean 'waitFor'?"],
    [{ timeout: 5 }, "Did you mean 'timeoutMs'?"],
    [{ group: "mail" }, "Did you mean 'groups'?"],
    [{ colour: 1 }, "Unknown option 'colour'"],
    [{ waitFor: "handled" }, "'waitFor'"],
    [{ timeoutMs: 0 }, "'timeoutMs'"],
    [{ timeoutMs: "5" }, "'timeoutMs'"],
    [{ maxAttempts: 0 }, "'maxAttempts'"],
    [{ groups: [] }, "'groups'"],
    [{ groups: [5] }, "'groups"],
    [{ groups: "" }, "'groups'"],
    [{ backoff: { initial: 5 } }, "backoff"],
    [{ backoff: 5 }, "'backoff'"],
    [{ strategy: "inbox" }, "'strategy'"],
    [{ meta: "x" }, "'meta'"],
    [{ meta: { f: () => 1 } }, "meta.f is a function"],
    [{ meta: { user: Promise.resolve() } }, "meta.user is a Promise"],
    [{ headers: { a: [/x/] } }, "headers.a[0] is a RegExp"],
    [{ headers: [1] }, "'headers'"],
    [{ groups: "stock,mail" }, "'groups'"],
    [{ groups: ["stock", "constructor"] }, "'groups'"],
    [{ groups: ["stock", "a\ud800"] }, "'groups'"],
    [{ id: "a\ud800" }, "'id'"],
    [{ backoff: { maxMs: 1e17 } }, "backoff.maxMs"],
    [{ headers: 5 }, "'headers'"],
    [{ ctx: "x" }, "'ctx'"],
    [{ id: "" }, "'id'"],
    [{ id: " " }, "not blank"],
    [{ id: 5 }, "'id'"],
    [{ id: "x".repeat(201) }, "'id'"],
    [[] as object, "must be an object"],
    [null as unknown as object, "must be an object"]
  ];
  return allRefused(rows.map(([options, says]) => ({ type: "RELIABLE_BAD_OPTION", options, says })));
});

it("what goes beyond AMQP's 64 KiB of headers is refused, and nothing is stored", () => {
  const rows: EmitOptions[] = [
    { meta: { big: "x".repeat(61 * 1024) } },
    { headers: { big: "x".repeat(61 * 1024) } },
    { meta: { big: "x".repeat(31 * 1024) }, headers: { big: "x".repeat(31 * 1024) } },
    { ctx: { requestID: "x".repeat(61 * 1024), meta: {} } },
    { groups: Array.from({ length: 1000 }, (_, n) => `group-${n}-${"x".repeat(60)}`) }
  ];
  return allRefused(rows.map(options => ({ type: "RELIABLE_HEADERS_TOO_LARGE", options, says: "AMQP carries 61440" })));
});

it("just below the limit of meta it still travels", async () => {
  const made = cluster();
  const seen: number[] = [];
  const { emit } = await oneNode(made, [
    consumer(made.mixin(), "stock", "order.created", ctx => void seen.push((ctx.meta as { big: string }).big.length))
  ]);
  const big = "x".repeat(59 * 1024);
  await emit("order.created", {}, { meta: { big }, waitFor: "consumed" });
  expect(seen).toEqual([big.length]);
});

it("before the start and after the stop an emit is refused: nothing was stored", async () => {
  const made = cluster();
  const broker = made.broker("node-1");
  broker.createService(emitter(made.mixin()));
  const service = serviceOf(broker, "emitter");
  expect(await errorOf(service.reliableEmit("order.created", {}))).toMatchObject({
    type: "RELIABLE_NOT_STARTED",
    message: expect.stringContaining("Nothing was stored")
  });
  await broker.start();
  await service.reliableEmit("order.created", {});
  const stopping = broker.stop();
  await stopping;
  expect(await errorOf(service.reliableEmit("order.created", {}))).toMatchObject({
    type: "RELIABLE_STOPPED",
    message: expect.stringContaining("Nothing was stored")
  });
});
