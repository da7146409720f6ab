import { expect, it } from "vitest";
import { FetchWindow, mostHeld } from "../../src/consumer/fetch-window";
import { Slots } from "../../src/consumer/slots";
import type { Consumption } from "../../src/couriers/courier";
import type { Clock } from "../../src/platform/clock";

const TICK_MS = 250;

function made(handlers = 50, most = mostHeld(handlers)) {
  let now = 0;
  let tick: (() => void) | undefined;
  const clock = {
    monotonic: () => now,
    every: (_: number, run: () => void) => {
      tick = run;
      return { stop: () => void (tick = undefined) };
    }
  } as unknown as Clock;
  const limits: number[] = [];
  const slots = new Slots(handlers, clock);
  const window = new FetchWindow(slots, most, clock);
  expect(window.begin()).toBe(handlers);
  window.governs({ limit: (most: number) => void limits.push(most) } as Consumption);
  return {
    ...{ slots, window, limits },
    get ticks() {
      return tick !== undefined;
    },
    pass(ms = TICK_MS) {
      now += ms;
      tick?.();
    },
    /** So many deliveries come and go in a tick, each so long without a handler. */
    flow(count: number, elsewhereMs: number) {
      for (let n = 0; n < count; n++) window.took();
      for (let n = 0; n < count; n++) window.left(elsewhereMs);
    }
  };
}

it("begins with as many as there are handlers, and grows while handlers take no time", () => {
  const { flow, pass, limits, window } = made();
  // 1,000 in a tick, 25 ms each: 100 at a time, and twice as many more for bursts.
  flow(1000, 25);
  pass();
  expect([limits, window.size]).toEqual([[350], 350]);
  flow(4000, 50);
  pass();
  expect(window.size).toBe(1000);
});

it("fetches next to nothing ahead for a slow handler", () => {
  const { flow, pass, window } = made();
  // 50 at a handler for a second: 13 in a tick, each 20 ms elsewhere.
  for (let n = 0; n < 10; n++) {
    flow(50, 5);
    pass();
  }
  expect(window.size).toBeLessThanOrEqual(52);
});

it("gives back what it has when the handler becomes slow, the rest is for others", async () => {
  const { flow, pass, slots, window, limits } = made(2, 40);
  flow(400, 10);
  pass();
  expect(window.size).toBeGreaterThan(20);
  expect([slots.tryEnter(), slots.tryEnter(), slots.tryEnter()]).toEqual([true, true, false]);
  const ends: boolean[] = [];
  for (let n = 0; n < 10; n++) void slots.wait().then(begins => ends.push(begins));
  pass();
  await Promise.resolve();
  expect(ends).toEqual([]);
  slots.leave();
  pass();
  await Promise.resolve();
  expect(ends).toEqual([true, ...Array.from({ length: 9 }, () => false)]);
  expect([window.size, limits.at(-1), slots.waiting]).toEqual([2, 2, 0]);
  // Not again for 10 s, and then for 20.
  flow(400, 10);
  pass();
  expect(window.size).toBe(2);
  for (const calmMs of [10_000, 20_000]) {
    pass(calmMs - 1000);
    flow(4000, 10);
    pass();
    expect(window.size).toBe(2);
    pass(1000);
    flow(400, 10);
    pass();
    expect(window.size).toBeGreaterThan(2);
    void slots.wait();
    pass();
    pass();
    expect(window.size).toBe(2);
  }
});

it("never lets more handlers begin than there are slots, and the first that came begins first", async () => {
  const { slots } = made(3);
  const begun: number[] = [];
  const begin = async (n: number) => {
    if (slots.tryEnter() || (await slots.wait())) begun.push(n);
  };
  const all = [1, 2, 3, 4, 5].map(begin);
  await Promise.resolve();
  expect([begun, slots.busy, slots.waiting]).toEqual([[1, 2, 3], 3, 2]);
  slots.leave();
  await Promise.resolve();
  expect([begun, slots.busy]).toEqual([[1, 2, 3, 4], 3]);
  slots.leave();
  await Promise.all(all);
  for (let n = 0; n < 3; n++) slots.leave();
  expect([begun, slots.busy]).toEqual([[1, 2, 3, 4, 5], 0]);
});

it("the breaker's limit comes first, and takes what waits for a handler", async () => {
  const { flow, pass, slots, window, limits } = made(1, 20);
  slots.tryEnter();
  const waits = slots.wait();
  window.limit(0);
  expect(await waits).toBe(false);
  flow(400, 10);
  pass();
  expect([window.size, limits.at(-1)]).toEqual([0, 0]);
  window.limit(Number.POSITIVE_INFINITY);
  expect(limits.at(-1)).toBe(20);
});

it("looks only while it is full, and rests when nothing comes", () => {
  const world = made();
  expect(world.ticks).toBe(false);
  world.flow(10, 1);
  expect(world.ticks).toBe(false);
  world.flow(60, 1);
  expect(world.ticks).toBe(true);
  world.pass();
  world.pass();
  expect(world.ticks).toBe(false);
  world.window.stop();
});

it.each([
  [1, 20],
  [50, 1000],
  [500, 1000],
  [5000, 5000]
])("with %d handlers it holds at most %d", (handlers, most) => expect(mostHeld(handlers)).toBe(most));
