import { expect, it } from "vitest";
import { explore } from "./explorer";
import type { Scenario } from "./parts";
import type { Faults, Model } from "./world";

/** What goes wrong, and what differs from one group, one of each process, two attempts. */
export type Run = [what: string, faults: Faults, more?: Partial<Model> & Partial<Scenario>];

/** More than any run has: one that reaches it has not seen everything, and fails. */
const MAX_STATES = 900_000;

/** One test each: the laws hold in every state that these faults can lead to. */
export function holds(strategy: Scenario["strategy"], runs: Run[]): void {
  it.each(runs)(
    "%s",
    async (
      what,
      faults,
      { groups = 1, maxAttempts = 2, intent, later, unknownGroups, breaker, pauses, rows, pageSize, ...more } = {}
    ) => {
      const scenario: Scenario = {
        strategy,
        maxAttempts,
        groups,
        ...(intent && { intent }),
        ...(later && { later }),
        ...(unknownGroups && { unknownGroups }),
        ...(breaker && { breaker }),
        ...(pauses && { pauses }),
        ...(rows && { rows }),
        ...(pageSize && { pageSize })
      };
      const { states, transitions, ends, complete, broken } = await explore({ scenario, faults, ...more }, MAX_STATES);
      console.log(`${strategy}, ${what}: ${states} states, ${transitions} transitions, ends ${JSON.stringify(ends)}`);
      expect(broken).toBeUndefined();
      expect(complete).toBe(true);
    },
    1_200_000
  );
}
