import { ReliableError } from "../../errors";

/** The group itself, and the `<group>:<pattern>` labels of its wildcard consumers. */
export function labelsOf(group: string): RegExp {
  return new RegExp(`^${group.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&")}(:|$)`);
}

/**
 * What reaches a filter is a plain value, whatever the caller passed: an object there would be a query of the caller's
 * making.
 */
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
