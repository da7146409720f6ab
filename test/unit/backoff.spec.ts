import { describe, expect, it } from "vitest";
import { backoffMs } from "../../src/message/backoff";

describe("without jitter it doubles up to its cap", () => {
  it.each([
    [0, 1000],
    [1, 1000],
    [2, 2000],
    [3, 4000],
    [4, 8000],
    [5, 10_000],
    [50, 10_000],
    [5000, 10_000]
  ])("after attempt %i: %i ms", (attempt, ms) => {
    expect(backoffMs({ initialMs: 1000, maxMs: 10_000, jitter: "none" }, attempt)).toBe(ms);
  });
});

it("a cap below the start wins", () => {
  expect(backoffMs({ initialMs: 1000, maxMs: 10, jitter: "none" }, 1)).toBe(10);
});

describe("jitter spreads within its bounds", () => {
  it.each([
    ["half", 2000, 4000],
    ["full", 0, 4000]
  ] as const)("%s: %i to %i ms", (jitter, least, most) => {
    const delays = Array.from({ length: 500 }, () => backoffMs({ initialMs: 1000, maxMs: 10_000, jitter }, 3));
    expect(Math.min(...delays)).toBeGreaterThanOrEqual(least);
    expect(Math.max(...delays)).toBeLessThanOrEqual(most);
    expect(new Set(delays).size).toBeGreaterThan(100);
  });
});
