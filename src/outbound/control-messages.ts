import { randomUUID } from "node:crypto";
import type { Courier, PublishResult } from "../couriers/courier";
import { baseGroup } from "../message/pattern";
import type { Subscription } from "../message/records";
import { CONTROL_TYPE, controlOf, type Look, sweepNewsOf } from "../wire/control";
import { SWEEPERS_KEY } from "../wire/names";

/**
 * Tells consumers to look at the pauses of their group: all of the group by its name, or those of one queue by the
 * queue's. `returned`: nobody hears it.
 */
export function tellConsumers(courier: Courier, key: string, group: string): Promise<PublishResult> {
  return tell(courier, key, controlOf(group));
}

/** Tells the nodes that sweep what to look for. `returned`: nobody hears it. */
export function tellSweepers(courier: Courier, look: Look): Promise<PublishResult> {
  return tell(courier, SWEEPERS_KEY, sweepNewsOf(look));
}

function tell(courier: Courier, key: string, body: Buffer): Promise<PublishResult> {
  return courier.publish({ to: { control: key }, messageId: randomUUID(), type: CONTROL_TYPE, headers: {}, body });
}

/**
 * Whether a process has this queue in its hands, though the queue has no consumer: its breaker is open, it is paused, or
 * it is just starting. RabbitMQ knows: each hears control messages while its connection lives. undefined = it does not
 * say.
 */
export async function hasProcess(
  courier: Courier,
  { group, queue }: Pick<Subscription, "group" | "queue">
): Promise<boolean | undefined> {
  const { outcome } = await tellConsumers(courier, queue, baseGroup(group));
  return outcome === "confirmed" ? true : outcome === "returned" ? false : undefined;
}
