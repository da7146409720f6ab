import { expect, it } from "vitest";
import { explore } from "./explorer";
import { MUTANTS } from "./mutations";

/** Each broken protocol must be found broken: otherwise the laws that hold in `protocol.spec.ts` say nothing. */
it.each(MUTANTS)(
  "is found: $name",
  async ({ model, breaks, ...mutation }) => {
    const { broken, states } = await explore({ ...model, mutation }, 300_000);
    expect(broken?.law, `in ${states} states`).toMatch(breaks);
    console.log(`${mutation.name}: after ${states} states\n  ${broken?.law}\n    ${broken?.trace.join("\n    ")}`);
  },
  400_000
);
