import { expect, it } from "vitest";
import { type EmitOptions, fastestValidatorSchema, ReliableAmqpQueue } from "../../src";
import { BEHIND_AT } from "../../src/message/order";
import { cluster, until } from "../support/brokers";
import { OrderJournal } from "../support/order-journal";
import { rowOf, storeOf } from "../support/runtime";
import {
  consumer,
  type Emit,
  emitter,
  emitterOf,
  errorOf,
  oneNode,
  reaches,
  serviceOf,
  story,
  subscribed
} from "../support/services";

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);
const fatal = () => Promise.reject(Object.assign(new Error("no stock"), { retryable: false }));

/** One after the other was called, none waited for. */
const emitAll = (emit: Emit, count: number, options: EmitOptions) =>
  Promise.all(numbers(count).map(n => emit("order.created", { n }, options)));

async function shop(work?: (n: number) => unknown, more: object[] = []) {
  const journal = new OrderJournal();
  const made = cluster();
  const stock = consumer(made.mixin(), "stock", "order.created", journal.handler(work), {
    reliable: { breaker: false }
  });
  const { broker, emit } = await oneNode(made, [stock, ...more]);
  await subscribed(broker, 1 + more.length);
  const handles = (key: string, count: number) =>
    until(
      () => journal.of(key),
      seen => seen.length >= count
    );
  return { made, broker, emit, journal, handles };
}

it("messages of one key reach a group in the order of their emits, one at a time, others not held up", async () => {
  const { broker, emit, journal, handles } = await shop();
  const emitted = await Promise.all(
    numbers(10).flatMap(n => ["a", "b", "c"].map(orderKey => emit("order.created", { n }, { orderKey })))
  );
  for (const key of ["a", "b", "c"]) {
    expect(await handles(key, 10)).toEqual(numbers(10));
    const turns = journal.turnsOf(key);
    expect(turns).toEqual([...new Set(turns)].sort((x, y) => x - y));
  }
  expect(journal.overlaps).toEqual([]);
  for (const { id } of emitted) {
    expect(await reaches(broker, id, "consumed")).toMatchObject({ attempts: 1 });
    expect((await rowOf(broker, id)).place).toBeUndefined();
  }
});

it("what fails is tried again before the next one of its key, and another key goes on meanwhile", async () => {
  const failed = new Set<number>();
  const { emit, journal, handles } = await shop(n => {
    if (n !== 1 || failed.size === 2) return;
    failed.add(failed.size);
    throw new Error("not yet");
  });
  const held = emitAll(emit, 4, { orderKey: "a", backoff: { initialMs: 400, jitter: "none" } });
  await until(() => failed.size === 1);
  await emitAll(emit, 1, { orderKey: "b" });
  await handles("b", 1);
  expect(journal.of("a")).toEqual([0]);
  expect(await handles("a", 4)).toEqual(numbers(4));
  await held;
  expect(journal.overlaps).toEqual([]);
});

it("what has failed for good holds its key, until a human retries it: then the key goes on after it", async () => {
  let broken = true;
  const { broker, emit, journal, handles } = await shop(n => (broken && n === 1 ? fatal() : undefined));
  const emitted = await emitAll(emit, 4, { orderKey: "a" });
  const [, dead, behind] = emitted as [object, { id: string }, { id: string }];
  await reaches(broker, dead.id, "dead");
  await emitAll(emit, 1, { orderKey: "b" });
  await handles("b", 1);
  expect(journal.of("a")).toEqual([0]);
  expect(await rowOf(broker, behind.id)).toMatchObject({ status: "pending", dueAt: BEHIND_AT });
  const { keys } = await storeOf(broker).lanes.held(10);
  expect(keys).toMatchObject([{ key: "a", group: "stock", id: dead.id, event: "order.created", behind: 2 }]);
  broken = false;
  await broker.call("reliable.retry", { id: dead.id });
  expect(await handles("a", 4)).toEqual(numbers(4));
  expect(await storeOf(broker).lanes.held(10)).toEqual({ keys: [], more: false });
});

