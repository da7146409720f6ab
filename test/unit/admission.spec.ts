import { AsyncLocalStorage } from "node:async_hooks";
import { afterEach, expect, it, vi } from "vitest";
import { Admission } from "../../src/emit/admission";
import type { Clock, Timer } from "../../src/platform/clock";
import type { Load } from "../../src/telemetry/load";
import { Metrics } from "../../src/telemetry/metrics";
import { errorOf } from "../support/services";

const CALM = { loop: 0, store: 0, broker: 0, handlers: 0, arrived: undefined, cost: 1 };

/** An admission whose clock and load are the test's. */
function world({ options = {}, maxPending = 10_000 }: { options?: object | false; maxPending?: number } = {}) {
  let now = 0;
  const timers = new Set<{ at: number; every?: number; run: () => void }>();
  const set = (ms: number, run: () => void, every?: number): Timer => {
    const timer = { at: now + ms, run, ...(every && { every }) };
    timers.add(timer);
    return { stop: () => void timers.delete(timer) };
  };
  const clock = {
    monotonic: () => now,
    after: (ms: number, run: () => void) => set(ms, run),
    every: (ms: number, run: () => void) => set(ms, run, ms)
  } as unknown as Clock;
  const late = { ...CALM };
  const told: string[] = [];
  const forgotten: string[] = [];
  const load = {
    store: { forget: () => forgotten.push("store") },
    undelivered: () => forgotten.push("broker"),
    look: (ms: number) => ({ ms, ...late }),
    overloaded: (stage: string) => void told.push(stage),
    get lastStage() {
      return told.at(-1);
    }
  } as unknown as Load;
  const metrics = new Metrics();
  const strategy = { pending: 0, pendingBytes: 0 };
  const servers = { store: { ready: true }, courier: { ready: true } };
  const admission = new Admission({
    ...{ load, metrics, clock, maxPending, servers },
    options: options && { targetMs: 500, waitMs: 500, minPerSecond: 50, ...options }
  });
  /** Time passes, and what is due is done. */
  const pass = async (ms: number) => {
    for (const to = now + ms; ; ) {
      const [next] = [...timers].filter(({ at }) => at <= to).toSorted((a, b) => a.at - b.at);
      now = next ? next.at : to;
      if (!next) break;
      if (next.every) next.at += next.every;
      else timers.delete(next);
      next.run();
      await new Promise(resolve => setImmediate(resolve));
    }
  };
  const ask = (more: { free?: boolean; timeoutMs?: unknown } = {}) =>
    admission.ask("order.created", strategy, { free: false, timeoutMs: undefined, ...more });
  /** As an emit does it; what comes of it, in order. */
  const order: number[] = [];
  const emit = async (n: number, timeoutMs?: number) => {
    if (ask({ timeoutMs })) await admission.turn("order.created", 100, timeoutMs ?? 30_000);
    order.push(n);
    admission.stored();
  };
  /** Nothing is let in but the least. */
  const overload = async () => {
    late.store = 60_000;
    for (let n = 0; n < 5; n++) {
      for (let asked = 0; asked < 5; asked++) ask();
      await pass(100);
    }
  };
  return { admission, metrics, strategy, servers, late, told, forgotten, pass, ask, emit, order, overload };
}

afterEach(() => vi.restoreAllMocks());

it("holds nothing while nothing is late, and none of what comes then waits", async () => {
  const { emit, order, pass, admission } = world();
  for (let n = 0; n < 5000; n++) void emit(n);
  await pass(1000);
  expect(order).toHaveLength(5000);
  expect(admission.closed).toBeUndefined();
});

