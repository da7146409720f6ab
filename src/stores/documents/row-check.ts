import { STATUSES, type Status } from "../../message/lifecycle";
import { ROW_VERSION } from "../../message/message";

export type Is = (value: unknown) => boolean;

export function isText(value: unknown): value is string {
  return typeof value === "string";
}

export function isInstant(value: unknown): value is Date {
  return value instanceof Date;
}

export function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function isNumber(value: unknown): value is number {
  return typeof value === "number";
}

export function isListOf(is: Is): Is {
  return value => Array.isArray(value) && value.every(is);
}

function isMapOf(is: Is): Is {
  return value => isMap(value) && Object.values(value).every(is);
}

/** The text of a map. */
export function isJson(value: unknown): boolean {
  try {
    return isMap(JSON.parse(value as string));
  } catch {
    return false;
  }
}

/** With fields that are what they should be, where they are there. */
function hasFields(fields: Record<string, Is>): Is {
  return value =>
    isMap(value) && Object.entries(fields).every(([field, is]) => value[field] === undefined || is(value[field]));
}

/** What happened at some instant. */
export function isEvent(value: unknown): boolean {
  return isMap(value) && isInstant(value.at);
}

const isGroup = hasFields({
  attempts: isNumber,
  spent: isNumber,
  base: isNumber,
  receipt: isEvent,
  deadAt: isInstant,
  error: isMap,
  unroutableSince: isInstant
});

/** What the code relies on in a row of a message. The rest is read where it is there. */
const KINDS: [kind: string, is: Is, fields: string[], needed: boolean][] = [
  ["text", isText, ["event", "producer"], true],
  ["a status", value => STATUSES.includes(value as Status), ["status"], true],
  ["an instant", isInstant, ["createdAt", "at"], true],
  ["an instant", isInstant, ["dueAt", "sendAt", "publishedAt", "retriedAt", "droppedAt", "unreachableSince"], false],
  ["a number", isNumber, ["maxAttempts", "receiptTimeoutMs", "unroutableMs"], false],
  ["a list of texts", isListOf(isText), ["waiting"], true],
  ["a list of texts", isListOf(isText), ["failed", "resolved", "only", "keys"], false],
  ["a list of maps with instants", isListOf(isEvent), ["failures", "notes", "lastErrors"], false],
  ["a list", Array.isArray, ["delays"], false],
  ["a map", isMap, ["origin"], false],
  ["a map of numbers", hasFields({ initialMs: isNumber, maxMs: isNumber }), ["backoff"], false],
  ["a map of texts", hasFields({ bulk: isText, of: isText }), ["replay"], false],
  ["a map with a key", value => isMap(value) && isText(value.key), ["order"], false],
  ["text", isText, ["place", "holds"], false],
  ["a map of groups", isMapOf(isGroup), ["groups"], false],
  ["a map of instants", isMapOf(isInstant), ["next"], false]
];

/** Throws why a row of a message cannot be read. */
export function assertReadable(doc: Record<string, unknown>): void {
  if (doc.v !== ROW_VERSION) throw new Error(`it is of version ${String(doc.v).slice(0, 20)}, not ${ROW_VERSION}`);
  for (const [kind, is, fields, needed] of KINDS)
    for (const field of fields)
      if (doc[field] === undefined ? needed : !is(doc[field])) throw new Error(`its '${field}' is not ${kind}`);
}
