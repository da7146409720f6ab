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
    ["two callback services: a process dies", { crash: 1 }, { checkers: 2, atOnce: 2 }],
    ["two callback services: checks come twice", { duplicate: 1 }, { checkers: 2, atOnce: 2 }],
    ["two groups: a handler fails", { fail: 1 }, { groups: 2, atOnce: 1 }]
  ]);
});

describe("callback, intent first", () => {
  holds("callback", [
    ["barrier: the business transaction throws", { commit: 1 }, { intent: "barrier", atOnce: 2 }],
    ["barrier: two die, one after the other", { crash: 2 }, { intent: "barrier", atOnce: 1, maxAttempts: 1 }],
    ["source: an answer comes too late", { timeout: 1 }, { intent: "source", atOnce: 2 }]
  ]);
});
