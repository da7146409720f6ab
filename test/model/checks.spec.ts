import { expect, it } from "vitest";
import { type ChecksModel, ChecksWorld } from "./checks/steps";
import { exploreWorld } from "./explorer";

const two = { together: ["m1", "m2"] };
const bad = { ...two, bad: "m2" };

/** D1 to D4 (see `ChecksWorld`) hold in every state that these can lead to. */
const RUNS: [what: string, model: ChecksModel][] = [
  ["nothing goes wrong", { scenario: two, faults: {} }],
  ["a process dies", { scenario: two, faults: { crash: 1 } }],
  ["confirms are lost, or the messages", { scenario: two, faults: { lose: 1 } }],
  ["RabbitMQ refuses the message", { scenario: two, faults: { refuse: 1 } }],
  ["they come twice", { scenario: two, faults: { duplicate: 1 } }],
  ["the store is away for a while", { scenario: two, faults: { away: 1 } }],
  ["one of the checks cannot be read, and a process dies", { scenario: bad, faults: { crash: 1 } }],
  ["one cannot be read, and comes twice", { scenario: bad, faults: { duplicate: 1 } }],
  [
    "one alone, and another behind it while it is on its way",
    { scenario: { together: ["m1"], after: ["m2"] }, faults: {} }
  ]
];

it.each(RUNS)(
  "%s",
  async (what, model) => {
    const { states, transitions, ends, complete, broken } = await exploreWorld(new ChecksWorld(model), 900_000);
    console.log(`checks, ${what}: ${states} states, ${transitions} transitions, ends ${JSON.stringify(ends)}`);
    expect(broken).toBeUndefined();
    expect(complete).toBe(true);
  },
  1_200_000
);

const isInsert = (effect: { op: string; collection?: unknown }, into: string) =>
  effect.op === "db.insert" && effect.collection === into;

const MUTANTS: [name: string, model: ChecksModel, breaks: RegExp][] = [
  [
    "acked when the first check is settled",
    {
      scenario: two,
      faults: { lose: 2 },
      mutation: {
        name: "",
        want: effect =>
          isInsert(effect, "messages") && (effect.doc as { _id: string })._id === "m2"
            ? { ...effect, skipped: true }
            : effect
      }
    },
    /D2: the check of m2 is acked/
  ],
  [
    "acked while the rows are on their way",
    {
      scenario: two,
      faults: { lose: 2 },
      mutation: { name: "", eager: effect => (isInsert(effect, "messages") ? true : undefined) }
    },
    /D2: the check of m\d is acked/
  ],
  [
    "a check that cannot be read is dropped",
    {
      scenario: bad,
      faults: { lose: 2 },
      mutation: { name: "", want: effect => (isInsert(effect, "parked") ? { ...effect, skipped: true } : effect) }
    },
    /D2: the check of m2 is acked/
  ],
  [
    "an outcome is given to another message with checks",
    {
      scenario: { together: ["m1"], after: ["m2", "m3"], most: 2 },
      faults: {},
      mutation: { name: "", swaps: true }
    },
    /law 1: m\d is promised, and its check is not confirmed/
  ],
  [
    "told before the confirm",
    {
      scenario: two,
      faults: { crash: 1 },
      mutation: {
        name: "",
        eager: effect =>
          effect.op === "publish" && "queue" in ((effect as { to?: object }).to ?? {})
            ? { outcome: "confirmed" }
            : undefined
      }
    },
    /law 1: m\d is promised, and its check is not confirmed/
  ]
];

it.each(MUTANTS)(
  "is found: %s",
  async (_, model, breaks) => {
    const { broken, states } = await exploreWorld(new ChecksWorld(model), 300_000);
    console.log(`after ${states} states\n  ${broken?.law}\n    ${broken?.trace.join("\n    ")}`);
    expect(broken?.law, `in ${states} states`).toMatch(breaks);
  },
  400_000
);
