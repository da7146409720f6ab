import { expect, it } from "vitest";
import { lastErrorOf, withoutIds } from "../../src/message/last-error";
import { at, failureOf } from "../support/messages";

it.each([
  ["no stock", "no stock"],
  ["Order 4711 has no item 12", "Order … has no item …"],
  ["order-77 of c_12 and ORD77x", "… of … and …"],
  ["0193b7c0-5a1e-7cc3-9a37-0123456789ab is gone", "… is gone"],
  ["at 2026-11-26T03:02:11.123Z", "at …"],
  ["connect ECONNREFUSED 10.0.0.1:5432", "connect ECONNREFUSED …"],
  ["3 of 5, 7 left", "… of … left"],
  ["a\n\tb \u0007 c", "a b c"],
  ["no item ٤٢", "no item …"],
  ["", ""]
])("the text of %j is %j: without what differs from message to message", (given, text) => {
  expect(withoutIds(given)).toBe(text);
});

it.each([
  ["its type", { type: "NO_STOCK", code: 409 }, "NO_STOCK"],
  ["else its code", { code: "EAUTH" }, "EAUTH"],
  ["a number too", { code: 409 }, "409"],
  ["else its name", {}, "StockError"],
  ["an empty type is none", { type: "" }, "StockError"]
])("the type of an error: %s", (_, fields, type) => {
  const error = { name: "StockError", message: "boom", ...fields };
  expect(lastErrorOf("stock", failureOf({ error }), at(1)).type).toBe(type);
});

it("is short, and the same whatever the ids in front of its end", () => {
  const texts = [1, 123_456_789].map(id => {
    const error = { name: "E", message: `${`order ${id} of `.repeat(20)}${"x".repeat(500)}` };
    return lastErrorOf("stock", failureOf({ error, nodeID: "n1" }), at(1));
  });
  expect(texts[0]).toEqual(texts[1]);
  expect(Buffer.byteLength(texts[0]?.text ?? "")).toBeLessThanOrEqual(150);
  expect(texts[0]).toMatchObject({ group: "stock", at: at(1), cause: "handler", nodeID: "n1" });
});
