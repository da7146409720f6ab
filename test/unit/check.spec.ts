import { expect, it } from "vitest";
import { messageOfEcho, parseCheck, withReceipts } from "../../src/wire/check";
import type { Wire } from "../../src/wire/envelope";

const plan = {
  v: 1,
  at: 1_700_000_000_000,
  delays: [1000, 2000],
  max: 2,
  backoff: { initialMs: 500, maxMs: 1000, jitter: "none" },
  source: { action: "orders.find", params: { id: 7 } },
  intent: "source"
};

/** As RabbitMQ's deliveries are: nothing of it is a property of its own. */
class Delivered implements Wire {
  get messageId() {
    return "id-1";
  }

  get type() {
    return "order.created";
  }

  get headers() {
    return {
      "x-reliable-version": 1,
      "x-reliable-strategy": "callback",
      "x-reliable-attempt": 1,
      "x-reliable-producer": "orders",
      "x-reliable-receipt": "receipts",
      "x-reliable-round": 1,
      "x-reliable-intent": "source",
      "x-reliable-echo": JSON.stringify(plan)
    };
  }

  get body() {
    return Buffer.alloc(0);
  }
}

it("a check without a payload, which its source has, is read from a delivery whose fields are getters", () => {
  const { row, round } = parseCheck(new Delivered(), () => ["mail"], new Date());
  expect(round).toBe(1);
  expect(row).toMatchObject({
    _id: "id-1",
    event: "order.created",
    producer: "orders",
    status: "intended",
    source: plan.source,
    waiting: ["mail"]
  });
  expect(row.body).toHaveLength(0);
});

it("a producer whose clock is ahead does not put off the row: it has emitted, so its check is due after the first delay at most", () => {
  const now = new Date(plan.at - 600_000);
  const { row } = parseCheck(new Delivered(), () => ["mail"], now);
  expect(Number(row.dueAt) - now.getTime()).toBeLessThan(60_000);
});

it("a row that is known from receipts is stored as what they leave of it", () => {
  const now = new Date(plan.at + 50);
  const echo = {
    event: "order.created",
    producer: "orders",
    plan: JSON.stringify({ ...plan, source: undefined, intent: undefined })
  };
  const row = messageOfEcho("id-1", echo, () => ["mail", "stock"], now);
  const receipt = { at: now, nodeID: "n", durationMs: 1, attempt: 1 };
  const half = withReceipts(row, new Map([["mail", receipt]]), now);
  expect(half).toEqual({ ...row, waiting: ["stock"], receipts: { mail: receipt } });
  const { dueAt: _dueAt, ...closed } = row;
  const all = new Map(["mail", "stock"].map(group => [group, receipt]));
  // What nobody looks at any more is in no index of the sweeper's.
  expect(withReceipts(row, all, now)).toEqual({
    ...closed,
    waiting: [],
    receipts: { mail: receipt, stock: receipt },
    status: "consumed",
    at: now
  });
  expect(withReceipts(row, new Map([["late", receipt]]), now)).toMatchObject({
    status: "published",
    waiting: ["mail", "stock"],
    receipts: { late: receipt }
  });
});
