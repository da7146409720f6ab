import v8 from "node:v8";
import { Redis } from "ioredis";
import { afterEach, expect, inject, it, onTestFinished, vi } from "vitest";
import { ReliableEmit } from "../../src";
import { cluster } from "../support/brokers";
import { runtimeOf, storeOf } from "../support/runtime";
import { consumer, emitter, emitterOf } from "../support/services";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const options = {
  sweepEveryMs: 5 * SECOND,
  leaseMs: 30 * SECOND,
  refreshMs: 20 * SECOND,
  retainMs: HOUR,
  backoff: { initialMs: 30 * SECOND, jitter: "none" as const }
};

// The clock is put under the whole process: sweeper, lease, registry, tracker, memory broker and NeDB must agree on
// what time it is.
const CLOCK = ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "Date", "performance"] as const;

afterEach(() => void vi.useRealTimers());

/** What is reachable, after a collection. A row or a promise kept per pass would be thousands by the evening. */
const held = () =>
  Object.fromEntries(
    [Promise, Map, Set, Date, Uint8Array].map(kind => [kind.name, v8.queryObjects(kind as never, { format: "count" })])
  );

/**
 * Lets everything end that needs no clock: handlers, the store, Redis. Whatever the parts do periodically is over when
 * their timers are set again.
 */
async function settle(timers: number, renewing: Set<unknown> = new Set()): Promise<void> {
  do for (let i = 0; i < 25; i++) await new Promise(resolve => setImmediate(resolve));
  while (
    // While Redis is asked, the limit of its answer has taken the place of the timer that asked.
    vi.getTimerCount() < timers ||
    renewing.size
  );
}

it("a day passes: sweeps, renewals, prunings and refreshes come as often as they should, and nothing is left of them", {
  timeout: 240_000
}, async () => {
  const redis = new Redis(inject("servers").redis);
  onTestFinished(() => redis.disconnect());
  await redis.ping();
  const made = cluster();
  vi.useFakeTimers({ toFake: [...CLOCK], now: Date.now() });
  const broker = made.broker("day", { transporter: null, logger: false });
  let failures = 0;
  let handled = 0;
  const failed = new Set<number>();
  const mixin = ReliableEmit({ ...options, redis });
  broker.createService(emitter(mixin));
  broker.createService(
    // Moleculer 0.14 tells a handler of contexts by the name of its argument.
    consumer(mixin, "stock", "order.created", ctx => {
      const { n } = (ctx as { params: { n: number } }).params;
      if (n % 10 === 0 && !failed.has(n)) {
        failed.add(n);
        failures++;
        throw new Error("once");
      }
      handled++;
    })
  );
  await broker.start();
  onTestFinished(() => broker.stop());
  const { metrics, storage } = runtimeOf(broker);
  const { sweeper } = runtimeOf(broker).needStorage();
  const store = storeOf(broker);
  expect(storage?.store.name).toBe("embedded");

  const counts = { emits: 0, renewals: 0, prunings: 0, refreshes: 0 };
  const leases = sweeper.leases ?? expect.fail("no lease");
  const renew = leases.renew.bind(leases);
  const renewing = new Set<Promise<void>>();
  leases.renew = () => {
    counts.renewals++;
    const round = renew();
    renewing.add(round);
    void round.then(() => renewing.delete(round));
    return round;
  };
  const prune = store.prune.bind(store);
  store.prune = (before, limit) => {
    counts.prunings++;
    return prune(before, limit);
  };
  const known = store.subscriptions.known.bind(store.subscriptions);
  store.subscriptions.known = () => {
    counts.refreshes++;
    return known();
  };
  while (leases.mode !== "held") {
    await redis.ping();
    await settle(0);
  }
  // The look at the registry after a start, which has a timer once.
  await vi.advanceTimersByTimeAsync(4 * SECOND);
  // Whatever is under way at Redis and in the store has a timer, too, which must not be counted as one that stays.
  for (let i = 0; i < 10; i++) {
    await redis.ping();
    await settle(0);
  }
  const emit = emitterOf(broker);
  setInterval(() => void emit("order.created", { n: counts.emits++ }), MINUTE);
  const timers = vi.getTimerCount();
  const token = [...leases.held()];
  const sweeps = metrics.totals["sweeps"] ?? 0;
  const start = Date.now();

  const day = async (hour: number) => {
    while (Date.now() < start + hour * HOUR) {
      vi.advanceTimersToNextTimer();
      await settle(timers, renewing);
    }
    // One holder all day long, never for a moment without the lease.
    expect([leases.mode, [...leases.held()], leases.changes]).toEqual(["held", token, 1]);
    // What retainMs keeps, and what has come since the last pruning.
    const { total } = await store.messages.list({}, 1);
    expect(total).toBeLessThan(HOUR / MINUTE + 5);
  };
  for (let hour = 1; hour <= 2; hour++) await day(hour);
  const before = held();
  for (let hour = 3; hour <= 24; hour++) await day(hour);
  const after = held();

  const often = (count: number, everyMs: number, tolerance = 0.02) =>
    expect(count * everyMs * (1 / (24 * HOUR))).toSatisfy(
      (share: number) => Math.abs(share - 1) < tolerance,
      `${count} times in a day, each ${everyMs} ms`
    );
  often((metrics.totals["sweeps"] ?? 0) - sweeps, options.sweepEveryMs);
  often(counts.renewals, options.leaseMs / 3);
  // With the first sweep after each minute.
  often(counts.prunings, MINUTE + options.sweepEveryMs / 2, 0.05);
  often(counts.refreshes - ((metrics.totals["sweeps"] ?? 0) - sweeps), options.refreshMs, 0.1);
  expect(counts.emits).toBe(24 * 60);
  // The last ones are on their way.
  expect(counts.emits - handled).toBeLessThan(3);
  expect(failures).toBe(Math.ceil(counts.emits / 10));
  expect(metrics.totals["dead"] ?? 0).toBe(0);
  const [subscription] = await store.subscriptions.list();
  expect(Date.now() - (subscription?.seenAt.getTime() ?? 0)).toBeLessThanOrEqual(10 * MINUTE + SECOND);
  expect(vi.getTimerCount()).toBeLessThan(timers + 5);
  // An hour has 720 sweeps: one object kept by each would be 15,840. The history keeps its minutes for a day, on purpose.
  const minutes = (kind: string) => (kind === "ClockDate" ? 22 * 60 : 0);
  for (const [kind, count] of Object.entries(after))
    expect(count - (before[kind] ?? 0) - minutes(kind), kind).toBeLessThan(1000);
});
