import type { ServiceBroker } from "moleculer";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { ReliableOptions } from "../../src";
import type { Publication } from "../../src/couriers/courier";
import { cluster, until } from "../support/brokers";
import { courierOf, foreignGroup, rowOf, sendReceipt, storeOf } from "../support/runtime";
import { consumer, emitter, emitterOf, reaches, story, subscribed } from "../support/services";
import { AMQP_ONLY, countingResends, echoOf, type Handler, LADDER, localsOf, tap } from "../support/strategies";

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);
const delayOf = ({ to }: Publication) => ("delayMs" in to ? to.delayMs : undefined);
const headerOf = ({ headers }: Publication, name: string) => headers[`x-reliable-${name}`];

/** A producer and a consumer with RabbitMQ alone, and nodes with a store that run the callback service. */
async function parts(
  handler: Handler | undefined,
  { ladder = LADDER, home = {} as ReliableOptions, homes = ["home"] } = {}
) {
  const made = cluster();
  const brokers: ServiceBroker[] = [];
  for (const nodeID of homes) brokers.push(await made.node(nodeID, [emitter(made.mixin(home), `of-${nodeID}`)]));
  const consume = (nodeID: string) =>
    made.node(nodeID, handler ? [consumer(made.mixin(AMQP_ONLY), "stock", "order.created", handler)] : []);
  const stock = await consume("stock");
  const counting = countingResends();
  const produce = (nodeID: string) =>
    made.node(nodeID, [emitter(made.mixin({ ...AMQP_ONLY, strategy: "callback", checkDelaysMs: ladder }), "shop")], {
      middlewares: [counting.middleware]
    });
  const shop = await produce("shop");
  const [first] = brokers as [ServiceBroker];
  await Promise.all(brokers.map(broker => broker.waitForServices(["shop"])));
  if (handler) for (const broker of brokers) await subscribed(broker, 1);
  return {
    made,
    home: first,
    homes: brokers,
    shop,
    stock,
    consume,
    produce,
    emit: emitterOf(shop, "shop"),
    asked: counting.asked,
    sent: tap(shop),
    answers: handler ? tap(stock) : []
  };
}

describe("the six steps", () => {
  it("a message that is handled: sent with its check, receipt, persisted, found finished by the check", async () => {
    let open: () => void = () => undefined;
    const gate = new Promise<void>(resolve => (open = resolve));
    const seen: unknown[] = [];
    const { home, emit, sent, answers, asked, made } = await parts(ctx => {
      seen.push(ctx.params);
      return gate;
    });
    const looks = vi.spyOn(storeOf(home).messages, "statuses");
    // 1 and 2: the message and its delayed check, both confirmed; nothing is stored anywhere.
    const { id, status } = await emit("order.created", { n: 1 });
    expect(status).toBe("published");
    expect(sent.map(publication => [publication.messageId, publication.to, headerOf(publication, "round")])).toEqual([
      [id, { event: "order.created" }, undefined],
      [id, { queue: `${made.namespace}.reliable.checks`, delayMs: LADDER[0] }, 1]
    ]);
    // 3: the consumer handles it.
    await until(() => seen.length);
    expect(await storeOf(home).messages.find([id])).toEqual([]);
    open();
    // 4: it answers with a receipt message; 5: that is persisted.
    const row = await until(
      async () => (await storeOf(home).messages.find([id]))[0],
      row => row?.status === "consumed"
    );
    expect(answers.map(({ to }) => to)).toEqual([{ queue: `${made.namespace}.reliable.receipts.callback` }]);
    expect(row).toMatchObject({ partial: true, receipts: { stock: { attempt: 1, nodeID: "stock" } } });
    // 6: the check comes, finds the receipt, and nothing is asked of the producer, nor kept.
    await until(() => looks.mock.calls.flat(2).includes(id));
    expect(await story(home, id)).toMatchObject({ status: "consumed", attempts: 1, partial: true, payload: null });
    expect(asked).toEqual([]);
    expect(sent).toHaveLength(2);
    expect(seen).toEqual([{ n: 1 }]);
  });

  it("a message that is not: the check asks the producer, which sends both again, to whoever owes a receipt", async () => {
    const { home, emit, sent, asked, made } = await parts(() => undefined);
    const far = await foreignGroup(home, "far", "order.created");
    const { id } = await emit("order.created", { n: 1 });
    const [, again] = await until(
      () => far.deliveries,
      deliveries => deliveries.length === 2
    );
    expect(asked).toEqual([id]);
    expect(again).toMatchObject({
      messageId: id,
      type: "order.created",
      headers: { "x-reliable-attempt": 2, "x-reliable-groups": "far" }
    });
    expect(JSON.parse(String(again?.body))).toEqual({ n: 1 });
    expect(
      sent.slice(2).map(publication => [publication.messageId, publication.to, headerOf(publication, "round")])
    ).toEqual([
      [id, { queue: `${made.namespace}.reliable.checks`, delayMs: LADDER[1] }, 2],
      [id, { queue: far.queue }, undefined]
    ]);
    await sendReceipt(home, "far", { id, attempt: 2, echo: echoOf(far.deliveries[1] as never) });
    expect(await reaches(home, id, "consumed")).toMatchObject({ waiting: "" });
    expect((await rowOf(home, id)).receipts).toMatchObject({ stock: { attempt: 1 }, far: { attempt: 2 } });
  });
});

