import type { ServiceBroker } from "moleculer";
import { describe, expect, it } from "vitest";
import type { ActResult } from "../../src/operator/acts";
import type { AuditRow } from "../../src/operator/audit-views";
import { reliableCommand, reliableReplCommands } from "../../src/operator/repl/command";
import { causesTable, listTable } from "../../src/operator/repl/find-tables";
import { keysTable } from "../../src/operator/repl/keys-table";
import {
  actTable,
  age,
  auditsTable,
  auditText,
  healthTable,
  parkedTable,
  parkedText,
  storyText,
  subscriptionsTable
} from "../../src/operator/repl/tables";
import { toStory } from "../../src/operator/story";
import { parkedRow, parkedWhole, toRow } from "../../src/operator/views";
import { at, deadOf, listedOf, messageOf, parkedOf } from "../support/messages";

const health = {
  ...{
    ok: true,
    failing: [],
    degraded: [],
    nodeID: "desk",
    publish: "up",
    consume: "up",
    blocked: "no",
    store: "up (embedded, 1 ms)",
    redis: "not configured",
    signing: "off",
    sweeping: "unlocked",
    paused: [],
    breakers: [],
    leaseHolders: "no lease"
  },
  ...{
    lastSweep: "none on this node",
    oldestPendingMs: 61_000,
    oldestUnconsumedMs: null,
    inFlightPublishes: 0,
    inFlightHandlers: 0,
    reconnects: 0
  }
};

