import { type Delivery, systemQueue } from "../couriers/courier";
import { reasonOf } from "../errors";
import { announceParked, toParkedMessage, toShortMessage } from "../inbound/parked-messages";
import { backoffMs } from "../message/backoff";
import { type ConsumerParts, RETRY } from "./consumer-parts";

/**
 * Into the parking queue with its raw bytes, so that the consumer goes on and an operator can inspect it. False = a stop
 * has come first.
 */
export async function park(
  delivery: Delivery,
  reason: string,
  parts: ConsumerParts,
  end: AbortSignal
): Promise<boolean> {
  const { courier, queues, nodeID, clock } = parts;
  const { queue, body, headers, messageId, type, contentType, timestamp, appId } = delivery;
  const properties = { messageId, type, contentType, timestamp, appId };
  let parked = toParkedMessage(queues.parked, nodeID, reason, { queue, body, headers, properties });
  for (let tries = 1; !end.aborted; tries++) {
    const { outcome, reason: why = outcome } = await courier.publish(parked).catch(refused);
    if (outcome === "confirmed") {
      announceParked(delivery, reason, parts, "consumer");
      return true;
    }
    // Any other answer is about this message, and would come again.
    if (!["returned", "nacked", "unknown"].includes(outcome)) parked = toShortMessage(parked, why);
    if (outcome === "returned") await courier.declare(systemQueue(queues.parked, queues)).catch(() => undefined);
    await clock.sleep(backoffMs(RETRY, tries), end);
  }
  return false;
}

/** The courier rejects what it cannot encode. */
function refused(error: unknown): { outcome: "refused"; reason: string } {
  return { outcome: "refused", reason: reasonOf(error) };
}