it("a node with RabbitMQ alone can wait until what it emits is consumed", async () => {
  const { emit, shop } = await parts(() => undefined);
  expect(await emit("order.created", {}, { waitFor: "consumed" })).toMatchObject({ status: "consumed" });
  expect((await shop.call<{ store: unknown }, object>("reliable.health", {}, { nodeID: "home" })).store).toBeDefined();
  expect(shop.getLocalService("reliable")).toBeFalsy();
});

it("rounds follow the ladder, and a group that stays silent ends as dead", async () => {
  const { home, emit, sent, asked } = await parts(undefined, { ladder: [200, 400, 600] });
  const far = await foreignGroup(home, "far", "order.created");
  const { id } = await emit("order.created", {});
  const { reason } = await reaches(home, id, "dead");
  expect(reason).toMatch(/^silence in group far at attempt 3: no receipt/);
  // A round whose answer is late on a busy machine is asked for, and sent, once more.
  const unique = (values: unknown[]) => [...new Set(values)];
  expect(unique(sent.filter(publication => headerOf(publication, "round")).map(delayOf))).toEqual([200, 400, 600]);
  expect(unique(asked)).toEqual([id]);
  expect(unique(far.deliveries.map(({ headers }) => headers["x-reliable-attempt"]))).toEqual([1, 2, 3]);
  expect((await rowOf(home, id)).failures.map(({ cause, attempt }) => [cause, attempt])).toEqual(
    [1, 2, 3].map(n => ["silence", n])
  );
});

it("a failed receipt brings the next round forward", async () => {
  let fail = 1;
  const attempts: number[] = [];
  const { home, emit, asked, sent } = await parts(
    ctx => {
      attempts.push(localsOf(ctx).attempt);
      if (fail-- > 0) throw new Error("not yet");
    },
    { ladder: [20_000, 30_000] }
  );
  const { id } = await emit("order.created", { n: 1 }, { waitFor: "consumed" });
  expect(attempts).toEqual([1, 2]);
  expect(asked).toEqual([id]);
  // The receipt brought the message back, so no check was needed to send it again.
  expect(sent.filter(publication => headerOf(publication, "round")).map(delayOf)).toEqual([20_000, 30_000]);
  expect((await story(home, id)).payload).toEqual({ n: 1 });
});

it("a handler that is down for a round finds its message in its queue: nothing burns, nothing is sent again", async () => {
  const seen: number[] = [];
  const { home, stock, consume, emit, asked } = await parts(ctx => void seen.push(localsOf(ctx).attempt));
  await stock.stop();
  const { id } = await emit("order.created", {});
  // Its check has come, and its group's queue was looked at.
  const looked = await until(
    async () => (await storeOf(home).messages.find([id]))[0],
    row => row?.next["stock"] !== undefined && row.claim === undefined
  );
  expect(looked).toMatchObject({ status: "published", failures: [], waiting: ["stock"] });
  // Looked at again and again while nobody is there: it lies where it lay.
  await until(
    () => rowOf(home, id),
    row => Number(row.next["stock"]) > Number(looked?.next["stock"]) && row.claim === undefined
  );
  expect(await rowOf(home, id)).toMatchObject({ failures: [], waiting: ["stock"] });
  expect(asked).toEqual([]);
  await consume("stock-2");
  await reaches(home, id, "consumed");
  expect(seen[0]).toBe(1);
});

it("callback services compete: every round is done once", async () => {
  const { home, homes, emit, asked } = await parts(undefined, {
    homes: ["home", "home-2", "home-3"],
    ladder: [300, 5000]
  });
  const far = await foreignGroup(home, "far", "order.created");
  for (const broker of homes) await subscribed(broker, 1);
  const ids = (await Promise.all(numbers(60).map(n => emit("order.created", { n })))).map(({ id }) => id);
  await until(
    () => far.deliveries.length,
    count => count >= 120
  );
  expect(
    far.deliveries
      .slice(60)
      .map(({ messageId }) => messageId)
      .sort()
  ).toEqual([...ids].sort());
  for (const { messageId, headers } of far.deliveries.slice(60)) {
    expect(headers["x-reliable-attempt"]).toBe(2);
    await sendReceipt(home, "far", { id: messageId as string, attempt: 2 });
  }
  for (const id of ids) await reaches(home, id, "consumed");
  expect([...asked].sort()).toEqual([...ids].sort());
  expect(far.deliveries).toHaveLength(120);
});

