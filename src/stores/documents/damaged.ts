import { type Doc, EPOCH } from "./collection";
import { type Is, isEvent, isInstant, isJson, isListOf, isMap, isNumber, isText } from "./row-check";

/** What stands in for a field that is not what it should be. */
type Fields = Record<string, [kind: string, is: Is, instead?: unknown]>;

const PARKED: Fields = {
  at: ["an instant", isInstant, EPOCH],
  queue: ["text", isText, ""],
  reason: ["text", isText, ""],
  nodeID: ["text", isText, ""],
  properties: ["JSON", isJson, "{}"],
  headers: ["JSON", isJson, "{}"],
  cut: ["a map", optional(isMap)]
};

const LISTED_PARKED: Fields = { ...PARKED, head: ["text", isText, ""], kept: ["a number", isNumber, 0] };

const AUDIT: Fields = {
  at: ["an instant", isInstant, EPOCH],
  act: ["text", isText, ""],
  by: ["text", isText, ""],
  state: ["text", isText, ""],
  counts: ["a map", isMap, {}],
  filter: ["a map", optional(isMap)],
  endedAt: ["an instant", optional(isInstant)],
  earlier: ["a list of acts", optional(isListOf(isEvent))],
  ids: ["a list of texts", optional(isListOf(isText))],
  ...Object.fromEntries(
    ["id", "group", "pattern", "note", "error", "onBehalfOf"].map(field => [field, ["text", optional(isText)]])
  )
};

const DISCARDED: Fields = {
  at: ["an instant", isInstant, EPOCH],
  by: ["text", isText, ""],
  note: ["text", isText, ""],
  message: ["a map", optional(value => isMap(value) && isInstant(value.createdAt))],
  parked: ["a map", optional(isEvent)]
};

function optional(is: Is): Is {
  return value => value === undefined || is(value);
}

/** A row that is there for humans is shown as far as it can be read, and says what cannot; else one would hide all. */
function mended(doc: Doc, fields: Fields, says: string): Doc {
  const row = { ...doc };
  const faults: string[] = [];
  for (const [field, [kind, is, instead]] of Object.entries(fields)) {
    if (is(doc[field])) continue;
    faults.push(`its '${field}' is not ${kind}`);
    if (instead === undefined) delete row[field];
    else row[field] = instead;
  }
  if (faults.length) row[says] = [`unreadable row: ${faults.join(", ")}`, row[says]].filter(Boolean).join("; ");
  return row;
}

export function mendedParked(doc: Doc): Doc {
  return mended(doc, PARKED, "reason");
}

export function mendedListedParked(doc: Doc): Doc {
  return mended(doc, LISTED_PARKED, "reason");
}

export function mendedAudit(doc: Doc): Doc {
  return mended(doc, AUDIT, "error");
}

export function mendedDiscarded(doc: Doc): Doc {
  return mended(doc, DISCARDED, "note");
}
