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
    ["the queue is purged, and the sweep that finds no attempt left dies", { purge: 1, crash: 1 }, { maxAttempts: 1 }],
    ["two groups", {}, { groups: 2 }],
    [
      "two groups: one fails for good, and a human retries it",
      { fail: 1, retry: 1 },
      { groups: 2, maxAttempts: 1, atOnce: 1 }
    ],
    [
      "two groups: one fails for good, and a human resolves it",
      { fail: 1, resolve: 1 },
      { groups: 2, maxAttempts: 1, atOnce: 1 }
    ],
    [
      "a message fails for good, is retried, and a process dies",
      { fail: 1, retry: 1, crash: 1 },
      { maxAttempts: 1, atOnce: 1 }
    ]
  ]);
});

/** An outage kills nothing: neither by what is excused nor by what was told before the breaker opened. */
describe("outbox, with breakers", () => {
  holds("outbox", [
    ["an outage, and a failure of its own", { outage: 1, fail: 1 }, { breaker: true, maxAttempts: 2 }],
    ["an outage, and it always fails", { outage: 1, fail: 2 }, { breaker: true, maxAttempts: 2 }],
    ["an outage, one attempt only", { outage: 1 }, { breaker: true, maxAttempts: 1 }],
    [
      "an outage, one attempt only, messages come twice",
      { outage: 1, duplicate: 1 },
      { breaker: true, maxAttempts: 1 }
    ],
    ["an outage, two trackers", { outage: 1 }, { breaker: true, maxAttempts: 1, trackers: 2, atOnce: 2 }]
  ]);
});

/** A pause costs no attempt, whatever its consumer had in hand and whoever dies meanwhile. */
describe("outbox, with pauses", () => {
  holds("outbox", [
    ["a pause, one attempt only", { pause: 1 }, { pauses: true, maxAttempts: 1 }],
    ["two pauses, a failure", { pause: 2, fail: 1 }, { pauses: true }],
    ["a pause, a process dies", { pause: 1, crash: 1 }, { pauses: true, maxAttempts: 1 }],
    ["two groups, a pause of one", { pause: 1 }, { pauses: true, groups: 2, maxAttempts: 1, atOnce: 1 }]
  ]);
});

/** Receipts that the consumer writes into the row itself: what it has handled is known, whoever dies. */
describe("outbox, receipts in the row", () => {
  holds("outbox", [
    ["two processes die", { crash: 2 }, { rows: true }],
    ["messages come twice, a process dies", { duplicate: 1, crash: 1 }, { rows: true }],
    ["handlers fail, a message comes twice", { fail: 2, duplicate: 1 }, { rows: true }],
    ["claims run out, a message comes twice", { slow: 1, duplicate: 1 }, { rows: true, sweepers: 2 }],
    ["two groups, one without this store: a process dies", { crash: 1 }, { rows: true, groups: 2, atOnce: 2 }],
    [
      "one that has failed for good is retried",
      { fail: 1, retry: 1, crash: 1 },
      { rows: true, maxAttempts: 1, atOnce: 1 }
    ]
  ]);
});

/** Later: what is scheduled is sent when it is due, or called off, whoever dies. */
describe("outbox, later", () => {
  holds("outbox", [
    ["two processes die", { crash: 2 }, { later: true }],
    ["claims run out, two sweepers", { slow: 1 }, { later: true, sweepers: 2 }],
    ["it is called off, a process dies", { cancel: 1, crash: 1 }, { later: true }],
    ["it is called off, claims run out, two sweepers", { cancel: 1, slow: 1 }, { later: true, sweepers: 2, atOnce: 2 }],
    ["two groups, it is called off", { cancel: 1 }, { later: true, groups: 2, atOnce: 2 }],
    ["it fails for good, and is retried", { fail: 1, retry: 1 }, { later: true, maxAttempts: 1 }]
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
