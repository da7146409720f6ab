import { describe } from "vitest";
import { inOrder } from "./order/check";
import { inTurn, ofBoth, ofOne, skipping, together, twoKeys, withSession } from "./order/scenarios";

const groups = ["stock"];
const once = { groups, maxAttempts: 1, atOnce: 1 };

describe("one process, two messages of one key", () => {
  const two = { emitters: ofOne, groups };
  inOrder([
    ["nothing goes wrong", {}, two],
    ["a process dies", { crash: 1, switch: 0 }, two],
    ["a publish or its confirm is lost", { lose: 1, switch: 1 }, two],
    ["a message or a receipt comes twice", { duplicate: 1 }, two],
    ["handlers fail", { fail: 2, switch: 1 }, two],
    ["the queue is purged", { purge: 1, switch: 1 }, two],
    ["the store does not answer the emits", { away: 1, switch: 0 }, two],
    ["claims run out, receipts come late: two sweepers", { slow: 1, switch: 0 }, { ...two, sweepers: 2 }],
    ["two groups", { switch: 0 }, { ...two, groups: ["stock", "mail"] }],
    ["hold: one fails for good, and a human resolves it", { fail: 1, resolve: 1 }, { ...two, ...once }],
    ["hold: one fails for good, and a human retries it", { fail: 1, retry: 1, switch: 0 }, { ...two, ...once }]
  ]);
});

describe("two processes", () => {
  inOrder([
    ["one after the other", {}, { emitters: inTurn, groups }],
    ["one after the other: a process dies", { crash: 1, switch: 0 }, { emitters: inTurn, groups }],
    ["at the same time", { switch: 2 }, { emitters: ofBoth, groups }],
    ["skip: one fails for good, claims run out", { fail: 1, slow: 1, switch: 0 }, { emitters: skipping, ...once }],
    ["hold: the other key goes on", { fail: 1 }, { emitters: twoKeys, ...once }],
    ["the first one in a transaction", { switch: 1 }, { emitters: withSession, groups }],
    ["the first one in a transaction: a process dies", { crash: 1, switch: 0 }, { emitters: withSession, groups }],
    ["no group is known at first", { switch: 0 }, { emitters: inTurn, groups, unknown: true }]
  ]);
});

describe("three processes", () => {
  inOrder([["two at the same time, and one after them", { switch: 1 }, { emitters: together, groups }]]);
});
