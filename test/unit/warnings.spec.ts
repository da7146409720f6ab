import { afterEach, beforeEach, expect, it, vi } from "vitest";
import { causeOf } from "../../src/inbound/parked-messages";
import { Warnings } from "../../src/platform/warnings";

const MINUTE = 60_000;

let lines: string[];
let warnings: Warnings;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  lines = [];
  const log = (level: string) => (text: unknown) => void lines.push(`${level} ${text}`);
  warnings = new Warnings({ error: log("error"), warn: log("warn"), info: log("info"), debug: log("debug") });
});
afterEach(() => void vi.useRealTimers());

const taken = () => lines.splice(0);

it("of one cause: the first at once, then one line a minute with the number left out, then silence", () => {
  for (let n = 1; n <= 1235; n++) warnings.warn("dead", "handler mail", `message ${n} is dead`);
  expect(taken()).toEqual(["warn message 1 is dead"]);
  vi.advanceTimersByTime(MINUTE);
  expect(taken()).toEqual(["warn message 1235 is dead (and 1,233 more like it in the last minute)"]);
  warnings.warn("dead", "handler mail", "message 1236 is dead");
  expect(taken()).toEqual([]);
  vi.advanceTimersByTime(MINUTE);
  expect(taken()).toEqual(["warn message 1236 is dead"]);
  vi.advanceTimersByTime(2 * MINUTE);
  expect(taken()).toEqual([]);
  expect(vi.getTimerCount()).toBe(0);
  warnings.warn("dead", "handler mail", "message 1237 is dead");
  expect(taken()).toEqual(["warn message 1237 is dead"]);
});

it("another cause, kind or level is another line; a text may be about several messages", () => {
  warnings.warn("dead", "a", "1");
  warnings.warn("dead", "b", "2");
  warnings.warn("parked", "a", "3");
  warnings.error("dead", "a", "4");
  expect(taken()).toEqual(["warn 1", "warn 2", "warn 3", "error 4"]);
  warnings.warn("dead", "a", "five messages", 5);
  vi.advanceTimersByTime(MINUTE);
  expect(taken()).toEqual(["warn five messages (and 4 more like it in the last minute)"]);
});

it("a stranger's causes are bounded, of one kind and in all; other kinds are not affected", () => {
  for (let n = 0; n < 10_000; n++) warnings.warn("parked from q", `reason ${n}`, `parked ${n}`);
  expect(taken()).toHaveLength(21);
  warnings.warn("dead", "handler mail", "message 1 is dead");
  expect(taken()).toEqual(["warn message 1 is dead"]);
  vi.advanceTimersByTime(MINUTE);
  expect(taken()).toEqual(["warn parked 9999 (and 9,978 others in the last minute)"]);
  for (let n = 0; n < 10_000; n++) warnings.warn(`parked from q${n % 100}`, `reason ${n}`, `parked ${n}`);
  expect(taken().length).toBeLessThanOrEqual(600);
});

it("a flush loses no count and leaves no timer", () => {
  for (let n = 1; n <= 4; n++) warnings.warn("dead", "", `message ${n}`);
  warnings.warn("parked", "", "once");
  taken();
  warnings.flush();
  expect(taken()).toEqual(["warn message 4 (and 2 more like it in the last minute)"]);
  expect(vi.getTimerCount()).toBe(0);
});

it.each([
  ["receipt for an id that is not in the store: order-a", "receipt for an id that is not in the store: order-b"],
  ["its type is 'a', and this queue is for 'b' alone", "its type is 'c', and this queue is for 'b' alone"],
  ["check of 7 bytes, more than 5", "check of 19 bytes, more than 5"]
])("the cause of a reason is what is the same for every message: %s", (one, other) => {
  expect(causeOf(one)).toBe(causeOf(other));
  expect(causeOf(one)).not.toBe(causeOf("foreign message: no x-reliable-version header"));
});
