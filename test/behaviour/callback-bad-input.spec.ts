import type { ServiceBroker } from "moleculer";
import { describe, expect, it } from "vitest";
import { ReliableEmit } from "../../src";
import type { Delivery } from "../../src/couriers/courier";
import { systemQueues } from "../../src/wire/names";
import { until } from "../support/brokers";
import { courierOf, foreignGroup, sendReceipt } from "../support/runtime";
import { errorOf, reaches, story } from "../support/services";
import { asked, echoOf, world } from "../support/strategies";

const plan = (more: object = {}) =>
  JSON.stringify({
    v: 1,
    at: Date.now(),
    delays: [300],
    max: 2,
    backoff: { initialMs: 10, maxMs: 10, jitter: "none" },
    ...more
  });
const HOUR = 3_600_000;

/** A check as the wire carries it, with what the test puts wrong. */
async function sendCheck(
  broker: ServiceBroker,
  {
    id = "x" as string,
    type = "order.created",
    body = '{"n":1}',
    headers = {} as Record<string, unknown>,
    echo = plan()
  }
): Promise<void> {
  const own = {
    "x-reliable-version": 1,
    "x-reliable-attempt": 1,
    "x-reliable-receipt": "r",
    "x-reliable-producer": "shop",
    "x-reliable-round": 1,
    "x-reliable-echo": echo,
    ...headers
  };
  const given = Object.fromEntries(Object.entries(own).filter(([, value]) => value !== undefined));
  const { outcome } = await courierOf(broker).publish({
    to: { queue: systemQueues(broker.namespace).checks },
    messageId: id,
    type,
    headers: given,
    body: Buffer.from(body)
  });
  expect(outcome).toBe("confirmed");
}

const parked = (broker: ServiceBroker) =>
  broker
    .call<{ rows: { reason: string; queue: string; body: string }[] }, object>("reliable.parked", { pageSize: 100 })
    .then(({ rows }) => rows);

const bad: [what: string, check: Parameters<typeof sendCheck>[1], reason: RegExp][] = [
  ["without payload and without source", { body: "" }, /check without payload and without source/],
  ["whose payload is no JSON", { body: "{" }, /not JSON/],
  ["of another version", { headers: { "x-reliable-version": 9 } }, /unknown x-reliable-version 9/],
  ["of a stranger", { headers: { "x-reliable-version": undefined } }, /foreign message/],
  ["without round", { headers: { "x-reliable-round": undefined } }, /without x-reliable-round/],
  ["with a round of nonsense", { headers: { "x-reliable-round": -1 } }, /x-reliable-round/],
  ["without plan", { headers: { "x-reliable-echo": undefined } }, /no x-reliable-echo/],
  ["whose plan is no JSON", { echo: "{" }, /x-reliable-echo is not JSON/],
  ["whose plan is null", { echo: "null" }, /unknown version/],
  ["whose plan is of another version", { echo: plan({ v: 2 }) }, /unknown version 2 of x-reliable-echo/],
  ["with an empty ladder", { echo: plan({ delays: [] }) }, /lacks at, max or delays/],
  ["with a ladder that does not increase", { echo: plan({ delays: [300, 300] }) }, /delays that do not increase/],
  ["with a negative ladder", { echo: plan({ delays: [-5] }) }, /lacks at, max or delays/],
  ["with a backoff of nonsense", { echo: plan({ backoff: { initialMs: "soon" } }) }, /lacks backoff/],
  ["with groups of nonsense", { echo: plan({ only: "stock" }) }, /bad groups/],
  ["with a time of nonsense for unroutable ones", { echo: plan({ unroutableMs: -1 }) }, /bad unroutableMs/],
  ["with a way to ask of nonsense", { echo: plan({ intent: "guess" }) }, /bad intent/],
  ["with a time of nonsense", { echo: plan({ at: 1e300 }) }, /lacks at, max or delays/],
  ["with a source of nonsense", { echo: plan({ source: { action: 1 } }) }, /bad source/],
  [
    "with an action of the Moleculer node as its source",
    { echo: plan({ source: { action: "$node.list" } }) },
    /bad source/
  ],
  ["that is older than what is kept", { echo: plan({ at: Date.now() - 8 * 24 * HOUR }) }, /older than retainMs/]
];

it("checks that cannot be taken for checks are parked with their bytes, and harm nothing else", async () => {
  const { broker, emit } = await world("callback", { stock: () => undefined });
  for (const [i, [, check]] of bad.entries()) await sendCheck(broker, { id: `x${i}`, ...check });
  await emit("order.created", { n: 2 }, { id: "good", waitFor: "consumed" });
  const rows = await until(
    () => parked(broker),
    rows => rows.length === bad.length
  );
  for (const [what, { body = '{"n":1}' }, reason] of bad) {
    expect
      .soft(
        rows.filter(row => reason.test(row.reason)),
        what
      )
      .not.toHaveLength(0);
    expect
      .soft(
        rows.map(row => row.body),
        what
      )
      .toContain(body);
  }
  expect(await broker.call("reliable.list")).toMatchObject({ total: 1 });
  await until(
    () => story(broker, "good"),
    ({ payload }) => (payload as { n?: number } | null)?.n === 2
  );
});

