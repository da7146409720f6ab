import { expect, it, onTestFinished } from "vitest";
import { Deadline } from "../../src/async/deadline";
import { Consumer } from "../../src/consumer/consumer";
import type { ConsumerParts, ConsumerSpec, HandlerEnd } from "../../src/consumer/consumer-parts";
import type { Delivery, Publication } from "../../src/couriers/courier";
import type { Clock, Timer } from "../../src/platform/clock";
import { Warnings } from "../../src/platform/warnings";
import { type BreakerNews, Events } from "../../src/telemetry/events";
import { Metrics } from "../../src/telemetry/metrics";
import { systemQueues } from "../../src/wire/names";
import type { ReceiptItem } from "../../src/wire/receipt";
import { silent } from "../support/messages";

const QUEUES = systemQueues("");
const RECEIPT = { "x-reliable-version": 1, "x-reliable-producer": "orders", "x-reliable-receipt": QUEUES.receipts };

/** A consumer whose broker, clock and handler are the test's. */
async function consuming({ failures = 3, handlerTimeoutMs = 60_000 } = {}) {
  const timers = new Set<{ at: number; run: () => void }>();
  let now = 0;
  const after = (ms: number, run: () => void): Timer => {
    const timer = { at: now + ms, run };
    timers.add(timer);
    return { stop: () => void timers.delete(timer) };
  };
  const clock: Clock = {
    now: () => now,
    monotonic: () => now,
    after,
    every(ms, run) {
      let timer = after(ms, function again() {
        timer = after(ms, again);
        run();
      });
      return { stop: () => timer.stop() };
    },
    sleep: ms => new Promise(resolve => void after(ms, resolve))
  };
  const limits: number[] = [];
  const receipts: ReceiptItem[] = [];
  const confirms: (() => void)[] = [];
  let take: (delivery: Delivery) => void = () => undefined;
  let holds = false;
  const courier = {
    ready: true,
    declare: async () => true,
    on: () => () => undefined,
    control: { listen: () => () => undefined, marked: async () => false },
    async publish({ to, body }: Publication) {
      if (!("queue" in to) || to.queue !== QUEUES.receipts) return { outcome: "confirmed" };
      const { items } = JSON.parse(body.toString()) as { items: ReceiptItem[] };
      receipts.push(...items);
      if (holds) await new Promise<void>(resolve => confirms.push(resolve));
      return { outcome: "confirmed" };
    },
    async consume({ onDelivery }: { onDelivery(delivery: Delivery): void }) {
      take = onDelivery;
      const done = async () => undefined;
      return {
        cancel: done,
        close: done,
        active: true,
        suspended: false,
        limit: (most: number) => void limits.push(most)
      };
    }
  };
  const told: BreakerNews[] = [];
  const events = new Events(silent);
  events.on("breaker", news => told.push(news));
  const running = new Map<string, (end: HandlerEnd) => void>();
  const spec: ConsumerSpec = {
    ...{ pattern: "order.created", group: "mail", queue: "mail", bindings: [], service: "mail" },
    options: {
      ...{ maxInFlight: 50, handlerTimeoutMs, inbox: false, deliveryLimit: 20 },
      breaker: { failures, pauseMs: 1000, maxPauseMs: 30_000, patienceMs: 0 }
    },
    handle: ({ id }) => new Promise(resolve => running.set(id, resolve))
  };
  const parts = {
    ...{ courier, clock, events, queues: QUEUES, inbox: undefined, metrics: new Metrics(), logger: silent },
    ...{ warnings: new Warnings(silent, clock), nodeID: "node-1", namespace: "" }
  } as unknown as ConsumerParts;
  const consumer = new Consumer(spec, parts);
  await consumer.start();
  const settle = () => new Promise(setImmediate);
  const returned: string[] = [];
  let tag = 0;
  const deliver = async (id: string, attempt = 1, more = {}) => {
    const delivery = {
      ...{
        queue: "mail",
        messageId: id,
        type: "order.created",
        body: Buffer.from("{}"),
        epoch: 1,
        tag: ++tag,
        live: true
      },
      headers: { ...RECEIPT, "x-reliable-attempt": attempt, ...more },
      ack: () => true,
      ackUpTo: () => true,
      nack: () => returned.push(id) > 0
    };
    take(delivery as unknown as Delivery);
    await settle();
  };
  const end = async (id: string, failed: boolean) => {
    running.get(id)?.(failed ? { error: new Error("away") } : {});
    await settle();
  };
  onTestFinished(() => consumer.stop(new Deadline(0, clock)));
  return {
    ...{ consumer, limits, receipts, told, returned, running, timers, deliver, end },
    fail: (id: string) => end(id, true),
    succeed: (id: string) => end(id, false),
    /** The first ones fail, so that it opens. */
    async opens() {
      for (let i = 0; i < failures; i++) {
        await deliver(`opener ${i}`);
        await end(`opener ${i}`, true);
      }
    },
    async pass(ms: number) {
      now += ms;
      for (const timer of [...timers]) if (timer.at <= now && timers.delete(timer)) timer.run();
      await settle();
    },
    holdConfirms: () => void (holds = true),
    async confirm() {
      holds = false;
      for (const resolve of confirms.splice(0)) resolve();
      await settle();
    }
  };
}

