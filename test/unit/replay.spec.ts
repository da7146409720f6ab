import { describe, expect, it } from "vitest";
import type { Kept } from "../../src/message/replay";
import { hasPayload, isCopiedTo, isMeant, recipientsOf, replayedOf, replayId } from "../../src/message/replay";
import { at, deadOf, finalOf, messageOf, noteOf, receiptOf } from "../support/messages";

const keptOf = (fields: object = {}): Kept => ({ ...finalOf("consumed", at(5), fields), bytes: 7 });

describe("who gets what is replayed", () => {
  const takers = ["mail", "mail:order.*"];
  it.each<[what: string, fields: object, again: boolean, groups: string[]]>([
    ["what it has not handled", { receipts: { stock: receiptOf() } }, false, takers],
    ["what one of its handlers has handled", { receipts: { mail: receiptOf() } }, false, ["mail:order.*"]],
    ["what it has handled, again", { receipts: { mail: receiptOf() } }, true, takers],
    ["what it waits for", { waiting: ["mail"] }, true, []],
    ["what one of its handlers waits for", { waiting: ["mail:order.*"] }, false, ["mail"]],
    ["what waits for whoever comes", { waiting: ["*"] }, true, []],
    ["what it has failed in", { failed: ["mail"] }, true, ["mail:order.*"]],
    ["what a human has resolved", { status: "resolved", failed: ["mail"] }, false, ["mail:order.*"]],
    ["what a human has resolved, again", { status: "resolved", failed: ["mail"] }, true, takers],
    ["what a human has resolved for it", { resolved: ["mail"] }, false, ["mail:order.*"]],
    ["what nobody took, and died", { failed: ["*"] }, false, takers],
    ["what is addressed to it", { groups: ["mail", "stock"] }, false, takers],
    ["what is addressed to others", { groups: ["stock"] }, true, []],
    ["a job", { groups: ["queue/print"] }, true, []]
  ])("%s", (_, fields, again, groups) => expect(recipientsOf(keptOf(fields), takers, again)).toEqual(groups));
});

it.each<[what: string, fields: object, takers: string[]]>([
  ["handled", { receipts: { mail: receiptOf() } }, ["mail"]],
  ["on its way", { waiting: ["mail:order.*"] }, ["mail:order.*"]],
  ["dead: a human is to look at it", { failed: ["mail"], waiting: ["mail:order.*"] }, ["mail", "mail:order.*"]],
  ["resolved by a human", { resolved: ["mail"] }, ["mail"]],
  ["released from a group that was forgotten", {}, []]
])("a copy of another replay protects whom it was sent to: %s", (_, fields, takers) =>
  expect(["mail", "mail:order.*"].filter(taker => isCopiedTo(keptOf(fields), taker))).toEqual(takers)
);

it("goes by the instant of the emit, and leaves replays alone", () => {
  const scope = { event: "order.created", from: at(1), to: at(3), again: false };
  const meant = (fields: object) => isMeant(keptOf(fields), scope);
  expect([0, 1, 2, 3].map(ms => meant({ createdAt: at(ms) }))).toEqual([false, true, true, false]);
  expect(meant({ createdAt: at(1), event: "order.paid" })).toBe(false);
  expect(meant({ createdAt: at(1), replay: { bulk: "b", of: "m" } })).toBe(false);
});

it("has no payload once it was dropped, before its check has come, and where its producer keeps it", () => {
  const kept = keptOf();
  expect(
    [kept, { ...kept, droppedAt: at(1) }, { ...kept, partial: true as const }, { ...kept, bytes: 0 }].map(hasPayload)
  ).toEqual([true, ...[false, false, false]]);
});

it("is a message of its own: with all that its original was emitted with, and nothing of its course", () => {
  const original = deadOf({
    ...{ _id: "order-1", strategy: "callback", keys: ["order=1"], encoded: true, meta: { a: 1 }, headers: { b: 2 } },
    ...{ origin: { requestID: "r" }, spent: { stock: 3 }, resend: "copy", delays: [1], round: 1, maxAttempts: 5 }
  });
  const note = noteOf("replay", { at: at(9), bulk: "b", groups: ["mail"] });
  const made = replayedOf(original, { bulk: "b", of: "order-1" }, ["mail"], note);
  const _id = replayId("b", "order-1");
  const { bucket } = messageOf({ _id });
  expect(made).toEqual({
    ...messageOf({ _id, bucket, producer: "orders", maxAttempts: 5, keys: ["order=1"], encoded: true }),
    ...{ meta: { a: 1 }, headers: { b: 2 }, origin: { requestID: "r" }, groups: ["mail"], waiting: ["mail"] },
    ...{ createdAt: at(9), at: at(9), dueAt: at(9), bulk: "b", replay: { bulk: "b", of: "order-1" }, notes: [note] }
  });
  expect(_id).toMatch(/^b\.[0-9a-f]{32}$/);
  expect(replayId("b", "order-2")).not.toBe(_id);
});