it("receipts with a bad echo, and those older than what is kept, are parked", async () => {
  const { broker, emit } = await world("callback", { stock: () => undefined });
  const receipt = (id: string, echo: unknown) =>
    courierOf(broker).publish({
      ...{
        to: { queue: systemQueues(broker.namespace).callbackReceipts },
        messageId: `of ${id}`,
        type: "reliable.receipt",
        headers: {}
      },
      body: Buffer.from(
        JSON.stringify({
          v: 1,
          group: "stock",
          nodeID: "far",
          items: [{ id, outcome: "handled", attempt: 1, durationMs: 1, echo }]
        })
      )
    });
  await receipt("a", { event: "order.created" });
  await receipt("b", { event: "order.created", producer: "shop", plan: "{" });
  await receipt("c", { event: "order.created", producer: "shop", plan: plan({ at: Date.now() - 8 * 24 * HOUR }) });
  await receipt("d", "nonsense");
  await receipt("e", { event: "order.created", producer: "shop", plan: plan(), headers: {}, body: 5 });
  await receipt("f", { event: "order.created", producer: "shop", plan: plan(), headers: {}, body: "e30=" });
  await until(
    () => parked(broker),
    rows => rows.length === 6
  );
  await emit("order.created", {}, { waitFor: "consumed" });
  expect(await broker.call("reliable.stats")).toMatchObject({ consumed: 1, published: 0, pending: 0 });
});

it("a bad echo does not cost the other items of its receipt their answer", async () => {
  const { broker, emit } = await world("callback", { stock: () => undefined });
  const { id } = await emit("order.created", { n: 1 }, { groups: "far" });
  const echo = { event: "order.created", producer: "shop", plan: plan({ only: ["far"] }) };
  const items = [
    { id: "a", echo: { ...echo, plan: "{" } },
    { id, echo },
    { id: "b", echo: { ...echo, headers: {}, body: "e30=" } }
  ].map(item => ({ outcome: "handled", attempt: 1, durationMs: 1, ...item }));
  await courierOf(broker).publish({
    to: { queue: systemQueues(broker.namespace).callbackReceipts },
    messageId: "three",
    type: "reliable.receipt",
    headers: {},
    body: Buffer.from(JSON.stringify({ v: 1, group: "far", nodeID: "far", items }))
  });
  expect(await reaches(broker, id, "consumed")).toMatchObject({ handled: "far" });
  const [row] = await until(
    () => parked(broker),
    rows => rows.length === 1
  );
  expect(row?.reason).toBe(
    "receipt for a: x-reliable-echo is not JSON; receipt for b: foreign message: no x-reliable-version header"
  );
});

describe("a group in another language that fails", () => {
  const failing = async () => {
    const made = await world("callback", {});
    const far = await foreignGroup(made.broker, "far", "order.created");
    const { id } = await made.emit(
      "order.created",
      { n: 1 },
      { maxAttempts: 2, backoff: { initialMs: 10, maxMs: 10, jitter: "none" } }
    );
    await until(() => far.deliveries.length === 1);
    const [first] = far.deliveries as [Delivery];
    return { ...made, far, id, first };
  };
  const failed = (id: string, more: object) => ({
    id,
    outcome: "failed" as const,
    attempt: 1,
    retryable: true,
    error: { name: "Error", message: "not yet" },
    ...more
  });

  it("and brings nothing back of the message: parked, and its check sends it again", async () => {
    const { broker, far, id, first } = await failing();
    await sendReceipt(broker, "far", failed(id, { echo: echoOf(first) }));
    const [row] = await until(
      () => parked(broker),
      rows => rows.length === 1
    );
    expect(row?.reason).toMatch(/bad echo: with outcome 'failed' it must bring back headers and body/);
    const [, again] = await until(
      () => far.deliveries,
      deliveries => deliveries.length === 2
    );
    await sendReceipt(broker, "far", { id, attempt: 2, echo: echoOf(again as Delivery) });
    expect(await reaches(broker, id, "consumed")).toMatchObject({ handled: "far", attempts: 2 });
  });

  it("at an attempt that was never made: parked, and no attempt is lost by it", async () => {
    const { broker, far, id, first } = await failing();
    const echo = { ...echoOf(first), headers: first.headers, body: first.body.toString("base64") };
    await sendReceipt(broker, "far", failed(id, { attempt: 999, echo }));
    const [row] = await until(
      () => parked(broker),
      rows => rows.length === 1
    );
    expect(row?.reason).toBe(
      `failed receipt of group far for attempt 999 of message ${id}, of which at most 2 can have been sent`
    );
    const [, again] = await until(
      () => far.deliveries,
      deliveries => deliveries.length === 2
    );
    expect(again?.headers).toMatchObject({ "x-reliable-attempt": 2 });
    await sendReceipt(broker, "far", { id, attempt: 2, echo: echoOf(again as Delivery) });
    await reaches(broker, id, "consumed");
  });
});

