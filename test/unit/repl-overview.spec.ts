import { expect, it } from "vitest";
import { COUNTS } from "../../src/message/history";
import type { History, HistoryStep } from "../../src/operator/history";
import type { Overview } from "../../src/operator/overview";
import { historyTable, overviewText } from "../../src/operator/repl/overview-tables";
import { at } from "../support/messages";

const seen = at(0).toISOString();
const overview: Overview = {
  level: "act",
  sentence: "1 message is dead: mail. Somebody has to act.",
  also: ["Group mail has no consumer; 7 messages wait in its queue. Start it; nothing is lost."],
  at: seen,
  nodeID: "desk",
  messages: {
    byStatus: {
      ...{ scheduled: 0, intended: 0, pending: 2, published: 0, consumed: 10_000, dead: 1, resolved: 0 },
      ...{ withdrawn: 0, cancelled: 0 }
    },
    parked: 3,
    capped: ["consumed"],
    oldestPendingMs: 61_000,
    oldestUnconsumedMs: null,
    oldestDeadMs: 3_600_000
  },
  groups: [
    {
      ...{ group: "mail", ready: 7, consumers: 0, dead: 1, handledPerMinute: 1.2, failedPerMinute: 0 },
      ...{ lastNode: "node-1", lastSeenAt: seen, queues: [] }
    },
    {
      ...{ group: "stock", ready: null, consumers: null, dead: 10_000, deadCapped: true },
      ...{ handledPerMinute: 0, failedPerMinute: 0, lastNode: null, lastSeenAt: null, queues: [] }
    }
  ],
  servers: [
    { name: "RabbitMQ", ok: false, text: "does not answer: ECONNREFUSED", awaySinceAt: seen },
    { name: "store", ok: true, text: "up (mongodb, 1 ms)" }
  ],
  nodes: [
    { nodeID: "node-1", kind: "reliable", answers: false, reason: "no answer within 2000 ms" },
    { nodeID: "python-1", kind: "consumer", answers: null, lastSeenAt: seen }
  ],
  leaseHolders: ["node-1", null],
  paused: [{ group: "mail", pattern: "order.*", sinceAt: at(0), by: "emma" }],
  breakers: [{ group: "stock", nodeID: "node-2", sinceAt: at(0) }],
  bulks: [{ id: "b-1", act: "retry", state: "running" }],
  keys: { held: 2, behind: 10_000, capped: ["behind"], longest: [] }
};

it("overview: the sentence first, then small tables", () => {
  const text = overviewText(overview);
  expect(text.split("\n")[0]).toBe("1 message is dead: mail. Somebody has to act.");
  expect(text.split("\n")[1]).toBe(`  ${overview.also[0]}`);
  for (const part of [
    /pending +│ 2 +│ 1 min/,
    /consumed +│ 10,000\+ +│/,
    /dead +│ 1 +│ 1 h/,
    /mail +│ 7 +│ 0 +│ 1 +│ 1.2 +│ 0 +│ node-1/,
    /stock +│ \? +│ \? +│ 10,000\+/,
    /RabbitMQ │ does not answer: ECONNREFUSED │ 2026-01-01T00:00:00.000Z/,
    /node-1 +│ silent: no answer within 2000 ms/,
    /python-1 │ a consumer without a store/,
    /Leases: 0: node-1, 1: nobody/,
    /Paused: mail \(order\.\*\) since 2026-01-01T00:00:00.000Z by emma/,
    /Breaker open: stock on node-2/,
    /Bulk retry b-1: running/,
    /Held keys: 2; 10,000\+ message\(s\) wait for their turn: reliable keys/,
    /reliable list --status dead/,
    /3 unreadable message\(s\)/
  ])
    expect(text).toMatch(part);
  expect(text).not.toContain("intended");
});

it("overview: while the store says nothing, the sentence and what is known", () => {
  const text = overviewText({ ...overview, messages: null, groups: [] });
  expect(text).toContain("The store does not say how many messages there are.");
  expect(text).toContain("No group is known.");
});

const step = (fields: Partial<HistoryStep>): HistoryStep => ({
  at: seen,
  ...(Object.fromEntries(COUNTS.map(name => [name, 0])) as Record<(typeof COUNTS)[number], number>),
  times: [],
  p50Ms: null,
  p95Ms: null,
  p99Ms: null,
  ...fields
});

it("history: steps in which something happened, and their sum", () => {
  const history: History = {
    ...{ fromAt: seen, toAt: at(120_000).toISOString(), stepMs: 60_000, boundsMs: [] },
    steps: [step({}), step({ at: at(60_000).toISOString(), handled: 1200, p50Ms: 1.5 })],
    total: step({ handled: 1200, p50Ms: 1.5 })
  };
  const text = historyTable(history);
  expect(text).toMatch(/2026-01-01T00:01:00.000Z │ 0 +│ 0 +│ 1,200 +│ 0 +│ 0 +│ 0 +│ 1.5/);
  expect(text).toMatch(/all +│ 0 +│ 0 +│ 1,200/);
  expect(text).not.toContain("│ 2026-01-01T00:00:00.000Z");
  expect(historyTable({ ...history, steps: [step({})] })).toBe(
    "Nothing was counted from 2026-01-01T00:00:00.000Z to 2026-01-01T00:02:00.000Z."
  );
  expect(historyTable({ ...history, capped: true })).toContain("give a shorter time");
});
