export interface Rule {
  type: string;
  [setting: string]: unknown;
}

/** What the validator says of these rules, whichever one is broken: all limits at once. */
export function saying(says: string, rules: Rule[]): Rule[] {
  const kinds = ["required", "string", "stringEmpty", "stringMax", "stringPattern", "number", "numberInteger"];
  const all = [...kinds, "numberMin", "numberMax", "array", "arrayMin", "arrayMax"];
  const messages = Object.fromEntries(all.map(kind => [kind, `'{field}' must be ${says}.`]));
  return rules.map(rule => ({ ...rule, messages }));
}

/** The REPL makes numbers of what looks like one, so text may come as a number; `asParams` takes it back. */
export const textOrNumber = (max: number, empty: boolean): Rule[] =>
  saying(`text of ${empty ? "at most" : "1 to"} ${max} characters`, [
    { type: "string", empty, max },
    { type: "number" }
  ]);

/**
 * Numbers may come as text, too; not by `convert`, which throws on an object with a `toString` of its own. `asParams`
 * makes numbers of them.
 */
export const numberOf = (min: number, max: number, pattern: string) => ({
  type: "multi",
  rules: saying(`a whole number from ${min} to ${max}`, [
    { type: "number", integer: true, min, max },
    { type: "string", pattern }
  ]),
  optional: true
});

/** As ISO text (UTC without a zone) or as ms since 1970: so it comes from other nodes. */
export const instant = {
  type: "multi",
  rules: saying("an instant (2026-11-26T03:02:00Z, UTC where no zone is given, or ms since 1970)", [
    { type: "string", empty: false, max: 50 },
    { type: "number" }
  ]),
  optional: true
};

/** One alone, too. */
export const messageKey = {
  type: "multi",
  rules: saying("a key (name=value), or a list of 1 to 5 of them", [
    { type: "array", items: { type: "multi", rules: textOrNumber(200, false) }, min: 1, max: 5 },
    ...textOrNumber(200, false)
  ]),
  optional: true
};
