import { describe } from "vitest";
import { holds } from "./check";

describe("outbox", () => {
  holds("outbox", [
    ["nothing goes wrong", {}],
    ["two processes die", { crash: 2 }],
    ["a process dies, a delay is over too early", { crash: 1, slow: 1 }],
    ["two sweepers: claims run out while their holders are at it", { slow: 1 }, { sweepers: 2 }],
    ["two sweepers, two trackers: a process dies", { crash: 1 }, { sweepers: 2, trackers: 2 }],
    ["handlers fail, messages come twice", { fail: 3, duplicate: 1 }],
    ["the queue is purged, a process dies", { purge: 1, crash: 1 }],
    ["two groups", {}, { groups: 2 }]
  ]);
});

describe("outbox, intent first", () => {
  holds("outbox", [
    ["barrier: a process dies, a delay is over too early", { crash: 1, slow: 1 }, { intent: "barrier" }],
    ["barrier: the business transaction throws, a process dies", { commit: 1, crash: 1 }, { intent: "barrier" }],
    [
      "barrier: the business transaction throws, a delay is over too early",
      { commit: 1, slow: 1 },
      { intent: "barrier" }
    ],
    ["barrier: two sweepers, an answer comes too late", { timeout: 1, crash: 1 }, { intent: "barrier", sweepers: 2 }],
    ["source: a process dies, an answer comes too late", { crash: 1, timeout: 1 }, { intent: "source" }]
  ]);
});
