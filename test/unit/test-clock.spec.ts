import { expect, it, vi } from "vitest";
import { systemClock } from "../../src/platform/clock";
import { TestClock } from "../../src/testing/clock";
import { until } from "../support/brokers";

const HOUR = 3_600_000;

it("wall time stands still but for its moves, monotonic time goes on", async () => {
  const clock = new TestClock();
  const [wall, monotonic] = [clock.now(), clock.monotonic()];
  await systemClock.sleep(5);
  expect(clock.now()).toBe(wall);
  expect(clock.monotonic()).toBeGreaterThan(monotonic);
  clock.move(HOUR);
  expect(clock.now()).toBe(wall + HOUR);
  expect(clock.monotonic()).toBeGreaterThan(monotonic + HOUR);
  clock.hurry(HOUR);
  expect(clock.now()).toBe(wall + HOUR);
  clock.reset();
  expect(Math.abs(clock.now() - Date.now())).toBeLessThan(1000);
});

it("a move calls what is due, in its order: once what is repeated, and not what was stopped meanwhile", () => {
  const clock = new TestClock();
  const called: string[] = [];
  const stopped = clock.after(300, () => called.push("stopped"));
  const every = clock.every(100, () => called.push("every"));
  clock.after(HOUR, () => called.push("later"));
  clock.after(200, () => {
    called.push("first");
    stopped.stop();
  });
  expect(Math.round(clock.left(stopped))).toBe(300);
  clock.move(1000);
  expect(called).toEqual(["every", "first"]);
  clock.move(40);
  expect(called).toHaveLength(2);
  clock.move(60);
  expect(called).toEqual(["every", "first", "every"]);
  every.stop();
  clock.move(HOUR);
  expect(called.at(-1)).toBe("later");
  expect(called).toHaveLength(4);
});

it("timers come in their own time as well, also after a move; sleeps end by it, or by their signal", async () => {
  const clock = new TestClock();
  const called = vi.fn();
  clock.after(HOUR, called);
  const slept = clock.sleep(2 * HOUR);
  const end = new AbortController();
  const woken = clock.sleep(Infinity, end.signal);
  clock.move(HOUR - 5);
  expect(called).not.toHaveBeenCalled();
  await until(() => called.mock.calls.length === 1);
  clock.move(HOUR);
  await slept;
  end.abort();
  await woken;
});

it("wall time runs while there is work that cannot move it", async () => {
  const clock = new TestClock();
  const from = clock.now();
  let end: () => void = () => undefined;
  clock.runWhile(new Promise<void>(resolve => (end = resolve)));
  await until(() => clock.now() > from);
  end();
  await new Promise(resolve => setImmediate(resolve));
  const at = clock.now();
  await systemClock.sleep(50);
  expect(clock.now()).toBe(at);
});
