import { PassThrough } from "node:stream";
import type { ServiceBroker } from "moleculer";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { TypedEmitter } from "../../src/async/typed-emitter";
import { type Bulk, bulkPageSize, stopsItself } from "../../src/message/bulk";
import { scopeOf } from "../../src/operator/bulk/bulk-parts";
import { type BulkStory, bulkRow, meantBy, timeText } from "../../src/operator/bulk/bulk-views";
import { BulkWorker, type BulkWorkerParts } from "../../src/operator/bulk/bulk-worker";
import { meantBy as replayMeans } from "../../src/operator/bulk/replay";
import { barText, bulkText } from "../../src/operator/repl/bulk-tables";
import { reliableCommand } from "../../src/operator/repl/command";
import { openTerminal, type Terminal } from "../../src/operator/repl/terminal";
import { systemClock } from "../../src/platform/clock";
import type { Look } from "../../src/wire/control";
import { at } from "../support/messages";

describe("what is decided", () => {
  it.each([
    [0.5, 1],
    [1, 1],
    [100, 100],
    [2000, 500]
  ])("a page at %s per second has %i messages", (perSecond, size) => expect(bulkPageSize(perSecond)).toBe(size));

  it.each([
    [0, 50, false],
    [10, 50, false],
    [11, 50, true],
    // Whatever the others come to.
    [11, 11, true],
    [10, 10, false]
  ])("%i dead again of the last %i: it stops: %s", (dead, seen, stops) =>
    expect(stopsItself(dead, seen) !== undefined).toBe(stops)
  );

  it("its scope goes by its start, in whatever process", () => {
    const bulk = { _id: "b", act: "retry", at: at(10_000) } as const;
    const of = (filter: Record<string, string | number>) => scopeOf({ ...bulk, filter }).query;
    expect(of({ event: "a" })).toEqual({ event: "a", before: at(10_000), status: "dead", groupIn: ["failed"] });
    expect(of({ olderThanMs: 4000, youngerThanMs: 9000 })).toMatchObject({ before: at(6000), after: at(1000) });
  });
});

