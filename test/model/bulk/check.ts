import { expect, it } from "vitest";
import { exploreWorld } from "../explorer";
import type { FilterAct } from "./parts";
import { BulkWorld } from "./steps";
import type { BulkFaults, BulkScenario } from "./world";

/** What goes wrong, or humans do; and the messages that there are. */
export type BulkRun = [what: string, faults: BulkFaults, scenario: Omit<BulkScenario, "act">];

/** More than any run has: one that reaches it has not seen everything, and fails. */
const MAX_STATES = 900_000;

/** One test each: the laws hold in every state that these can lead to. */
export function bulkHolds(act: FilterAct, runs: BulkRun[]): void {
  it.each(runs)(
    "%s",
    async (what, faults, scenario) => {
      const began = performance.now();
      const world = new BulkWorld({ scenario: { act, ...scenario }, faults });
      const { states, transitions, ends, complete, broken } = await exploreWorld(world, MAX_STATES);
      const ms = Math.round(performance.now() - began);
      console.log(
        `${act}, ${what}: ${states} states, ${transitions} transitions, ${ms} ms, ends ${JSON.stringify(ends)}`
      );
      expect(broken).toBeUndefined();
      expect(complete).toBe(true);
    },
    1_200_000
  );
}
