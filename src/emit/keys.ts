import { ReliableError } from "../errors";
import { keyText, MAX_KEYS, nameFault, valueFault } from "../message/keys";

/** What an operator may search a message by. Undefined values are none, as in a payload. */
export type MessageKeys = Record<string, string | number | undefined>;

/** As they are stored and searched; undefined = none. Throws RELIABLE_BAD_OPTION. */
export function keysOf(event: string, keys: unknown): string[] | undefined {
  const bad = (why: string) =>
    new ReliableError("RELIABLE_BAD_OPTION", `The emit option 'keys' of '${event}' ${why}.`, { option: "keys", event });
  if (keys === undefined) return undefined;
  if (typeof keys !== "object" || keys === null || Array.isArray(keys))
    throw bad("must be an object: names and values, { order: 42 }");
  const given = Object.entries(keys).filter(([, value]) => value !== undefined);
  if (given.length > MAX_KEYS) throw bad(`has ${given.length} keys, and ${MAX_KEYS} are allowed`);
  for (const [name, value] of given) {
    const fault = nameFault(name) ?? valueFault(value);
    if (fault !== undefined) throw bad(`has a key ('${name.slice(0, 50)}') that ${fault}`);
  }
  return given.length ? given.map(([name, value]) => keyText(name, value as string | number)) : undefined;
}
