import { describe } from "vitest";
import { inOrder } from "../order/check";
import { inTurn, ofBoth, ofOne, overtaking, skipping, together, twoKeys, withSession } from "../order/scenarios";

const groups = ["stock"];
const sweepers = 2;
const trackers = 2;

describe("one process, two messages of one key", () => {
  const two = { emitters: ofOne, groups };
  inOrder([
    ["two processes die", { crash: 2, switch: 0 }, two],
    ["a process dies, interrupted once", { crash: 1, switch: 1 }, two],
    [
      "claims run out, receipts come late and twice",
      { slow: 1, duplicate: 1, switch: 0 },
      { ...two, sweepers, trackers }
    ],
    ["two groups: handlers fail", { fail: 1, switch: 0 }, { ...two, groups: ["stock", "mail"] }]
  ]);
});

describe("several processes", () => {
  inOrder([
    ["two at the same time: one dies", { crash: 1, switch: 0 }, { emitters: ofBoth, groups }],
    ["one after the other: claims run out", { slow: 1, switch: 0 }, { emitters: inTurn, groups, sweepers, trackers }],
    [
      "skip: a human retries the dead one",
      { fail: 1, retry: 1, switch: 1 },
      { emitters: skipping, groups, maxAttempts: 1 }
    ],
    ["three: two at the same time, one of them dies", { crash: 1, switch: 0 }, { emitters: together, groups }],
    ["four: three of one process, and one after the first", { switch: 0 }, { emitters: overtaking, groups }],
    [
      "two keys: handlers fail, a process dies",
      { fail: 1, crash: 1, switch: 0 },
      { emitters: twoKeys, groups, atOnce: 1 }
    ],
    ["in a transaction: two processes die", { crash: 2, switch: 0 }, { emitters: withSession, groups }],
    [
      "no group is known at first: a process dies",
      { crash: 1, switch: 0 },
      { emitters: inTurn, groups, unknown: true, atOnce: 1 }
    ]
  ]);
});
