import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { ExpiringSet } from "../../src/async/expiring-set";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const made = () => {
  const expired: string[] = [];
  const deadlines = new ExpiringSet<{ name: string; deadline: number }>(({ name }) => expired.push(name));
  const add = (name: string, ms: number) => {
    const item = { name, deadline: performance.now() + ms };
    deadlines.add(item);
    return item;
  };
  return { deadlines, expired, add };
};

it("tells each that waits beyond its deadline, once, in whatever order they were added", async () => {
  const { expired, add } = made();
  add("late", 950);
  add("soon", 50);
  await vi.advanceTimersByTimeAsync(100);
  expect(expired).toEqual(["soon"]);
  await vi.advanceTimersByTimeAsync(2000);
  expect(expired).toEqual(["soon", "late"]);
});

it("says of one that is taken back whether it was in time, and keeps no timer for nothing", async () => {
  const { deadlines, expired, add } = made();
  const inTime = add("in time", 500);
  const tooLate = add("too late", 500);
  expect(deadlines.delete(inTime)).toBe(true);
  await vi.advanceTimersByTimeAsync(600);
  expect(deadlines.delete(tooLate)).toBe(false);
  expect(expired).toEqual(["too late"]);
  expect(vi.getTimerCount()).toBe(0);
});

it("goes on with those that are added by what expires", async () => {
  const expired: number[] = [];
  const deadlines = new ExpiringSet<{ turn: number; deadline: number }>(({ turn }) => {
    expired.push(turn);
    if (turn < 3) deadlines.add({ turn: turn + 1, deadline: performance.now() + 200 });
  });
  deadlines.add({ turn: 1, deadline: performance.now() });
  await vi.advanceTimersByTimeAsync(1000);
  expect(expired).toEqual([1, 2, 3]);
});

it("lets all of them go at the end", () => {
  const { deadlines, expired, add } = made();
  add("a", 1000);
  add("b", 2000);
  deadlines.expireAll();
  expect(expired).toEqual(["a", "b"]);
  expect(deadlines.size).toBe(0);
  expect(vi.getTimerCount()).toBe(0);
});
