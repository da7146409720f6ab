import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, expect, it } from "vitest";
import { readJournals } from "../chaos/journal";
import { complaints, type Ending, judge } from "../chaos/verdict";

let folder: string | undefined;
afterEach(() => folder && rmSync(folder, { recursive: true, force: true }));

/** Three promised messages, one for each kind of inbox, all handled and consumed. */
const GOOD = [
  "A m1 10 order.plain outbox 0",
  "P m1 20",
  "H m1 off 30 31",
  "A m2 10 order.kept callback 0",
  "P m2 20",
  "L m2 on",
  "H m2 on 30 31",
  "I m2 on 40",
  "A m3 10 order.ledger outbox 0",
  "P m3 20",
  "L m3 tx",
  "H m3 tx 30 31"
];
const ENDING: Record<string, string> = { m1: "consumed", m2: "consumed", m3: "consumed" };

function verdict(
  lines: string[],
  {
    statuses = ENDING,
    effects = ["m3"],
    parked = 0
  }: { statuses?: Record<string, string>; effects?: string[]; parked?: number } = {}
) {
  folder = mkdtempSync(path.join(tmpdir(), "verdict-"));
  // What two nodes wrote is one.
  const files = [lines.slice(0, 6), lines.slice(6)].map((part, i) => {
    const file = path.join(folder as string, `${i}.journal`);
    writeFileSync(file, `${part.join("\n")}\nH m9 o`);
    return file;
  });
  const ending: Ending = { statuses: new Map(Object.entries(statuses)), effects, parked };
  const expected = { injectedAt: 0, healedAt: 25, parked: 0 };
  const seen = judge(readJournals(files), ending, expected);
  return { ...seen, complaints: complaints(seen, expected) };
}

const without = (line: string) => GOOD.filter(other => other !== line);

it("finds nothing wrong with a good run, and counts it", () => {
  expect(verdict(GOOD)).toMatchObject({
    attempted: 3,
    promised: 3,
    handled: 3,
    redelivered: 0,
    between: 0,
    dead: 0,
    complaints: []
  });
});

it.each([
  ["without an inbox", () => verdict(without("H m1 off 30 31"))],
  ["with one", () => verdict(without("H m2 on 30 31"))],
  ["in a transaction that left no effect, whatever the handler says", () => verdict(GOOD, { effects: [] })]
])("finds a promised message that its group has not handled, %s", (_, seen) => {
  expect(seen().complaints).toEqual([expect.stringMatching(/^1 lost: m[123] /)]);
});

it("finds one of two groups missing", () => {
  const lines = [...GOOD, "A m4 10 order.shared outbox 0", "P m4 20", "H m4 off 30 31"];
  expect(verdict(lines, { statuses: { ...ENDING, m4: "consumed" } }).complaints).toEqual([
    expect.stringMatching(/^1 lost: m4 .*off of off,on/)
  ]);
});

it("finds what the store says wrongly", () => {
  expect(verdict(GOOD, { statuses: { ...ENDING, m1: "published" } }).complaints).toEqual([
    expect.stringContaining("m1 (order.plain) is published")
  ]);
  expect(verdict(GOOD, { statuses: { ...ENDING, m1: "dead" } }).complaints).toEqual([
    expect.stringContaining("m1 (order.plain) is dead")
  ]);
  expect(verdict(GOOD, { statuses: { m1: "consumed", m2: "consumed" } }).complaints).toEqual([
    expect.stringContaining("m3 (order.ledger) is not in the store")
  ]);
  expect(verdict(GOOD, { statuses: { ...ENDING, m7: "consumed" } }).complaints).toEqual([
    expect.stringContaining("nobody emitted: m7")
  ]);
});

it("wants those dead that were made to die, and counts them", () => {
  const lines = [...GOOD, "A m4 10 order.plain outbox 1", "P m4 20"];
  expect(verdict(lines, { statuses: { ...ENDING, m4: "dead" } })).toMatchObject({ dead: 1, complaints: [] });
  expect(verdict(lines, { statuses: { ...ENDING, m4: "consumed" } }).complaints).toEqual([
    expect.stringContaining("made to die")
  ]);
});

