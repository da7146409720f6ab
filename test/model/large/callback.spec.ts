import { describe } from "vitest";
import { holds } from "../check";

describe("callback", () => {
  holds("callback", [
    ["a process dies", { crash: 1 }],
    ["an outage, and a failure of its own", { outage: 1, fail: 1 }, { breaker: true, atOnce: 2 }],
    ["two groups", {}, { groups: 2, atOnce: 2, maxAttempts: 1 }]
  ]);
});

describe("callback, intent first", () => {
  holds("callback", [
    ["barrier: a process dies", { crash: 1 }, { intent: "barrier", atOnce: 2 }],
    ["barrier: a delay is over too early", { slow: 1 }, { intent: "barrier", atOnce: 2 }],
    ["barrier: a publish or its confirm is lost", { lose: 1 }, { intent: "barrier", atOnce: 2 }],
    ["source: a process dies", { crash: 1 }, { intent: "source", atOnce: 2 }]
  ]);
});
