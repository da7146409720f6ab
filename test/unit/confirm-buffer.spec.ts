import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { ConfirmBuffer } from "../../src/emit/confirm-buffer";
import { systemClock } from "../../src/platform/clock";
import type { Store } from "../../src/stores/store";
import type { PublishedRecord } from "../../src/stores/store-records";
import { Events } from "../../src/telemetry/events";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const silent = { debug: vi.fn(), info: vi.fn(), warn: vi.fn(), error: vi.fn() };

function made(published: (records: PublishedRecord[]) => Promise<number> = async records => records.length) {
  const written: string[] = [];
  const all: PublishedRecord[] = [];
  const messages = {
    published: async (records: PublishedRecord[]) => {
      const count = await published(records);
      written.push(...records.map(({ id }) => id));
      all.push(...records);
      return count;
    }
  };
  const events = new Events(silent);
  const store = { messages } as unknown as Store;
  const confirms = new ConfirmBuffer({ store, logger: silent, events, clock: systemClock });
  const add = (id: string, atOnce = false) =>
    confirms.add({ id, at: new Date(), dueAt: new Date() }, new Date(), atOnce);
  return { confirms, events, add, written, records: all };
}

it("writes down what is not consumed within half a second", async () => {
  const { events, add, written } = made();
  add("consumed");
  add("not");
  await vi.advanceTimersByTimeAsync(400);
  events.emit("consumed", ["consumed"]);
  expect(written).toEqual([]);
  await vi.advanceTimersByTimeAsync(400);
  expect(written).toEqual(["not"]);
  expect(vi.getTimerCount()).toBe(0);
});

it("waits longer with many of them, for at most five seconds", async () => {
  const { events, add, written } = made();
  const ids = Array.from({ length: 1500 }, (_, i) => `m${i}`);
  for (const id of ids) add(id);
  await vi.advanceTimersByTimeAsync(4500);
  expect(written).toEqual([]);
  events.emit("consumed", ids.slice(0, 400));
  await vi.advanceTimersByTimeAsync(1000);
  expect(written).toEqual(ids.slice(400));
});

it("rounds instants down, so that one statement can say the same of many, but not below the emit, and keeps what lies between them", async () => {
  const { confirms, records } = made();
  const ms = (n: number) => new Date(new Date("2026-01-01T00:00:00Z").getTime() + n);
  confirms.add({ id: "a", at: ms(101), dueAt: ms(30_101) }, ms(0), false);
  confirms.add({ id: "b", at: ms(149), dueAt: ms(30_149) }, ms(99), false);
  confirms.add({ id: "quick", at: ms(149), dueAt: ms(30_149) }, ms(140), false);
  // The two instants are of different clocks.
  confirms.add({ id: "odd", at: ms(149), dueAt: ms(30_149) }, ms(900), false);
  confirms.add({ id: "awaited", at: ms(149), dueAt: ms(30_149) }, ms(0), true);
  await confirms.idle();
  expect(records).toEqual([
    { id: "awaited", at: ms(149), dueAt: ms(30_149) },
    { id: "a", at: ms(100), dueAt: ms(30_100) },
    { id: "b", at: ms(100), dueAt: ms(30_100) },
    { id: "quick", at: ms(140), dueAt: ms(30_140) },
    { id: "odd", at: ms(149), dueAt: ms(30_149) }
  ]);
});

it("keeps 20,000 at most, and gives up the oldest", async () => {
  const { add, written } = made();
  for (let i = 0; i < 20_000; i++) add(`m${i}`);
  await vi.advanceTimersByTimeAsync(0);
  expect(written).toEqual([]);
  for (let i = 20_000; i < 20_003; i++) add(`m${i}`);
  await vi.advanceTimersByTimeAsync(0);
  expect(written).toEqual(Array.from({ length: 2000 }, (_, i) => `m${i}`));
});

it("writes at once where somebody waits for it, and all of it at the end", async () => {
  const { confirms, add, written } = made();
  add("kept");
  add("awaited", true);
  await vi.advanceTimersByTimeAsync(0);
  expect(written).toEqual(["awaited"]);
  await confirms.idle();
  expect(written).toEqual(["awaited", "kept"]);
  expect(vi.getTimerCount()).toBe(0);
});

it("leaves to the sweeper what the store does not take", async () => {
  const { confirms, add, written } = made(() => Promise.reject(new Error("the store is away")));
  add("lost");
  await confirms.idle();
  expect(written).toEqual([]);
  expect(silent.debug).toHaveBeenCalledWith(expect.stringContaining("the store is away"));
});
