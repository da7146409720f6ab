import { Utils } from "moleculer";
import { expect, it } from "vitest";
import { bindingKey, consumerGroup, isPattern, isWildcard, matches, namesGroup } from "../../src/message/pattern";
import { eventQueue, systemQueues } from "../../src/wire/names";

const moleculers = (Utils as unknown as { match(event: string, pattern: string): boolean }).match;

it.each([
  ["order.created", "order.created"],
  ["order.*", "order.*"],
  ["*.created", "*.created"],
  ["order.**", "order.#"],
  ["**", "#"],
  ["ord*.created", "*.created"],
  ["ord*er.x", "*.x"],
  ["order.cre*", "#"],
  ["order*", "#"],
  ["order.?", "#"],
  ["order**", "#"],
  ["a.**.b", "a.#.b"]
])("'%s' is bound as '%s'", (pattern, key) => {
  expect(bindingKey(pattern)).toBe(key);
});

it.each([
  ["unpaid", "*.paid"],
  ["order.createdXeu", "order.*.eu"]
])("'%s' is not for '%s', though Moleculer takes the dot for any character", (event, pattern) => {
  expect([moleculers(event, pattern), matches(event, pattern)]).toEqual([true, false]);
});

it("'order*' takes 'order.created', as in Moleculer", () => {
  expect([
    moleculers("order.created", "order*"),
    matches("order.created", "order*"),
    matches("order.created.eu", "order*")
  ]).toEqual([true, true, false]);
});

it.each([
  ["order.*.**.*.*.*.x", true],
  ["a*b*c*", true],
  ["a*b*c*d*", false],
  ["**.a*.*.b", true],
  ["$node.**", false]
])("'%s' is a pattern: %s", (pattern, is) => {
  expect(isPattern(pattern)).toBe(is);
});

it.each([
  ["stock", "order.created", "stock"],
  ["stock", "order.*", "stock:order.*"],
  ["stock", "order.?", "stock:order.?"],
  ["stock", "**", "stock:**"]
])("group %s with pattern '%s' answers as %s", (group, pattern, name) => {
  expect(consumerGroup(group, pattern)).toBe(name);
  expect(namesGroup(group, name)).toBe(true);
  expect(namesGroup(name, name)).toBe(true);
  expect(namesGroup("sto", name)).toBe(false);
  expect(isWildcard(pattern)).toBe(name !== group);
});

it("names carry the namespace", () => {
  expect(eventQueue("prod", "stock", "order.*")).toBe("prod.reliable.on.stock/order.*");
  expect(eventQueue("", "stock", "order.*")).toBe("reliable.on.stock/order.*");
  expect(Object.values(systemQueues("prod")).every(queue => queue.startsWith("prod.reliable."))).toBe(true);
  expect(
    new Set([
      ...Object.values(systemQueues("prod")),
      ...Object.values(systemQueues("")),
      ...Object.values(systemQueues("prod2"))
    ]).size
  ).toBe(18);
});
