import { expect, it } from "vitest";
import { linePath, lonely, niceTop, ticks, topOf, xOf, yOf } from "../../src/dashboard/page/kit/scale";
import { askedOf, spanOf, wholeSteps } from "../../src/dashboard/page/overview/span";

const box = { left: 10, top: 0, width: 100, height: 50 };

it.each([
  [0, 1],
  [0.3, 0.5],
  [1, 1],
  [3, 5],
  [10, 10],
  [11, 20],
  [4999, 5000],
  [5001, 10_000]
])("an axis for %d ends at %d", (most, top) => {
  expect(niceTop(most)).toBeCloseTo(top);
});

it("what is not known does not raise the axis", () => {
  expect(topOf([[null, 3], [7]])).toBe(10);
  expect(topOf([])).toBe(1);
  expect(niceTop(Number.NaN)).toBe(1);
});

it("the first step stands left, the last one right, one alone in the middle", () => {
  expect([0, 1, 2].map(index => xOf(index, 3, box))).toEqual([10, 60, 110]);
  expect(xOf(0, 1, box)).toBe(60);
});

it("nothing is at the bottom, the top at the top, and more than that no higher", () => {
  expect([0, 5, 10, 99].map(value => yOf(value, 10, box))).toEqual([50, 25, 0, 0]);
});

it("a line has a gap where nothing is known, and a dot where a value stands alone", () => {
  const values = [1, 1, null, 1, null, 1];
  expect(linePath(values, 1, box)).toBe("M10 0L30 0M70 0M110 0");
  expect(lonely(values)).toEqual([3, 5]);
  expect(linePath([], 1, box)).toBe("");
});

it("words below the axis: evenly, with both ends, never one twice", () => {
  expect(ticks(60, 4)).toEqual([0, 20, 39, 59]);
  expect(ticks(2, 4)).toEqual([0, 1]);
  expect(ticks(1, 4)).toEqual([0]);
  expect(ticks(0, 4)).toEqual([]);
  expect(ticks(10, 1)).toEqual([0]);
});

const MINUTE = 60_000;

it("an hour and a day are asked in steps that a chart can show, and never more than 24 h back", () => {
  const now = Date.parse("2026-11-26T03:04:05.678Z");
  expect(askedOf("hour", now).toAt).toBe(Date.parse("2026-11-26T03:04:00.000Z"));
  for (const [span, at] of [
    ["hour", now],
    ["day", now],
    ["day", Date.parse("2026-11-26T03:00:00.500Z")],
    ["day", Date.parse("2026-11-26T03:00:59.999Z")]
  ] as const) {
    const { fromAt, toAt, stepMs } = askedOf(span, at);
    expect(fromAt % stepMs).toBe(0);
    expect((toAt - fromAt) / stepMs).toBeLessThanOrEqual(144);
    expect(fromAt).toBeGreaterThan(at + MINUTE - 24 * 60 * MINUTE);
  }
  expect(askedOf("hour", now)).toEqual(askedOf("hour", now + 50_000));
  expect([undefined, "day", "week"].map(spanOf)).toEqual(["hour", "day", "hour"]);
});

it("a step that is not over is not drawn", () => {
  const step = (at: string) => ({ at }) as ReturnType<typeof wholeSteps>[number];
  const steps = [step("2026-11-26T03:00:00.000Z"), step("2026-11-26T03:10:00.000Z")];
  const history = { steps, stepMs: 10 * MINUTE } as Parameters<typeof wholeSteps>[0];
  expect(wholeSteps({ ...history, toAt: "2026-11-26T03:19:00.000Z" })).toHaveLength(1);
  expect(wholeSteps({ ...history, toAt: "2026-11-26T03:20:00.000Z" })).toHaveLength(2);
  expect(wholeSteps({ ...history, steps: [], toAt: "2026-11-26T03:20:00.000Z" })).toEqual([]);
});
