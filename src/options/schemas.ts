import Validator, { type ValidationSchema } from "fastest-validator";
import { ReliableError } from "../errors";
import { isPlain } from "./validate";

export interface Issue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

export type Result<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly Issue[] };

/**
 * A schema of any library that speaks Standard Schema (Zod, Valibot, ArkType, …): https://standardschema.dev, version 1.
 */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => Result<Output> | Promise<Result<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

/** By name of the event. */
export type Schemas = Record<string, StandardSchema<never, unknown> | StandardSchema>;

/** Throws RELIABLE_BAD_OPTION. */
export function checkSchemas(schemas: unknown): void {
  if (schemas !== undefined && !isPlain(schemas))
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      "The option 'schemas' must be a plain object: `{ \"order.created\": schema }`.",
      { option: "schemas" }
    );
  for (const [event, schema] of Object.entries(schemas ?? {})) {
    const { validate } = ((schema ?? {}) as Partial<StandardSchema>)["~standard"] ?? {};
    if (typeof validate === "function") continue;
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `The option 'schemas' has no Standard Schema for '${event}': give one of Zod, Valibot, ArkType, …, or \`fastestValidatorSchema({ … })\`.`,
      { option: "schemas", event }
    );
  }
}

/** Compiles rules of fastest-validator, Moleculer's own validator, into a Standard Schema. */
export function fastestValidatorSchema<T = unknown>(rules: ValidationSchema): StandardSchema<T, T> {
  const check = new Validator({ useNewCustomCheckerFunction: true }).compile(rules);
  const resultOf = (value: T, found: unknown): Result<T> =>
    found === true
      ? { value }
      : {
          issues: (found as { field?: string; message?: string; type?: string }[]).map(({ field, message, type }) => ({
            message: message ?? `is refused (${type})`,
            ...(field && { path: field.split(".") })
          }))
        };
  return {
    "~standard": {
      version: 1,
      vendor: "fastest-validator",
      validate(given) {
        // Its sanitizers change what they check, and that is the caller's.
        const value = copyOf(given) as T;
        const found: unknown = check(value);
        return found instanceof Promise ? found.then(each => resultOf(value, each)) : resultOf(value, found);
      }
    }
  };
}

/** Of plain objects and lists; what else there is, is as it is: a copy would lose its class, and with it `toJSON`. */
function copyOf(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copyOf);
  return isPlain(value) ? Object.fromEntries(Object.entries(value).map(([key, at]) => [key, copyOf(at)])) : value;
}
