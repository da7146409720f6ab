import { expect, it } from "vitest";
import { ANY_GROUP } from "../../src/message/message";
import { BEHIND_AT } from "../../src/message/order";
import { toStory } from "../../src/operator/story";
import { messageOf } from "../support/messages";

it("a message's history begins with its emit, also when the confirm's clock is behind the producer's", () => {
  const message = messageOf({ createdAt: new Date(1000), publishedAt: new Date(990) });
  expect(toStory(message, 2000).timeline.map(({ what }) => what)).toEqual([
    expect.stringMatching(/^stored by/),
    "published: confirmed and routed"
  ]);
});

it("a failure that the store's clock dates before the emit comes after the publish that it is about", () => {
  const at = (ms: number) => new Date(ms);
  const failure = {
    at: at(995),
    cause: "handler" as const,
    group: "stock",
    attempt: 1,
    error: { name: "E", message: "no" }
  };
  const message = messageOf({ strategy: "callback", createdAt: at(1000), publishedAt: at(1000), failures: [failure] });
  expect(toStory(message, 2000).timeline.map(({ what }) => what)).toEqual([
    expect.stringMatching(/^emitted by/),
    "published by its producer, which was told the outcome",
    expect.stringMatching(/^attempt 1 failed in stock/)
  ]);
});

it("an open message says that nobody takes it, who is missed, and until when that costs nothing", () => {
  const unroutable = { [ANY_GROUP]: new Date(1000), audit: new Date(2000) };
  const told = (fields: object) => toStory(messageOf({ unroutable, unroutableMs: 5000, ...fields }), 3000).reason;
  expect(told({ waiting: [ANY_GROUP] })).toBe(
    "unroutable since 1970-01-01T00:00:01.000Z: no group is known for 'order.created'; sent when there is one, and costs no attempt until 1970-01-01T00:00:06.000Z"
  );
  expect(told({ waiting: ["mail", "audit"] })).toMatch(
    /since 1970-01-01T00:00:02.*: group audit is not known for 'order\.created'; /
  );
  expect(told({ waiting: ["mail"] })).toBeUndefined();
  expect(told({ waiting: ["audit"], reason: "handler in group mail" })).toBe("handler in group mail");
});

it("the reason is of the groups that have failed now, not of one that has answered or was forgotten since", () => {
  const died = (group: string, reason: string) => ({
    at: new Date(0),
    by: "n",
    act: "dead" as const,
    note: reason,
    groups: [group]
  });
  const notes = [died("mail", "no mailbox"), died("stock", "no stock")];
  const told = (fields: object) =>
    toStory(messageOf({ status: "dead", waiting: [], reason: "no stock", notes, ...fields }), 0).reason;
  expect(told({ failed: ["mail", "stock"] })).toBe("no mailbox; no stock");
  expect(told({ failed: ["stock"] })).toBe("no stock");
  expect(told({ failed: ["mail"] })).toBe("no mailbox");
  // Of no group: the store's own words.
  expect(told({ failed: ["mail"], reason: "refused by the store" })).toBe("refused by the store");
});

it("a group that had failed is resolved with its message, whether others were waited for or not", () => {
  const told = (fields: object) => toStory(messageOf({ waiting: [], ...fields }), 0).groups;
  expect(told({ status: "dead", failed: ["mail"] })).toMatchObject([{ group: "mail", state: "failed" }]);
  expect(told({ status: "resolved", failed: ["mail"], resolved: ["stock"] })).toMatchObject([
    { group: "stock", state: "resolved" },
    { group: "mail", state: "resolved" }
  ]);
});

it("one that stands behind others says so, and no instant; what is scheduled for the end of time has its own", () => {
  const order = { key: "order-7" };
  const behind = toStory(messageOf({ order, dueAt: BEHIND_AT }), 3000);
  expect(behind).toMatchObject({ orderKey: "order-7", reason: expect.stringContaining("waits for its turn") });
  expect(behind).not.toHaveProperty("dueAt");
  const turn = toStory(messageOf({ order, dueAt: new Date(5000) }), 3000);
  expect(turn).toMatchObject({ orderKey: "order-7", dueAt: "1970-01-01T00:00:05.000Z" });
  expect(turn.reason).toBeUndefined();
  const party = toStory(messageOf({ status: "scheduled", sendAt: BEHIND_AT, dueAt: BEHIND_AT }), 3000);
  expect(party).toMatchObject({ dueAt: BEHIND_AT.toISOString() });
  expect(party.reason).toBeUndefined();
});