it("with onDead skip the key goes on; retried, it comes when it has a turn", async () => {
  let broken = true;
  const { broker, emit, journal, handles } = await shop(n => (broken && n === 1 ? fatal() : undefined));
  const emitted = await emitAll(emit, 4, { orderKey: "a", onDead: "skip" });
  expect(await handles("a", 3)).toEqual([0, 2, 3]);
  expect((await storeOf(broker).lanes.held(10)).keys).toEqual([]);
  broken = false;
  await broker.call("reliable.retry", { id: emitted[1]?.id as string });
  expect(await handles("a", 4)).toEqual([0, 2, 3, 1]);
  expect(journal.overlaps).toEqual([]);
});

it("a group that is slow or has failed holds up none of the others; each has its own order", async () => {
  const mail = new OrderJournal();
  let open: () => void = () => undefined;
  const gate = new Promise<void>(resolve => (open = resolve));
  const made = cluster();
  const slow = consumer(
    made.mixin(),
    "mail",
    "order.created",
    mail.handler(n => (n === 0 ? gate : undefined))
  );
  const stock = new OrderJournal();
  const { broker, emit } = await oneNode(made, [
    slow,
    consumer(made.mixin(), "stock", "order.created", stock.handler())
  ]);
  await subscribed(broker, 2);
  const emitted = await emitAll(emit, 5, { orderKey: "a" });
  await until(() => stock.of("a").length === 5);
  expect(mail.of("a")).toEqual([]);
  open();
  await until(() => mail.of("a").length === 5);
  for (const seen of [stock, mail]) expect(seen.of("a")).toEqual(numbers(5));
  for (const { id } of emitted) await reaches(broker, id, "consumed");
});

it("with two groups, a failure in one of them is tried again after its backoff, whatever the other one does", async () => {
  const made = cluster();
  const journals = { stock: new OrderJournal(), mail: new OrderJournal() };
  const failed = new Set<number>();
  const { broker, emit } = await oneNode(made, [
    consumer(made.mixin(), "stock", "order.created", journals.stock.handler(), { reliable: { breaker: false } }),
    consumer(
      made.mixin(),
      "mail",
      "order.created",
      journals.mail.handler((n, ctx) => {
        const key = Number((ctx.locals as { reliable: { order: { key: string } } }).reliable.order.key) * 100 + n;
        if (n !== 1 || failed.has(key)) return;
        failed.add(key);
        throw new Error("not yet");
      }),
      { reliable: { breaker: false } }
    )
  ]);
  await subscribed(broker, 2);
  const backoff = { initialMs: 100, jitter: "none" as const };
  for (const n of numbers(3))
    await Promise.all(numbers(12).map(key => emit("order.created", { n }, { orderKey: String(key), backoff })));
  // What is lost between the two would come only when its claim has run out, or its lane is looked at.
  for (const journal of Object.values(journals))
    await until(
      () => journal.handled.length,
      count => count === 36,
      13_000
    );
  for (const key of numbers(12)) expect(journals.mail.of(String(key))).toEqual(numbers(3));
});

it("the order goes over events, which are in different queues", async () => {
  const journal = new OrderJournal();
  const made = cluster();
  const stock = {
    name: "stock",
    mixins: [made.mixin()],
    events: Object.fromEntries(
      ["order.created", "order.paid"].map(event => [event, { reliable: true, handler: journal.handler() }])
    )
  };
  const { broker, emit } = await oneNode(made, [stock]);
  await subscribed(broker, 2);
  await Promise.all(numbers(10).map(n => emit(n % 2 ? "order.paid" : "order.created", { n }, { orderKey: "order-7" })));
  await until(() => journal.of("order-7").length === 10);
  expect(journal.of("order-7")).toEqual(numbers(10));
  expect(journal.overlaps).toEqual([]);
});

it("of several producers: what was stored before another was emitted comes before it", async () => {
  const { made, emit, handles } = await shop();
  const other = await made.node("other", [emitter(made.mixin(), "till")]);
  await subscribed(other, 1);
  const emits = [emit, emitterOf(other, "till")];
  for (const n of numbers(12)) await emits[n % 2]?.("order.created", { n }, { orderKey: "a" });
  expect(await handles("a", 12)).toEqual(numbers(12));
});

