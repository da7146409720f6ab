import { expect, it } from "vitest";
import { newEnd } from "../../src/async/end";
import { HandlerTransaction } from "../../src/async/handler-transaction";
import { AdaptiveLimit } from "../../src/consumer/adaptive-limit";
import type { ConsumerSpec } from "../../src/consumer/consumer-parts";
import { Inbox } from "../../src/consumer/inbox";
import { type Clock, systemClock } from "../../src/platform/clock";
import { warnOfLifetime } from "../../src/runtime/transaction-lifetime";
import type { InboxStore, Store } from "../../src/stores/store";
import type { InboxOutcome } from "../../src/stores/store-records";
import { silent } from "../support/messages";

/** A clock that only the test and its pauses move. */
function manualClock() {
  let now = 0;
  const slept: number[] = [];
  const clock: Clock = {
    ...systemClock,
    monotonic: () => now,
    after: () => ({ stop: () => undefined }),
    sleep: async ms => {
      slept.push(ms);
      now += ms;
    }
  };
  return { clock, slept, pass: (ms: number) => void (now += ms) };
}

/** Each transaction runs its handler and loses a conflict. */
function conflicting(before: () => void = () => undefined): InboxStore {
  const store = {
    transaction: async (_group: string, _id: string, _at: Date, work: (session: unknown) => Promise<void>) => {
      before();
      await work({}).catch(() => undefined);
      return { conflict: new Error("WriteConflict") } satisfies InboxOutcome;
    }
  };
  return store as unknown as InboxStore;
}

const transactional = (store: InboxStore, clock: Clock) =>
  new Inbox(store, "stock", "transaction", clock, newEnd().signal);

it("runs a handler that loses every conflict a small number of times, with growing pauses", async () => {
  const { clock, slept } = manualClock();
  const inbox = transactional(conflicting(), clock);
  const runs: number[] = [];
  await inbox.turn();
  const end = await inbox.transaction("m1", Number.POSITIVE_INFINITY, async (_, run) => {
    runs.push(run);
    return {};
  });
  expect(runs).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect(end).toMatchObject({ error: { type: "RELIABLE_CONFLICT", retryable: true, data: { runs: 8 } } });
  expect(slept).toHaveLength(7);
  expect(slept[6]).toBeGreaterThan(slept[0] as number);
});

it("begins no run after the handler's time is up", async () => {
  const { clock, pass } = manualClock();
  const inbox = transactional(conflicting(), clock);
  const begun: number[] = [];
  await inbox.turn();
  const end = await inbox.transaction("m1", 1000, async () => {
    begun.push(clock.monotonic());
    pass(400);
    return {};
  });
  expect(begun).toHaveLength(3);
  expect(Math.max(...begun)).toBeLessThan(1000);
  expect(end).toMatchObject({ error: { type: "RELIABLE_CONFLICT", data: { runs: 3 } } });
});

it("does not run a handler whose transaction took its whole time to begin", async () => {
  const { clock, pass } = manualClock();
  const inbox = transactional(
    conflicting(() => pass(1000)),
    clock
  );
  let runs = 0;
  await inbox.turn();
  await inbox.transaction("m1", 1000, async () => {
    runs++;
    return {};
  });
  expect(runs).toBe(0);
});

it("a handler that hangs keeps its turn no longer than its time", async () => {
  const inbox = transactional(conflicting(), systemClock);
  // One at a time after a conflict.
  await inbox.turn();
  await inbox.transaction("m0", systemClock.monotonic() + 1, async () => ({}));
  await inbox.turn();
  void inbox.transaction("m1", systemClock.monotonic() + 20, () => new Promise(() => undefined));
  await inbox.turn();
});

it("halves what runs at a time with each conflict, and those that have run before come first", async () => {
  const limit = new AdaptiveLimit();
  for (let n = 0; n < 4; n++) await limit.enter(true);
  for (let n = 0; n < 4; n++) limit.leave(true);
  await limit.enter(true);
  const order: string[] = [];
  const waits = [limit.enter(false).then(() => order.push("new")), limit.enter(true).then(() => order.push("again"))];
  limit.leave(false);
  await waits[1];
  expect(order).toEqual(["again"]);
  limit.leave(false);
  await waits[0];
  limit.leave(false);
  for (let n = 0; n < 16; n++) {
    await limit.enter(true);
    limit.leave(false);
  }
  // Two again.
  await limit.enter(true);
  await limit.enter(true);
});

it("an emit belongs to the open run of its own store: by the session, else by the async context", async () => {
  const [store, other] = [{}, {}];
  const session = {};
  const running = new HandlerTransaction(store, session);
  const late = await running.run(async () => {
    await Promise.resolve();
    expect(HandlerTransaction.of(store, undefined)).toBe(running);
    // Another node in the same process.
    expect(HandlerTransaction.of(other, session)).toBeUndefined();
    expect(HandlerTransaction.outside(() => HandlerTransaction.of(store, undefined))).toBeUndefined();
    return () => HandlerTransaction.of(store, undefined);
  });
  expect(HandlerTransaction.of(store, session)).toBeUndefined();
  expect(late()).toBeUndefined();
});

it("a run ends after the emits that its handler did not await", async () => {
  const session = {};
  const running = new HandlerTransaction({}, session);
  const ended: string[] = [];
  let release: () => void = () => undefined;
  const emit = new Promise<void>(resolve => (release = resolve)).then(() => void ended.push("emit"));
  const run = running
    .run(async () => {
      void running.join(emit);
    })
    .then(() => ended.push("run"));
  release();
  await run;
  expect(ended).toEqual(["emit", "run"]);
});

it("tells at start of a handler that may take longer than the server's transactions", async () => {
  const warned = async (handlerTimeoutMs: number, lifetime: () => Promise<number | undefined>) => {
    const warnings: string[] = [];
    const spec = { pattern: "order.created", group: "stock", options: { handlerTimeoutMs } } as ConsumerSpec;
    const store = { ready: true, inbox: { lifetimeMs: lifetime } } as unknown as Store;
    await warnOfLifetime(spec, store, { ...silent, warn: text => void warnings.push(String(text)) }, systemClock);
    return warnings;
  };
  const refused = () => Promise.reject(new Error("not authorized"));
  expect(await warned(60_000, refused)).toEqual([]);
  expect(await warned(60_001, refused)).toEqual([
    expect.stringMatching(/'order.created'.*60001 ms.*60000 ms, its default/)
  ]);
  expect(await warned(60_001, async () => 120_000)).toEqual([]);
  expect(await warned(30_000, async () => 10_000)).toEqual([expect.stringMatching(/30000 ms.*10000 ms \(/)]);
});
