import { describe, expect, it } from "vitest";
import { keysOf } from "../../src/emit/keys";
import { cursorOf, cursorText } from "../../src/operator/cursor";
import { filterOf, queryOf } from "../../src/operator/filter";
import { encodePlan, parsePlan } from "../../src/wire/plan";
import { at, messageOf } from "../support/messages";

const NOW = at(100_000).getTime();

describe("keys of an emit", () => {
  it.each([
    [undefined, undefined],
    [{}, undefined],
    [{ order: 42, customer: "c=7", none: undefined }, ["order=42", "customer=c=7"]],
    [{ "a b": -1.5 }, ["a b=-1.5"]],
    [{ ["n".repeat(30)]: "\u{1f600}".repeat(100) }, [`${"n".repeat(30)}=${"\u{1f600}".repeat(100)}`]]
  ])("%j are %j", (given, keys) => {
    expect(keysOf("e", given)).toEqual(keys);
  });

  it.each([
    [[], "must be an object"],
    ["order=42", "must be an object"],
    [null, "must be an object"],
    [{ a: 1, b: 1, c: 1, d: 1, e: 1, f: 1 }, "has 6 keys, and 5 are allowed"],
    [{ "": 1 }, "has a key ('') that has no name"],
    [{ "a=b": 1 }, "a name with '='"],
    [{ ["n".repeat(31)]: 1 }, "a name of more than 30 characters"],
    [{ "a\n": 1 }, "a name with control characters"],
    [{ a: "" }, "has no value"],
    [{ a: " " }, "has no value"],
    [{ a: "x".repeat(101) }, "a value of more than 100 characters"],
    [{ a: "x\u0000" }, "a value with control characters"],
    [{ a: { $gt: "" } }, "neither text nor a finite number"],
    [{ a: Number.NaN }, "neither text nor a finite number"],
    [{ a: null }, "neither text nor a finite number"]
  ])("%j are refused, by name", (given, why) => {
    expect(() => keysOf("order.created", given)).toThrow(
      expect.objectContaining({
        type: "RELIABLE_BAD_OPTION",
        message: expect.stringContaining(why),
        data: { option: "keys", event: "order.created" }
      })
    );
  });

  it("travel in the plan of strategy callback", () => {
    const message = messageOf({ strategy: "callback", delays: [1000], keys: ["order=42"] });
    expect(parsePlan(encodePlan(message)).keys).toEqual(["order=42"]);
    const plan = JSON.parse(encodePlan(message));
    for (const keys of [["order"], [42], "order=42", Array(6).fill("a=1"), ["a=\u0000"]])
      expect(() => parsePlan(JSON.stringify({ ...plan, keys })), JSON.stringify(keys)).toThrow("bad keys");
  });
});

describe("filter of an operator", () => {
  it.each([
    [
      { idPrefix: "0193", requestID: "r" },
      { idPrefix: "0193", requestID: "r" }
    ],
    [{ key: "order=42" }, { keys: ["order=42"] }],
    [{ key: ["order=42", "a=b"] }, { keys: ["order=42", "a=b"] }],
    [{ errorType: "EAUTH" }, { errorType: "EAUTH", status: "dead" }],
    [
      { cause: "silence", status: "dead" },
      { cause: "silence", status: "dead" }
    ],
    [{ deadFromAt: at(5).toISOString() }, { status: "dead", after: at(5) }],
    [
      { deadFromAt: `${at(5).getTime()}`, deadToAt: at(9).getTime() },
      { status: "dead", after: at(5), before: at(9) }
    ],
    [
      { deadFromAt: at(5).getTime(), youngerThanMs: 100_000 - 7 },
      { status: "dead", after: at(7) }
    ],
    [
      { deadToAt: at(5).getTime(), olderThanMs: 100_000 - 7 },
      { status: "dead", before: at(5) }
    ]
  ])("%j", (filter, query) => {
    expect(queryOf(filter, NOW)).toEqual(query);
  });

  it.each([
    [{ key: "order" }, "key", "is not of the form name=value"],
    [{ key: ["a=1", "=2"] }, "key", "has no name"],
    [{ cause: "handlr" }, "cause", "There are: handler, rejected"],
    [{ errorType: "E", status: "dead,consumed" }, "errorType", "dead messages only, and not consumed ones"],
    [{ deadFromAt: "yesterday" }, "deadFromAt", "must be an instant"],
    [{ deadToAt: "9".repeat(30) }, "deadToAt", "must be an instant"]
  ])("%j is refused, by name", (filter, option, why) => {
    expect(() => queryOf(filter, NOW)).toThrow(
      expect.objectContaining({ type: "RELIABLE_BAD_OPTION", message: expect.stringContaining(why), data: { option } })
    );
  });

  it("is kept as it was given", () => {
    expect(filterOf({ key: ["a=1"], deadFromAt: at(5).toISOString(), limit: 5 } as object)).toEqual({
      key: ["a=1"],
      deadFromAt: at(5).toISOString()
    });
  });
});

describe("cursor", () => {
  it.each([
    { final: true },
    { final: false, after: { at: at(5), id: "a/ü" } },
    { final: true, after: { at: at(0), id: "" } }
  ])("%j comes back from its text", cursor => {
    expect(cursorOf(cursorText(cursor))).toEqual(cursor);
  });

  it.each([
    "",
    "x",
    ...["{}", "[2]", "[0,1]", '["0",1,"a"]', '[0,"1","a"]', "[0,1,{}]", '[0,1e99,"a"]', "null"].map(text =>
      Buffer.from(text).toString("base64url")
    )
  ])("%j is refused", text => {
    expect(() => cursorOf(text)).toThrow(
      expect.objectContaining({ type: "RELIABLE_BAD_OPTION", data: { option: "cursor" } })
    );
  });
});
