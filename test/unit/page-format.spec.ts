import { expect, it } from "vitest";
import {
  age,
  bytes,
  clock,
  count,
  counted,
  dateTime,
  ms,
  perMinute,
  utc,
  zone
} from "../../src/dashboard/page/kit/format";
import { cutText } from "../../src/dashboard/page/kit/long-text";

it("counts, and what was not counted to the end", () => {
  expect(count(1_234_567)).toBe("1,234,567");
  expect(count(10_000, true)).toBe("10,000+");
  expect([0, 1, 2].map(n => counted(n, "message"))).toEqual(["0 messages", "1 message", "2 messages"]);
  expect(counted(1, "message", "messages", true)).toBe("1+ messages");
  expect([0.24, 9.95, 120.4].map(perMinute)).toEqual(["0.2", "10", "120"]);
  expect([0, 999, 1000, 12_345, 1_250_000].map(bytes)).toEqual(["0 B", "999 B", "1 kB", "12.3 kB", "1.3 MB"]);
});

it.each([
  [0, "0 s"],
  [999, "0 s"],
  [59_999, "59 s"],
  [60_000, "1 min"],
  [95_000, "1 min 35 s"],
  [3_600_000, "1 h"],
  [4_100_000, "1 h 8 min"],
  [90_000_000, "1 d 1 h"],
  [86_400_000 * 400, "400 d"]
])("%i ms ago is %s", (value, text) => {
  expect(age(value)).toBe(text);
});

it("what another machine's clock puts into the future has just happened", () => {
  expect(age(-5000)).toBe("0 s");
});

it.each([
  [0.4, "0 ms"],
  [12, "12 ms"],
  [1449, "1.4 s"],
  [9999, "10 s"],
  [185_000, "3 min 5 s"]
])("%d ms last %s", (value, text) => {
  expect(ms(value)).toBe(text);
});

it("today has no date, and every other day has", () => {
  const at = new Date(2026, 10, 26, 3, 4, 5);
  expect(clock(at)).toBe("03:04:05");
  expect(dateTime(at, new Date(2026, 10, 26, 23, 59))).toBe("03:04:05");
  expect(dateTime(at, new Date(2026, 10, 27, 0, 1))).toBe("2026-11-26 03:04:05");
  expect(utc("2026-11-26T03:04:05.678Z")).toBe("2026-11-26 03:04:05.678 UTC");
});

it("what is no instant stays as it came", () => {
  expect([clock("soon"), dateTime("soon"), utc("soon")]).toEqual(["soon", "soon", "soon"]);
});

it("a long text is cut, and never in the middle of a character", () => {
  expect(cutText("short", 5)).toEqual({ shown: "short", left: 0 });
  expect(cutText("longer", 5)).toEqual({ shown: "longe", left: 1 });
  expect(cutText("abc🚀def", 4)).toEqual({ shown: "abc", left: 5 });
  expect(cutText("abc🚀def", 5)).toEqual({ shown: "abc🚀", left: 3 });
});

it.each([
  [0, "UTC"],
  [-60, "UTC+1"],
  [210, "UTC-3:30"],
  [-345, "UTC+5:45"]
])("an offset of %i min is %s", (offset, text) => {
  expect(zone(offset)).toBe(text);
});