describe("tables", () => {
  it.each([
    [undefined, ""],
    [null, ""],
    [-5, "0 ms"],
    [850, "850 ms"],
    [12_400, "12 s"],
    [200_000, "3 min"],
    [5 * 3600_000, "5 h"],
    [50 * 3600_000, "2 d"]
  ])("age of %s: %s", (ms, expected) => expect(age(ms)).toBe(expected));

  it("health: ok or not, in its first line", () => {
    expect(healthTable(health)).toContain("Node desk: ok");
    expect(healthTable({ ...health, ok: false })).toContain("Node desk: NOT OK");
  });

  it("list: a line each, whatever stands in the reason", () => {
    const row = toRow(
      deadOf({ _id: "order-1", reason: `handler: \u001b[31mtwo\nlines ${"x".repeat(200)}` }),
      at(60_000).getTime()
    );
    const text = listTable({ rows: [row], total: 1 });
    expect(text.split("\n")).toHaveLength(6);
    expect(text).toMatch(
      /order-1 │ order.created │ dead +│ stock +│ +│ +│ 3\/3 +│ 1 min │ handler: {1,2}\[31mtwo lines x+…/
    );
    expect(listTable({ rows: [row], total: 10_000, capped: true })).toContain("1 of 10,000+ message(s).");
    expect(listTable({ rows: [row], total: 5_000_000, estimated: true })).toContain("1 of about 5,000,000 message(s).");
    expect(listTable({ rows: [], total: 0 })).toBe("No messages.");
    expect(listTable({ rows: [], total: 5 })).toBe("No more messages.");
  });

  it("list: with keys, and the command that shows the next page", () => {
    const row = toRow(deadOf({ _id: "order-1", keys: ["order=42", "customer=c-7"] }), at(60_000).getTime());
    const params = { status: "dead", requestID: "r 1", key: ["order=42", 'customer=a"b'], errorText: undefined };
    const text = listTable({ rows: [row], total: 2, nextCursor: "WzAs" }, params);
    expect(text).toMatch(/order-1 │ order.created │ dead +│ order=42, customer=c-7 │ stock/);
    expect(text.split("\n").at(-1)).toBe(
      `The next ones: reliable list --status dead --request-id "r 1" --key order=42 --key 'customer=a"b' --cursor WzAs`
    );
  });

  it("causes: a line each, and what is left out", () => {
    const row = {
      ...{ count: 12, group: "mail", event: "order.created", cause: "handler", errorName: "MailError" },
      ...{ errorType: "EAUTH", errorText: "… authentication failed", nodes: ["mail-2"], sampleId: "order-1" },
      ...{ firstAt: at(0).toISOString(), lastAt: at(1).toISOString() }
    };
    const rows = [row, { ...row, moreNodes: 3 }];
    const text = causesTable({ rows, messages: 800, capped: true, newest: 1000, moreRows: 7 });
    expect(text).toMatch(
      /12 +│ mail +│ order.created │ handler │ EAUTH │ … authentication failed │ 2026.* │ mail-2 +│ order-1/
    );
    expect(text).toContain("mail-2 and 3 more");
    expect(text).toContain("7 more, less frequent.");
    const beyond = "among the newest 1,000 dead ones; older ones were not looked at (--limit 10000 at most).";
    expect(text).toContain(`Of 800 message(s) ${beyond}`);
    expect(causesTable({ rows: [], messages: 0, capped: true, newest: 1000 })).toBe(`No such message ${beyond}`);
    expect(causesTable({ rows: [], messages: 0 })).toBe("No dead messages.");
    expect(causesTable({ rows: [row], messages: 12 })).toContain("Of 12 dead message(s).");
  });

  it("get: fields, payload, timeline", () => {
    const text = storyText(toStory(messageOf({ _id: "order-1", meta: { user: 7 }, publishedAt: at(5) }), 0));
    expect(text).toMatch(/│ id +│ order-1/);
    expect(text).toContain('payload {"n":1}');
    expect(text).toContain('meta    {"user":7}');
    expect(text).toContain("2026-01-01T00:00:00.005Z  published: confirmed and routed");
  });

  it.each([
    [{ matched: 0, done: 0, lost: 0, dryRun: false, ids: [] }, "No such messages."],
    [{ matched: 2, done: 0, lost: 0, dryRun: true, ids: ["a", "b"] }, "Dry run: 2 message(s) would be discarded."],
    [
      { matched: 2, done: 1, lost: 1, dryRun: false, ids: ["a", "b"] },
      "1 of 2 message(s) discarded; 1 had changed meanwhile and were left alone."
    ],
    [
      {
        ...{ matched: 2, done: 1, lost: 1, dryRun: false, ids: ["a", "b"] },
        outcomes: [
          { id: "a", outcome: "done" },
          { id: "b", outcome: "lost", reason: "another process changed it" },
          { id: "c", outcome: "not-found", reason: "No message 'c'" }
        ]
      },
      "1 of 3 message(s) discarded; 1 had changed meanwhile and were left alone."
    ],
    [
      {
        ...{ matched: 0, done: 0, lost: 0, dryRun: false, ids: [] },
        outcomes: [{ id: "c", outcome: "not-found", reason: "No message 'c'" }]
      },
      "│ c  │ not-found │ No message 'c' │"
    ],
    [
      { matched: 100, done: 100, lost: 0, dryRun: false, ids: ["a"], more: 150 },
      "150 more match, beyond the limit of 100: repeat it, or give --limit"
    ]
  ] as [ActResult, string][])("act %j", (result, expected) => expect(actTable("discard", result)).toContain(expected));

  it.each([
    ["text", Buffer.from("hello"), { body: "hello", encoding: "utf8", cut: false }, "hello"],
    ["nothing", Buffer.alloc(0), { body: "", encoding: "utf8", cut: false }, ""],
    ["bytes", Buffer.from([0, 255]), { body: "AP8=", encoding: "base64", cut: false }, "base64: AP8="],
    [
      "long text, not cut within a character",
      Buffer.from(`${"x".repeat(197)}€uro`),
      { body: "x".repeat(197), encoding: "utf8", cut: true },
      "xxx…"
    ],
    ["many bytes", Buffer.alloc(300, 255), { body: "/".repeat(264), encoding: "base64", cut: true }, "///…"]
  ])("parked: %s", (_, body, expected, shown) => {
    const parked = parkedOf({ _id: `reliable.on.stock/order.created/m#${"0".repeat(100)}`, body });
    const row = parkedRow(listedOf(parked));
    expect(row).toMatchObject({ ...expected, reason: "unparsable", bytes: body.length });
    const text = parkedTable({ rows: [row], total: 1, page: 1, totalPages: 1 });
    expect(text).toContain(shown);
    // To be copied into the next command.
    expect(text).toContain(parked._id);
  });

  it("one parked: all of it", () => {
    const whole = parkedWhole(
      parkedOf({
        _id: "p",
        body: Buffer.from(`\u001b[31m{\n"a": "\u009b"}${"x".repeat(500)}`),
        properties: { type: "t" },
        headers: { "x-a": [1, "\u009bm"] }
      })
    );
    expect(whole).toMatchObject({ encoding: "utf8", properties: { type: "t" }, headers: { "x-a": [1, "\u009bm"] } });
    const text = parkedText(whole);
    for (const part of [
      'id         "p"',
      'properties {"type":"t"}',
      'headers    {"x-a":[1,"\u009bm"]}',
      `\u001b[31m{\n"a": "\u009b"}${"x".repeat(500)}`
    ])
      expect(text).toContain(part);
    expect(parkedText(parkedWhole(parkedOf({ body: Buffer.from([255]) })))).toContain("base64:\n/w==");
  });

  it("audits: a line for each act, on what and what came of it; one: all of it", () => {
    const act = (fields: object): AuditRow => ({
      ...{ auditID: "a-1", at: "2026", act: "resolve", by: "ann", state: "done", note: "by phone" },
      ...fields
    });
    const rows = [
      act({ id: "order-1", matched: 1, done: 1 }),
      act({ matched: 7, done: 5, filter: "status=dead event=order.created" }),
      act({ act: "discard", id: "q/m#1", parked: true, queue: "q", matched: 1, done: 1 }),
      act({ act: "forget", group: "mail", pattern: "order.*", matched: 3, done: 2, state: "failed" }),
      act({ act: "sweep", claimed: 9, note: undefined }),
      act({ matched: 2, done: 0, state: "begun" })
    ];
    const text = auditsTable({ rows, total: 6, page: 1, totalPages: 1 });
    for (const part of [
      /resolve │ ann │ order-1 +│ 1 of 1 +│ by phone │ a-1/,
      /│ 7 message\(s\): status=dead event=order.created +│ 5 of 7 /,
      /│ q\/m#1 \(q\) +│/,
      /│ group mail \(order\.\*\) +│ failed: 2 of 3 /,
      /sweep +│ ann │ +│ 9 claimed /,
      /│ 2 message\(s\) +│ not finished /,
      /Page 1 of 1, 6 act\(s\)/
    ])
      expect(text).toMatch(part);
    expect(auditsTable({ rows: [], total: 0, page: 1, totalPages: 0 })).toBe("No audit records.");
    expect(auditsTable({ rows: [], total: 6, page: 9, totalPages: 1 })).toBe("No page 9: there are 1.");
    const one = auditText({ ...act({ matched: 2 }), ids: ["m-1", "m-2"], discarded: [] });
    expect(one).toMatch(/│ note +│ by phone[\s\S]*│ m-1 │\n│ m-2 │/);
    const left = { id: "m-1", event: "order.paid", createdAt: "2026", bytes: 7, reason: "handler: boom" };
    expect(auditText({ ...act({ act: "discard" }), ids: ["m-1"], discarded: [left] })).toMatch(
      /│ m-1 │ order.paid +│ 2026 │ 7 +│ handler: boom │/
    );
  });

  it("keys: what holds each, for how long, and how many wait; where there are none, of which", () => {
    const row = {
      ...{ key: "order-7", group: "mail", id: "o1", event: "order.created", since: "2026", heldMs: 61_000 },
      ...{ behind: 1000, capped: true as const, reason: "handler: no address" }
    };
    const text = keysTable({ rows: [row], more: true });
    expect(text).toMatch(/order-7 │ mail +│ o1 │ order.created │ 1 min +│ 1,000\+ │ handler: no address/);
    expect(text).toMatch(/There are more: --limit/);
    expect(text.split("\n").at(-1)).toMatch(/reliable retry <id>.*reliable skip <key>/);
    expect(keysTable({ rows: [], more: false })).toBe("No key is held.");
    expect(keysTable({ rows: [], more: false }, "order-7")).toBe("The key order-7 is not held.");
  });

  it("subscriptions: an unknown depth is told as such", () => {
    const row = {
      group: "mail",
      pattern: "order.*",
      queue: "reliable.on.mail/order.*",
      ready: null,
      consumers: null,
      service: "mail",
      lastNode: "n1",
      firstSeenAt: "x",
      seenAt: "y"
    };
    expect(subscriptionsTable([row])).toMatch(/mail +│ order\.\* │ reliable\.on\.mail\/order\.\* │ \? +│ \?/);
    expect(subscriptionsTable([])).toBe("No subscriptions.");
  });
});

describe("the command", () => {
  const calls: unknown[][] = [];
  const broker = {
    call: async (...args: unknown[]) => {
      calls.push(args);
      return { matched: 0, rows: [], queues: [], living: [] };
    }
  } as unknown as ServiceBroker;

  it.each([
    ["retry", ["a"], { note: "fixed" }, "reliable.retry", { id: "a", note: "fixed" }],
    ["discard", ["a", "b"], {}, "reliable.discard", { ids: ["a", "b"] }],
    ["discard", ["a"], { parked: true, note: "spam" }, "reliable.discard", { parked: "a", note: "spam" }],
    ["discard", ["a", "b"], { parked: true }, "reliable.discard", { parked: ["a", "b"] }],
    ["discard", [], { status: "dead", limit: "5", yes: true }, "reliable.discard", { status: "dead", limit: "5" }],
    ["list", [], { requestId: "r", key: "a=1" }, "reliable.list", { requestID: "r", key: "a=1" }],
    ["causes", [], { group: "mail" }, "reliable.causes", { group: "mail" }],
    ["parked", [], { page: "2" }, "reliable.parked", { page: "2" }],
    ["parked", ["q/m#1"], {}, "reliable.parked", { id: "q/m#1" }],
    ["audits", [], { page: "2", pageSize: "5" }, "reliable.audits", { page: "2", pageSize: "5" }],
    ["sweep", [], { by: "ann", note: "now" }, "reliable.sweep", { by: "ann", note: "now" }],
    ["resolve", [], { event: "a", dryRun: true }, "reliable.bulk", { act: "resolve", event: "a", dryRun: true }],
    ["bulks", [], { page: "2" }, "reliable.bulks", { page: "2" }],
    [
      "replay",
      ["mail"],
      { fromAt: "1", dryRun: true },
      "reliable.replay",
      { group: "mail", fromAt: "1", dryRun: true }
    ],
    ["forget", ["mail"], { note: "gone" }, "reliable.forget", { group: "mail", note: "gone" }],
    [
      "forget",
      ["mail", "order.*"],
      { force: true },
      "reliable.forget",
      { group: "mail", pattern: "order.*", force: true }
    ],
    ["keys", [], { limit: "5" }, "reliable.keys", { limit: "5" }],
    ["keys", ["order-7"], {}, "reliable.keys", { key: "order-7" }],
    ["skip", ["order-7"], { note: "x", group: "mail" }, "reliable.skip", { key: "order-7", note: "x", group: "mail" }],
    ["list", [], { status: "dead", pageSize: "5" }, "reliable.list", { status: "dead", pageSize: "5" }]
  ])("reliable %s %j %j", async (what, ids, options, action, params) => {
    calls.length = 0;
    await reliableCommand(broker, { what, ids, options });
    expect(calls).toEqual([[action, params, { meta: { $repl: true } }]]);
  });

  it("asks the node it is told to", async () => {
    calls.length = 0;
    await reliableCommand(broker, { what: "list", ids: [], options: { node: "n2" } });
    expect(calls[0]?.[2]).toEqual({ meta: { $repl: true }, nodeID: "n2" });
  });

  it.each([
    ["toString", [], {}, /There is no 'reliable toString'\. There are: overview, list, .*, help\./],
    ["lsit", [], {}, /There is no 'reliable lsit'\. Did you mean 'list'\? There are/],
    ["Retry", [], {}, /Did you mean 'retry'\?/],
    ["help", ["parkd"], {}, /There is no 'reliable parkd'\. Did you mean 'parked'\?/],
    ["list", [], { "page-sise": 5, pageSise: 5 }, /'reliable list' has no --page-sise\. Did you mean --page-size\?/],
    ["list", [], { stauts: "dead" }, /'reliable list' has no --stauts\. Did you mean --status\?/],
    ["list", [], { note: "x" }, /'reliable list' has no --note\. It has: --status, .*--page-size, --node\./],
    ["list", [], { x: true }, /'reliable list' has no -x\. It has/],
    ["get", [], {}, /needs an id: reliable get <id>\./],
    ["skip", [], {}, /needs a key: reliable skip <key>\./],
    ["skip", ["a", "b"], {}, /does not know what 'b' is for/],
    ["forget", [], {}, /needs a group: reliable forget <group> \[pattern\]\./],
    ["discard", [], { parked: true }, /--parked' needs an id/],
    ["retry", ["a"], { parked: true }, /'reliable retry' has no --parked\. It has/],
    ["parked", ["a", "b"], {}, /does not know what 'b' is for/],
    ["get", ["a", "b"], {}, /does not know what 'b' is for/]
  ])("reliable %s %j %j says what is wrong", async (what, ids, options, expected) => {
    expect(await reliableCommand(broker, { what, ids, options })).toMatch(expected);
  });

  it.each([
    "overview",
    "list",
    "get",
    "retry",
    "resolve",
    "discard",
    "subscriptions",
    "forget",
    "health",
    "sweep",
    "causes"
  ])("help of %s: what it does, its flags and their limits", async what => {
    calls.length = 0;
    const text = await reliableCommand(broker, { what: "help", ids: [what] });
    expect(text).toMatch(new RegExp(`^reliable ${what}`));
    expect(text).toContain("--node <nodeID>");
    expect(await reliableCommand(broker, { what, options: { help: true } })).toBe(text);
    expect(calls).toEqual([]);
  });

  it("help tells the limits, and of all their names", async () => {
    expect(await reliableCommand(broker, { what: "help", ids: ["list"] })).toMatch(/--page-size <number> .*1 to 500/);
    const retry = await reliableCommand(broker, { what: "help", ids: ["retry"] });
    for (const part of [
      /^reliable retry \[id\.\.\.\]\n/,
      /up to 500 ids/,
      /acts on all that match in the background/,
      /--limit .*1 to 10000/
    ])
      expect(retry).toMatch(part);
    expect(retry).not.toContain("--page");
    expect(retry).not.toContain("Needs --note");
    for (const what of ["resolve", "discard", "forget", "skip"])
      expect(await reliableCommand(broker, { what: "help", ids: [what] })).toContain("Needs --note");
    const all = await reliableCommand(broker, { what: "help" });
    for (const what of ["overview", "list", "parked [id]", "audits [id]"]) expect(all).toContain(`\n  ${what}`);
    expect(all).toContain("reliable help <what>");
  });

  it("the validator's words are told once, with the flags that were typed", async () => {
    const message = "'pageSize' must be a whole number from 1 to 500.";
    const error = Object.assign(new Error("x"), { type: "VALIDATION_ERROR", data: [{ message }, { message }] });
    const refusing = { call: () => Promise.reject(error) } as unknown as ServiceBroker;
    expect(await reliableCommand(refusing, { what: "list", options: { pageSize: 1000 } })).toBe(
      "Error VALIDATION_ERROR: --page-size must be a whole number from 1 to 500."
    );
  });

  it("prints nothing that a terminal would obey, of a row, a story, a parked message or an error", async () => {
    const evil = "\u001b[2J\u009b31m\u202e\u2028\r";
    const row = { id: evil, event: evil, reason: evil, producer: evil, createdAt: evil, ageMs: 1 };
    const story = { ...row, timeline: [{ at: evil, what: evil }], payload: { [evil]: evil }, meta: { [evil]: evil } };
    const answers: Record<string, unknown> = {
      list: { rows: [row], total: 1, nextCursor: evil },
      causes: {
        rows: [
          { group: evil, event: evil, cause: evil, errorType: evil, errorText: evil, nodes: [evil], sampleId: evil }
        ],
        messages: 1
      },
      get: story,
      parked: { id: evil, body: evil, encoding: "utf8", properties: { evil }, headers: { evil } },
      audits: {
        rows: [{ at: evil, note: evil, id: evil, by: evil }, { filter: evil }, { group: evil, error: evil }],
        ...{ total: 1, page: 1, totalPages: 1, ids: [evil], discarded: [{ id: evil, event: evil, reason: evil }] }
      }
    };
    const answering = {
      call: async (action: string) => answers[action.replace("reliable.", "")] ?? Promise.reject(new Error(evil))
    } as unknown as ServiceBroker;
    const commands: [what: string, ids: string[]][] = [
      ...(["list", "causes", "audits", "stats", evil] as const).map((what): [string, string[]] => [what, []]),
      ["get", ["a"]],
      ["parked", ["a"]],
      ["audits", ["a"]]
    ];
    for (const [what, ids] of commands) {
      const text = await reliableCommand(answering, { what, ids, options: {} });
      expect(text, what).not.toMatch(/(?!\n)[\p{Cc}\u2028\u202e]/u);
    }
  });

  it("has the shape both lines expect", () => {
    expect(reliableReplCommands).toHaveLength(1);
    expect(reliableReplCommands[0]).toMatchObject({
      command: "reliable [what] [id]",
      description: expect.any(String),
      options: expect.any(Array),
      action: expect.any(Function)
    });
  });
});
