import { createHash, randomUUID } from "node:crypto";
import type { Delivery, Publication } from "../couriers/courier";
import { ReliableError } from "../errors";
import type { Parked } from "../message/records";
import type { Clock } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { Events } from "../telemetry/events";
import type { Metrics } from "../telemetry/metrics";
import { PARKED_TYPE } from "../wire/envelope";

/** Bytes of a parked message's headers, cut so that they fit into AMQP's 64 KiB. */
const MAX_PARKED_HEADERS = 32 * 1024;

/**
 * The message by which a node without a store asks the nodes with one to keep something. `toParked` reads it. It may be
 * published more than once.
 */
export function toParkedMessage(
  to: string,
  nodeID: string,
  reason: string,
  {
    queue,
    body,
    properties = {},
    headers = {}
  }: Pick<Parked, "queue" | "body"> & Partial<Pick<Parked, "properties" | "headers">>
): Publication {
  return {
    to: { queue: to },
    messageId: randomUUID(),
    type: PARKED_TYPE,
    contentType: "application/octet-stream",
    headers: {
      "x-reliable-reason": reason,
      "x-reliable-queue": queue,
      "x-reliable-node": nodeID,
      "x-reliable-properties": JSON.stringify(properties),
      "x-reliable-headers": Buffer.from(JSON.stringify(headers)).subarray(0, MAX_PARKED_HEADERS).toString()
    },
    body
  };
}

/** The node that finds a message it has to park. */
export interface ParkingNode {
  metrics: Metrics;
  logger: Logger;
  nodeID: string;
  events: Events;
  clock: Clock;
}

/** The node that parks a message says so once: metric, log and `$reliable.error`. The content is not told. */
export function announceParked(
  { queue, messageId }: Pick<Delivery, "queue"> & Partial<Pick<Delivery, "messageId">>,
  reason: string,
  { metrics, logger, events }: Pick<ParkingNode, "metrics" | "logger" | "events">,
  module: string
): void {
  const error = new ReliableError("RELIABLE_PARKED", `Parked a message from ${queue}: ${reason}.`, {
    queue,
    reason,
    messageId
  });
  metrics.parked(queue);
  logger.warn(`Reliable: ${error.message}`);
  events.emit("error", error, module);
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
  return (
    type === PARKED_TYPE &&
    !!messageId &&
    ["x-reliable-reason", "x-reliable-queue", "x-reliable-node", "x-reliable-properties", "x-reliable-headers"].every(
      text
    )
  );
}

/** The record that is kept of a delivery that cannot be read: all of it, with its raw bytes. */
export function toParked(delivery: Delivery, reason: string, parts: ParkingNode): Parked {
  const { messageId, type, contentType, timestamp, appId, headers } = delivery;
  const { nodeID, clock } = parts;
  const own = isParkedMessage(delivery);
  if (!own) announceParked(delivery, reason, parts, "tracker");
  const { queue, epoch, tag, body } = delivery;
  // A redelivery after a crash must give the same record. Messages of other programs may have the same id, or none.
  const foreignId = messageId
    ? `${queue}/${messageId}#${createHash("sha1").update(body).digest("hex")}`
    : `${queue}#${nodeID}#${epoch}#${tag}#${clock.now()}`;
  return {
    _id: own ? (messageId as string) : foreignId,
    at: new Date(clock.now()),
    queue: own ? String(headers["x-reliable-queue"]) : queue,
    reason,
    nodeID: own ? String(headers["x-reliable-node"]) : nodeID,
    body,
    properties: own ? parsed(headers["x-reliable-properties"]) : { messageId, type, contentType, timestamp, appId },
    headers: own ? parsed(headers["x-reliable-headers"]) : headers
  };
}

function parsed(json: unknown): Record<string, unknown> {
  try {
    return JSON.parse(String(json)) as Record<string, unknown>;
  } catch {
    // It was cut to size on its way here.
    return { raw: String(json) };
  }
}
