import { reasonOf } from "../../errors";
import { type Backoff, type ListedMessage, type Message, ROW_VERSION } from "../../message/message";
import type { Parked } from "../../message/records";
import { unreadableRow } from "../../message/unreadable";
import { isEmpty } from "../../wire/json";
import { type Doc, EPOCH } from "./collection";

/** Of what one group has done, in `groups.<key>`: map of the message → field. */
const OF_GROUP = { attempts: "attempts", spent: "spent", base: "base", receipts: "receipt" } as const;
type GroupMap = keyof typeof OF_GROUP;

/**
 * What a row of this version means when the field is not there, for ever: not the options' defaults, which may change.
 */
const ROW_DEFAULTS = {
  strategy: "outbox",
  maxAttempts: 3,
  backoff: { initialMs: 1000, maxMs: 300_000, jitter: "half" },
  receiptTimeoutMs: 60_000
} as const;

/** Stored as they are, where they are there. */
const PLAIN = [
  "dueAt",
  "claim",
  "reason",
  "intent",
  "resend",
  "asks",
  "delays",
  "round",
  "partial",
  "unreachableSince",
  "publishedAt",
  "retriedAt"
] as const;

/** Stored where they are not empty. */
const LISTS = ["failed", "failures", "notes"] as const;

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
  return decodeURIComponent(key);
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
export function decodeMessage({ body, bytes: _bytes, ...doc }: Doc): Message {
  try {
    assertReadable(doc);
    return { ...decode(doc), body: bufferOf(body) } as unknown as Message;
  } catch (thrown) {
    throw unreadableRow(String(doc._id), reasonOf(thrown));
  }
}

/** Of a row that was read without its body. One that cannot be read is shown as far as it can be. */
export function decodeListed(doc: Doc): ListedMessage {
  try {
    assertReadable(doc);
    return decode(doc) as unknown as ListedMessage;
  } catch (thrown) {
    const texts = Object.fromEntries(["event", "producer", "status"].map(field => [field, String(doc[field])]));
    const [createdAt, at] = [doc.createdAt, doc.at].map(value => (value instanceof Date ? value : EPOCH));
    const known = decode({ _id: doc._id, ...texts, createdAt, at, bytes: Number(doc.bytes ?? 0), waiting: [] });
    return { ...known, unreadable: reasonOf(thrown) } as unknown as ListedMessage;
  }
}

/** What the code relies on. The rest is read where it is there. */
const KINDS: [kind: string, is: (value: unknown) => boolean, fields: string[], needed: boolean][] = [
  ["text", value => typeof value === "string", ["event", "producer", "status"], true],
  ["an instant", value => value instanceof Date, ["createdAt", "at"], true],
  ["a list", Array.isArray, ["waiting"], true],
  ["a list", Array.isArray, ["failed", "failures", "notes", "delays", "only"], false],
  ["an instant", value => value instanceof Date, ["dueAt", "publishedAt", "retriedAt", "unreachableSince"], false],
  ["a map", value => typeof value === "object" && value !== null, ["groups", "next", "origin", "backoff"], false]
];

function assertReadable(doc: Record<string, unknown>): void {
  if (doc.v !== ROW_VERSION) throw new Error(`it is of version ${String(doc.v).slice(0, 20)}, not ${ROW_VERSION}`);
  for (const [kind, is, fields, needed] of KINDS)
    for (const field of fields)
      if (doc[field] === undefined ? needed : !is(doc[field])) throw new Error(`its '${field}' is not ${kind}`);
}

function decode(doc: Record<string, unknown>): Record<string, unknown> {
  const { groups = {}, only, next = {}, meta, headers, source, ...rest } = doc as Stored;
  const message: Record<string, unknown> = {
    ...ROW_DEFAULTS,
    failed: [],
    failures: [],
    notes: [],
    origin: {},
    ...rest,
    meta: meta === undefined ? {} : JSON.parse(meta),
    headers: headers === undefined ? {} : JSON.parse(headers),
    next: Object.fromEntries(Object.entries(next).map(([key, at]) => [groupOf(key), at]))
  };
  if (only) message.groups = only;
  if (source !== undefined) message.source = JSON.parse(source);
  for (const map in OF_GROUP)
    message[map] = Object.fromEntries(
      Object.entries(groups).flatMap(([key, of]) => {
        const value = of[OF_GROUP[map as GroupMap]];
        return value === undefined ? [] : [[groupOf(key), value]];
      })
    );
  return message;
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
    properties: JSON.stringify(parked.properties),
    headers: JSON.stringify(parked.headers)
  });
}

export function decodeParked(doc: Doc): Parked {
  const parked = {
    ...doc,
    body: bufferOf(doc.body),
    properties: JSON.parse(doc.properties as string),
    headers: JSON.parse(doc.headers as string)
  };
  return parked as unknown as Parked;
}

/**
 * Bytes as any version of the MongoDB driver returns them: a Buffer, or a Binary when its client has `promoteBuffers`
 * off.
 */
function bufferOf(bytes: unknown): Buffer {
  if (Buffer.isBuffer(bytes)) return bytes;
  if (typeof bytes !== "object" || bytes === null) throw new Error("its 'body' is not bytes");
  const { buffer, position } = bytes as { buffer: Uint8Array; position: number };
  return Buffer.from(buffer.subarray(0, position));
}