it("tells a second handling that the record should have prevented from one that came before it", () => {
  expect(verdict([...GOOD, "L m2 on", "H m2 on 50 51"])).toMatchObject({
    twice: ["on m2"],
    between: 0,
    complaints: [expect.stringContaining("handled twice")]
  });
  expect(verdict([...GOOD, "L m2 on", "H m2 on 35 51"])).toMatchObject({
    twice: [],
    between: 1,
    redelivered: 1,
    complaints: []
  });
  // The node died before it wrote the record.
  expect(verdict([...without("I m2 on 40"), "L m2 on", "H m2 on 90 91", "I m2 on 95"])).toMatchObject({
    twice: [],
    between: 1,
    complaints: []
  });
});

it("counts what is handled again without an inbox, and refuses two effects of one transaction", () => {
  expect(verdict([...GOOD, "H m1 off 50 51"])).toMatchObject({ redelivered: 1, complaints: [] });
  expect(verdict(GOOD, { effects: ["m3", "m3"] }).complaints).toEqual([
    expect.stringContaining("effects of transactions twice: m3")
  ]);
});

it("lets nobody be handled who was refused as not stored, and anything of what is not known", () => {
  const refused = [...GOOD, "A m4 10 order.plain outbox 0", "N m4 RELIABLE_NOT_STORED"];
  expect(verdict(refused).complaints).toEqual([]);
  expect(verdict([...refused, "H m4 off 30 31"]).complaints).toEqual([
    expect.stringContaining("refused, but there: m4")
  ]);
  const unknown = [...GOOD, "A m4 10 order.plain outbox 0", "U m4 RELIABLE_OUTCOME_UNKNOWN"];
  expect(verdict(unknown).complaints).toEqual([]);
  expect(verdict([...unknown, "H m4 off 30 31"], { statuses: { ...ENDING, m4: "consumed" } }).complaints).toEqual([]);
  expect(verdict(unknown, { statuses: { ...ENDING, m4: "pending" } }).complaints).toEqual(
    expect.arrayContaining([expect.stringContaining("m4 (order.plain), not promised, is pending")])
  );
});

it("passes unhandled errors and parked messages on", () => {
  expect(verdict([...GOOD, `X ${JSON.stringify("Error: boom\n at")}`]).complaints).toEqual([
    expect.stringContaining("unhandled errors: Error: boom")
  ]);
  expect(verdict(GOOD, { parked: 2 }).complaints).toEqual(["2 parked, 0 expected"]);
});

it("measures the time to recover by what was emitted before the end of the fault", () => {
  expect(
    verdict(
      [
        ...without("H m1 off 30 31"),
        "H m1 off 3000 5025",
        "A m4 9000 order.plain outbox 0",
        "P m4 9001",
        "H m4 off 99000 99001"
      ],
      { statuses: { ...ENDING, m4: "consumed" } }
    ).recoverMs
  ).toBe(5);
});

/** Two of one key, the first one promised before the second one was called; times are those of their handlers. */
const ordered = ([since1, at1]: number[], [since2, at2]: number[]) => [
  "A m1 10 order.kept outbox 0 key-1",
  "P m1 20",
  `H m1 on ${since1} ${at1}`,
  `I m1 on ${at1}`,
  "A m2 21 order.kept outbox 0 key-1",
  "P m2 22",
  `H m2 on ${since2} ${at2}`,
  `I m2 on ${at2}`
];

it("finds what is handled before what was promised earlier, and what runs beside another one of its key", () => {
  const statuses = { m1: "consumed", m2: "consumed" };
  const of = (...times: [number[], number[]]) => verdict(ordered(...times), { statuses, effects: [] });
  expect(of([30, 31], [32, 33]).complaints).toEqual([]);
  expect(of([32, 33], [30, 31]).complaints).toEqual(["1 out of order: key-1 on: m2 before m1"]);
  expect(of([30, 32], [31, 33]).order.beside).toEqual(["key-1 on: m2 beside m1"]);
});
