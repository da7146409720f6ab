import { isDeepStrictEqual } from "node:util";
import { ReliableError } from "../errors";
import { boundedText } from "../message/failure-text";
import { lossOf, type Part, pathOf } from "./json-loss";

/** Deeper or circular payloads are left to JSON.stringify. */
const MAX_PLAIN_DEPTH = 32;

/** Whether two bodies are the same JSON. Keys may have another order, as after a database. */
export function sameJson(a: Buffer, b: Buffer): boolean {
  if (Buffer.compare(a, b) === 0) return true;
  try {
    return isDeepStrictEqual(JSON.parse(a.toString()), JSON.parse(b.toString()));
  } catch {
    return false;
  }
}

/**
 * The payload as the exact bytes that will be sent. Throws RELIABLE_BAD_PAYLOAD or RELIABLE_PAYLOAD_TOO_LARGE, naming
 * the place.
 */
export function serialize(event: string, payload: unknown, maxBytes: number, name = "payload"): Buffer {
  const json = stringify(
    payload,
    where => new ReliableError("RELIABLE_BAD_PAYLOAD", `Cannot emit '${event}' reliably: ${where}.`, { event }),
    name
  );
  const body = Buffer.from(json);
  if (body.length > maxBytes) {
    throw new ReliableError(
      "RELIABLE_PAYLOAD_TOO_LARGE",
      `Cannot emit '${event}' reliably: ${name === "payload" ? "the payload" : name} is ${body.length} bytes, maxPayloadBytes is ${maxBytes}. Store it and emit a reference.`,
      { event, bytes: body.length, maxPayloadBytes: maxBytes }
    );
  }
  return body;
}

/** Throws `fail(where)` for what JSON cannot carry. `name` is where the path to it begins: payload, meta, … */
export function stringify(value: unknown, fail: (where: string) => Error, name: string): string {
  try {
    if (isPlainJson(value, MAX_PLAIN_DEPTH)) return JSON.stringify(value);
  } catch {
    // A getter has thrown; it is reported below.
  }
  return stringifyWatched(value, fail, name);
}

/**
 * True if the payload has only what JSON carries unchanged. Most payloads pass and need no replacer function, which
 * costs several times more.
 */
function isPlainJson(value: unknown, depth: number): boolean {
  switch (typeof value) {
    case "string":
    case "boolean":
      return true;
    case "number":
      return Number.isFinite(value);
    case "object":
      if (value === null) return true;
      if (depth === 0) return false;
      if (Array.isArray(value)) return value.every(item => isPlainJson(item, depth - 1));
      if (Object.getPrototypeOf(value) !== Object.prototype || "toJSON" in value) return false;
      return Object.values(value).every(item => item === undefined || isPlainJson(item, depth - 1));
    default:
      return false;
  }
}

function stringifyWatched(value: unknown, fail: (where: string) => Error, name: string): string {
  let refused: string | undefined;
  let json: string | undefined;
  // What is being written, from outside to inside.
  const open: Part[] = [];
  try {
    json = JSON.stringify(value, function (this: Record<string, unknown>, key, at: unknown) {
      const loss = lossOf(at, this[key]);
      if (loss === undefined && (typeof at !== "object" || at === null)) return at;
      while (open.length && open.at(-1)?.holder !== this) open.pop();
      open.push({ holder: at, key });
      if (loss === undefined) return at;
      refused ??= `${pathOf(name, open)} is ${loss}`;
      return undefined;
    });
  } catch (error) {
    throw fail(
      `${name} cannot be turned into JSON (${boundedText(error instanceof Error ? error.message.split("\n")[0] : error, 200)})`
    );
  }
  if (refused) throw fail(refused);
  if (json === undefined) throw fail(`${name} is ${value === undefined ? "undefined" : typeof value}`);
  return json;
}

/** `Object.keys` would make an array for each. */
export function isEmpty(value: object): boolean {
  for (const name in value) if (Object.hasOwn(value, name)) return false;
  return true;
}

/** Why something that was received is no envelope. It is parked with its bytes, never dropped. */
export class Unreadable extends Error {}

/** At most `maxBytes`, which no message of ours exceeds: a longer one is not worth the time. Throws Unreadable. */
export function parseJson(body: Buffer, what: string, maxBytes: number): unknown {
  if (body.length > maxBytes) throw new Unreadable(`${what} of ${body.length} bytes, more than ${maxBytes}`);
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    throw new Unreadable(`${what} is not JSON`);
  }
}

/** Keys that become a prototype when a handler or Moleculer copies what they stand in. */
const UNSAFE_KEYS: ReadonlySet<string> = new Set(["__proto__", "constructor", "prototype"]);

/** Few texts need the reviver, which is several times slower. A key may be written with escapes. */
const MAY_BE_UNSAFE = /__proto__|constructor|prototype|\\u/;

/** An object from the wire, without the keys of UNSAFE_KEYS at any depth. Throws Unreadable. */
export function parseObject(json: string | undefined, what: string): Record<string, unknown> {
  if (json === undefined) return {};
  let value: unknown;
  try {
    value = MAY_BE_UNSAFE.test(json)
      ? JSON.parse(json, (key, at: unknown) => (UNSAFE_KEYS.has(key) ? undefined : at))
      : JSON.parse(json);
  } catch {
    throw new Unreadable(`${what} is not JSON`);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Unreadable(`${what} is not an object`);
  return value as Record<string, unknown>;
}
