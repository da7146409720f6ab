import { ReliableError } from "../errors";
import { ANY_GROUP, MAX_PAYLOAD_BYTES, type Message, type Origin, type Replay } from "../message/message";
import { isOrderKey } from "../message/order";
import { hasControl, printable } from "../platform/printable";
import { isEmpty, parseJson, parseObject, Unreadable } from "./json";

/** Wire version of envelopes, receipts and announcements. A reader refuses (parks) a version that it does not know. */
export const WIRE_VERSION = 1;

/** Header names of an envelope; the body is the payload alone. */
export const HEADER = {
  version: "x-reliable-version",
  strategy: "x-reliable-strategy",
  attempt: "x-reliable-attempt",
  /** How many attempts have counted before this one, where it is not all of them. */
  counted: "x-reliable-counted",
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
  /** Id of the store that the message lies in, from `outbox`: a consumer with the same one writes its receipt there. */
  store: "x-reliable-store",
  /** Only these groups handle it (the emit's `groups`), comma-separated. */
  only: "x-reliable-only",
  /** Every receipt returns it unchanged. With it a failed receipt also returns the message itself. */
  echo: "x-reliable-echo",
  /** On a check: its number, from 1. */
  round: "x-reliable-round",
  /** On a message of many checks: their number. */
  count: "x-reliable-count",
  /** On a check that was sent before the business write: how to ask whether that write happened. */
  intent: "x-reliable-intent",
  /** The body is what the producer's hook `encode` has made of the payload. */
  encoded: "x-reliable-encoded",
  /** Id of the replay that sends it, and of the message that it repeats. */
  replay: "x-reliable-replay",
  original: "x-reliable-original",
  /** It is to be handled although its original may have been. */
  again: "x-reliable-again",
  /** Of a message that is in order with others of this key; and which turn of the key in the group it is, from 1. */
  orderKey: "x-reliable-order-key",
  turn: "x-reliable-turn",
  traceparent: "traceparent",
  tracestate: "tracestate",
  /** Of all that is not for people only; see `signature.ts`. */
  signature: "x-reliable-signature"
} as const;

/** The header in which those of HEADER may travel together: a JSON object of their names without `x-reliable-`. */
export const PACKED = "x-reliable";

/** AMQP allows 64 KiB per header table. The headers without origin and groups are small and limited. */
export const MAX_HEADER_BYTES = 60 * 1024;
const MAX_SHORT_STRING = 255;
/** Characters of `x-reliable-groups`. */
const MAX_LISTED = 4096;

export interface Envelope {
  id: string;
  event: string;
  payload: unknown;
  /** The payload is encoded: the group's hook `decode` makes it readable. */
  encoded?: true;
  strategy: string;
  attempt: number;
  /** Absent = all attempts before this one have counted. */
  counted?: number;
  /** Queue that takes the receipts. */
  receipt: string;
  /** Id of the store that the message lies in, if it does. */
  store?: string;
  producer: string;
  meta: Record<string, unknown>;
  headers: Record<string, unknown>;
  origin: Origin;
  /** Groups that may handle it. */
  only?: string[];
  echo?: string;
  /** A replay has made it. */
  replay?: Replay;
  /** It is in order with others of this key. */
  order?: { key: string; turn: number };
  /** The id under which an inbox knows it. */
  handledAs: string;
}

/** Throws RELIABLE_BAD_EVENT. */
export function checkEvent(event: unknown): asserts event is string {
  const fault = eventFault(event);
  if (fault === undefined) return;
  throw new ReliableError("RELIABLE_BAD_EVENT", `Cannot emit reliably: the event name ${fault}.`, {
    event: typeof event === "string" ? event.slice(0, 300) : typeof event
  });
}

