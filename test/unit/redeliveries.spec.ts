import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { Redeliveries } from "../../src/consumer/redeliveries";
import type { Delivery } from "../../src/couriers/courier";
import { systemClock } from "../../src/platform/clock";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const [first, again] = [false, true].map(redelivered => ({ redelivered }) as Delivery) as [Delivery, Delivery];

it("those that come again together wait once, for a second; so do the next ones, of another loss", async () => {
  const redeliveries = new Redeliveries(systemClock, new AbortController().signal);
  expect(redeliveries.wait(first)).toBeUndefined();
  const pause = redeliveries.wait(again);
  await vi.advanceTimersByTimeAsync(900);
  expect(redeliveries.wait(again)).toBe(pause);
  expect(redeliveries.wait(first)).toBeUndefined();
  await vi.advanceTimersByTimeAsync(100);
  await pause;
  // Those that come late have no reason to wait.
  expect(redeliveries.wait(again)).toBeUndefined();
  await vi.advanceTimersByTimeAsync(1000);
  expect(redeliveries.wait(again)).toBeInstanceOf(Promise);
});

it("a stop ends the wait, and none begins after it", async () => {
  const end = new AbortController();
  const redeliveries = new Redeliveries(systemClock, end.signal);
  const pause = redeliveries.wait(again);
  end.abort();
  await pause;
  expect(vi.getTimerCount()).toBe(0);
  expect(redeliveries.wait(again)).toBeUndefined();
});
