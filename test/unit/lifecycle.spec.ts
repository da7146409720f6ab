import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { isFinal, STATUS, STATUSES, type Status, sourcesOf, TRANSITIONS } from "../../src/message/lifecycle";

type End = Status | "discarded";

/** The graph in the header of lifecycle.ts, arrow by arrow, with the words that stand on the arrow. */
const DRAWN: readonly (readonly [from: Status, to: End, words: string])[] = [
  ["intended", "pending", "business write happened"],
  ["intended", "withdrawn", "it did not"],
  ["pending", "published", "confirmed and routed"],
  ["pending", "dead", "budget spent, refused"],
  ["published", "consumed", "last receipt"],
  ["published", "pending", "sweep: due"],
  ["published", "dead", "┤"],
  ["dead", "pending", "retry"],
  ["dead", "consumed", "late receipt"],
  ["dead", "resolved", "resolved (final, with a note)"],
  ["dead", "discarded", "discarded (removed, with an audit record)"],
  ["scheduled", "pending", "its instant has come"],
  ["scheduled", "cancelled", "called off"]
];

/** Legal, and left out of the graph so that it can be read. */
const UNDRAWN: readonly (readonly [from: Status, to: End, reason: string])[] = [
  ["intended", "dead", "the producer answered too often without an answer that counts: never a silent rollback"],
  ["intended", "published", "a receipt, or a later check of its producer, tells that it was sent (strategy callback)"],
  [
    "dead",
    "published",
    "the group that had failed answers late, or is resolved or forgotten, and others are waited for"
  ],
  ["scheduled", "resolved", "all groups that it names were forgotten"],
  ["scheduled", "dead", "the store refuses the change to pending"],
  ["pending", "consumed", "the receipts were quicker than the record of the publish"],
  ["pending", "resolved", "a human closes what nobody wants any more, or has resolved a group before the last receipt"],
  [
    "published",
    "resolved",
    "a human closes what nobody wants any more, or has resolved a group before the last receipt"
  ]
];

const LEGAL = [...DRAWN, ...UNDRAWN].map(([from, to]) => `${from} → ${to}`);
const header = /\/\*\*[\s\S]*?\*\//.exec(readFileSync("src/message/lifecycle.ts", "utf8"))?.[0] ?? "";

describe("transitions", () => {
  const ends: readonly End[] = [...STATUSES, "discarded"];
  it.each(STATUSES.flatMap(from => ends.map(to => [from, to, LEGAL.includes(`${from} → ${to}`)] as const)))(
    "%s → %s is legal: %s",
    (from, to, legal) => {
      expect(TRANSITIONS[from].includes(to)).toBe(legal);
      expect(sourcesOf(to).includes(from)).toBe(legal);
    }
  );
});

describe("the graph in the header", () => {
  it.each(STATUSES)("names %s", status => {
    expect(header).toMatch(new RegExp(`\\b${status}\\b`));
  });

  it.each(DRAWN)("draws %s → %s: %s", (_from, _to, words) => {
    expect(header).toContain(words);
  });

  it("calls final what is final", () => {
    expect(STATUSES.filter(isFinal)).toEqual([STATUS.consumed, STATUS.resolved, STATUS.withdrawn, STATUS.cancelled]);
    for (const status of STATUSES.filter(isFinal)) expect(header).toMatch(new RegExp(`${status}\\s+\\(final`));
    for (const status of STATUSES.filter(status => !isFinal(status)))
      expect(header).not.toMatch(new RegExp(`${status}\\s+\\(final`));
  });
});

it("every status is its own name, and can be reached", () => {
  for (const [key, value] of Object.entries(STATUS)) expect(key).toBe(value);
  const first: Status[] = ["scheduled", "intended", "pending"];
  for (const status of STATUSES) expect(first.includes(status) || sourcesOf(status).length > 0).toBe(true);
});