/** Why it cannot be the name of an event, as the end of a sentence. */
export function eventFault(event: unknown): string | undefined {
  if (typeof event !== "string") return "must be a string";
  if (event.trim() === "") return "is empty";
  if (event.startsWith("$")) return "starts with '$' (such events stay on their node in Moleculer)";
  if (/[*#?]/.test(event)) return "contains a wildcard (*, # or ?)";
  if (hasControl(event)) return "contains a control character";
  if (Buffer.byteLength(event) > MAX_SHORT_STRING) return `is longer than ${MAX_SHORT_STRING} bytes`;
  return undefined;
}

/** Throws RELIABLE_BAD_OPTION. Ids travel as AMQP messageId (a short string) and are typed by people. */
export function checkId(id: unknown): asserts id is string {
  // NeDB indexes objects by `_id` in a plain object, where this name is no key.
  if (
    typeof id !== "string" ||
    id.trim() === "" ||
    id === "__proto__" ||
    Buffer.byteLength(id) > 200 ||
    hasControl(id)
  ) {
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      "The emit option 'id' must be a string of 1 to 200 bytes without control characters, not blank and not '__proto__'.",
      { option: "id" }
    );
  }
}

interface OfPublish {
  echo?: string | undefined;
  store?: string | undefined;
  toAll?: boolean;
  turn?: number | undefined;
}

export function headersOf(
  message: Message,
  attempt: number,
  groups: string[],
  receipt: string,
  { echo, store, toAll, turn }: OfPublish = {}
): Record<string, unknown> {
  const { origin } = message;
  // Each header costs RabbitMQ and both clients some µs a message: what is said by its absence is not sent.
  const headers: Record<string, unknown> = {
    [HEADER.version]: WIRE_VERSION,
    [HEADER.attempt]: attempt,
    [HEADER.receipt]: receipt,
    [HEADER.producer]: message.producer
  };
  if (message.strategy !== "outbox") headers[HEADER.strategy] = message.strategy;
  const [group] = groups;
  const base = groups.length === 1 && group !== undefined && message.base[group];
  if (base) headers[HEADER.counted] = Math.max(0, attempt - 1 - base);
  if (!toAll && groups.length && !groups.includes(ANY_GROUP)) headers[HEADER.groups] = listed(groups);
  if (echo !== undefined) headers[HEADER.echo] = echo;
  if (store !== undefined) headers[HEADER.store] = store;
  // User code may have set them to any type and content. Readers take text without control characters only.
  if (origin.requestID) headers[HEADER.requestID] = printable(String(origin.requestID));
  if (origin.parentID) headers[HEADER.parentID] = printable(String(origin.parentID));
  if (origin.level !== undefined) headers[HEADER.level] = origin.level;
  if (origin.tracing !== undefined) headers[HEADER.tracing] = origin.tracing;
  if (origin.nodeID) headers[HEADER.nodeID] = printable(origin.nodeID);
  // The handler's context has the producer, where no other is said.
  if (origin.caller && origin.caller !== message.producer) headers[HEADER.caller] = printable(origin.caller);
  if (origin.traceparent) headers[HEADER.traceparent] = printable(origin.traceparent);
  if (origin.tracestate) headers[HEADER.tracestate] = origin.tracestate;
  if (!isEmpty(message.meta)) headers[HEADER.meta] = JSON.stringify(message.meta);
  if (!isEmpty(message.headers)) headers[HEADER.headers] = JSON.stringify(message.headers);
  if (message.encoded) headers[HEADER.encoded] = true;
  if (message.replay) {
    headers[HEADER.replay] = message.replay.bulk;
    headers[HEADER.original] = message.replay.of;
    if (message.replay.again) headers[HEADER.again] = true;
  }
  if (message.order && turn !== undefined) {
    headers[HEADER.orderKey] = message.order.key;
    headers[HEADER.turn] = turn;
  }
  if (message.groups) headers[HEADER.only] = message.groups.join(",");
  return headers;
}

/** Whole names only. It informs people, and must not push the headers over AMQP's limit. */
function listed(groups: string[]): string {
  const all = groups.join(",");
  if (all.length <= MAX_LISTED) return all;
  const cut = all.lastIndexOf(",", MAX_LISTED);
  return cut > 0 ? all.slice(0, cut) : all.slice(0, MAX_LISTED);
}

export interface Wire {
  messageId: string | undefined;
  type: string | undefined;
  headers: Record<string, unknown>;
  body: Buffer;
}

/** The type of each header. `docs/schemas/envelope.schema.json` says the same, and a test compares both. */
const TEXTS = [
  HEADER.strategy,
  HEADER.receipt,
  HEADER.store,
  HEADER.producer,
  HEADER.groups,
  HEADER.only,
  HEADER.echo,
  HEADER.requestID,
  HEADER.parentID,
  HEADER.caller,
  HEADER.nodeID,
  HEADER.replay,
  HEADER.original,
  HEADER.orderKey,
  HEADER.meta,
  HEADER.headers,
  HEADER.traceparent
];

/** Names and ids, which people read in logs and on terminals. The others of TEXTS are JSON. */
const NAMES = TEXTS.filter(name => name !== HEADER.meta && name !== HEADER.headers && name !== HEADER.echo);

/** Throws Unreadable. Unknown headers are ignored. */
export function parseEnvelope(wire: Wire): Envelope {
  const { headers } = wire;
  if (headers[PACKED] !== undefined) throw new Unreadable(`${PACKED} is no JSON object of texts, numbers and booleans`);
  if (headers[HEADER.version] === undefined) throw new Unreadable("foreign message: no x-reliable-version header");
  if (headers[HEADER.version] !== WIRE_VERSION)
    throw new Unreadable(`unknown x-reliable-version ${describe(headers[HEADER.version])}`);
  if (!wire.messageId) throw new Unreadable("no messageId");
  if (!wire.type) throw new Unreadable("no type (event name)");
  if (hasControl(wire.messageId)) throw new Unreadable("a messageId with control characters");
  if (hasControl(wire.type)) throw new Unreadable("a type (event name) with control characters");
  const { [HEADER.attempt]: attempt, [HEADER.level]: level, [HEADER.tracing]: tracing } = headers;
  const { [HEADER.counted]: counted, [HEADER.encoded]: encoded, [HEADER.again]: again } = headers;
  if (!isCount(attempt)) throw new Unreadable(`bad x-reliable-attempt ${describe(attempt)}`);
  if (counted !== undefined && counted !== 0 && !isCount(counted))
    throw new Unreadable(`bad ${HEADER.counted} ${describe(counted)}`);
  const wrong = TEXTS.find(
    name => headers[name] !== undefined && (typeof headers[name] !== "string" || headers[name] === "")
  );
  if (wrong) throw new Unreadable(`bad ${wrong} ${describe(headers[wrong])}`);
  const dirty = NAMES.find(name => headers[name] !== undefined && hasControl(headers[name] as string));
  if (dirty) throw new Unreadable(`${dirty} with control characters`);
  if (level !== undefined && typeof level !== "number") throw new Unreadable(`bad ${HEADER.level} ${describe(level)}`);
  if (tracing !== undefined && typeof tracing !== "boolean")
    throw new Unreadable(`bad ${HEADER.tracing} ${describe(tracing)}`);
  if (encoded !== undefined && typeof encoded !== "boolean")
    throw new Unreadable(`bad ${HEADER.encoded} ${describe(encoded)}`);
  if (again !== undefined && typeof again !== "boolean") throw new Unreadable(`bad ${HEADER.again} ${describe(again)}`);
  const text = (name: string) => headers[name] as string | undefined;
  const needed = (name: string): string => {
    const value = text(name);
    if (value === undefined) throw new Unreadable(`no ${name} header`);
    return value;
  };
  const store = text(HEADER.store);
  const [bulk, of] = [text(HEADER.replay), text(HEADER.original)];
  const replay = bulk !== undefined && of !== undefined ? { bulk, of, ...(again && { again }) } : undefined;
  // Without spreads, since this runs for every delivery: spreads are several times slower in V8.
  const envelope: Envelope = {
    id: wire.messageId,
    event: wire.type,
    payload: parseJson(wire.body, "body", MAX_PAYLOAD_BYTES),
    strategy: text(HEADER.strategy) ?? "outbox",
    attempt,
    receipt: needed(HEADER.receipt),
    producer: needed(HEADER.producer),
    meta: parseObject(text(HEADER.meta), HEADER.meta),
    headers: parseObject(text(HEADER.headers), HEADER.headers),
    handledAs: replay && !again ? replay.of : wire.messageId,
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
  const { [HEADER.tracestate]: tracestate } = headers;
  if (envelope.origin.traceparent && isTracestate(tracestate)) envelope.origin.tracestate = tracestate;
  if (encoded) envelope.encoded = true;
  if (counted !== undefined) envelope.counted = counted;
  if (store !== undefined) envelope.store = store;
  if (replay) envelope.replay = replay;
  const order = orderOf(headers[HEADER.orderKey], headers[HEADER.turn]);
  if (order) envelope.order = order;
  return envelope;
}

/** Both, or none. Throws Unreadable. */
function orderOf(key: unknown, turn: unknown): Envelope["order"] {
  if (key === undefined && turn === undefined) return undefined;
  if (isOrderKey(key) && isCount(turn)) return { key, turn };
  throw new Unreadable(`bad ${HEADER.orderKey} ${describe(key)}, ${HEADER.turn} ${describe(turn)}`);
}

/** So much of it W3C wants to be passed on, and a message's headers have a limit. */
const MAX_TRACESTATE = 512;

/** By W3C what cannot be read is left out, and harms nothing else: no message is parked for it. */
export function isTracestate(value: unknown): value is string {
  return typeof value === "string" && value !== "" && value.length <= MAX_TRACESTATE && !hasControl(value);
}

/** A number that counts from 1: attempts, rounds. */
export function isCount(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 1;
}

/** A number or the name of a type, never text: it may be part of a payload that came to the wrong queue. */
export function describe(value: unknown): string {
  return typeof value === "number" ? String(value) : typeof value;
}

/** Kept for an operator with its raw bytes; see `src/inbound/parked-messages.ts`. */
export const PARKED_TYPE = "reliable.parked";