it("many at once are in the order of the list", async () => {
  const { broker, handles } = await shop();
  const { reliableEmitMany } = serviceOf(broker, "emitter");
  const items = numbers(30).map(n => ({ event: "order.created", payload: { n }, orderKey: `k${n % 3}` }));
  await reliableEmitMany(items);
  for (const k of numbers(3)) expect(await handles(`k${k}`, 10)).toEqual(numbers(30).filter(n => n % 3 === k));
});

it("a scheduled one has its place when it is sent; an intent when its business write has happened", async () => {
  const { made, handles } = await shop();
  const till = await made.node("till", [emitter(made.mixin({ sources: ["till.of"] }), "till")]);
  await subscribed(till, 1);
  const emit = emitterOf(till, "till");
  await emit("order.created", { n: 2 }, { orderKey: "a", delayMs: 700 });
  let happen: () => void = () => undefined;
  const write = new Promise<void>(resolve => (happen = resolve));
  const intended = emit(
    "order.created",
    { n: 1 },
    { orderKey: "a", commit: () => write, source: { action: "till.of" } }
  );
  await emit("order.created", { n: 0 }, { orderKey: "a" });
  expect(await handles("a", 1)).toEqual([0]);
  happen();
  await intended;
  expect(await handles("a", 3)).toEqual([0, 1, 2]);
});

it("for a group that is not known yet the messages wait, and it gets them in their order", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, []);
  const emitted = await emitAll(emit, 6, { orderKey: "a" });
  await until(
    () => Promise.all(emitted.map(({ id }) => rowOf(broker, id))),
    rows => rows.every(({ unroutable }) => Object.keys(unroutable).length > 0)
  );
  const journal = new OrderJournal();
  await made.node("late", [consumer(made.mixin(), "stock", "order.created", journal.handler())]);
  await emit("order.created", { n: 6 }, { orderKey: "a" });
  await until(
    () => journal.of("a").length,
    count => count === 7,
    60_000
  );
  expect(journal.of("a")).toEqual(numbers(7));
});

it("the same id again is the same message: it has its place, and those behind it come after it", async () => {
  const { broker, emit, handles } = await shop();
  const options = { id: "first", orderKey: "a" };
  for (const _ of numbers(2)) await emit("order.created", { n: 0 }, options);
  await emit("order.created", { n: 1 }, { orderKey: "a" });
  expect(await handles("a", 2)).toEqual([0, 1]);
  await reaches(broker, "first", "consumed");
});

it("is said in what the handler sees and in the message's story; others see none of it", async () => {
  const seen: unknown[] = [];
  const made = cluster();
  const see = (ctx: unknown) => void seen.push((ctx as { locals: { reliable: object } }).locals.reliable);
  const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", see)]);
  const { id } = await emit("order.created", {}, { orderKey: "order-7" });
  await reaches(broker, id, "consumed");
  const plain = await emit("order.created", {});
  await reaches(broker, plain.id, "consumed");
  expect(seen[0]).toMatchObject({ id, order: { key: "order-7", turn: expect.any(Number) } });
  expect(seen[1]).not.toHaveProperty("order");
  expect((await story(broker, id)).status).toBe("consumed");
});

it("the order is that of the calls, however long one is encoded or checked before it is stored", async () => {
  const made = cluster();
  const journal = new OrderJournal();
  const finished: (() => void)[] = [];
  // The first one is encoded last.
  const encode = (payload: unknown) =>
    new Promise<unknown>(resolve => {
      finished.push(() => resolve(payload));
      if (finished.length === 6) for (const finish of finished.toReversed()) finish();
    });
  const decode = (payload: unknown) => payload;
  const schemas = { "order.checked": { n: "number" } };
  const broker = await made.node("node-1", [
    emitter(made.mixin({ encode, decode }), "encoding"),
    emitter(made.mixin({ schemas: { "order.checked": fastestValidatorSchema(schemas["order.checked"]) } }), "checking"),
    consumer(made.mixin({ encode, decode }), "stock", "order.*", journal.handler())
  ]);
  await subscribed(broker, 1);
  const encoding = emitterOf(broker, "encoding");
  const checking = emitterOf(broker, "checking");
  await Promise.all([
    ...numbers(6).map(n => encoding("order.created", { n }, { orderKey: "a" })),
    ...numbers(6).map(n => checking(n % 2 ? "order.plain" : "order.checked", { n }, { orderKey: "b" }))
  ]);
  for (const key of ["a", "b"]) {
    await until(() => journal.of(key).length === 6);
    expect(journal.of(key)).toEqual(numbers(6));
  }
});

