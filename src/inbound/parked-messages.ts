import { createHash, randomUUID } from "node:crypto";
import type { Delivery, Publication } from "../couriers/courier";
import { ReliableError } from "../errors";
import type { Parked } from "../message/records";
import type { Clock } from "../platform/clock";
import type { Logger } from "../platform/logger";
import { hasControl, printable } from "../platform/printable";
import type { Warnings } from "../platform/warnings";
import type { Events } from "../telemetry/events";
import type { Metrics } from "../telemetry/metrics";
import { isCount, PARKED_TYPE } from "../wire/envelope";
import { parseObject } from "../wire/json";

/**
 * Bytes of a body that are kept. RabbitMQ carries 16 MiB, with headers beside it; a document of MongoDB has 16 MiB with
 * everything in it. Of what is longer people need the beginning, the length and what it can be recognised by.
 */
export const MAX_PARKED_BYTES = 4 * 1024 * 1024;

/** Bytes of a parked message's headers, and of its properties, as JSON. */
export const MAX_PARKED_HEADERS = 64 * 1024;

/** The same on the way to the store, where AMQP has 64 KiB for all headers. */
const MAX_SENT_HEADERS = 32 * 1024;

/** Bytes of a body in the short form, of which no store and no broker with some limits takes offence. */
const SHORT_BYTES = 1024;

const MAX_REASON = 1000;

/** A name of AMQP has at most 255 bytes. */
const MAX_NAME = 255;

/** Tables in tables that are kept of headers: far more than anybody sends, far less than a call stack holds. */
const MAX_DEPTH = 32;

const HEADER = {
  reason: "x-reliable-reason",
  queue: "x-reliable-queue",
  nodeID: "x-reliable-node",
  properties: "x-reliable-properties",
  headers: "x-reliable-headers",
  bytes: "x-reliable-bytes",
  sha256: "x-reliable-sha256"
} as const;

/**
 * The message by which a node without a store asks the nodes with one to keep something. `toParked` reads it. It may be
 * published more than once.
 */
export function toParkedMessage(
  to: string,
  nodeID: string,
  reason: string,
  found: Pick<Parked, "queue" | "body"> & Partial<Pick<Parked, "properties" | "headers">>
): Publication {
  const { queue, properties = {}, headers = {} } = found;
  const { body, cut } = cutTo(MAX_PARKED_BYTES, found);
  return {
    to: { queue: to },
    messageId: randomUUID(),
    type: PARKED_TYPE,
    contentType: "application/octet-stream",
    headers: {
      [HEADER.reason]: reason.slice(0, MAX_REASON),
      [HEADER.queue]: queue,
      [HEADER.nodeID]: nodeID,
      [HEADER.properties]: JSON.stringify(plain(properties, 1)),
      [HEADER.headers]: cutText(JSON.stringify(plain(headers, MAX_DEPTH)), MAX_SENT_HEADERS),
      ...(cut && { [HEADER.bytes]: cut.bytes, [HEADER.sha256]: cut.sha256 })
    },
    body
  };
}

/** The same message for a broker that refuses it: within the smallest frame of AMQP (4 KiB). */
export function toShortMessage({ body, ...message }: Publication, why: string): Publication {
  const { [HEADER.reason]: reason, [HEADER.bytes]: bytes, [HEADER.sha256]: sha256 } = message.headers;
  const known = bytes === undefined ? undefined : { bytes: Number(bytes), sha256: String(sha256) };
  const short = cutTo(SHORT_BYTES, { body, cut: known });
  return {
    ...message,
    headers: {
      ...message.headers,
      [HEADER.reason]: shortReason(String(reason), "RabbitMQ", why),
      [HEADER.properties]: "{}",
      [HEADER.headers]: "{}",
      ...(short.cut && { [HEADER.bytes]: short.cut.bytes, [HEADER.sha256]: short.cut.sha256 })
    },
    body: short.body
  };
}

/** The same record for a store that refuses it. */
export function toShortRecord(parked: Parked, why: string): Parked {
  return {
    ...parked,
    ...cutTo(SHORT_BYTES, parked),
    reason: shortReason(parked.reason, "the store", why),
    properties: {},
    headers: {}
  };
}

function shortReason(reason: string, who: string, why: string): string {
  return `${reason.slice(0, MAX_REASON / 4)}; kept short, since ${who} refused it: ${why.slice(0, MAX_REASON / 4)}`;
}

/** What was cut before says what the whole was. The rest is copied, so that it does not hold the memory of the whole. */
function cutTo(max: number, { body, cut }: Pick<Parked, "body" | "cut">): Pick<Parked, "body" | "cut"> {
  if (body.length <= max) return cut ? { body, cut } : { body };
  let end = max;
  // Not in the middle of a character, if it is text.
  while (end > max - 3 && ((body[end] as number) & 0xc0) === 0x80) end--;
  return { body: Buffer.from(body.subarray(0, end)), cut: cut ?? { bytes: body.length, sha256: digestOf(body) } };
}

function digestOf(body: Buffer): string {
  return createHash("sha256").update(body).digest("hex");
}

function cutText(text: string, max: number): string {
  return Buffer.byteLength(text) <= max ? text : Buffer.from(text).subarray(0, max).toString();
}

