import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020";

export type SchemaName =
  | "envelope"
  | "job"
  | "check"
  | "checks"
  | "plan"
  | "receipt"
  | "announcement"
  | "withdrawal"
  | "parked"
  | "control";

export const FOLDER = path.resolve(__dirname, "../../docs/schemas");

const ajv = new Ajv2020({ strict: true, strictTypes: false, strictRequired: false, allErrors: true });
// To the standard it only describes. Here it counts: a header with bad JSON in it is a bad message.
ajv.removeKeyword("contentSchema");
ajv.addKeyword({
  keyword: "contentSchema",
  type: "string",
  schemaType: "object",
  compile: (schema: object) => {
    let validate: ValidateFunction | undefined;
    return (text: string) => {
      validate ??= ajv.compile(schema);
      try {
        return validate(JSON.parse(text));
      } catch {
        return false;
      }
    };
  }
});
export const names = readdirSync(FOLDER).map(file => file.replace(".schema.json", "") as SchemaName);
for (const name of names)
  ajv.addSchema(JSON.parse(readFileSync(path.join(FOLDER, `${name}.schema.json`), "utf8")) as object);

/** What is wrong with it by the published schema; empty = nothing. */
export function faults(name: SchemaName, value: unknown): string[] {
  const validate = ajv.getSchema(`urn:moleculer-reliable-emit:v1:${name}`) as ValidateFunction;
  return validate(value)
    ? []
    : (validate.errors ?? []).map(({ instancePath, message }) => `${instancePath} ${message}`);
}

export interface OnTheWire {
  messageId?: string;
  type?: string;
  headers: Record<string, unknown>;
  body: Buffer;
  [property: string]: unknown;
}

/** A message as its schema sees it: the body parsed, absent where it is no JSON. */
export function asDocument({ body, ...rest }: OnTheWire): Record<string, unknown> {
  try {
    return { ...rest, body: JSON.parse(body.toString()) as unknown };
  } catch {
    return rest;
  }
}
