import { describe, expect, it } from "vitest";
import type { Clock } from "../../src/platform/clock";
import { ServerClock } from "../../src/stores/mongo/server-clock";
import { silent } from "../support/messages";

const NOW = Date.UTC(2026, 0, 1);

function clockOf() {
  let passedMs = 0;
  let setMs = 0;
  const warnings: string[] = [];
  const clock = { now: () => NOW + passedMs + setMs, monotonic: () => passedMs } as Clock;
  const server = new ServerClock(clock, {
    ...silent,
    warn: (...args: unknown[]) => void warnings.push(args.join(" "))
  });
  return {
    server,
    warnings,
    pass: (ms: number) => void (passedMs += ms),
    set: (ms: number) => void (setMs += ms),
    /** A server whose clock is ahead by this much, and whose answer took so long. */
    hear: (aheadMs: number, address?: string, lateMs = 0) =>
      server.heard(new Date(NOW + passedMs + aheadMs - lateMs), address),
    ahead: () => server.now().getTime() - (NOW + passedMs)
  };
}

describe("the clock of MongoDB's servers", () => {
  it("is this node's until a server has told its own, and takes no answer without a time", () => {
    const { server, ahead } = clockOf();
    server.heard(undefined, "a");
    expect(ahead()).toBe(0);
  });

  it("is the median of several mongos, whichever spoke last", () => {
    const { hear, ahead } = clockOf();
    const told = [1, 2, 3].flatMap(() => {
      return (
        [
          ["a", 0],
          ["b", 100],
          ["c", 60_000]
        ] as const
      ).map(([address, ms]) => {
        hear(ms, address);
        return ahead();
      });
    });
    expect(told.slice(2)).toEqual(told.slice(2).map(() => 100));
  });

  it("does not go back for an answer that came late, and follows a clock that was set back", () => {
    const { hear, ahead, pass } = clockOf();
    hear(50, "a");
    pass(2000);
    hear(50, "a", 3000);
    expect(ahead()).toBe(50);
    for (let i = 0; i < 5; i++) hear(-10_000, "a");
    expect(ahead()).toBe(-10_000);
  });

  it("does not jump when the node's own clock is set", () => {
    const { hear, ahead, set, pass } = clockOf();
    hear(50, "a");
    set(600_000);
    pass(1000);
    expect(ahead()).toBe(50);
  });

  it("forgets a primary that has stepped down, but not before it knows another", () => {
    const { server, hear, ahead } = clockOf();
    hear(1000, "a");
    server.keep(new Set());
    expect(ahead()).toBe(1000);
    hear(3000, "b");
    server.keep(new Set(["b"]));
    expect(ahead()).toBe(3000);
  });

  it("takes what an unknown server says only while no heartbeat tells", () => {
    const { hear, ahead } = clockOf();
    hear(500);
    expect(ahead()).toBe(500);
    hear(10, "a");
    expect(ahead()).toBe(10);
    hear(500);
    expect(ahead()).toBe(10);
  });

  it("tells skew between servers, and from this node, once each until it ends", () => {
    const { hear, warnings } = clockOf();
    for (let i = 0; i < 3; i++) {
      hear(0, "a");
      hear(5000, "b");
    }
    expect(warnings).toEqual([expect.stringMatching(/2 MongoDB servers \(a, b\) differ by 5000 ms/)]);
    for (let i = 0; i < 5; i++) {
      hear(5000, "a");
    }
    for (let i = 0; i < 5; i++) {
      hear(0, "b");
      hear(9000, "a");
    }
    expect(warnings.slice(1)).toEqual([
      expect.stringContaining("of this node and of MongoDB differ by 5000 ms"),
      expect.stringContaining("2 MongoDB servers (a, b) differ by")
    ]);
  });
});
