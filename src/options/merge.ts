import { ReliableError } from "../errors";
import { namesOf, type OptionName } from "./options";
import type { Values } from "./validate";
import { isPlain } from "./validate";

/**
 * Node options given by several services of one broker: each may add, none may contradict, since there is one
 * connection pair, one store client and one sweeper per node. Throws RELIABLE_BAD_OPTION naming the option.
 */
export function mergeNode(into: Values, values: Values, service: string): void {
  const why = (name: string) =>
    `The service '${service}' gives the option '${name}' another value than a service before it on this node; it counts once per node.`;
  merge(into, values, service, namesOf(["node"]), why);
}

/** The same for the mixin used twice in one service, by itself and by a mixin of its own. */
export function mergeService(into: Values, values: Values, service: string): void {
  merge(
    into,
    values,
    service,
    namesOf(["service", "event"]),
    name => `The service '${service}' has the mixin ReliableEmit more than once, with different '${name}'.`
  );
}

function merge(
  into: Values,
  values: Values,
  service: string,
  names: OptionName[],
  why: (name: string) => string
): void {
  for (const name of names) {
    const value = values[name];
    if (value === undefined) continue;
    const before = into[name];
    const isSame = () => (name === "schemas" ? sameSchemas(before as Values, value as Values) : same(before, value));
    if (before !== undefined && !isSame())
      throw new ReliableError("RELIABLE_BAD_OPTION", why(name), { option: name, service });
    into[name] = value;
  }
}

/** As text they would all be alike. */
function sameSchemas(a: Values, b: Values): boolean {
  const events = Object.keys(a);
  return events.length === Object.keys(b).length && events.every(event => a[event] === b[event]);
}

function same(a: unknown, b: unknown): boolean {
  return a === b || ((isPlain(a) || Array.isArray(a)) && JSON.stringify(a) === JSON.stringify(b));
}
