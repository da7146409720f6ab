import { reasonOf } from "../../errors";
import { type Backoff, type ListedMessage, type Message, type MessageHead, UNROUTABLE_MS } from "../../message/message";
import { type ListedParked, PARKED_HEAD_BYTES, type Parked } from "../../message/records";
import { unreadableRow } from "../../message/unreadable";
import { isEmpty } from "../../wire/json";
import { type Doc, EPOCH } from "./collection";
import { mendedListedParked, mendedParked } from "./damaged";
import { assertReadable, isMap } from "./row-check";

/** Of what one group has done, in `groups.<key>`: map of the message → field. */
const OF_GROUP = {
  attempts: "attempts",
  spent: "spent",
  base: "base",
  receipts: "receipt",
  deadAt: "deadAt",
  errors: "error",
  unroutable: "unroutableSince"
} as const;
type GroupMap = keyof typeof OF_GROUP;

/**
 * What a row of this version means when the field is not there, for ever: not the options' defaults, which may change.
 */
export const ROW_DEFAULTS = {
  strategy: "outbox",
  maxAttempts: 3,
  backoff: { initialMs: 1000, maxMs: 300_000, jitter: "half" },
  receiptTimeoutMs: 60_000,
  unroutableMs: UNROUTABLE_MS
} as const;

/** Stored as they are, where they are there. */
const PLAIN = [
  "dueAt",
  "claim",
  "sendAt",
  "reason",
  "intent",
  "resend",
  "asks",
  "delays",
  "round",
  "partial",
  "unreachableSince",
  "publishedAt",
  "order",
  "place",
  "holds",
  "retriedAt",
  "encoded",
  "keys",
  "droppedAt",
  "lastErrors",
  "bulk",
  "replay"
] as const;

/** Stored where they are not empty. */
const LISTS = ["failed", "resolved", "failures", "notes"] as const;

/**
 * Free-form objects are stored as JSON, like on the wire: keys with `$` and dots, and values without a database type,
 * then come back as they would arrive at a consumer. Not stored where they are empty.
 */
const TEXTS = ["meta", "headers"] as const;

