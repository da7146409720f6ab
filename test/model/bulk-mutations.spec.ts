import { expect, it } from "vitest";
import { BULK_MUTANTS } from "./bulk/mutations";
import { BulkWorld } from "./bulk/steps";
import { exploreWorld } from "./explorer";

/** Each broken bulk act must be found broken: otherwise the laws that hold in `bulk.spec.ts` say nothing. */
it.each(BULK_MUTANTS)(
  "is found: $name",
  async ({ model, breaks, ...mutation }) => {
    const { broken, states } = await exploreWorld(new BulkWorld({ ...model, mutation }), 100_000);
    console.log(`${mutation.name}: after ${states} states\n  ${broken?.law}\n    ${broken?.trace.join("\n    ")}`);
    expect(broken?.law, `in ${states} states`).toMatch(breaks);
  },
  400_000
);
