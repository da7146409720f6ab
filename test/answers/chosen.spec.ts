import { beforeAll, describe, expect, it } from "vitest";
import type { CommandName } from "./answers";
import { type Fault, type Mode, type Outcome, run, runAll } from "./play";
import { cellOf, FAULTS, writtenOf } from "./table";

/** Twenty of all that `npm run test:answers` tries, each for another reason of the store's to go on. */
const CHOSEN: [command: CommandName, answer: string, mode: Mode][] = [
  ["insert", "10107", "for good"],
  ["insert", "11602", "once"],
  ["insert", "64", "for good"],
  ["insert", "8000 AtlasError, of a quota", "for good"],
  ["insert", "17419", "once"],
  ["insert", "connection lost when it is done", "for good"],
  ["update", "189", "once"],
  ["update", "100", "for good"],
  ["update", "24", "for good"],
  ["update", "17419", "for good"],
  ["update", "connection lost when it is done", "once"],
  ["update", "connection lost before it is done", "for good"],
  ["find", "50", "for good"],
  ["find", "91", "once"],
  ["aggregate", "11600", "for good"],
  ["commitTransaction", "64", "for good"],
  ["commitTransaction", "251", "for good"],
  ["commitTransaction", "connection lost when it is done", "for good"],
  ["createIndexes", "50", "for good"],
  ["createIndexes", "262", "once"]
];

const FEW = CHOSEN.map(([command, answer, mode]): [string, Fault] => {
  const fault = FAULTS.find(
    of => of.command === command && of.mode === mode && `${of.answer.name} `.startsWith(`${answer} `)
  ) as Fault;
  return [`${command}: ${fault.answer.name}, ${mode}`, fault];
});

let faultless: Outcome;
let outcomes: Map<Fault, Outcome | Error>;

beforeAll(async () => {
  faultless = await run();
  outcomes = await runAll(
    FEW.map(([, fault]) => fault),
    5
  );
}, 600_000);

describe("the store beside a MongoDB that answers", () => {
  it.each(FEW)("%s", (_, fault) => {
    const outcome = outcomes.get(fault);
    if (!outcome || outcome instanceof Error) throw outcome ?? new Error("not run");
    expect(outcome.met.length).toBeGreaterThan(0);
    // Nothing is promised about an index.
    if (fault.command !== "createIndexes") expect(outcome.unmoved).toEqual([]);
    expect(outcome.rows).toBe(faultless.rows);
    // The page is of the newest driver.
    if (process.env["DEPENDENCIES"] !== "lowest") expect(cellOf(outcome)).toBe(writtenOf(fault));
  });
});