it("a withdrawn id that is emitted again has its place then, and holds up nobody", async () => {
  const { made, handles, journal } = await shop();
  const till = await made.node("till", [emitter(made.mixin({ sources: ["till.of"] }), "till")]);
  await subscribed(till, 1);
  const emit = emitterOf(till, "till");
  const commit = () => Promise.reject(new Error("out of stock"));
  const options = { id: "w1", orderKey: "a" };
  await errorOf(emit("order.created", { n: 1 }, { ...options, commit, source: { action: "till.of" } }));
  await storeOf(till).intents.withdraw("w1", { at: new Date(), by: "test", act: "withdraw" });
  await emit("order.created", { n: 0 }, { orderKey: "a" });
  await emit("order.created", { n: 1 }, options);
  await emit("order.created", { n: 2 }, { orderKey: "a" });
  expect(await handles("a", 3)).toEqual(numbers(3));
  expect(journal.overlaps).toEqual([]);
});

it("a command of the store that fails after the insert costs no time and no message", async () => {
  const { broker, emit, handles } = await shop();
  await emit("order.created", { n: 0 }, { orderKey: "a" });
  await handles("a", 1);
  const { lanes } = storeOf(broker);
  const enter = lanes.enter.bind(lanes);
  let failed = false;
  // As if its answer had been lost.
  lanes.enter = async (messages, claim) => {
    const entered = await enter(messages, claim);
    if (failed) return entered;
    failed = true;
    throw Object.assign(new Error("no answer"), { retryable: true });
  };
  await emit("order.created", { n: 1 }, { orderKey: "a" });
  await emit("order.created", { n: 2 }, { orderKey: "a" });
  expect(await handles("a", 3)).toEqual(numbers(3));
  expect(failed).toBe(true);
});

it("jobs are in order where workers say when they are done; where RabbitMQ's confirm settles them it is refused", async () => {
  const made = cluster();
  const queue = `jobs-${made.namespace}`;
  const seen: number[] = [];
  const worker = {
    name: "worker",
    mixins: [
      made.mixin(),
      ReliableAmqpQueue({ queues: { [queue]: { settle: "receipt" }, [`${queue}-2`]: { settle: "confirm" } } })
    ],
    AMQPQueues: {
      [queue](channel: { ack(message: object): void }, message: { content: Buffer }) {
        seen.push((JSON.parse(message.content.toString()) as { n: number }).n);
        channel.ack(message);
      }
    }
  };
  const broker = await made.node("node-1", [worker]);
  const { addAMQPJob } = serviceOf(broker, "worker");
  for (const n of numbers(5)) await addAMQPJob(queue, { n }, { orderKey: "a" });
  await until(() => seen.length === 5);
  expect(seen).toEqual(numbers(5));
  expect(await errorOf(addAMQPJob(`${queue}-2`, {}, { orderKey: "a" }))).toMatchObject({
    type: "RELIABLE_BAD_OPTION",
    data: { option: "orderKey" }
  });
});

it.each([
  [{ orderKey: "" }, "orderKey"],
  [{ orderKey: " " }, "orderKey"],
  [{ orderKey: "a\u0001b" }, "orderKey"],
  [{ orderKey: "é".repeat(101) }, "orderKey"],
  [{ orderKey: 7 as never }, "orderKey"],
  [{ orderKey: "__proto__" }, "orderKey"],
  [{ onDead: "skip" as const }, "onDead"],
  [{ orderKey: "a", onDead: "wait" as never }, "onDead"],
  [{ orderKey: "a", strategy: "callback" as const }, "orderKey"]
])("%o is refused, and nothing is stored", async (options, option) => {
  const { broker, emit } = await oneNode(cluster(), []);
  const error = await errorOf(emit("order.created", {}, { id: "o1", ...options }));
  expect(error).toMatchObject({
    type: "RELIABLE_BAD_OPTION",
    retryable: false,
    data: { option }
  });
  expect(await storeOf(broker).messages.find(["o1"])).toEqual([]);
});
