import type { Message } from "../../message/message";
import type { Parked } from "../../message/records";
import { isEmpty } from "../../wire/json";
import type { Doc } from "./collection";

/** Maps keyed by group: their keys are parts of field paths. */
const MAPS = ["receipts", "attempts", "spent", "base", "next"] as const;

/**
 * Free-form objects are stored as JSON, like on the wire: keys with `$` and dots, and values without a database type,
 * then come back as they would arrive at a consumer.
 */
const TEXTS = ["meta", "headers", "source"] as const;

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

function mapKeys(map: Record<string, unknown>, rename: (key: string) => string): Record<string, unknown> {
  // In most messages nothing has happened yet.
  if (isEmpty(map)) return map;
  return Object.fromEntries(Object.entries(map).map(([key, value]) => [rename(key), value]));
}

function withoutUndefined(doc: Doc): Doc {
  for (const field in doc) if (doc[field] === undefined) delete doc[field];
  return doc;
}

export function encodeMessage(message: Message): Doc {
  const doc: Doc = { ...message };
  for (const field of MAPS) doc[field] = mapKeys(message[field], keyOf);
  for (const field of TEXTS)
    if (message[field]) doc[field] = isEmpty(message[field]) ? "{}" : JSON.stringify(message[field]);
  return withoutUndefined(doc);
}

export function decodeMessage(doc: Doc): Message {
  const message: Doc = { ...doc, body: bufferOf(doc.body) };
  for (const field of MAPS) message[field] = mapKeys(doc[field] as Record<string, unknown>, groupOf);
  for (const field of TEXTS) if (doc[field] !== undefined) message[field] = JSON.parse(doc[field] as string);
  return message as unknown as Message;
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
  const { buffer, position } = bytes as { buffer: Uint8Array; position: number };
  return Buffer.from(buffer.subarray(0, position));
}
