/**
 * Where an option counts: once per Moleculer node, per service, or per reliable event (then also per service, as its
 * default).
 */
export type OptionScope = "node" | "service" | "event";

/** A rule of fastest-validator. */
export interface Rule {
  type: string;
  rules?: Rule[];
  [setting: string]: unknown;
}

/** What may be given, and what counts where nothing is: `undefined` = there is no default. Its type is the option's. */
interface Kind<Value> {
  rule: Rule;
  default: Value;
}

export interface Option<Scope extends OptionScope = OptionScope, Value = unknown> extends Kind<Value> {
  scope: Scope;
}

const inScope =
  <Scope extends OptionScope>(scope: Scope) =>
  <Value>(kind: Kind<Value>): Option<Scope, Value> => ({ scope, ...kind });

export const perNode = inScope("node");
export const perService = inScope("service");
export const perEvent = inScope("event");

interface Bounds {
  min?: number;
  max?: number;
}

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const DAY = 24 * 60 * MINUTE;

/** No duration is longer. */
export const LONGEST_MS = 365 * DAY;

export const msRule = ({ min = 1, max = LONGEST_MS }: Bounds = {}): Rule => ({
  type: "number",
  integer: true,
  min,
  max
});

/** A duration in milliseconds. */
export const ms = (value: number, bounds?: Bounds): Kind<number> => ({ rule: msRule(bounds), default: value });

/** A number of things, or of bytes. */
export const count = (value: number, { min = 1, max = 1e6 }: Bounds = {}): Kind<number> => ({
  rule: { type: "number", integer: true, min, max },
  default: value
});

export const flagRule: Rule = { type: "boolean" };

export const flag = (value: boolean): Kind<boolean> => ({ rule: flagRule, default: value });

/** Text that is not empty. */
export const text = (): Kind<string | undefined> => ({ rule: { type: "string", empty: false }, default: undefined });

const secretRule: Rule = { type: "string", min: 32 };

/** A secret, or several of which the first one is in use. */
export const secrets = (): Kind<string | string[] | undefined> => ({
  rule: { type: "multi", rules: [secretRule, { type: "array", items: secretRule, min: 1, max: 10 }] },
  default: undefined
});

export const oneOf = <const Value>(values: readonly Value[], value: NoInfer<Value>): Kind<Value> => ({
  rule: { type: "enum", values },
  default: value
});

/** A function of the user's. */
export const hook = <Value>(): Kind<Value | undefined> => ({ rule: { type: "function" }, default: undefined });

/** Checked by code of its own: see `checkAddresses`. */
export const address = <Value>(): Kind<Value | undefined> => ({ rule: { type: "any" }, default: undefined });