it("a callback service that dies between its write and its RPC: another finishes the round", async () => {
  const { home, emit, asked, made } = await parts(undefined, {
    home: { claimMs: 1000, sweeper: false },
    ladder: [300, 8000]
  });
  const far = await foreignGroup(home, "far", "order.created");
  // It never comes to the RPC, and never says so: what a killed process looks like from outside.
  let bury: (_error: Error) => void = () => undefined;
  const grave = new Promise<never>((_, reject) => (bury = reject));
  onTestFinished(() => bury(Object.assign(new Error("gone"), { type: "SERVICE_NOT_AVAILABLE" })));
  let calls = 0;
  const call = home.call.bind(home) as (...args: unknown[]) => Promise<unknown>;
  home.call = ((action: string, ...rest: unknown[]) => {
    if (action !== "shop.reliableResend") return call(action, ...rest);
    calls++;
    return grave;
  }) as never;
  const { id } = await emit("order.created", { n: 1 });
  await until(() => calls);
  expect((await rowOf(home, id)).claim).toMatch(/^home#check#/);
  const other = await made.node("home-2", [emitter(made.mixin({ claimMs: 1000 }), "of-home-2")]);
  await other.waitForServices(["shop"]);
  await until(
    () => far.deliveries.length,
    count => count === 2
  );
  expect(asked).toEqual([id]);
  await sendReceipt(other, "far", { id, attempt: 2 });
  await reaches(other, id, "consumed");
  bury(Object.assign(new Error("gone"), { type: "SERVICE_NOT_AVAILABLE" }));
  expect(far.deliveries).toHaveLength(2);
  expect(calls).toBe(1);
});

describe("a producer that is away", () => {
  it("burns no budget, and goes on when it is back", async () => {
    const { home, shop, produce, emit, asked } = await parts(undefined, { ladder: [200, 400] });
    const far = await foreignGroup(home, "far", "order.created");
    const { id } = await emit("order.created", { n: 1 }, { maxAttempts: 2 });
    await shop.stop();
    // Asked more often than its budget has attempts.
    const row = await until(
      async () => (await storeOf(home).messages.find([id]))[0],
      row => row?.unreachableSince !== undefined
    );
    const since = row?.unreachableSince;
    await until(
      () => rowOf(home, id),
      ({ dueAt }) => Number(dueAt) - Number(since) > 300
    );
    expect(await rowOf(home, id)).toMatchObject({
      failures: [{ cause: "silence", attempt: 1 }],
      unreachableSince: since,
      waiting: ["far"]
    });
    await produce("shop-2");
    await until(
      () => far.deliveries.length,
      count => count === 2
    );
    expect(far.deliveries[1]?.headers["x-reliable-attempt"]).toBe(2);
    await sendReceipt(home, "far", { id, attempt: 2 });
    await reaches(home, id, "consumed");
    expect(asked).toEqual([id]);
    expect((await rowOf(home, id)).unreachableSince).toBeUndefined();
  });

  it("for good ends as dead with that reason, and a human's retry finds it when it is back", async () => {
    const { home, shop, produce, emit } = await parts(undefined, {
      ladder: [200, 400, 600],
      home: { producerGoneMs: 1000 }
    });
    const far = await foreignGroup(home, "far", "order.created");
    const { id } = await emit("order.created", { n: 1 });
    await shop.stop();
    const { reason } = await reaches(home, id, "dead");
    expect(reason).toMatch(/^source in group far at attempt 2: the producer 'shop' has not answered since /);
    // The time it was away before does not count for what a human has asked for: it does not die at once.
    const { unreachableSince } = await rowOf(home, id);
    await home.call("reliable.retry", { id });
    await until(
      () => rowOf(home, id),
      row => Number(row.unreachableSince) > Number(unreachableSince) + 500
    );
    await reaches(home, id, "dead");
    await produce("shop-2");
    await home.waitForServices(["shop"]);
    await home.call("reliable.retry", { id });
    await until(
      () => far.deliveries.length,
      count => count === 2
    );
    await sendReceipt(home, "far", { id, attempt: far.deliveries[1]?.headers["x-reliable-attempt"] as number });
    await reaches(home, id, "consumed");
  });
});

it("an answer that names a queue of somebody else's is refused: the request comes over the transporter", async () => {
  const { home, shop } = await parts(() => undefined);
  const headers = {
    "x-reliable-version": 1,
    "x-reliable-attempt": 1,
    "x-reliable-receipt": "r",
    "x-reliable-producer": "shop",
    "x-reliable-echo": JSON.stringify({
      v: 1,
      at: Date.now(),
      delays: [100],
      max: 1,
      backoff: { initialMs: 1, maxMs: 1, jitter: "none" }
    })
  };
  await courierOf(home).declare({ name: `${shop.namespace}.private` });
  const answer = await home.call("shop.reliableResend", {
    id: "x",
    event: "order.created",
    headers,
    body: Buffer.from("{}").toString("base64"),
    steps: [{ group: "stock", attempt: 1, queue: `${shop.namespace}.private` }]
  });
  expect(answer).toMatchObject({ answer: "sent", results: [{ outcome: "returned" }] });
  expect(await courierOf(home).depth(`${shop.namespace}.private`)).toMatchObject({ ready: 0 });
  await courierOf(home).remove(`${shop.namespace}.private`);
  await expect(home.call("shop.reliableResend", { id: "x" })).rejects.toMatchObject({ type: "VALIDATION_ERROR" });
});
