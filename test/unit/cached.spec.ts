import { expect, it, vi } from "vitest";
import { Cached } from "../../src/async/cached";
import type { Clock } from "../../src/platform/clock";

function world<T>(ask: () => Promise<T>) {
  let now = 0;
  const asked = vi.fn(ask);
  const cached = new Cached(asked, 5000, { monotonic: () => now } as Clock);
  return { cached, asked, pass: (ms: number) => (now += ms) };
}

it("one question serves all who ask within its time, those too who ask while it is asked for longer", async () => {
  let answer: (value: number) => void = () => undefined;
  const { cached, asked, pass } = world(() => new Promise<number>(resolve => (answer = resolve)));
  const first = cached.read();
  pass(6000);
  const second = cached.read();
  answer(1);
  expect(await Promise.all([first, second])).toEqual([1, 1]);
  expect(asked).toHaveBeenCalledTimes(1);
  void cached.read();
  expect(asked).toHaveBeenCalledTimes(2);
  answer(2);
  expect(await cached.read()).toBe(2);
  pass(4999);
  expect(await cached.read()).toBe(2);
  expect(asked).toHaveBeenCalledTimes(2);
});

it("a failure is told to those who wait, and not kept", async () => {
  const { cached, asked } = world(() => Promise.reject(new Error("away")));
  const all = await Promise.allSettled([cached.read(), cached.read()]);
  expect(all.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  await expect(cached.read()).rejects.toThrow("away");
  expect(asked).toHaveBeenCalledTimes(2);
});
