import { isDeepStrictEqual } from "node:util";

/** What of a payload a test names: parts of objects; lists as a whole, of parts again. */
export type PartialPayload<T> = T extends (infer Item)[]
  ? PartialPayload<Item>[]
  : T extends object
    ? { [Key in keyof T]?: PartialPayload<T[Key]> }
    : T;

/** `expect.any(Number)` and the like, of whatever framework. */
interface Asymmetric {
  asymmetricMatch(value: unknown): boolean;
}

/** Whether the payload has all of `wanted`, as JSON carries both: a Date is its text. */
export function hasPart(value: unknown, wanted: unknown): boolean {
  if (typeof wanted !== "object" || wanted === null) return Object.is(value, wanted);
  if (typeof (wanted as Partial<Asymmetric>).asymmetricMatch === "function")
    return (wanted as Asymmetric).asymmetricMatch(value);
  if (typeof (wanted as { toJSON?: unknown }).toJSON === "function")
    return isDeepStrictEqual(value, JSON.parse(JSON.stringify(wanted)));
  if (typeof value !== "object" || value === null || Array.isArray(value) !== Array.isArray(wanted)) return false;
  if (Array.isArray(wanted) && wanted.length !== (value as unknown[]).length) return false;
  return Object.entries(wanted).every(([key, part]) => hasPart((value as Record<string, unknown>)[key], part));
}
