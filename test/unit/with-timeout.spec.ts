import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { TIMED_OUT, withTimeout } from "../../src/async/deadline";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it("settles as its work does, and leaves no timer", async () => {
  expect(await withTimeout(Promise.resolve(7), 1000)).toBe(7);
  await expect(withTimeout(Promise.reject(new Error("refused")), 1000)).rejects.toThrow("refused");
  expect(vi.getTimerCount()).toBe(0);
});

it("says when time is up; a work that fails later troubles nobody", async () => {
  let fail: (_error: Error) => void = () => undefined;
  const work = new Promise<number>((_, reject) => (fail = reject));
  const answer = withTimeout(work, 1000);
  await vi.advanceTimersByTimeAsync(1000);
  expect(await answer).toBe(TIMED_OUT);
  fail(new Error("late"));
  await vi.advanceTimersByTimeAsync(0);
  expect(vi.getTimerCount()).toBe(0);
});

it("a work that is done already is in time, even without any", async () => {
  expect(await withTimeout(Promise.resolve("done"), 0)).toBe("done");
});
