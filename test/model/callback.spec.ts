import { describe } from "vitest";
import { holds } from "./check";

describe("callback", () => {
  holds("callback", [
    ["nothing goes wrong", {}],
    ["a delay is over too early", { slow: 1 }, { atOnce: 2 }],
    ["a publish or its confirm is lost", { lose: 1 }],
    ["a queue is purged", { purge: 1 }],
    ["an answer comes too late", { timeout: 1 }],
    ["handlers fail", { fail: 3 }],
    ["a message comes twice", { duplicate: 1 }],
    ["an outage, and a failure of its own", { outage: 1, fail: 1 }, { breaker: true, atOnce: 1 }],
    ["two callback services: a process dies", { crash: 1 }, { checkers: 2, atOnce: 2 }],
    ["two callback services: checks come twice", { duplicate: 1 }, { checkers: 2, atOnce: 2 }],
    ["two groups: a handler fails", { fail: 1 }, { groups: 2, atOnce: 1 }],
    ["one that has failed for good is retried", { fail: 1, retry: 1 }, { maxAttempts: 1, atOnce: 2 }],
    [
      "two groups: one that has failed for good is retried",
      { fail: 1, retry: 1 },
      { groups: 2, maxAttempts: 1, atOnce: 1 }
    ]
  ]);
});

/** A pause costs no attempt, whatever its consumer had in hand and whoever dies meanwhile. */
describe("callback, with pauses", () => {
  holds("callback", [
    ["a pause, one attempt only", { pause: 1 }, { pauses: true, maxAttempts: 1 }],
    ["two pauses, a failure", { pause: 2, fail: 1 }, { pauses: true, atOnce: 1 }],
    ["a pause, a process dies", { pause: 1, crash: 1 }, { pauses: true, maxAttempts: 1 }],
    ["two groups, a pause of one", { pause: 1 }, { pauses: true, groups: 2, maxAttempts: 1, atOnce: 1 }]
  ]);
});

describe("callback, receipts in the row", () => {
  holds("callback", [
    ["a process dies, a message comes twice", { crash: 1, duplicate: 1 }, { rows: true, atOnce: 1 }],
    ["a publish or its confirm is lost", { lose: 1 }, { rows: true }],
    ["handlers fail", { fail: 2 }, { rows: true, atOnce: 2 }],
    ["two groups, one without this store: a process dies", { crash: 1 }, { rows: true, groups: 2, atOnce: 1 }]
  ]);
});

describe("callback, intent first", () => {
  holds("callback", [
    ["barrier: the business transaction throws", { commit: 1 }, { intent: "barrier", atOnce: 2 }],
    ["barrier: two die, one after the other", { crash: 2 }, { intent: "barrier", atOnce: 1, maxAttempts: 1 }],
    ["source: an answer comes too late", { timeout: 1 }, { intent: "source", atOnce: 2 }]
  ]);
});