function escaped(char: string): string {
  return `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
}

/**
 * A group as part of a field path. Names that every object inherits look present to NeDB, so they are escaped as well.
 */
export function keyOf(group: string): string {
  const key = group.replace(/[%.$\0]/g, escaped);
  if (key === "") return "%00";
  return key in {} ? escaped(key.charAt(0)) + key.slice(1) : key;
}

export function groupOf(key: string): string {
  return key.includes("%") ? decodeURIComponent(key) : key;
}

/** The path of what stands in one of the message's maps for the group. */
export function pathOf(map: GroupMap, group: string): string {
  return `groups.${keyOf(group)}.${OF_GROUP[map]}`;
}

function withoutUndefined(doc: Doc): Doc {
  for (const field in doc) if (doc[field] === undefined) delete doc[field];
  return doc;
}

/** Only what differs from a row's defaults. Written without spreads: it runs for every emit. */
export function encodeMessage(message: Message): Doc {
  const { _id, v, event, body, producer, status, bucket, waiting, createdAt, at } = message;
  const doc: Doc = { _id, v, event, body, bytes: body.length, producer, status, bucket, waiting, createdAt, at };
  for (const field of PLAIN) if (message[field] !== undefined) doc[field] = message[field];
  for (const field of LISTS) if (message[field].length) doc[field] = message[field];
  for (const field of TEXTS) if (!isEmpty(message[field])) doc[field] = JSON.stringify(message[field]);
  if (message.source) doc.source = JSON.stringify(message.source);
  if (!isEmpty(message.origin)) doc.origin = message.origin;
  if (message.groups) doc.only = message.groups;
  if (message.strategy !== ROW_DEFAULTS.strategy) doc.strategy = message.strategy;
  if (message.maxAttempts !== ROW_DEFAULTS.maxAttempts) doc.maxAttempts = message.maxAttempts;
  if (message.receiptTimeoutMs !== ROW_DEFAULTS.receiptTimeoutMs) doc.receiptTimeoutMs = message.receiptTimeoutMs;
  if (message.unroutableMs !== ROW_DEFAULTS.unroutableMs) doc.unroutableMs = message.unroutableMs;
  if (!isDefault(message.backoff)) doc.backoff = message.backoff;
  const groups = groupsOf(message);
  if (groups) doc.groups = groups;
  if (!isEmpty(message.next)) doc.next = withKeys(message.next);
  return doc;
}

function isDefault({ initialMs, maxMs, jitter }: Backoff): boolean {
  const { backoff } = ROW_DEFAULTS;
  return initialMs === backoff.initialMs && maxMs === backoff.maxMs && jitter === backoff.jitter;
}

function groupsOf(message: Message): Record<string, Record<string, unknown>> | undefined {
  let groups: Record<string, Record<string, unknown>> | undefined;
  for (const map in OF_GROUP)
    for (const group in message[map as GroupMap])
      ((groups ??= {})[keyOf(group)] ??= {})[OF_GROUP[map as GroupMap]] = message[map as GroupMap][group];
  return groups;
}

function withKeys(map: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(map).map(([group, value]) => [keyOf(group), value]));
}

/** Throws RELIABLE_UNREADABLE_ROW. */
export function decodeMessage(doc: Doc): Message {
  const message = decodeHead(doc) as Message & { droppedBytes?: number };
  if (message.droppedAt) {
    message.body = Buffer.alloc(0);
    message.droppedBytes = Number(doc.bytes);
    return message;
  }
  try {
    if (doc.body === undefined && doc.bodyId !== undefined) throw new Error("its body is gone");
    message.body = bufferOf(doc.body);
    return message;
  } catch (thrown) {
    throw unreadableRow(message._id, reasonOf(thrown));
  }
}

/** Without its body, which need not be there. Throws RELIABLE_UNREADABLE_ROW. */
export function decodeHead(doc: Doc): MessageHead {
  try {
    assertReadable(doc);
    return decode(doc) as unknown as MessageHead;
  } catch (thrown) {
    throw unreadableRow(String(doc._id), reasonOf(thrown));
  }
}

/** Of a row that was read without its body. One that cannot be read is shown as far as it can be. */
export function decodeListed(doc: Doc): ListedMessage {
  try {
    assertReadable(doc);
    return { ...decode(doc), bytes: doc.bytes } as unknown as ListedMessage;
  } catch (thrown) {
    const texts = Object.fromEntries(["event", "producer", "status"].map(field => [field, String(doc[field])]));
    const [createdAt, at] = [doc.createdAt, doc.at].map(value => (value instanceof Date ? value : EPOCH));
    const known = decode({ _id: doc._id, ...texts, createdAt, at, waiting: [] });
    return { ...known, bytes: Number(doc.bytes ?? 0), unreadable: reasonOf(thrown) } as unknown as ListedMessage;
  }
}

/** Of a row, what is not in the message under its own name. */
const OTHER = new Set(["body", "bodyId", "bytes", "groups", "only", "next", ...TEXTS, "source"]);

/** Written without spreads: it runs for every message that is due. */
function decode(doc: Doc): Record<string, unknown> {
  const { groups = {}, only, next = {}, meta, headers, source } = doc as Stored;
  const message: Record<string, unknown> & Record<GroupMap, Record<string, unknown>> = {
    strategy: ROW_DEFAULTS.strategy,
    maxAttempts: ROW_DEFAULTS.maxAttempts,
    backoff: ROW_DEFAULTS.backoff,
    receiptTimeoutMs: ROW_DEFAULTS.receiptTimeoutMs,
    unroutableMs: ROW_DEFAULTS.unroutableMs,
    failed: [],
    resolved: [],
    failures: [],
    notes: [],
    origin: {},
    meta: meta === undefined ? {} : JSON.parse(meta),
    headers: headers === undefined ? {} : JSON.parse(headers),
    next: {},
    attempts: {},
    spent: {},
    base: {},
    receipts: {},
    deadAt: {},
    errors: {},
    unroutable: {}
  };
  for (const field in doc) if (!OTHER.has(field)) put(message, field, doc[field]);
  if (only) message.groups = only;
  if (source !== undefined) message.source = JSON.parse(source);
  for (const key in next) put(message.next as Record<string, unknown>, groupOf(key), next[key]);
  for (const key in groups) {
    const group = groupOf(key);
    for (const map in OF_GROUP) {
      const value = groups[key]?.[OF_GROUP[map as GroupMap]];
      if (value !== undefined) put(message[map as GroupMap], group, value);
    }
  }
  return message;
}

/** A group may have this name, and a row this field: an assignment would change what the map inherits. */
function put(map: Record<string, unknown>, key: string, value: unknown): void {
  if (key === "__proto__")
    Object.defineProperty(map, key, { value, enumerable: true, configurable: true, writable: true });
  else map[key] = value;
}

interface Stored {
  groups?: Record<string, Record<string, unknown>>;
  only?: string[];
  next?: Record<string, Date>;
  meta?: string;
  headers?: string;
  source?: string;
}

export function encodeParked(parked: Parked): Doc {
  return withoutUndefined({
    ...parked,
    // Lists read this alone: bodies have up to 4 MiB each.
    head: parked.body.subarray(0, PARKED_HEAD_BYTES).toString("base64"),
    kept: parked.body.length,
    properties: JSON.stringify(parked.properties),
    headers: JSON.stringify(parked.headers)
  });
}

/** Of a row that was read without its body. */
export function decodeListedParked(row: Doc): ListedParked {
  const doc = mendedListedParked(row);
  return { ...propertiesOf(doc), head: Buffer.from(doc.head as string, "base64") } as unknown as ListedParked;
}

function propertiesOf(doc: Doc): Doc {
  return { ...doc, properties: JSON.parse(doc.properties as string), headers: JSON.parse(doc.headers as string) };
}

export function decodeParked({ head: _head, kept: _kept, body, ...row }: Doc): Parked {
  const bytes = isBytes(body) ? bufferOf(body) : Buffer.alloc(0);
  return { ...propertiesOf(mendedParked(row)), body: bytes } as unknown as Parked;
}

/**
 * Bytes as any version of the MongoDB driver returns them: a Buffer, or a Binary when its client has `promoteBuffers`
 * off.
 */
function bufferOf(bytes: unknown): Buffer {
  if (!isBytes(bytes)) throw new Error("its 'body' is not bytes");
  if (Buffer.isBuffer(bytes)) return bytes;
  const { buffer, position } = bytes;
  return Buffer.from(buffer.subarray(0, position));
}

function isBytes(value: unknown): value is Buffer | { buffer: Uint8Array; position: number } {
  return Buffer.isBuffer(value) || (isMap(value) && value.buffer instanceof Uint8Array);
}
