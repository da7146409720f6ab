import { isDeepStrictEqual } from "node:util";
import { ReliableError, redact } from "../errors";
import { ANY_GROUP, type FailureError, type Message, type Origin } from "../message/message";

/** Wire version of envelopes, receipts and announcements. A reader refuses (parks) what it does not know. */
export const WIRE_VERSION = 1;

/** Header names of an envelope; the body is the payload alone. */
export const HEADER = {
  version: "x-reliable-version",
  strategy: "x-reliable-strategy",
  attempt: "x-reliable-attempt",
  groups: "x-reliable-groups",
  receipt: "x-reliable-receipt",
  producer: "x-reliable-producer",
  requestID: "x-reliable-request-id",
  parentID: "x-reliable-parent-id",
  level: "x-reliable-level",
  tracing: "x-reliable-tracing",
  caller: "x-reliable-caller",
  nodeID: "x-reliable-node",
  meta: "x-reliable-meta",
  headers: "x-reliable-headers",
  /** Only these groups shall handle it (the emit's `groups`), comma-separated. */
  only: "x-reliable-only",
  /** Comes back in every receipt as it is; a failed one then also brings the message itself. */
  echo: "x-reliable-echo",
  /** Of a check: its number, from 1. */
  round: "x-reliable-round",
  /** Of a check: sent before the business write, and how to ask whether it happened. */
  intent: "x-reliable-intent",
  traceparent: "traceparent"
} as const;

/** AMQP allows 64 KiB per header table; the rest of it is small and bounded. */
export const MAX_HEADER_BYTES = 60 * 1024;

/** Deeper, or in a circle: left to JSON.stringify. */
const MAX_PLAIN_DEPTH = 32;
const MAX_SHORT_STRING = 255;
/** Characters of an origin that needs no counting where it travels alone. */
const MAX_SHORT_ORIGIN = 1000;

export interface Envelope {
  id: string;
  event: string;
  payload: unknown;
  strategy: string;
  attempt: number;
  /** Queue that takes the receipts. */
  receipt: string;
  producer: string;
  meta: Record<string, unknown>;
  headers: Record<string, unknown>;
  origin: Origin;
  /** Groups it is restricted to. */
  only?: string[];
  echo?: string;
}

