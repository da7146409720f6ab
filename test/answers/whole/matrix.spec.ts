import { resolve } from "node:path";
import { beforeAll, describe, expect, it } from "vitest";
import { COMMANDS, LATE } from "../answers";
import { type Fault, type Outcome, run, runAll } from "../play";
import { cellOf, FAULTS, TABLE, tableOf } from "../table";

/** More wait for an answer that comes late than the server has to do. */
const AT_ONCE = 12;

let faultless: Outcome;
let outcomes: Map<Fault, Outcome | Error>;

beforeAll(async () => {
  faultless = await run();
  outcomes = await runAll(FAULTS, AT_ONCE);
}, 1_800_000);

function outcomeOf(fault: Fault): Outcome {
  const outcome = outcomes.get(fault);
  if (!outcome || outcome instanceof Error) throw outcome ?? new Error("not run");
  return outcome;
}

describe.each(COMMANDS)("%s", command => {
  for (const fault of FAULTS.filter(of => of.command === command))
    it(`${fault.answer.name}, ${fault.mode}: nothing is missing, twice or promised too early`, () => {
      const { met, unmoved, rows } = outcomeOf(fault);
      expect(met.length).toBeGreaterThan(0);
      // Nothing is promised about an index, and a late answer is true when it comes.
      if (command !== "createIndexes" && fault.answer.name !== LATE) expect(unmoved).toEqual([]);
      expect(rows).toBe(faultless.rows);
    });
});

it("is as the page says", async () => {
  const page = tableOf(
    fault => cellOf(outcomeOf(fault)),
    fault => (outcomeOf(fault).rows === faultless.rows ? "as without it" : "**another**")
  );
  await expect(page).toMatchFileSnapshot(resolve(TABLE));
});
