import type { ServiceBroker } from "moleculer";
import { describe, expect, it } from "vitest";
import { reliableLine } from "../../src/operator/repl/command";
import { readLine } from "../../src/operator/repl/line";

const wordsOf = (line: string) => (line === "" ? [] : line.split(" "));

describe("a line", () => {
  it.each([
    ["", [], {}],
    ["list", [], {}],
    ["retry a b", ["a", "b"], {}],
    ["list -s dead --page-size 5", [], { status: "dead", pageSize: "5" }],
    ["list --page-size=5 --pageSize", [], undefined],
    ["list --pageSize 5 -sdead -k=a=1", [], { pageSize: "5", status: "dead", key: "a=1" }],
    ["list --key=order=5", [], { key: "order=5" }],
    ["list --key order=5 -k customer=c-5", [], { key: ["order=5", "customer=c-5"] }],
    ["retry --yes a --dry-run", ["a"], { yes: true, dryRun: true }],
    ["retry --yes --yes --dry-run=false", [], { yes: true, dryRun: false }],
    ["retry --yes=false --yes", [], { yes: [false, true] }],
    ["get -5", ["-5"], {}],
    ["get -- --yes", ["--yes"], {}],
    ["list --older-than-ms -5", [], { olderThanMs: "-5" }],
    ["list --stauts dead x", ["x"], { stauts: "dead" }],
    ["list --stauts --yes", [], { stauts: true, yes: true }],
    ["list --__proto__ x", [], { ["__proto__"]: "x" }]
  ] as [string, string[], object | undefined][])("%j: words %j, flags %j", (line, ids, options) => {
    if (options === undefined) return expect(() => readLine(wordsOf(line))).toThrow("--page-size needs a value.");
    const what = wordsOf(line)[0];
    expect(readLine(wordsOf(line))).toEqual({ ...(what && { what }), ids, options });
  });

  it.each([
    ["list --cursor", "--cursor needs a value."],
    ["discard --note --yes", '--note needs a value. One that begins with a dash is typed --note="--yes".'],
    ["discard --yes=maybe", "--yes takes no value: it was given 'maybe'."]
  ])("%j says what is wrong", (line, text) => expect(() => readLine(wordsOf(line))).toThrow(text));
});

describe("what comes of a line", () => {
  const calls: unknown[][] = [];
  const broker = {
    call: async (action: string, params: unknown) => {
      calls.push([action, params]);
      return { matched: 0, rows: [] };
    }
  } as unknown as ServiceBroker;

  it.each([
    ["list --key a=1 --key b=2", "reliable.list", { key: ["a=1", "b=2"] }],
    ["causes -k a=1 -k b=2 -s dead", "reliable.causes", { key: ["a=1", "b=2"], status: "dead" }],
    ["retry -k a=1 -k b=2 --limit 5", "reliable.retry", { key: ["a=1", "b=2"], limit: "5" }],
    ["discard -k a=1 -k b=2 --dry-run", "reliable.bulk", { act: "discard", key: ["a=1", "b=2"], dryRun: true }],
    ["list --status dead --status pending", "reliable.list", { status: ["dead", "pending"] }]
  ])("%s", async (line, action, params) => {
    calls.length = 0;
    await reliableLine(broker, wordsOf(line));
    expect(calls).toEqual([[action, params]]);
  });

  it.each([
    ["list --event a --event b", /'reliable list' takes one --event/],
    ["erase --key a=1 --key b=2 --note x", /'reliable erase' takes one --key/],
    ["retry x --yes=false --yes", /'reliable retry' takes one --yes/],
    ["list --nope a --nope b", /'reliable list' has no --nope/],
    ["list --cursor", /^Error RELIABLE_BAD_OPTION: --cursor needs a value\.$/]
  ])("%s says what is wrong, and calls nothing", async (line, text) => {
    calls.length = 0;
    expect(await reliableLine(broker, wordsOf(line))).toMatch(text);
    expect(calls).toEqual([]);
  });

  it.each([
    [
      { option: "stepMs" },
      "give a longer 'stepMs', or a later 'fromAt'.",
      "give a longer --step-ms, or a later --from-at."
    ],
    [{ option: "note" }, "'discard' needs a 'note'.", "'discard' needs a --note."],
    [{ option: "status" }, "Unknown status 'event'.", "Unknown status 'event'."]
  ])("an error about %j names flags, and no value", async (data, message, text) => {
    const error = Object.assign(new Error(message), { type: "RELIABLE_BAD_OPTION", data });
    const refusing = { call: () => Promise.reject(error) } as unknown as ServiceBroker;
    expect(await reliableLine(refusing, ["list"])).toBe(`Error RELIABLE_BAD_OPTION: ${text}`);
  });
});
