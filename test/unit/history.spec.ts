import { describe, expect, it, vi } from "vitest";
import { BUCKETS_MS, type HistoryRecord, MAX_ROWS, percentileMs, Tally } from "../../src/message/history";
import type { Clock } from "../../src/platform/clock";
import { HistoryCounter, HistoryWriter } from "../../src/telemetry/history";
import { countsOf, parseCounts } from "../../src/wire/counts";
import { silent } from "../support/messages";

describe("sums by event and group", () => {
  it("are of a limited number of them, the rest under one name, and none is lost", () => {
    const tally = new Tally();
    for (let i = 0; i < 1000; i++) {
      tally.count("handled", `order.${i}`, `group-${i}`);
      tally.count("emitted", `order.${i}`);
    }
    const { rows } = tally;
    expect(rows.length).toBeLessThan(MAX_ROWS + 60);
    const sum = (name: "handled" | "emitted") => rows.reduce((all, row) => all + (row[name] ?? 0), 0);
    expect([sum("handled"), sum("emitted")]).toEqual([1000, 1000]);
    expect(rows.find(({ event, group }) => event === "other" && group === undefined)?.emitted).toBeGreaterThan(800);
    expect(rows.find(({ event, group }) => event === "other" && group === "other")?.handled).toBeGreaterThan(800);
  });

  it("add up, times too", () => {
    const tally = new Tally();
    tally.add({ event: "a", group: "g", handled: 2, times: [1, 1] });
    tally.add({ event: "a", group: "g", failed: 1, times: [0, 0, 1] });
    tally.time(0.5, "a", "g");
    tally.time(4_000_000, "b");
    expect(tally.rows).toEqual([
      { event: "a", group: "g", handled: 2, failed: 1, times: [2, 1, 1] },
      { event: "b", times: [...Array(BUCKETS_MS.length).fill(0), 1] }
    ]);
  });

  it.each([
    [[], 0.5, null],
    [[4], 0.5, 0.5],
    [[0, 4], 0.5, 1.5],
    [[50, 50], 0.5, 1],
    [[90, 0, 10], 0.95, 3.5],
    [[...Array(BUCKETS_MS.length).fill(0), 1], 0.99, 3_600_000]
  ])("%j: the share %s is at %s ms", (times, share, expected) => expect(percentileMs(times, share)).toBe(expected));
});

/** A clock that stands until it is told. */
function standing() {
  const begin = Date.UTC(2026, 0, 1, 3, 2, 10);
  let passed = 0;
  let setBy = 0;
  let due: { at: number; callback: () => void } | undefined;
  const now = () => begin + passed + setBy;
  const clock = {
    now,
    monotonic: () => passed,
    after: (ms: number, callback: () => void) => {
      due = { at: passed + ms, callback };
      return { stop: () => (due = undefined) };
    }
  } as unknown as Clock;
  const pass = async (ms: number) => {
    const end = passed + ms;
    while (due && due.at <= end) {
      const { at, callback } = due;
      passed = at;
      callback();
      await new Promise(setImmediate);
    }
    passed = end;
  };
  return { clock, pass, setBy: (ms: number) => (setBy += ms) };
}

function world(add = vi.fn(async (records: HistoryRecord[]) => records.map(() => true))) {
  const { clock, pass, setBy } = standing();
  const counter = new HistoryCounter();
  const time = { now: () => new Date(clock.now()) };
  const started = () => {
    const made = new HistoryWriter({ counter, sink: { add }, time, nodeID: "node-1", logger: silent, clock });
    made.start();
    return made;
  };
  let writer = started();
  const told = () => add.mock.calls.map(([records]) => records.map(({ at, rows }) => [at.toISOString(), rows]));
  return { counter, add, pass, setBy, told, stop: () => writer.stop(), restart: () => (writer = started()) };
}

const minute = (n: number) => `2026-01-01T03:0${n}:00.000Z`;

