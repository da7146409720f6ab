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
 * What a node without a store sends to those that have one, to be kept; `toParked` reads it. The same one may be
 * published again.
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

/** Who finds a message that must be parked. */
export interface ParkingNode {
  metrics: Metrics;
  logger: Logger;
  nodeID: string;
  events: Events;
  clock: Clock;
}

/** Said once, by the node that found it: metric, log and `$reliable.error`; never its content. */
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

/** Found, and its reason told, elsewhere; anything else in the queue of parked messages is itself to be parked. */
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

/**
 * A delivery that could not be taken for what it should have been, as the record that is kept of it: whole, with its
 * raw bytes.
 */
export function toParked(delivery: Delivery, reason: string, parts: ParkingNode): Parked {
  const { messageId, type, contentType, timestamp, appId, headers } = delivery;
  const { nodeID, clock } = parts;
  const own = isParkedMessage(delivery);
  if (!own) announceParked(delivery, reason, parts, "tracker");
  const { queue, epoch, tag, body } = delivery;
  // Delivered again after a crash it must be the same record; messages of other programs may have the same id, or none.
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
    // Cut to size on its way here.
    return { raw: String(json) };
  }
}