it("lets what waits in at its rate, in the order of the calls, and refuses what would wait too long", async () => {
  const { emit, order, pass, overload, admission, metrics } = world();
  await overload();
  expect(admission.closed).toEqual({ stage: "store", perSecond: 50 });
  const emits = Array.from({ length: 1200 }, (_, n) =>
    emit(n).then(
      () => undefined,
      error => error
    )
  );
  const refused = (await Promise.all(emits.slice(-150))) as {
    type: string;
    retryable: boolean;
    data: object;
    stack: string;
  }[];
  expect(refused[0]).toMatchObject({
    type: "RELIABLE_UNAVAILABLE",
    retryable: true,
    message: expect.stringMatching(/overloaded \(store\).* Nothing was stored/),
    data: { event: "order.created", stored: false, option: "admission", retryAfterMs: expect.any(Number) }
  });
  expect(refused[0]?.stack).not.toContain("at ");
  expect(metrics.totals["emit.refused"]).toBeGreaterThanOrEqual(150);
  await pass(1000);
  const within = order.length;
  expect(within).toBeGreaterThan(40);
  expect(within).toBeLessThan(75);
  expect(order).toEqual(order.toSorted((a, b) => a - b));
  await pass(10_000);
  expect(await emits[1000 - 1]).toMatchObject({ type: "RELIABLE_UNAVAILABLE" });
  expect(admission.waiting).toBe(0);
});

it("what comes while others wait waits behind them, though there is room for one", async () => {
  const { emit, order, pass, overload } = world({ options: { minPerSecond: 250, waitMs: 5000 } });
  await overload();
  for (let n = 0; n < 100; n++) void emit(n);
  for (let n = 100; n < 120; n++) {
    // A token more than every 4 ms, and the next of those that wait is let in after 5.
    await pass(4.5);
    void emit(n);
    await new Promise(resolve => setImmediate(resolve));
  }
  await pass(1000);
  expect(order).toHaveLength(120);
  expect(order).toEqual(order.toSorted((a, b) => a - b));
});

it("when all is well again what waits goes before what comes then", async () => {
  const { emit, order, pass, overload, late, admission } = world();
  await overload();
  for (let n = 0; n < 300; n++) void emit(n);
  late.store = 0;
  await pass(6000);
  const last = emit(300);
  await pass(200);
  await last;
  expect(order).toHaveLength(301);
  expect(order).toEqual(order.toSorted((a, b) => a - b));
  await pass(9000);
  expect(admission.closed).toBeUndefined();
});

it("never holds those of handlers and of sessions, and counts them", async () => {
  const { ask, overload, metrics, strategy } = world({ maxPending: 10 });
  await overload();
  for (let n = 0; n < 3000; n++) expect(ask({ free: true })).toBe(false);
  expect(metrics.totals["emit.unheld"]).toBe(3000);
  strategy.pending = 10;
  expect(ask({ free: true })).toBe(false);
});

it("from when emits are refused, what a handler emits is known without a context, too", async () => {
  const { admission, ask, emit, overload } = world();
  await overload();
  for (let n = 0; n < 1100; n++) void emit(n).catch(() => undefined);
  let waits: boolean[] = [];
  const end = await admission.handling("stock", async () => {
    await Promise.resolve();
    waits = Array.from({ length: 100 }, () => ask());
    return {};
  });
  expect(end).toEqual({});
  expect(new Set(waits)).toEqual(new Set([false]));
  expect((await errorOf(() => ask())).type).toBe("RELIABLE_UNAVAILABLE");
});

it("a group that does not emit in a thousand runs is watched no more, for half a minute; one that does, always", async () => {
  const { admission, ask, emit, overload, pass } = world();
  await overload();
  const fill = () => {
    for (let n = admission.waiting; n < 1100; n++) void emit(n).catch(() => undefined);
  };
  fill();
  const run = vi.spyOn(AsyncLocalStorage.prototype, "run");
  const handled = async (group: string, runs: number) => {
    run.mockClear();
    for (let n = 0; n < runs; n++) await admission.handling(group, async () => ({}));
    return run.mock.calls.length;
  };
  expect(await handled("quiet", 1200)).toBe(999);
  expect(await handled("quiet", 100)).toBe(0);
  await admission.handling("loud", async () => {
    await Promise.resolve();
    ask();
    return {};
  });
  expect(await handled("loud", 1500)).toBe(1500);
  expect(await handled("quiet", 100)).toBe(0);
  for (let ms = 0; ms < 30_000; ms += 1000) {
    await pass(1000);
    fill();
  }
  expect(await handled("quiet", 1200)).toBe(100);
});

