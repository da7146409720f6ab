import { expect, it, vi } from "vitest";
import type { HistoryRow } from "../../src/message/history";
import { ClusterNodes, consumersOf } from "../../src/operator/cluster-nodes";
import { groupsNow } from "../../src/operator/groups-now";
import { systemClock } from "../../src/platform/clock";
import { at } from "../support/messages";

const subscription = (group: string, pattern: string, seenMs = 0, nodeID = "node-1") => ({
  ...{ group, pattern, queue: `q/${group}/${pattern}`, nodeID, service: group },
  ...{ firstSeenAt: at(0), seenAt: at(seenMs) }
});
const minute = (rows: HistoryRow[], nodeID = "node-1") => ({
  ...{ _id: nodeID, unit: "minute" as const, at: at(0), nodeID, rows }
});

it("a group is the sum of its queues, of its nodes' minutes, and of what is dead", () => {
  const [mail, stock, gone] = groupsNow({
    subscriptions: [
      subscription("mail", "order.paid", 5, "node-2"),
      subscription("mail", "order.created"),
      subscription("stock", "order.created")
    ],
    depths: new Map([
      ["q/mail/order.paid", { ready: 2, consumers: 1 }],
      ["q/mail/order.created", { ready: 3, consumers: 0 }],
      ["q/stock/order.created", null]
    ]),
    living: new Set(["q/mail/order.created"]),
    dead: {
      groups: [
        { group: "mail", count: 4 },
        { group: "was", count: 1 }
      ],
      more: true
    },
    minutes: [
      minute([
        { event: "order.created", group: "mail", handled: 10, failed: 1 },
        { event: "order.paid", group: "mail", handled: 2 },
        { event: "order.paid", emitted: 9 }
      ]),
      minute([{ event: "order.paid", group: "mail", handled: 3 }], "node-2")
    ],
    rateMinutes: 5
  });
  expect(mail).toMatchObject({
    ...{ group: "mail", ready: 5, consumers: 1, dead: 4, deadCapped: true, handledPerMinute: 3, failedPerMinute: 0.2 },
    ...{ lastNode: "node-2", lastSeenAt: at(5).toISOString() },
    queues: [
      { pattern: "order.paid", ready: 2, known: true },
      { pattern: "order.created", consumers: 0 }
    ]
  });
  // There is no such queue, which is known.
  expect(stock).toMatchObject({ ready: null, consumers: null, dead: 0, queues: [{ ready: null, known: true }] });
  expect(gone).toMatchObject({ group: "was", dead: 1, lastSeenAt: null, queues: [] });
});

it("nodes without a store are known by what they told lately, and only those that were not asked", () => {
  const now = at(20 * 60_000);
  const rows = consumersOf(
    {
      subscriptions: [subscription("mail", "a", 15 * 60_000, "python-1"), subscription("old", "a", -3_600_000, "gone")],
      minutes: [minute([], "counting"), minute([], "asked")]
    },
    [{ nodeID: "asked", kind: "reliable", answers: true }],
    now
  );
  expect(rows).toEqual([
    { nodeID: "python-1", kind: "consumer", answers: null, lastSeenAt: at(15 * 60_000).toISOString() },
    { nodeID: "counting", kind: "consumer", answers: null, lastSeenAt: at(60_000).toISOString() }
  ]);
});

it("an observer that reaches no other node does not know what they are; who holds a lease has a store", () => {
  const now = at(0);
  const told = {
    subscriptions: [subscription("mail", "a", 0, "mail-1")],
    minutes: [],
    holders: ["orders-1#0198", null]
  };
  const seen = { answers: null, lastSeenAt: now.toISOString() };
  expect(consumersOf(told, [{ nodeID: "desk", kind: "observer", answers: true }], now)).toEqual([
    { nodeID: "mail-1", kind: "unasked", ...seen },
    { nodeID: "orders-1", kind: "unasked", ...seen }
  ]);
  expect(consumersOf(told, [{ nodeID: "desk", kind: "reliable", answers: true }], now)).toEqual([
    { nodeID: "mail-1", kind: "consumer", ...seen },
    { nodeID: "orders-1", kind: "unasked", ...seen }
  ]);
});

it("each node is asked alone: one that fails, is silent or is gone is a row, and this one is not asked", async () => {
  const health = { ok: true, failing: [], degraded: [], sweeping: "held" } as never;
  const call = vi.fn((_action: string, _params: unknown, { nodeID }: { nodeID?: string }): Promise<unknown> => {
    if (nodeID === "frozen") return new Promise(() => undefined);
    return nodeID === "failing" ? Promise.reject(new Error("no such action")) : Promise.resolve(health);
  });
  const nodes = ["desk", "well", "failing", "frozen"].map(nodeID => ({ nodeID, available: true }));
  const registry = { nodes: () => [...nodes, { nodeID: "killed", available: false }] };
  const clock = { ...systemClock, after: (_ms: number, callback: () => void) => systemClock.after(20, callback) };
  const rows = await new ClusterNodes({ nodeID: "desk", registry, call, observer: false, clock }).ask(
    Promise.resolve(health)
  );
  expect(rows.map(({ nodeID, answers, reason }) => [nodeID, answers, reason])).toEqual([
    ["desk", true, undefined],
    ["well", true, undefined],
    ["failing", false, "no such action"],
    ["frozen", false, "no answer within 2000 ms"],
    ["killed", false, "its heartbeats have ended"]
  ]);
  expect(call.mock.calls.map(([action, , { nodeID }]) => [action, nodeID])).toEqual(
    ["well", "failing", "frozen"].map(nodeID => ["reliable.health", nodeID])
  );
});