it("a check with the id of another message is parked, and that message stays as it is", async () => {
  const { broker, emit } = await world("callback", { stock: () => undefined });
  await emit("order.created", { n: 1 }, { id: "order 1", waitFor: "consumed" });
  await until(
    () => story(broker, "order 1"),
    ({ payload }) => (payload as { n?: number } | null)?.n === 1
  );
  // Together: they may come in one batch, and each is looked at.
  await Promise.all([
    sendCheck(broker, { id: "order 1", type: "order.paid" }),
    ...[2, 3, 4, 5, 6].map(n => sendCheck(broker, { id: "order 1", body: `{"n":${n}}` }))
  ]);
  const rows = await until(
    () => parked(broker),
    rows => rows.length === 6
  );
  for (const { reason } of rows)
    expect(reason).toMatch(/id 'order 1' was emitted before with another event or payload/);
  expect(await story(broker, "order 1")).toMatchObject({ status: "consumed", payload: { n: 1 } });
});

describe("a payload that is too large to travel in a check", () => {
  const large = { text: "x".repeat(1_100_000) };
  const options = { maxPayloadBytes: 4_000_000, checkDelaysMs: [100, 20_000] };

  it("is refused before anything is sent", async () => {
    const seen: unknown[] = [];
    const { broker, emit } = await world("callback", { stock: ctx => void seen.push(ctx.params) }, { options });
    expect(await errorOf(emit("order.created", large))).toMatchObject({
      type: "RELIABLE_PAYLOAD_TOO_LARGE",
      message: expect.stringMatching(/too large to travel in a check.*'source'.*'outbox'/)
    });
    await emit("order.created", {}, { waitFor: "consumed" });
    expect(seen).toEqual([{}]);
    expect(await broker.call("reliable.stats")).toMatchObject({ consumed: 1 });
  });

  it("travels with a source, and is sent again from it", async () => {
    let fail = 1;
    const { broker, emit } = await world(
      "callback",
      { stock: () => (fail-- > 0 ? Promise.reject(new Error("not yet")) : undefined) },
      { options, more: [asked(() => large)] }
    );
    await emit("order.created", large, {
      id: "large",
      source: { action: "asked.happened" },
      waitFor: "consumed",
      timeoutMs: 15_000
    });
    expect(await reaches(broker, "large", "consumed")).toMatchObject({ attempts: 2 });
  });
});

it("an action that the producer has not listed as a source is not called, whatever a message or a call names", async () => {
  const called: unknown[] = [];
  const { broker } = await world(
    "callback",
    { stock: () => undefined },
    { more: [{ name: "vault", actions: { open: (ctx: { params: unknown }) => void called.push(ctx.params) } }] }
  );
  const source = { action: "vault.open", params: {} };
  await sendCheck(broker, { id: "message", body: "", echo: plan({ source }) });
  const intent = { "x-reliable-intent": "source" };
  await sendCheck(broker, { id: "intent", body: "", headers: intent, echo: plan({ source, intent: "source" }) });
  expect((await reaches(broker, "message", "dead")).reason).toMatch(/'vault\.open' is not in the option 'sources'/);
  expect((await reaches(broker, "intent", "dead")).reason).toMatch(/'vault\.open' is not in the option 'sources'/);
  const request = { id: "call", event: "order.created", headers: {}, body: "", question: "source", source, steps: [] };
  expect(await broker.call("shop.reliableResend", request)).toMatchObject({
    answer: "error",
    error: { code: "SOURCE_REFUSED" }
  });
  expect(called).toEqual([]);
});

it("a source that has nothing (any more) for a message that was sent makes it dead, not withdrawn", async () => {
  const { broker, emit } = await world(
    "callback",
    { stock: () => Promise.reject(new Error("no")) },
    { more: [asked(() => null)] }
  );
  await emit("order.created", { n: 1 }, { id: "order 1", source: { action: "asked.happened" } });
  expect((await reaches(broker, "order 1", "dead")).reason).toMatch(
    /^source in group stock at attempt 2: the source returns nothing/
  );
});

it.each([
  ["empty", []],
  ["negative", [-1000]],
  ["zero", [0]],
  ["not increasing", [30_000, 60_000, 60_000]],
  ["fractions", [100.5]],
  ["no list", 30_000],
  ["longer than a year", [400 * 24 * HOUR]]
])("a ladder that is %s is refused where it is written", (_, checkDelaysMs) => {
  expect(() => ReliableEmit({ checkDelaysMs: checkDelaysMs as number[] })).toThrow(
    expect.objectContaining({ type: "RELIABLE_BAD_OPTION", message: expect.stringContaining("checkDelaysMs") })
  );
});
