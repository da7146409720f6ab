import crypto from "node:crypto";
import { expect, it, vi } from "vitest";
import { exploreWorld } from "../explorer";
import { OrderWorld } from "./steps";
import type { OrderFaults, OrderScenario } from "./world";

// Before all imports, since others load it too. The theatre makes these, the same ones each time that a script is run
// again.
vi.mock("../../../src/platform/ids", () => ({ newId: () => crypto.randomUUID() }));

/** What goes wrong, or humans do; who emits what. */
export type OrderRun = [what: string, faults: OrderFaults, scenario: OrderScenario];

/** More than any run has: one that reaches it has not seen everything, and fails. */
const MAX_STATES = 900_000;

/** One test each: M1 to M6 (see `Laws`) hold in every state that these can lead to. */
export function inOrder(runs: OrderRun[]): void {
  it.each(runs)(
    "%s",
    async (what, faults, scenario) => {
      const began = performance.now();
      const { states, transitions, ends, complete, broken } = await exploreWorld(
        new OrderWorld({ scenario, faults }),
        MAX_STATES
      );
      const ms = Math.round(performance.now() - began);
      console.log(
        `in order, ${what}: ${states} states, ${transitions} transitions, ${ms} ms, ends ${JSON.stringify(ends)}`
      );
      expect(broken && `${broken.law}\n  ${broken.trace.join("\n  ")}`).toBeUndefined();
      expect(complete).toBe(true);
    },
    1_200_000
  );
}
