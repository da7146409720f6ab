import { boundedText } from "../message/failure-text";

/**
 * By `Object.prototype.toString`, which also knows the objects of another realm (a test runner's). JSON makes `{}` of
 * all of these, without a word.
 */
const LOST: ReadonlySet<string> = new Set([
  ...["Promise", "RegExp", "Map", "Set", "Error", "WeakMap", "WeakSet", "WeakRef", "FinalizationRegistry"],
  ...["ArrayBuffer", "SharedArrayBuffer", "DataView", "Generator", "AsyncGenerator"],
  ...["Array Iterator", "Map Iterator", "Set Iterator", "String Iterator", "RegExp String Iterator"],
  ...["Headers", "FormData", "URLSearchParams", "Blob", "File", "Request", "Response", "ReadableStream"]
]);

/** Of a path; the names in it are the caller's. */
const MAX_PATH = 200;

const IDENTIFIER = /^[A-Za-z_$][\w$]*$/;

/** What JSON would lose of a value, as the end of a sentence. `given`: the value before its `toJSON`. */
export function lossOf(value: unknown, given: unknown): string | undefined {
  switch (typeof value) {
    case "bigint":
    case "function":
    case "symbol":
      return `a ${typeof value}, which JSON cannot carry`;
    case "number":
      return Number.isFinite(value) ? undefined : `${value}, which JSON cannot carry`;
    case "object":
      // Promises of libraries and queries that were not run may have a toJSON.
      if (isThenable(given)) return "a Promise: was an await forgotten?";
      return value === null || Array.isArray(value) ? undefined : lostObject(value);
    default:
      return undefined;
  }
}

function isThenable(value: unknown): boolean {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    "then" in value &&
    typeof value.then === "function"
  );
}

function lostObject(value: object): string | undefined {
  const tag = Object.prototype.toString.call(value).slice("[object ".length, -1);
  if (!LOST.has(tag) && !(value instanceof Error)) return undefined;
  const name = value.constructor?.name || tag;
  return `${/^[AEIOU]/.test(name) ? "an" : "a"} ${boundedText(name, MAX_PATH)}, which JSON cannot carry`;
}

/** A value on the way to the one that is refused, and its key in the value before. */
export interface Part {
  key: string;
  holder: unknown;
}

/** `payload.order["two words"].lines[3]` */
export function pathOf(name: string, [root, ...parts]: Part[]): string {
  let path = name;
  let inList = Array.isArray(root?.holder);
  for (const { key, holder } of parts) {
    path += inList ? `[${key}]` : IDENTIFIER.test(key) ? `.${key}` : `[${JSON.stringify(key)}]`;
    inList = Array.isArray(holder);
  }
  return boundedText(path, MAX_PATH);
}