it("a handler that is refused an emit all the same costs its message no attempt, and its group is known from then on", async () => {
  const { admission, ask, emit, overload } = world();
  await overload();
  for (let n = 0; n < 1100; n++) void emit(n).catch(() => undefined);
  for (let n = 0; n < 1000; n++) await admission.handling("stock", async () => ({}));
  const emitting = () =>
    admission.handling("stock", async () => {
      await Promise.resolve();
      return { error: await errorOf(() => ask()).catch(() => undefined) };
    });
  expect(await emitting()).toEqual({ error: expect.objectContaining({ type: "RELIABLE_UNAVAILABLE" }), excused: true });
  expect(await emitting()).toEqual({ error: undefined });
  const other = { error: new Error("its own") };
  expect(await admission.handling("stock", async () => other)).toBe(other);
});

it("the async context is not asked any more once the limit has ended, whatever waits then", async () => {
  const { admission, emit, overload, pass, late } = world({ options: { minPerSecond: 20_000 } });
  await overload();
  late.store = 0;
  let waited = 0;
  while (admission.closed) {
    for (let m = admission.waiting; m < 1500; m++) void emit(m);
    waited = admission.waiting;
    await pass(1);
  }
  expect(waited).toBeGreaterThan(1000);
  void emit(0);
  const run = vi.spyOn(AsyncLocalStorage.prototype, "run");
  await admission.handling("stock", async () => ({}));
  expect(run).not.toHaveBeenCalled();
});

it.each([
  ["number", { pending: 3 }],
  ["bytes", { pendingBytes: 65 * 1024 * 1024 }]
])("refuses more than may wait for a server, by %s, also with admission: false", async (_, pending) => {
  for (const options of [{}, false] as const) {
    const { ask, strategy, metrics } = world({ options, maxPending: 3 });
    ask();
    Object.assign(strategy, pending);
    expect(await errorOf(ask)).toMatchObject({
      type: "RELIABLE_UNAVAILABLE",
      data: { option: "maxPending", stored: false, retryAfterMs: 1000 }
    });
    expect(metrics.totals["emit.refused"]).toBe(1);
  }
});

it("admission: false looks at nothing and holds nothing", async () => {
  const { ask, overload, admission } = world({ options: false });
  await overload();
  expect(admission.closed).toBeUndefined();
  expect(Array.from({ length: 3000 }, () => ask())).not.toContain(true);
});

it("a server that is away is not late", async () => {
  const { ask, pass, forgotten, servers } = world();
  servers.courier.ready = false;
  ask();
  await pass(100);
  expect(forgotten).toEqual(["broker"]);
  servers.store.ready = false;
  await pass(100);
  expect(forgotten).toEqual(["broker", "store", "broker"]);
});

it("an emit waits no longer than its own timeout", async () => {
  const { emit, overload, pass, admission } = world();
  await overload();
  for (let n = 0; n < 500; n++) void emit(n).catch(() => undefined);
  const impatient = errorOf(emit(500, 200));
  await pass(400);
  expect(await impatient).toMatchObject({ type: "RELIABLE_UNAVAILABLE", data: { stored: false } });
  expect(admission.waiting).toBeGreaterThan(400);
});

it("a stop rejects what waits at once", async () => {
  const { emit, overload, admission } = world();
  await overload();
  const emits = Array.from({ length: 50 }, (_, n) =>
    emit(n).then(
      () => "in",
      error => error.type
    )
  );
  admission.stop();
  expect(await Promise.all(emits)).toContain("RELIABLE_STOPPED");
  expect(await errorOf(admission.turn("order.created", 1, 1000))).toMatchObject({ type: "RELIABLE_STOPPED" });
});

it("looks at nothing when nothing was asked for a while, and what was before says nothing then", async () => {
  const { ask, pass, overload, admission, late, told } = world();
  await overload();
  late.store = 0;
  await pass(30_000);
  expect(admission.closed).toBeUndefined();
  const before = told.length;
  late.store = 60_000;
  await pass(10_000);
  expect(told).toHaveLength(before);
  ask();
  await pass(100);
  expect(admission.closed).toBeUndefined();
});