describe("what is told", () => {
  const bulk = {
    ...{ _id: "b", act: "retry", filter: { status: "dead", event: "a" }, key: "k", by: "emma", state: "running" },
    ...{ at: at(0), perSecond: 100, matched: 1000, pages: 3, done: 300, lost: 50, refused: 0, changes: [] }
  } as unknown as Bulk & { act: "retry" };

  it("what is left, and how long that takes at the rate it has", () => {
    expect(bulkRow(bulk)).toMatchObject({ left: 650, leftMs: 6500, overtaken: 50 });
    expect(bulkRow({ ...bulk, pace: 50 })).toMatchObject({ leftMs: 13_000 });
    expect(bulkRow({ ...bulk, state: "paused" }).leftMs).toBeUndefined();
    expect(bulkRow({ ...bulk, state: "done" }).left).toBeUndefined();
    expect(bulkRow({ ...bulk, capped: true }).left).toBeUndefined();
  });

  it("what it will do, in words", () => {
    expect(meantBy({ ...bulk, filter: { group: "mail", producer: "orders", olderThanMs: 3_600_000 } })).toBe(
      "Retries 1,000 dead message(s) that failed in group mail, emitted by orders, dead for more than 1 h, 100 per second, about 10 s. What dies after 2026-01-01T00:00:00.000Z is left alone."
    );
    expect(meantBy({ ...bulk, filter: {}, matched: 100_000, capped: true, waiting: 3 })).toBe(
      "Retries 100,000+ dead message(s), 100 per second. What dies after 2026-01-01T00:00:00.000Z is left alone. 3 more are on their way to other groups and are not discarded."
    );
  });

  const replay = { group: "mail", event: "a", from: at(0), to: at(60_000), again: false, perSecond: 100 };
  it.each([
    [
      { matched: 1300, capped: false, skipped: 4000, notReplayable: 0 },
      "Sends 1,300 message(s) of event a, emitted from 2026-01-01T00:00:00.000Z to 2026-01-01T00:01:00.000Z, to group mail, 100 per second, about 13 s. What the group has handled is not handled again. 4,000 more are left out: the group has them or gets them anyway, or they are for others."
    ],
    [
      { matched: 0, capped: true, skipped: 4000, notReplayable: 12 },
      "Sends messages of event a, emitted from 2026-01-01T00:00:00.000Z to 2026-01-01T00:01:00.000Z, to group mail, 100 per second. They were counted for 2 s, and there are more: none to be sent was met so far. What the group has handled is not handled again. At least 4,000 more are left out: the group has them or gets them anyway, or they are for others. At least 12 more have no payload any more and cannot be sent."
    ],
    [
      { matched: 1300, capped: true, skipped: 0, notReplayable: 0 },
      "Sends messages of event a, emitted from 2026-01-01T00:00:00.000Z to 2026-01-01T00:01:00.000Z, to group mail, 100 per second. They were counted for 2 s, and there are more: at least 1,300 are to be sent. What the group has handled is not handled again."
    ]
  ])("what a replay will do, in words: %j", (counts, text) => expect(replayMeans({ ...replay, ...counts })).toBe(text));

  it.each([
    [10, "1 s"],
    [59_000, "59 s"],
    [61_000, "2 min"],
    [7_200_000, "2 h"]
  ])("%i ms: %s", (ms, text) => expect(timeText(ms)).toBe(text));

  it("how far it is where nobody has counted to the end", () => {
    const story = { act: "replay", matched: 0, capped: true, done: 600, overtaken: 0, refused: 0, state: "running" };
    const row = { ...story, skipped: 4000, perSecond: 100, changes: [] } as unknown as BulkStory;
    expect(barText(row)).toBe("600 sent · 4,000 left out · 100/s");
    expect(barText({ ...row, matched: 1200 })).toMatch(/^\[#{12}-{12}\] 600 of 1,200\+ sent/);
    expect(bulkText(row)).toMatch(/matched +│ \?/);
  });

  it("how far it is, in one line", () => {
    const story = { act: "retry", matched: 12_000, done: 6000, overtaken: 0, refused: 0, state: "running" };
    const row = { ...story, handled: 5000, failedAgain: 3, perSecond: 100, leftMs: 60_000 } as unknown as BulkStory;
    expect(barText(row)).toBe(
      "[############------------] 6,000 of 12,000 retried · 5,000 handled · 3 dead again · 100/s · 1 min left"
    );
  });
});

describe("the worker", () => {
  beforeEach(
    () =>
      void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance"] })
  );
  afterEach(() => void vi.useRealTimers());

  function world({ mode = "held", holders = [] as (string | null)[] } = {}) {
    const claim = vi.fn(async () => ({ claimed: [] }));
    const call = vi.fn(async (..._: unknown[]) => undefined);
    const leases = { on: () => () => undefined, holders: async () => holders };
    const store = { ready: true, now: () => new Date(), bulks: { claim }, onReady: () => () => undefined };
    const sweeper = { sweeping: mode !== "standby", mode, leases: mode === "unlocked" ? undefined : leases };
    const logger = { error: vi.fn(), warn: vi.fn(), info: vi.fn(), debug: vi.fn() };
    const registry = { nodes: () => [] };
    const events = new TypedEmitter<{ toDo: [look: Look] }>(logger);
    const of = { nodeID: "n1", events, store, sweeper, call, logger, registry, clock: systemClock };
    const parts = of as unknown as BulkWorkerParts;
    return { worker: new BulkWorker(parts), claim, call, events };
  }

  it.each([
    ["held", 12],
    ["standby", 0],
    // One at the start.
    ["unlocked", 13]
  ])("looks in an idle hour, its lease %s, %i times", async (mode, times) => {
    const { worker, claim } = world({ mode });
    worker.start();
    await vi.advanceTimersByTimeAsync(3_600_000);
    expect(claim).toHaveBeenCalledTimes(times);
  });

  it.each([
    ["held", 1],
    ["standby", 0]
  ])("looks when it is told of one, its lease %s", async (mode, times) => {
    const { worker, claim, events } = world({ mode });
    worker.start();
    events.emit("toDo", "due");
    expect(claim).not.toHaveBeenCalled();
    events.emit("toDo", "bulks");
    expect(claim).toHaveBeenCalledTimes(times);
  });

  it("tells the node that sweeps, and works itself where that cannot be told", async () => {
    const told = world({ mode: "standby", holders: ["n#2#0198", null, "n#2#0198"] });
    await told.worker.wake();
    expect(told.call.mock.calls).toEqual([["reliable.bulkLook", {}, { nodeID: "n#2", timeout: 3000 }]]);
    expect(told.claim).not.toHaveBeenCalled();
    const alone = world({ mode: "standby", holders: ["gone#1"] });
    alone.call.mockRejectedValue(new Error("no such node"));
    await alone.worker.wake();
    expect(alone.claim).toHaveBeenCalledTimes(1);
    const nobody = world({ mode: "standby" });
    await nobody.worker.wake();
    expect(nobody.claim).toHaveBeenCalledTimes(1);
  });
});

describe("workers of several nodes", () => {
  beforeEach(
    () =>
      void vi.useFakeTimers({
        toFake: ["setTimeout", "clearTimeout", "setInterval", "clearInterval", "performance", "Date"]
      })
  );
  afterEach(() => void vi.useRealTimers());

  /** One bulk act, and who works at it; whoever has claimed it never gets any further. */
  function world() {
    const bulk = { _id: "b", act: "retry", pages: 0, filter: {}, at: new Date() };
    let held: { claim: string; until: Date } | undefined;
    let begun = true;
    const claims: string[] = [];
    const workers = new Map<string, BulkWorker>();
    const registry = { nodes: () => [...workers.keys()].map(nodeID => ({ nodeID, available: true })) };
    const cut = new Set<string>();
    const call = async (_action: string, _params: unknown, { nodeID = "" }: { nodeID?: string }) => {
      if (cut.has(nodeID)) throw new Error("no such node");
      await workers.get(nodeID)?.look();
    };
    const claim = async ({ claim, now, until }: { claim: string; now: Date; until: Date }) => {
      if (!begun) return { claimed: [] };
      if (held && held.until > now) return { claimed: [], nextAt: held.until };
      held = { claim, until };
      claims.push(claim.slice(0, claim.lastIndexOf("#")));
      return { claimed: [{ ...bulk, claim }] };
    };
    const stores = new Map<string, { ready: boolean; becomes: () => void }>();
    const node = (nodeID: string, mode: string, owners: (string | null)[] = []) => {
      const own: { ready: boolean; becomes(): void } = { ready: true, becomes: () => undefined };
      stores.set(nodeID, own);
      const store = {
        ...{ bulks: { claim }, audits: { begin: () => new Promise(() => undefined) }, now: () => new Date() },
        ...{ onReady: (listener: () => void) => Object.assign(own, { becomes: listener }) && (() => undefined) },
        get ready() {
          return own.ready;
        }
      };
      const leases = { on: () => () => undefined, holders: async () => owners };
      const sweeper = { sweeping: mode !== "standby", mode, leases };
      const logger = { error: vi.fn(), warn: vi.fn(), info: vi.fn(), debug: vi.fn() };
      const events = new TypedEmitter(logger);
      const parts = { nodeID, events, store, sweeper, call, logger, registry, clock: systemClock };
      const worker = new BulkWorker(parts as unknown as BulkWorkerParts);
      worker.start();
      workers.set(nodeID, worker);
      return worker;
    };
    return { node, claims, cut, stores, begin: (is: boolean) => void (begun = is) };
  }

  it("one that is killed at its work: another one that was told goes on at the end of the claim", async () => {
    const { node, claims } = world();
    const victim = node("victim", "held");
    node("standby", "standby");
    await victim.wake();
    await vi.advanceTimersByTimeAsync(14_000);
    expect(claims).toEqual(["victim"]);
    await vi.advanceTimersByTimeAsync(2000);
    expect(claims).toEqual(["victim", "standby"]);
  });

  it.each([
    ["works without Redis", "unlocked"],
    ["cannot tell the one that sweeps", "standby"]
  ])("one that %s, reaches nobody, and is killed: the one that sweeps finds it", async (_, mode) => {
    const { node, cut, claims, begin } = world();
    begin(false);
    // As when it began to sweep.
    await node("sweeping", "held").look();
    begin(true);
    cut.add("sweeping");
    await node("victim", mode, ["sweeping#1"]).wake();
    expect(claims).toEqual(["victim"]);
    await vi.advanceTimersByTimeAsync(316_000);
    expect(claims[1]).toBe("sweeping");
  });

  it("where the first that is told does not answer, the next one is", async () => {
    const { node, claims, cut } = world();
    const victim = node("victim", "held");
    for (const nodeID of ["gone-1", "gone-2"]) {
      node(nodeID, "standby");
      cut.add(nodeID);
    }
    node("standby", "standby");
    await victim.wake();
    await vi.advanceTimersByTimeAsync(16_000);
    expect(claims).toEqual(["victim", "standby"]);
  });

  it("one whose store was away when the claim ended looks when it is back", async () => {
    const { node, claims, stores } = world();
    const victim = node("victim", "held");
    node("standby", "standby");
    await victim.wake();
    await vi.advanceTimersByTimeAsync(1000);
    const store = stores.get("standby") as { ready: boolean; becomes: () => void };
    store.ready = false;
    await vi.advanceTimersByTimeAsync(30_000);
    store.ready = true;
    store.becomes();
    await vi.advanceTimersByTimeAsync(0);
    expect(claims[1]).toBe("standby");
  });
});

describe("the command at a terminal", () => {
  const countedAt = "2026-11-26T03:02:00.000Z";
  const begun = { matched: 2, perSecond: 100, dryRun: true, text: "Retries 2.", countedAt };
  const story = {
    bulkID: "b",
    act: "retry",
    matched: 2,
    done: 1,
    overtaken: 0,
    refused: 0,
    state: "running",
    perSecond: 1
  };

  function desk(stories: object[], terminal?: Partial<Terminal>, counted: object = {}, refusal?: Error) {
    const calls: unknown[][] = [];
    const lines: string[] = [];
    const call = async (action: string, params: { dryRun?: boolean }) => {
      calls.push([action, params]);
      if (action === "reliable.bulk" && params.dryRun) return { ...begun, ...counted };
      if (action === "reliable.bulk" && refusal) throw refusal;
      if (action === "reliable.bulk") return { ...begun, id: "b" };
      const told = stories.shift();
      if (told instanceof Error) throw told;
      return told;
    };
    const close = vi.fn();
    const shown: Terminal = {
      ask: async question => lines.push(question) > 0,
      show: line => void lines.push(line),
      wait: async () => false,
      close,
      ...terminal
    };
    const run = (options: object, open: (() => Terminal | undefined) | undefined = () => shown, what = "retry") =>
      reliableCommand(
        { call } as unknown as ServiceBroker,
        { what, ids: what === "replay" ? ["mail"] : [], options: { event: "a", ...options } },
        open
      );
    return { run, calls, lines, close };
  }
  const last = { ...story, done: 2, state: "done", endedAt: "x", changes: [] };

  it("counts, asks, begins, and shows how far it is until the end", async () => {
    const { run, calls, lines, close } = desk([story, last]);
    const text = await run({ note: "fixed", perSecond: 5 });
    const params = { act: "retry", event: "a", note: "fixed", perSecond: 5 };
    expect(calls).toEqual([
      ["reliable.bulk", { ...params, dryRun: true }],
      ["reliable.bulk", { ...params, countedAt }],
      ["reliable.bulks", { id: "b" }],
      ["reliable.bulks", { id: "b" }]
    ]);
    expect(lines).toEqual([
      "Retries 2.\nGo on? (y/N)",
      expect.stringContaining("1 of 2 retried"),
      expect.stringContaining("2 of 2 retried")
    ]);
    expect(text).toMatch(/state +│ done/);
    expect(close).toHaveBeenCalledTimes(1);
  });

  it("begins nothing without a yes, and goes on without the human who has left", async () => {
    const no = desk([], { ask: async () => false });
    expect(await no.run({})).toBe("Nothing was done.");
    expect(no.calls).toHaveLength(1);
    const left = desk([story], { wait: async () => true });
    expect(await left.run({ yes: true })).toBe(
      "It goes on.\nHow it goes: reliable bulk b\nStop it:     reliable bulk stop b"
    );
    expect(left.close).toHaveBeenCalledTimes(1);
  });

  it.each([
    ["resolve", {}, /'resolve' needs a --note/],
    ["discard", {}, /'discard' needs a --note/],
    ["replay", { fromAt: "1", again: true }, /'replay' needs a --note/]
  ])("%s without the note that it needs is refused before it counts and asks", async (what, options, text) => {
    const { run, calls, lines } = desk([]);
    expect(await run(options, undefined, what)).toMatch(text);
    expect([...calls, ...lines]).toEqual([]);
  });

  it("one that is under way is told before it asks, and by a dry run beside its counts", async () => {
    const text = "RELIABLE_BULK_RUNNING: A bulk retry with this filter is under way: 'first', begun by emma at 2026.";
    const underWay = { id: "first", by: "emma", startedAt: "2026" };
    const { run, calls, lines } = desk([], {}, { underWay });
    expect(await run({ yes: true })).toBe(`Error ${text}`);
    expect(await run({ dryRun: true })).toBe(
      `Dry run: 2 message(s) would be retried.\nRetries 2.\n${text.slice("RELIABLE_BULK_RUNNING: ".length)}`
    );
    expect(lines).toEqual([]);
    expect(calls.map(([, params]) => (params as { dryRun: boolean }).dryRun)).toEqual([true, true]);
  });

  it("says how to go on where the store goes away, under the bar or at the start", async () => {
    const away = Object.assign(new Error("the store does not answer"), {
      type: "RELIABLE_UNAVAILABLE",
      retryable: true
    });
    const shown = desk([story, away]);
    expect(await shown.run({ yes: true })).toBe(
      "Error RELIABLE_UNAVAILABLE: the store does not answer\nIt cannot be shown now. It goes on, as soon as it can.\nHow it goes: reliable bulk b\nStop it:     reliable bulk stop b"
    );
    expect(shown.close).toHaveBeenCalledTimes(1);
    const begins = desk([], {}, {}, away);
    expect(await begins.run({ yes: true })).toBe(
      "Error RELIABLE_UNAVAILABLE: the store does not answer\nIt is not known whether it has begun; see: reliable bulks"
    );
    const refused = Object.assign(new Error("no"), { type: "RELIABLE_BULK_RUNNING", retryable: false });
    expect(await desk([], {}, {}, refused).run({ yes: true })).toBe("Error RELIABLE_BULK_RUNNING: no");
  });

  it("needs --yes where nobody can be asked, and does not wait there", async () => {
    const { run, calls } = desk([]);
    expect(await run({}, () => undefined)).toMatch(/RELIABLE_BAD_OPTION: Retries 2\.\nNothing was done: .* --yes/);
    expect(calls).toHaveLength(1);
    expect(await run({ yes: true }, () => undefined)).toMatch(/^Begun: b\nHow it goes: reliable bulk b/);
  });

  it.each([
    [["x"], {}, { id: "x" }],
    [[], { id: "x" }, { id: "x" }],
    [["pause", "x"], { note: "wait" }, { id: "x", change: "pause", note: "wait" }],
    [["rate"], { id: "x", perSecond: 5 }, { id: "x", change: "rate", perSecond: 5 }]
  ])("reliable bulk %j %j", async (ids, options, params) => {
    const calls: unknown[] = [];
    const call = async (_: string, given: object) => {
      calls.push(given);
      return last;
    };
    await reliableCommand({ call } as unknown as ServiceBroker, { what: "bulk", ids, options });
    expect(calls).toEqual([params]);
  });

  it.each([
    ["bulk", [], {}, /'reliable bulk' needs an id; all of them: reliable bulks\./],
    ["bulk", ["halt", "x"], {}, /does not know what 'halt' is for\. There are: pause, resume, stop, rate\./],
    ["retry", ["x"], { perSecond: 5 }, /acts at once: it has no --per-second/]
  ])("reliable %s %j %j says what is wrong", async (what, ids, options, expected) => {
    const call = async () => undefined;
    expect(await reliableCommand({ call } as unknown as ServiceBroker, { what, ids, options })).toMatch(expected);
  });
});

describe("a terminal", () => {
  function keys() {
    const input = new PassThrough() as unknown as NodeJS.ReadStream & PassThrough;
    const output = new PassThrough() as unknown as NodeJS.WriteStream & PassThrough;
    const raw: boolean[] = [];
    Object.assign(input, { isTTY: true, isRaw: false, setRawMode: (mode: boolean) => void raw.push(mode) });
    Object.assign(output, { isTTY: true, columns: 20 });
    const repl = vi.fn();
    input.on("keypress", repl);
    const terminal = openTerminal(input, output, systemClock) as Terminal;
    return { input, output, repl, terminal, raw, said: () => String(output.read() ?? "") };
  }

  it.each([
    ["y", true],
    ["Y", true],
    ["n", false],
    ["\r", false],
    ["\u0003", false]
  ])("asked, %j means %s, and the REPL does not hear it", async (key, yes) => {
    const { input, repl, terminal, raw, said } = keys();
    const answer = terminal.ask("Go on?\u001b[2J");
    input.write(key);
    expect(await answer).toBe(yes);
    expect(repl).not.toHaveBeenCalled();
    expect(said()).toBe(`Go on?\\u001b[2J ${yes ? "y" : "n"}\n`);
    terminal.close();
    expect(raw).toEqual([true, false]);
    input.write("z");
    await vi.waitFor(() => expect(repl).toHaveBeenCalledTimes(1));
  });

  it("Ctrl-C ends the wait, other keys do not; a line is as wide as there is room", async () => {
    const { input, terminal, said } = keys();
    terminal.show("x".repeat(50));
    expect(said()).toBe(`\r\u001b[K${"x".repeat(19)}`);
    input.write("q");
    expect(await terminal.wait(1)).toBe(false);
    const waiting = terminal.wait(60_000);
    input.write("\u0003");
    expect(await waiting).toBe(true);
    terminal.close();
  });

  it("is none where one of the two is not", () => {
    const [input, output] = [new PassThrough(), new PassThrough()] as unknown as [
      NodeJS.ReadStream,
      NodeJS.WriteStream
    ];
    expect(openTerminal(input, output, systemClock)).toBeUndefined();
  });
});