const excuses = (receipts: ReceiptItem[]) => receipts.map(({ id, excused }) => [id, excused]);

it("what has been sent is followed by a receipt that gives it back, what has not is changed", async () => {
  const { deliver, fail, receipts, holdConfirms, confirm } = await consuming();
  holdConfirms();
  for (const id of ["a", "b", "c"]) await deliver(id);
  for (const id of ["a", "b", "c"]) await fail(id);
  await confirm();
  expect(excuses(receipts)).toEqual([
    ["a", undefined],
    ["b", "all"],
    ["a", "all"],
    ["c", "this"]
  ]);
});

it("while it is open no handler begins: what comes goes back, what has begun ends and is excused", async () => {
  const { deliver, opens, fail, succeed, returned, running, limits, receipts } = await consuming();
  for (const id of ["slow", "late"]) await deliver(id);
  await opens();
  await deliver("next");
  expect([returned, running.has("next"), limits]).toEqual([["next"], false, [0]]);
  receipts.length = 0;
  await fail("slow");
  await succeed("late");
  expect(receipts).toMatchObject([
    { id: "slow", outcome: "failed", excused: "this" },
    { id: "late", outcome: "handled" }
  ]);
  expect(limits).toEqual([0]);
});

it("tries one after a pause that doubles, and takes more when that succeeds; told once each way", async () => {
  const { opens, pass, deliver, fail, succeed, limits, told, consumer } = await consuming();
  await opens();
  expect(consumer.breaker?.opened).toEqual({ since: new Date(0), error: "Error: away" });
  for (const pause of [1000, 2000, 4000]) {
    // Jitter takes off half at most.
    await pass(pause / 2 - 1);
    expect(limits.at(-1)).toBe(0);
    await pass(pause / 2 + 1);
    expect(limits.at(-1)).toBe(1);
    await deliver("probe", 2);
    await fail("probe");
    expect(limits.at(-1)).toBe(0);
  }
  await pass(30_000);
  for (const id of ["p", "q", "r", "s"]) {
    await deliver(id, 2);
    await succeed(id);
  }
  expect(limits.slice(-3)).toEqual([1, 5, 50]);
  expect(told.map(({ state, error }) => [state, error])).toEqual([
    ["open", "Error: away"],
    ["closed", "Error: away"]
  ]);
  expect(consumer.breaker?.opened).toBeUndefined();
});

it("closes when nothing comes for long after the probe", async () => {
  const { opens, pass, deliver, succeed, limits } = await consuming();
  await opens();
  await pass(1000);
  await deliver("probe");
  await succeed("probe");
  await pass(29_999);
  expect(limits.at(-1)).toBe(5);
  await pass(1);
  expect(limits.at(-1)).toBe(50);
});

it("a handler that takes too long has failed, and its late success says nothing", async () => {
  const { deliver, pass, succeed, told, receipts } = await consuming({ handlerTimeoutMs: 100 });
  for (const id of ["a", "b"]) await deliver(id);
  await pass(100);
  await succeed("a");
  expect(receipts.at(-1)).toMatchObject({ id: "a", outcome: "handled" });
  await deliver("c");
  await pass(100);
  expect(told.map(({ state }) => state)).toEqual(["open"]);
  expect(excuses(receipts)).toContainEqual(["c", "this"]);
});

it("what handlers take that run into their timeouts does not end a run; a minute without one does", async () => {
  const { deliver, fail, pass, told } = await consuming({ handlerTimeoutMs: 100_000 });
  for (const id of ["a", "b"]) {
    await deliver(id);
    await fail(id);
  }
  await pass(60_001);
  await deliver("c");
  await fail("c");
  expect(told).toEqual([]);
  await pass(60_001);
  await deliver("d");
  await pass(100_000);
  for (const id of ["e", "f"]) await deliver(id);
  await pass(100_000);
  expect(told.map(({ state }) => state)).toEqual(["open"]);
});

it("one that has failed before, while others succeeded, is no part of the run; one of which nothing has counted is", async () => {
  const { deliver, fail, told } = await consuming();
  for (const id of ["a", "b", "c", "d"]) {
    await deliver(id, 2);
    await fail(id);
  }
  expect(told).toEqual([]);
  for (const id of ["e", "f", "g"]) {
    await deliver(id, 7, { "x-reliable-counted": 0 });
    await fail(id);
  }
  expect(told).toHaveLength(1);
});

it("a stop while it is open leaves no timer behind", async () => {
  const { opens, consumer, timers, limits, pass } = await consuming();
  await opens();
  await consumer.stop(new Deadline(0));
  await pass(60_000);
  expect([timers.size, limits]).toEqual([0, [0]]);
});