/** Whatever AMQP's tables carry, as JSON carries it: bytes as base64, what JSON has no number for as text. */
function plain(value: unknown, depth: number): unknown {
  if (typeof value === "bigint" || (typeof value === "number" && !Number.isFinite(value))) return String(value);
  if (typeof value !== "object" || value === null) return value;
  if (Buffer.isBuffer(value)) return { "!": "bytes", base64: value.toString("base64") };
  if (depth === 0) return "…";
  if (Array.isArray(value)) return value.map(each => plain(each, depth - 1));
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, plain(each, depth - 1)]));
}

/** A delivery, or a part of one, as far as it is kept. */
export type Parkable = Omit<Delivery, "live" | "original" | "ack" | "ackUpTo" | "nack">;

/** The node that finds a message it has to park. */
export interface ParkingNode {
  metrics: Metrics;
  logger: Logger;
  warnings: Warnings;
  nodeID: string;
  events: Events;
  clock: Clock;
}

/** The node that has parked a message says so once: metric, log (bounded) and `$reliable.error`. The content is not told. */
export function announceParked(
  { queue, messageId }: Pick<Delivery, "queue"> & Partial<Pick<Delivery, "messageId">>,
  reason: string,
  { metrics, warnings, events }: Pick<ParkingNode, "metrics" | "warnings" | "events">,
  module: string
): void {
  const error = new ReliableError("RELIABLE_PARKED", `Parked a message from ${queue}: ${reason}.`, {
    queue,
    reason,
    messageId
  });
  metrics.parked(queue);
  warnings.warn(`parked from ${queue}`, causeOf(reason), `Reliable: ${error.message}`);
  events.emit("error", error, module);
}

/** The words of a reason that do not change from message to message. */
export function causeOf(reason: string): string {
  return reason.split(/[\d:'"(]/, 1)[0] as string;
}

/**
 * True for a message that another node has parked and announced. Anything else in the queue of parked messages is
 * itself parked.
 */
export function isParkedMessage({
  type,
  messageId,
  headers
}: Pick<Delivery, "type" | "messageId" | "headers">): boolean {
  const text = (name: string) => typeof headers[name] === "string" && headers[name] !== "";
  const { [HEADER.bytes]: bytes, [HEADER.sha256]: sha256 } = headers;
  return (
    type === PARKED_TYPE &&
    !!messageId &&
    !hasControl(messageId) &&
    // For NeDB it is no key.
    messageId !== "__proto__" &&
    [HEADER.reason, HEADER.queue, HEADER.nodeID, HEADER.properties, HEADER.headers].every(text) &&
    (bytes === undefined ? sha256 === undefined : isCount(bytes) && /^[0-9a-f]{64}$/.test(String(sha256)))
  );
}

/**
 * The record that is kept of a delivery that cannot be read. A redelivery after a crash gives the same one. `run` names
 * what takes deliveries, for those without an id.
 */
export function toParked(
  delivery: Parkable,
  reason: string,
  { nodeID, clock }: Pick<ParkingNode, "nodeID" | "clock">,
  run: string
): Parked {
  const { messageId, type, contentType, timestamp, appId, headers, queue, epoch, tag } = delivery;
  const at = new Date(clock.now());
  const kept = { at, reason: reason.slice(0, MAX_REASON) };
  if (isParkedMessage(delivery)) {
    const bytes = headers[HEADER.bytes] as number | undefined;
    return {
      ...kept,
      _id: messageId as string,
      queue: String(headers[HEADER.queue]).slice(0, MAX_NAME),
      nodeID: String(headers[HEADER.nodeID]).slice(0, MAX_NAME),
      ...cutTo(MAX_PARKED_BYTES, {
        body: delivery.body,
        ...(bytes !== undefined && { cut: { bytes, sha256: String(headers[HEADER.sha256]) } })
      }),
      properties: parsed(headers[HEADER.properties]),
      headers: parsed(headers[HEADER.headers])
    };
  }
  const { body, cut } = cutTo(MAX_PARKED_BYTES, delivery);
  return {
    ...kept,
    // Messages of other programs may have the same id, none, or one that nobody can type.
    _id:
      messageId && printable(messageId) === messageId
        ? `${queue}/${messageId}#${(cut?.sha256 ?? digestOf(body)).slice(0, 40)}`
        : `${queue}#${nodeID}#${run}#${epoch}#${tag}`,
    queue,
    nodeID,
    body,
    ...(cut && { cut }),
    properties: { messageId, type, contentType, timestamp, appId },
    headers: bounded(headers)
  };
}

/** A header table can take far more as JSON: bytes, or many short values. */
function bounded(headers: Record<string, unknown>): Record<string, unknown> {
  const kept = plain(headers, MAX_DEPTH) as Record<string, unknown>;
  const json = JSON.stringify(kept);
  return Buffer.byteLength(json) <= MAX_PARKED_HEADERS ? kept : { raw: cutText(json, MAX_PARKED_HEADERS) };
}

function parsed(json: unknown): Record<string, unknown> {
  try {
    return bounded(parseObject(String(json), "it"));
  } catch {
    // It was cut to size on its way here.
    return { raw: cutText(String(json), MAX_PARKED_HEADERS) };
  }
}
