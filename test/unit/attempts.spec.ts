import { describe, expect, it } from "vitest";
import { attemptsLeft, attemptsMade, highestAttempt, judgeFailure, unroutableYet } from "../../src/message/attempts";
import { ANY_GROUP, type Message } from "../../src/message/message";
import { at, messageOf } from "../support/messages";

const error = { name: "Error", message: "boom" };
const now = at(100_000);

describe("attemptsMade", () => {
  const table: [what: string, fields: Partial<Message>, made: number][] = [
    ["never published", {}, 0],
    ["published, nothing counted yet: the first attempt is out", { publishedAt: at(1) }, 1],
    ["counted", { publishedAt: at(1), attempts: { stock: 2 } }, 2],
    ["counted for another group only", { publishedAt: at(1), attempts: { mail: 2 } }, 1],
    ["counted, though the record of the first publish is missing", { attempts: { stock: 2 } }, 2]
  ];
  it.each(table)("%s", (_, fields, made) => {
    expect(attemptsMade(messageOf(fields), "stock")).toBe(made);
  });
});

describe("highestAttempt", () => {
  const table: [what: string, fields: Partial<Message>, highest: number][] = [
    ["never published: its receipt may overtake the record", {}, 1],
    ["published, nothing counted yet", { publishedAt: at(1) }, 2],
    ["counted", { publishedAt: at(1), attempts: { stock: 2 } }, 3],
    ["failed, the next one is on its way", { publishedAt: at(1), attempts: { stock: 2 }, spent: { stock: 4 } }, 5],
    ["counted for another group only", { publishedAt: at(1), attempts: { mail: 7 }, spent: { mail: 7 } }, 2],
    ["sent to whoever is there", { publishedAt: at(1), attempts: { [ANY_GROUP]: 3 } }, 4],
    [
      "after a retry by hand",
      { publishedAt: at(1), attempts: { stock: 3 }, spent: { stock: 3 }, base: { stock: 3 } },
      4
    ]
  ];
  it.each(table)("%s", (_, fields, highest) => {
    expect(highestAttempt(messageOf(fields), "stock")).toBe(highest);
  });

  it("what was sent to the name of a wildcard group counts for it", () => {
    expect(highestAttempt(messageOf({ publishedAt: at(1), attempts: { stock: 3, sto: 9 } }), "stock:order.**")).toBe(4);
  });
});

describe("attemptsLeft", () => {
  const table: [what: string, fields: Partial<Message>, spent: number, left: number][] = [
    ["first of three failed", {}, 1, 2],
    ["last of three failed", {}, 3, 0],
    ["only one allowed", { maxAttempts: 1 }, 1, 0],
    ["fresh budget after a retry by hand", { base: { stock: 3 } }, 4, 2],
    ["fresh budget spent too", { base: { stock: 3 } }, 6, 0],
    ["another group's retry counts for that group only", { base: { mail: 3 } }, 3, 0]
  ];
  it.each(table)("%s", (_, fields, spent, left) => {
    expect(attemptsLeft(messageOf(fields), "stock", spent)).toBe(left);
  });
});

describe("judgeFailure", () => {
  const table: [what: string, fields: Partial<Message>, attempt: number, retryable: boolean, delayMs: number | null][] =
    [
      ["attempt 1 of 3: again after the initial backoff", {}, 1, true, 1000],
      ["attempt 2 of 3: after twice that", {}, 2, true, 2000],
      ["attempt 3 of 3: spent", {}, 3, true, null],
      ["beyond the last: spent", {}, 4, true, null],
      ["backoff is capped", { maxAttempts: 100 }, 9, true, 10_000],
      ["not retryable: spent at once", {}, 1, false, null],
      ["a single attempt", { maxAttempts: 1 }, 1, true, null],
      ["after a retry by hand the backoff begins anew", { base: { stock: 3 } }, 4, true, 1000],
      ["and so does the budget", { base: { stock: 3 } }, 6, true, null]
    ];
  it.each(table)("%s", (_, fields, attempt, retryable, delayMs) => {
    const { nextAt } = judgeFailure(messageOf(fields), "stock", attempt, "handler", error, { now, retryable });
    expect(nextAt && nextAt.getTime() - now.getTime()).toBe(delayMs);
  });

  it("names the attempt, the group, the node and the cause", () => {
    const message = messageOf();
    expect(judgeFailure(message, "stock", 2, "handler", error, { now, nodeID: "node-1" })).toEqual({
      id: message._id,
      event: "order.created",
      group: "stock",
      attempt: 2,
      failure: { at: now, cause: "handler", group: "stock", attempt: 2, nodeID: "node-1", error },
      nextAt: new Date(now.getTime() + 2000),
      reason: "handler in group stock at attempt 2: boom"
    });
  });

  it("names no group where none is known, and no node where none had it", () => {
    const { reason, failure } = judgeFailure(messageOf(), ANY_GROUP, 1, "unroutable", error, { now });
    expect(reason).toBe("unroutable at attempt 1: boom");
    expect(failure).not.toHaveProperty("nodeID");
  });

  it("keeps the reason to one bounded line", () => {
    const { reason } = judgeFailure(
      messageOf(),
      "stock",
      1,
      "handler",
      { name: "Error", message: "x".repeat(5000) },
      { now }
    );
    expect(reason).toHaveLength(500);
  });
});

describe("unroutableYet", () => {
  const HOUR = 3_600_000;
  const since = (ms: number) => ({ unroutable: { [ANY_GROUP]: at(100_000 - ms) } });
  const backoff = { initialMs: 1000, maxMs: 300_000, jitter: "none" } as const;
  const look = (fields: Partial<Message>, group = ANY_GROUP, pauseMs?: number) =>
    unroutableYet(messageOf({ backoff, ...fields }), group, 1, { now, reason: "312 NO_ROUTE", pauseMs });

  it("begins with the first publish that no queue took", () => {
    expect(look({})).toMatchObject({
      attempt: 1,
      unroutable: { event: "order.created", since: now },
      failure: {
        at: now,
        cause: "displaced",
        error: { message: "312 NO_ROUTE; no group is known for 'order.created'" }
      }
    });
    expect(look(since(5000))?.unroutable).toEqual({ event: "order.created", since: at(95_000) });
  });

  const pauses: [what: string, fields: Partial<Message>, least: number, most: number][] = [
    ["at first the backoff's first one", {}, 750, 1250],
    ["which grows with the time", since(60_000), 22_500, 37_500],
    ["up to the backoff's longest", since(HOUR - 400_000), 225_000, 375_000],
    ["and to the end of that time", since(HOUR - 5000), 5000, 5000]
  ];
  it.each(pauses)("pauses %s", (_, fields, least, most) => {
    const all = Array.from({ length: 100 }, () => Number(look(fields)?.nextAt) - now.getTime());
    expect(Math.min(...all)).toBeGreaterThanOrEqual(least);
    expect(Math.max(...all)).toBeLessThanOrEqual(most);
  });

  it("pauses as the next check does where there is one", () => {
    expect(look(since(60_000), ANY_GROUP, 600_000)?.nextAt).toEqual(at(700_000));
    expect(look(since(HOUR - 5000), ANY_GROUP, 600_000)?.nextAt).toEqual(at(105_000));
  });

  it.each<[what: string, fields: Partial<Message>, group?: string]>([
    ["after its time", since(HOUR)],
    ["without any", { unroutableMs: 0 }],
    ["of a queue for jobs, which is made where it is missing", {}, "queue/mail.send"]
  ])("is over %s", (_, fields, group) => {
    expect(look(fields, group)).toBeUndefined();
  });
});