/** Throws RELIABLE_BAD_EVENT. */
export function checkEvent(event: unknown): asserts event is string {
  const bad = (why: string) =>
    new ReliableError("RELIABLE_BAD_EVENT", `Cannot emit reliably: the event name ${why}.`, {
      event: typeof event === "string" ? event.slice(0, 300) : typeof event
    });
  if (typeof event !== "string") throw bad("must be a string");
  if (event.trim() === "") throw bad("is empty");
  if (event.startsWith("$")) throw bad("starts with '$' (such events stay on their node in Moleculer)");
  if (/[*#?]/.test(event)) throw bad("contains a wildcard (*, # or ?)");
  if (/[\u0000-\u001f\u007f]/.test(event)) throw bad("contains a control character");
  if (Buffer.byteLength(event) > MAX_SHORT_STRING) throw bad(`is longer than ${MAX_SHORT_STRING} bytes`);
}

/** Throws RELIABLE_BAD_OPTION. Ids travel as AMQP messageId (a short string) and are typed by people. */
export function checkId(id: unknown): asserts id is string {
  // NeDB gathers what it finds in an object by `_id`, where this one is no key.
  if (
    typeof id !== "string" ||
    id.trim() === "" ||
    id === "__proto__" ||
    Buffer.byteLength(id) > 200 ||
    /[\u0000-\u001f\u007f]/.test(id)
  ) {
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      "The emit option 'id' must be a string of 1 to 200 bytes without control characters, not blank and not '__proto__'.",
      { option: "id" }
    );
  }
}

/** Whether two bodies say the same: keys may stand in another order, as after a way through a database. */
export function sameJson(a: Buffer, b: Buffer): boolean {
  if (Buffer.compare(a, b) === 0) return true;
  try {
    return isDeepStrictEqual(JSON.parse(a.toString()), JSON.parse(b.toString()));
  } catch {
    return false;
  }
}

/**
 * The payload as the very bytes that will travel. Throws RELIABLE_BAD_PAYLOAD or RELIABLE_PAYLOAD_TOO_LARGE, naming the
 * place.
 */
export function serialize(event: string, payload: unknown, maxBytes: number): Buffer {
  const json = stringify(
    payload,
    where => new ReliableError("RELIABLE_BAD_PAYLOAD", `Cannot emit '${event}' reliably: ${where}.`, { event }),
    "the payload"
  );
  const body = Buffer.from(json);
  if (body.length > maxBytes) {
    throw new ReliableError(
      "RELIABLE_PAYLOAD_TOO_LARGE",
      `Cannot emit '${event}' reliably: the payload is ${body.length} bytes, maxPayloadBytes is ${maxBytes}. Store it and emit a reference.`,
      { event, bytes: body.length, maxPayloadBytes: maxBytes }
    );
  }
  return body;
}

function stringify(value: unknown, fail: (where: string) => Error, what: string): string {
  try {
    if (isPlainJson(value, MAX_PLAIN_DEPTH)) return JSON.stringify(value);
  } catch {
    // A getter has thrown; it is told below.
  }
  return stringifyWatched(value, fail, what);
}

/**
 * Nothing in it but what JSON carries as it is. Spares most payloads the callback for each value, which costs several
 * times more than this.
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

function stringifyWatched(value: unknown, fail: (where: string) => Error, what: string): string {
  let refused: string | undefined;
  let json: string | undefined;
  try {
    json = JSON.stringify(value, (key, at: unknown) => {
      if (typeof at === "bigint" || typeof at === "function" || typeof at === "symbol") {
        refused ??= `${key ? `'${key}' in ${what}` : what} is a ${typeof at}, which JSON cannot carry`;
        return undefined;
      }
      // These would arrive as something else, without a word: {} and null.
      const lost =
        at instanceof Map || at instanceof Set || at instanceof Error
          ? at.constructor.name
          : typeof at === "number" && !Number.isFinite(at)
            ? String(at)
            : undefined;
      if (lost) refused ??= `${key ? `'${key}' in ${what}` : what} is ${lost}, which JSON cannot carry`;
      return at;
    });
  } catch (error) {
    throw fail(
      `${what} cannot be turned into JSON (${boundedText(error instanceof Error ? error.message.split("\n")[0] : error, 200)})`
    );
  }
  if (refused) throw fail(refused);
  if (json === undefined) throw fail(`${what} is ${value === undefined ? "undefined" : typeof value}`);
  return json;
}

/**
 * Throws RELIABLE_BAD_OPTION or RELIABLE_HEADERS_TOO_LARGE for what cannot travel beside the payload; origin and groups
 * come from outside and have no length of their own.
 */
export function checkHeaders(
  event: string,
  meta: Record<string, unknown>,
  headers: Record<string, unknown>,
  origin: Origin,
  groups: string[]
): void {
  const size = (value: object, what: string) =>
    isEmpty(value)
      ? 0
      : Buffer.byteLength(
          stringify(
            value,
            where =>
              new ReliableError("RELIABLE_BAD_OPTION", `Cannot emit '${event}' reliably: ${where}.`, {
                event,
                option: what
              }),
            what
          )
        );
  if (!groups.length && isEmpty(meta) && isEmpty(headers) && areShort(origin)) return;
  const bytes = size(meta, "meta") + size(headers, "headers") + size([origin, groups], "the context");
  if (bytes > MAX_HEADER_BYTES) {
    throw new ReliableError(
      "RELIABLE_HEADERS_TOO_LARGE",
      `Cannot emit '${event}' reliably: meta, headers and the names that go with it are ${bytes} bytes, AMQP carries ${MAX_HEADER_BYTES}.`,
      { event, bytes }
    );
  }
}

/** Spares most emits a JSON of it. */
function areShort(origin: Origin): boolean {
  const { requestID = "", parentID = "", caller = "", nodeID = "" } = origin as Record<string, unknown>;
  return (
    typeof requestID === "string" &&
    typeof parentID === "string" &&
    typeof caller === "string" &&
    typeof nodeID === "string" &&
    requestID.length + parentID.length + caller.length + nodeID.length <= MAX_SHORT_ORIGIN
  );
}

export function headersOf(
  message: Message,
  attempt: number,
  groups: string[],
  receipt: string,
  echo?: string
): Record<string, unknown> {
  const { origin } = message;
  const headers: Record<string, unknown> = {
    [HEADER.version]: WIRE_VERSION,
    [HEADER.strategy]: message.strategy,
    [HEADER.attempt]: attempt,
    [HEADER.receipt]: receipt,
    [HEADER.producer]: message.producer
  };
  if (groups.length && !groups.includes(ANY_GROUP)) headers[HEADER.groups] = groups.join(",");
  if (echo !== undefined) headers[HEADER.echo] = echo;
  // Whatever the user's own code made of them: readers take text only.
  if (origin.requestID) headers[HEADER.requestID] = String(origin.requestID);
  if (origin.parentID) headers[HEADER.parentID] = String(origin.parentID);
  if (origin.level !== undefined) headers[HEADER.level] = origin.level;
  if (origin.tracing !== undefined) headers[HEADER.tracing] = origin.tracing;
  if (origin.nodeID) headers[HEADER.nodeID] = origin.nodeID;
  if (origin.caller) headers[HEADER.caller] = origin.caller;
  if (origin.traceparent) headers[HEADER.traceparent] = origin.traceparent;
  if (!isEmpty(message.meta)) headers[HEADER.meta] = JSON.stringify(message.meta);
  if (!isEmpty(message.headers)) headers[HEADER.headers] = JSON.stringify(message.headers);
  if (message.groups) headers[HEADER.only] = message.groups.join(",");
  return headers;
}

/** `Object.keys` would make an array for each. */
export function isEmpty(value: object): boolean {
  for (const name in value) if (Object.hasOwn(value, name)) return false;
  return true;
}

export interface Wire {
  messageId: string | undefined;
  type: string | undefined;
  headers: Record<string, unknown>;
  body: Buffer;
}

/** Why something from the wire cannot be taken for an envelope. It is parked with its bytes, never dropped. */
export class Unreadable extends Error {}

/** Header by type; `docs/schemas/envelope.schema.json` says the same, and a test holds both against each other. */
const TEXTS = [
  HEADER.strategy,
  HEADER.receipt,
  HEADER.producer,
  HEADER.groups,
  HEADER.only,
  HEADER.echo,
  HEADER.requestID,
  HEADER.parentID,
  HEADER.caller,
  HEADER.nodeID,
  HEADER.meta,
  HEADER.headers,
  HEADER.traceparent
];

/** Throws Unreadable. Headers it does not know are left alone. */
export function parseEnvelope(wire: Wire): Envelope {
  const { headers } = wire;
  if (headers[HEADER.version] === undefined) throw new Unreadable("foreign message: no x-reliable-version header");
  if (headers[HEADER.version] !== WIRE_VERSION)
    throw new Unreadable(`unknown x-reliable-version ${describe(headers[HEADER.version])}`);
  if (!wire.messageId) throw new Unreadable("no messageId");
  if (!wire.type) throw new Unreadable("no type (event name)");
  const { [HEADER.attempt]: attempt, [HEADER.level]: level, [HEADER.tracing]: tracing } = headers;
  if (!isCount(attempt)) throw new Unreadable(`bad x-reliable-attempt ${describe(attempt)}`);
  const wrong = TEXTS.find(
    name => headers[name] !== undefined && (typeof headers[name] !== "string" || headers[name] === "")
  );
  if (wrong) throw new Unreadable(`bad ${wrong} ${describe(headers[wrong])}`);
  if (level !== undefined && typeof level !== "number") throw new Unreadable(`bad ${HEADER.level} ${describe(level)}`);
  if (tracing !== undefined && typeof tracing !== "boolean")
    throw new Unreadable(`bad ${HEADER.tracing} ${describe(tracing)}`);
  const text = (name: string) => headers[name] as string | undefined;
  const needed = (name: string): string => {
    const value = text(name);
    if (value === undefined) throw new Unreadable(`no ${name} header`);
    return value;
  };
  return {
    id: wire.messageId,
    event: wire.type,
    payload: parseJson(wire.body, "body"),
    strategy: text(HEADER.strategy) ?? "outbox",
    attempt,
    receipt: needed(HEADER.receipt),
    producer: needed(HEADER.producer),
    meta: parseObject(text(HEADER.meta), HEADER.meta),
    headers: parseObject(text(HEADER.headers), HEADER.headers),
    only: text(HEADER.only)?.split(","),
    echo: text(HEADER.echo),
    origin: {
      requestID: text(HEADER.requestID),
      parentID: text(HEADER.parentID),
      level,
      tracing,
      caller: text(HEADER.caller),
      nodeID: text(HEADER.nodeID),
      traceparent: text(HEADER.traceparent)
    }
  };
}

/** What counts from 1: attempts, rounds. */
export function isCount(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 1;
}

/** Never more than a number: it may be a piece of somebody's payload that came to the wrong queue. */
export function describe(value: unknown): string {
  return typeof value === "number" ? String(value) : typeof value;
}

/** Throws Unreadable. */
export function parseJson(body: Buffer, what: string): unknown {
  try {
    return JSON.parse(body.toString("utf8"));
  } catch {
    throw new Unreadable(`${what} is not JSON`);
  }
}

function parseObject(json: string | undefined, what: string): Record<string, unknown> {
  if (json === undefined) return {};
  const value = parseJson(Buffer.from(json), what);
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Unreadable(`${what} is not an object`);
  return value as Record<string, unknown>;
}

/** Kept for a human with its raw bytes; see `parking.ts`. */
export const PARKED_TYPE = "reliable.parked";

const MAX_ERROR_TEXT = 1000;
const MAX_STACK = 4000;

/**
 * An error as it travels and is stored: every field bounded, without credentials. Whatever was thrown, this does not
 * throw.
 */
export function describeError(thrown: unknown): FailureError {
  const field = (name: string): unknown => {
    try {
      return (thrown as Record<string, unknown>)[name];
    } catch {
      // A getter that throws is no reason to owe a receipt for ever.
      return undefined;
    }
  };
  if (typeof thrown !== "object" || thrown === null)
    return { name: "Error", message: boundedText(thrown, MAX_ERROR_TEXT) };
  const result: FailureError = {
    name: boundedText(field("name") || "Error", 200),
    message: boundedText(field("message") ?? "", MAX_ERROR_TEXT)
  };
  const [code, type, stack, data] = [field("code"), field("type"), field("stack"), field("data")];
  if (typeof code === "number") result.code = code;
  if (typeof code === "string") result.code = boundedText(code, 200);
  if (typeof type === "string") result.type = boundedText(type, 200);
  if (typeof stack === "string") result.stack = boundedText(stack, MAX_STACK);
  // Which field, in the one line that people read first.
  const fields =
    result.type === "VALIDATION_ERROR" && Array.isArray(data)
      ? data
          .slice(0, 3)
          .flatMap((entry: { message?: unknown } | null) => (typeof entry?.message === "string" ? entry.message : []))
      : [];
  if (fields.length) result.message = boundedText(`${result.message} ${fields.join(" ")}`, MAX_ERROR_TEXT);
  if (data !== undefined && data !== null)
    result.data = boundedText(typeof data === "string" ? data : json(data), MAX_ERROR_TEXT);
  return result;
}

function boundedText(value: unknown, max: number): string {
  try {
    // Cut first, so that nothing huge is searched; the margin keeps an address that spans the cut whole for its mask.
    return redact(String(value).slice(0, max + 1000)).slice(0, max);
  } catch {
    return "[not text]";
  }
}

function json(value: unknown): string {
  try {
    return JSON.stringify(value) ?? "";
  } catch {
    return "[not JSON]";
  }
}
