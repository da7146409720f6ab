import { describe } from "vitest";
import { holds } from "../check";

const once = { maxAttempts: 1 };

describe("outbox", () => {
  holds("outbox", [
    ["two sweepers: a publish or its confirm is lost, a process dies", { lose: 1, crash: 1 }, { sweepers: 2 }],
    [
      "two sweepers in a backlog, where records are written a page later: a process dies",
      { crash: 1, fail: 1 },
      { sweepers: 2, pageSize: 1, atOnce: 3 }
    ],
    [
      "two groups: one fails for good, and a human resolves it",
      { fail: 1, resolve: 1 },
      { groups: 2, ...once, atOnce: 2 }
    ],
    [
      "one that has failed for good is retried, and a process dies",
      { fail: 1, retry: 1, crash: 1 },
      { ...once, atOnce: 2 }
    ],
    ["an outage twice, and a failure of its own", { outage: 2, fail: 1 }, { breaker: true }],
    ["an outage, and it always fails, messages come twice", { outage: 1, fail: 2, duplicate: 1 }, { breaker: true }],
    ["two groups: handlers fail", { fail: 2 }, { groups: 2 }],
    ["two groups that nobody knew: a process dies", { crash: 1 }, { groups: 2, unknownGroups: true, atOnce: 2 }]
  ]);
});
