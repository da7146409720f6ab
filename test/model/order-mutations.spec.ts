import crypto from "node:crypto";
import { expect, it, vi } from "vitest";
import { exploreWorld } from "./explorer";
import { ORDER_MUTANTS } from "./order/mutations";
import { OrderWorld } from "./order/steps";

// As in `order/check.ts`.
vi.mock("../../src/platform/ids", () => ({ newId: () => crypto.randomUUID() }));

/** Each broken order must be found broken: otherwise the laws that hold in `order.spec.ts` say nothing. */
it.each(ORDER_MUTANTS)(
  "is found: $name",
  async ({ model, breaks, ...mutation }) => {
    const { broken, states } = await exploreWorld(new OrderWorld({ ...model, mutation }), 100_000);
    console.log(`${mutation.name}: after ${states} states\n  ${broken?.law}\n    ${broken?.trace.join("\n    ")}`);
    expect(broken?.law, `in ${states} states`).toMatch(breaks);
  },
  400_000
);
