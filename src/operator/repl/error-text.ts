import { reasonOf } from "../../errors";
import { FLAGS, flagOf } from "./flags";

/** What is printed of an error. */
export function errorText(thrown: unknown): string {
  const { type, data } = (thrown ?? {}) as { type?: string; data?: unknown };
  if (type === "SERVICE_NOT_FOUND" || type === "SERVICE_NOT_AVAILABLE")
    return `No node with the service 'reliable' can be reached: it runs where a store is configured. (${reasonOf(thrown)})`;
  // Moleculer's validation error has what is wrong in its data only.
  const details =
    type === "VALIDATION_ERROR" && Array.isArray(data)
      ? withFlags([...new Set((data as { message?: string }[]).map(({ message }) => message ?? ""))].join(" "))
      : type === "RELIABLE_BAD_OPTION"
        ? withFlags(reasonOf(thrown), (data as { option?: unknown } | undefined)?.option)
        : reasonOf(thrown);
  return `Error${type ? ` ${type}` : ""}: ${details}`;
}

/**
 * What is wrong names params; here they were typed as flags. `option`: what it is about. Of other names only those that no
 * value looks like.
 */
function withFlags(text: string, option?: unknown): string {
  return text.replace(/'(\w+)'/g, (quoted, name: string) => {
    const flag = name === "requestID" ? "requestId" : name;
    if (!Object.hasOwn(FLAGS, flag)) return quoted;
    return option === undefined || option === name || /[A-Z]/.test(name) ? flagOf(flag) : quoted;
  });
}
