import { beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { systemClock } from "../../src/platform/clock";

const DAY = 86_400_000;

beforeEach(() => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
});

/** What Node.js' own timers hold; a longer delay is 1 ms to them. */
describe.each([1, 1000, 2 ** 31 - 1, 2 ** 31, 30 * DAY, 365 * DAY])("a delay of %d ms", ms => {
  it("after: not before, once, and not when it was stopped", () => {
    const called = vi.fn();
    const stopped = vi.fn();
    systemClock.after(ms, called);
    const timer = systemClock.after(ms, stopped);
    vi.advanceTimersByTime(ms - 1);
    expect(called).not.toHaveBeenCalled();
    timer.stop();
    vi.advanceTimersByTime(1);
    expect(called).toHaveBeenCalledTimes(1);
    expect(stopped).not.toHaveBeenCalled();
    expect(vi.getTimerCount()).toBe(0);
  });

  it("every: each time, until it is stopped by its own callback", () => {
    const called = vi.fn();
    const timer = systemClock.every(ms, () => {
      called();
      if (called.mock.calls.length === 3) timer.stop();
    });
    vi.advanceTimersByTime(ms - 1);
    expect(called).not.toHaveBeenCalled();
    vi.advanceTimersByTime(2 * ms + 1);
    expect(called).toHaveBeenCalledTimes(3);
    vi.advanceTimersByTime(2 * ms);
    expect(called).toHaveBeenCalledTimes(3);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("sleep: until then, or until the signal", async () => {
    const awake = vi.fn();
    const woken = vi.fn();
    const end = new AbortController();
    const sleeps = [systemClock.sleep(ms).then(awake), systemClock.sleep(ms, end.signal).then(woken)];
    await vi.advanceTimersByTimeAsync(ms - 1);
    expect(awake).not.toHaveBeenCalled();
    end.abort();
    await sleeps[1];
    expect(woken).toHaveBeenCalled();
    await vi.advanceTimersByTimeAsync(1);
    await sleeps[0];
    expect(vi.getTimerCount()).toBe(0);
  });
});

it("a sleep without a limit has no timer", async () => {
  const end = new AbortController();
  const sleep = systemClock.sleep(Infinity, end.signal);
  expect(vi.getTimerCount()).toBe(0);
  end.abort();
  await sleep;
});
