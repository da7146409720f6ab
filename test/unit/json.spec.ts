import { createContext, runInContext } from "node:vm";
import { describe, expect, it } from "vitest";
import { stringify } from "../../src/wire/json";

const stringified = (value: unknown, name = "payload") => stringify(value, where => new Error(where), name);

/** As of a library: its `toJSON` gives something that looks like an answer. */
class Query {
  // biome-ignore lint/suspicious/noThenProperty: a query that runs when it is awaited
  then() {}
  toJSON() {
    return { table: "orders" };
  }
}

class Row {
  constructor(readonly n: number) {}
}

const AWAIT = "a Promise: was an await forgotten?";

describe("what JSON would make {} of, or lose, is refused by its path", () => {
  it.each<[unknown, string]>([
    [Promise.resolve(1), `payload is ${AWAIT}`],
    [{ order: { total: Promise.resolve(5) } }, `payload.order.total is ${AWAIT}`],
    [{ rows: [{ id: 1 }, { id: 2, owner: new Query() }] }, `payload.rows[1].owner is ${AWAIT}`],
    [{ "two words": { 0: new WeakMap() } }, 'payload["two words"]["0"] is a WeakMap, which JSON cannot carry'],
    [[[new WeakSet()]], "payload[0][0] is a WeakSet, which JSON cannot carry"],
    [{ a: new WeakRef({}) }, "payload.a is a WeakRef, which JSON cannot carry"],
    [{ a: /x/ }, "payload.a is a RegExp, which JSON cannot carry"],
    [{ a: new Row(1), b: new Row(2), c: new Map() }, "payload.c is a Map, which JSON cannot carry"],
    [{ a: new RangeError("x") }, "payload.a is a RangeError, which JSON cannot carry"],
    [{ a: new URLSearchParams("a=b") }, "payload.a is an URLSearchParams, which JSON cannot carry"],
    [{ a: new ArrayBuffer(8) }, "payload.a is an ArrayBuffer, which JSON cannot carry"],
    [{ a: [1][Symbol.iterator]() }, "payload.a is an"],
    [{ at: new Date(0), n: [1, NaN] }, "payload.n[1] is NaN, which JSON cannot carry"],
    [{ a: { b: 1n } }, "payload.a.b is a bigint, which JSON cannot carry"],
    // Of another realm, as in a test runner's sandbox.
    [runInContext("({ a: Promise.resolve() })", createContext()), `payload.a is ${AWAIT}`],
    [runInContext("({ a: /x/ })", createContext()), "payload.a is a RegExp, which JSON cannot carry"],
    [{ ["k".repeat(100_000)]: /x/ }, "payload.kkkk"]
  ])("%#", (value, says) => {
    expect(() => stringified(value)).toThrow(says);
    let message = "";
    try {
      stringified({ deep: value }, "meta");
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toContain("meta.deep");
    expect(message.length).toBeLessThan(300);
  });

  it("a control character of a key is escaped", () => {
    expect(() => stringified({ "a\u001b": /x/ })).toThrow('payload["a\\u001b"] is a RegExp');
  });
});

it.each<[unknown]>([
  [{ at: new Date(0), row: new Row(1), again: [new Row(1)], bytes: Buffer.from("x"), url: new URL("http://a") }],
  [JSON.parse('{"then":1,"a":{"then":null}}')],
  [[undefined, { a: undefined }]],
  [Object.assign(Object.create(null), { a: 1 })],
  [{ toJSON: () => ({ map: true }) }],
  [Object.assign(new Map(), { toJSON: () => [] })]
])("the rest is what JSON.stringify makes of it", value => {
  expect(stringified(value)).toBe(JSON.stringify(value));
});
