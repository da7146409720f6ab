import { expect, it } from "vitest";
import { hasPart } from "../../src/testing/match";

const VALUE = {
  id: "a",
  n: 1,
  none: null,
  at: "2026-01-01T00:00:00.000Z",
  lines: [{ sku: "x", count: 2 }, { sku: "y" }]
};

it.each([
  [{}],
  [{ id: "a" }],
  [{ id: "a", none: null }],
  [{ at: new Date("2026-01-01T00:00:00Z") }],
  [{ lines: [{ sku: "x" }, {}] }],
  [{ id: expect.stringMatching(/^a/), n: expect.any(Number) }],
  [{ missing: undefined }]
])("%j is a part", wanted => {
  expect(hasPart(VALUE, wanted)).toBe(true);
});

it.each([
  [{ id: "b" }],
  [{ n: "1" }],
  [{ id: undefined }],
  [{ none: {} }],
  [{ lines: [{ sku: "x" }] }],
  [{ lines: {} }],
  [{ id: { length: 1 } }],
  [[]],
  [null],
  [{ missing: { deeper: 1 } }],
  [{ n: expect.any(String) }]
])("%j is none", wanted => {
  expect(hasPart(VALUE, wanted)).toBe(false);
});

it("payloads that are no objects are compared as they are", () => {
  expect([hasPart(1, 1), hasPart("a", "a"), hasPart(null, null), hasPart([1, 2], [1, 2])]).toEqual(Array(4).fill(true));
  expect([hasPart(1, 2), hasPart(null, {}), hasPart([1], [1, 2])]).toEqual(Array(3).fill(false));
});
