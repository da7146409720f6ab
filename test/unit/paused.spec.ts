import { describe, expect, it } from "vitest";
import { pausableGroup, pauses } from "../../src/message/paused";
import type { Pause } from "../../src/message/records";
import { Subscriptions } from "../../src/outbound/subscriptions";
import { systemClock } from "../../src/platform/clock";
import type { Store } from "../../src/stores/store";
import { controlOf, parseControl, parseSweepNews, sweepNewsOf } from "../../src/wire/control";
import { Unreadable } from "../../src/wire/json";
import { MAX_NAME_BYTES, pauseMarker } from "../../src/wire/names";
import { at, silent, subscriptionOf } from "../support/messages";

const pauseOf = (fields: Partial<Pause>): Pause => ({ group: "stock", at: at(0), by: "anna", note: "why", ...fields });

describe("markers", () => {
  it.each([
    ["shop", "stock", undefined, "shop.reliable.paused.stock"],
    ["", "stock", "order.*", "reliable.paused.stock:order.*"],
    ["shop", "queue/mail.send", undefined, "shop.reliable.paused.queue/mail.send"]
  ])("in '%s' of %s %s: %s", (namespace, group, pattern, name) =>
    expect(pauseMarker(namespace, group, pattern)).toBe(name)
  );

  it("of names that are too long are short, and not the same", () => {
    const namespace = "n".repeat(222);
    const names = ["a", "b", "c"].map(letter => letter.repeat(40)).map(group => pauseMarker(namespace, group));
    expect(new Set(names).size).toBe(3);
    for (const name of names) {
      expect(Buffer.byteLength(name)).toBeLessThanOrEqual(MAX_NAME_BYTES);
      expect(name).toMatch(/\.reliable\.paused\.#[\w-]{15}$/);
    }
  });
});

it("a control message that is not of version 1, or names no group, is left aside", () => {
  expect(parseControl(controlOf("stock"))).toEqual({ v: 1, group: "stock" });
  for (const body of [
    "",
    "[]",
    "null",
    "{}",
    '{"v":2,"group":"stock"}',
    '{"v":1}',
    '{"v":1,"group":"a\u0000"}',
    "[".repeat(9000)
  ])
    expect(() => parseControl(Buffer.from(body))).toThrow(Unreadable);
});

it("news to the nodes that sweep that does not say what to look for is left aside", () => {
  expect(parseSweepNews(sweepNewsOf("bulks"))).toEqual({ v: 1, look: "bulks" });
  for (const body of ["null", '{"v":2,"look":"bulks"}', '{"v":1}', '{"v":1,"look":"all"}', '{"v":1,"group":"stock"}'])
    expect(() => parseSweepNews(Buffer.from(body))).toThrow(Unreadable);
});

it.each([
  ["stock", undefined, "stock", "order.created", true],
  ["stock", undefined, "stock:order.*", "order.*", true],
  ["stock", "order.created", "stock", "order.created", true],
  ["stock", "order.created", "stock", "order.paid", false],
  ["stock", "order.*", "stock:order.*", "order.*", true],
  ["stock", undefined, "stocks", "order.created", false]
])("a pause of %s %s is of %s with %s: %s", (group, pattern, label, of, expected) =>
  expect(pauses({ group, ...(pattern && { pattern }) }, { group: label, pattern: of })).toBe(expected)
);

it("jobs are paused by their queue, whatever settles them", () => {
  expect(pausableGroup("queue-confirm/a%2Fb")).toBe("queue/a%2Fb");
  expect(pausableGroup("queue/a")).toBe("queue/a");
});

it("since when a group takes: never, since the last resume, or as ever", async () => {
  const pauses = [
    pauseOf({ group: "mail" }),
    pauseOf({ resumed: { at: at(10), by: "ben" } }),
    pauseOf({ pattern: "order.created", resumed: { at: at(20), by: "ben" } }),
    pauseOf({ group: "far", pattern: "order.paid" }),
    pauseOf({ group: "queue/jobs" })
  ];
  const subscriptions = ["stock", "mail", "far", "other"].map(group => subscriptionOf(group));
  const known = async () => ({ subscriptions, pauses });
  const store = { ready: true, subscriptions: { known }, onReady: () => () => undefined } as unknown as Store;
  const seen = new Subscriptions(store, 60_000, silent, systemClock);
  await seen.refresh();
  const since = (group: string, event = "order.created") => seen.takesSince(group, event);
  expect(["mail", "stock", "far", "other", "queue-confirm/jobs"].map(group => since(group))).toEqual([
    "never",
    at(20),
    undefined,
    undefined,
    "never"
  ]);
  expect(seen.pausedFor("order.created").map(({ group }) => group)).toEqual(["mail"]);
  expect(seen.pausedFor("jobs").map(({ group }) => group)).toEqual(["queue/jobs"]);
});
