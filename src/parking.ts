import type { Delivery } from "./couriers/courier";
import type { Logger } from "./logger";
import { PARKED_TYPE } from "./message/envelope";
import type { Parked } from "./message/message";
import type { Metrics } from "./metrics";

/** A delivery that could not be taken for what it should have been, as the record that is kept of it: whole, with its raw bytes. */
export function parkedOf(delivery: Delivery, reason: string, { metrics, logger, nodeID }: { metrics: Metrics; logger: Logger; nodeID: string }): Parked {
	const { messageId, type, contentType, timestamp, appId, headers } = delivery;
	const own = type === PARKED_TYPE;
	if (!own) {
		metrics.parked(delivery.queue);
		logger.warn(`Reliable: parked a message from ${delivery.queue}: ${reason}.`);
	}
	return {
		// Delivered again after a crash it must be the same record; what has no id gets one from where and when it came.
		_id: messageId ? `${delivery.queue}/${messageId}` : `${delivery.queue}#${nodeID}#${delivery.epoch}#${delivery.tag}#${Date.now()}`,
		at: new Date(),
		queue: own ? String(headers["x-reliable-queue"]) : delivery.queue,
		reason,
		nodeID: own ? String(headers["x-reliable-node"]) : nodeID,
		body: delivery.body,
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