describe("the minutes of a node", () => {
  it("are written at their end, and nothing of one in which nothing happened", async () => {
    const { counter, pass, told } = world();
    counter.current.count("emitted", "a");
    await pass(49_000);
    expect(told()).toEqual([]);
    await pass(2000);
    expect(told()).toEqual([[[minute(2), [{ event: "a", emitted: 1 }]]]]);
    await pass(180_000);
    expect(told()).toHaveLength(1);
    counter.current.count("emitted", "b");
    await pass(60_000);
    expect(told()[1]).toEqual([[minute(6), [{ event: "b", emitted: 1 }]]]);
  });

  it("that could not be written come again with the same id, and those of the last hour only", async () => {
    let away = true;
    const add = vi.fn(async (records: HistoryRecord[]) => {
      if (away) throw new Error("away");
      return records.map(() => true);
    });
    const { counter, pass } = world(add);
    for (let i = 0; i < 70; i++) {
      counter.current.count("emitted", "a");
      await pass(60_000);
    }
    const [first] = add.mock.calls[0]?.[0] ?? [];
    expect(add.mock.calls[1]?.[0][0]).toBe(first);
    away = false;
    await pass(60_000);
    expect(add.mock.lastCall?.[0]).toHaveLength(60);
    const calls = add.mock.calls.length;
    await pass(120_000);
    expect(add.mock.calls).toHaveLength(calls);
  });

  it("end with a stop, the one that has begun too; a process that follows in it has another id", async () => {
    const [one, two] = [world(), world()];
    await two.pass(5000);
    two.restart();
    for (const { counter } of [one, two]) counter.current.count("emitted", "a");
    await Promise.all([one.stop(), two.stop()]);
    expect([one.told(), two.told()]).toEqual(Array(2).fill([[[minute(2), [{ event: "a", emitted: 1 }]]]]));
    const [first, second] = [one, two].map(({ add }) => add.mock.calls[0]?.[0][0]?._id);
    expect(first).not.toBe(second);
  });

  it("are told apart when the clock was set back", async () => {
    const { counter, pass, setBy, add } = world();
    for (let i = 0; i < 4; i++) {
      counter.current.count("emitted", "a");
      await pass(60_000);
      if (i === 1) setBy(-90_000);
    }
    const ids = add.mock.calls.flatMap(([records]) => records.map(({ _id }) => _id));
    expect(ids).toHaveLength(4);
    expect(new Set(ids).size).toBe(4);
  });
});

describe("counts beside an announcement", () => {
  const record = (rows: HistoryRecord["rows"]): HistoryRecord => ({
    _id: "2026-01-01T03:02:00.000Z|node-1|abc.0",
    unit: "minute",
    at: new Date(Date.UTC(2026, 0, 1, 3, 2)),
    nodeID: "node-1",
    rows
  });

  it("are read as they were sent", () => {
    const rows = [{ event: "a", group: "g", handled: 2, times: [1, 1] }];
    const sent = countsOf(record(rows));
    expect(parseCounts(JSON.parse(JSON.stringify(sent)))).toEqual({
      minute: Date.UTC(2026, 0, 1, 3, 2),
      start: "abc.0",
      rows
    });
  });

  it("fit in an announcement, the busiest ones by name, and none is lost", () => {
    const rows = Array.from({ length: 250 }, (_, i) => ({
      event: `${"x".repeat(240)}${i}`,
      group: "y".repeat(200),
      handled: i + 1
    }));
    const sent = countsOf(record(rows));
    expect(Buffer.byteLength(JSON.stringify(sent))).toBeLessThan(44 * 1024);
    expect(sent.rows.reduce((sum, { handled = 0 }) => sum + handled, 0)).toBe((250 * 251) / 2);
    expect(sent.rows[0]?.handled).toBe(250);
    expect(sent.rows.find(({ event }) => event === "other")).toMatchObject({ group: "other" });
  });
});
