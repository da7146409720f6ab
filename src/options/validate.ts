import { distance } from "fastest-levenshtein";
import Validator, { type ValidationSchema } from "fastest-validator";
import { ReliableError } from "../errors";

const validator = new Validator({ useNewCustomCheckerFunction: true });

/** Compiling a schema costs far more than checking with it, and emits are checked one by one. */
const compiled = new WeakMap<object, (values: object) => true | object[] | Promise<unknown>>();

function checkerOf(schema: Record<string, object>): (values: object) => unknown {
  let checker = compiled.get(schema);
  if (!checker) {
    const rules = Object.fromEntries(Object.entries(schema).map(([name, rule]) => [name, { ...rule, optional: true }]));
    checker = validator.compile(rules as ValidationSchema);
    compiled.set(schema, checker);
  }
  return checker;
}

/** What a mistyped name may have been meant to be. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  const [near] = names.toSorted((a, b) => distance(a, name) - distance(b, name));
  if (near === undefined) return undefined;
  const apart = distance(near.toLowerCase(), name.toLowerCase());
  // Of two short names all letters may differ.
  return apart <= Math.max(2, near.length / 3) && apart < near.length ? near : undefined;
}

/**
 * Checks given values against a schema. Throws RELIABLE_BAD_OPTION naming the option, with a suggestion for an unknown
 * one. Returns a copy with strings from the environment converted.
 */
export function check(
  where: string,
  schema: Record<string, object>,
  values: Values,
  type: "RELIABLE_BAD_OPTION" | "RELIABLE_BAD_CONSUMER" = "RELIABLE_BAD_OPTION"
): Values {
  for (const name of Object.keys(values)) {
    if (name in schema) continue;
    const near = nearest(name, Object.keys(schema));
    const hint = near === undefined ? "" : ` Did you mean '${near}'?`;
    throw new ReliableError(type, `Unknown option '${name}' in ${where}.${hint}`, {
      option: name,
      suggestion: near
    });
  }
  const copy = structuredCopy(values);
  const result = checkerOf(schema)(copy);
  if (Array.isArray(result)) {
    const [first] = result as { type: string; field: string; message?: string; actual?: unknown }[];
    // A nested unknown key is reported by the validator under its parent.
    const text =
      first?.type === "objectStrict"
        ? `Unknown option '${first.field}.${String(first.actual)}'`
        : first?.message?.replace(/^The '([^']*)' field/, "The option '$1'");
    const oneOf =
      first?.type === "enumValue" || first?.type === "stringEnum"
        ? `The option '${first.field}' must be one of ${String((first as { expected?: unknown }).expected)}`
        : undefined;
    throw new ReliableError(
      type,
      `${(oneOf ?? text ?? "Bad option").replace(/[.!]$/, "")} in ${where} (given: ${describe(copy, first?.field)}).`,
      { option: first?.field }
    );
  }
  return copy;
}

/** Of the option `schemas`: it may be a plain object, and is its library's own. */
const isSchema = (value: object): boolean => "~standard" in value;

/**
 * Live clients and TLS material must not be cloned; plain option objects must not be changed by the validator's
 * conversions.
 */
function structuredCopy(values: Values): Values {
  return Object.fromEntries(
    Object.entries(values)
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => [name, isPlain(value) && !isSchema(value) ? structuredCopy(value) : value])
  );
}

export function isPlain(value: unknown): value is Values {
  return typeof value === "object" && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** Addresses hold passwords. */
const SECRET: ReadonlySet<string> = new Set(["amqp", "mongo", "redis", "signingKey"]);

function describe(values: Values, field: string | undefined): string {
  const value = field?.split(".").reduce<unknown>((at, key) => (isPlain(at) ? at[key] : undefined), values);
  return typeof value === "number" || typeof value === "boolean"
    ? String(value)
    : typeof value === "string" && !SECRET.has(field ?? "")
      ? JSON.stringify(value)
      : value === null
        ? "null"
        : typeof value;
}

export type Values = Record<string, unknown>;
