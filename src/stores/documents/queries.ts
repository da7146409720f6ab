import { ReliableError } from "../../errors";

/** The group itself, and the `<group>:<pattern>` labels of its wildcard consumers. */
export function labelsOf(group: string): RegExp {
  return new RegExp(`^${group.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")}(:|$)`);
}

/** Only plain values reach a filter, whatever the caller passed: an object would be a query made by the caller. */
export function textOf(name: string, value: unknown): string {
  if (typeof value !== "string")
    throw new ReliableError("RELIABLE_BAD_OPTION", `'${name}' must be text.`, { option: name });
  return value;
}

export function instantOf(name: string, value: unknown): Date {
  if (!(value instanceof Date) || Number.isNaN(value.getTime()))
    throw new ReliableError("RELIABLE_BAD_OPTION", `'${name}' must be a date.`, { option: name });
  return value;
}
