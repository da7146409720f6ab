import { randomUUID } from "node:crypto";
import type { Courier, PublishResult } from "../couriers/courier";
import { baseGroup } from "../message/pattern";
import type { Subscription } from "../message/records";
import type { Clock } from "../platform/clock";
import { CONTROL_TYPE, controlOf, type Look, sweepNewsOf } from "../wire/control";
import { SWEEPERS_KEY } from "../wire/names";

/**
 * While a node's connection ends, RabbitMQ still routes to its queue, which is going, and nacks for it: for some ms (seen
 * with 4.3).
 */
const GOING_MS = 1000;
const AGAIN_MS = 20;

/**
 * Tells consumers to look at the pauses of their group: all of the group by its name, or those of one queue by the
 * queue's. `returned`: nobody hears it.
 */
export function tellConsumers(courier: Courier, key: string, group: string, clock: Clock): Promise<PublishResult> {
  return tell(courier, key, controlOf(group), clock);
}

/** Tells the nodes that sweep what to look for. `returned`: nobody hears it. */
export function tellSweepers(courier: Courier, look: Look, clock: Clock): Promise<PublishResult> {
  return tell(courier, SWEEPERS_KEY, sweepNewsOf(look), clock);
}

async function tell(courier: Courier, key: string, body: Buffer, clock: Clock): Promise<PublishResult> {
  const until = clock.monotonic() + GOING_MS;
  for (;;) {
    const to = { control: key };
    const told = await courier.publish({ to, messageId: randomUUID(), type: CONTROL_TYPE, headers: {}, body });
    if (told.outcome !== "nacked" || clock.monotonic() >= until) return told;
    await clock.sleep(AGAIN_MS);
  }
}

/**
 * Whether a process has this queue in its hands, though the queue has no consumer: its breaker is open, it is paused, or
 * it is just starting. RabbitMQ knows: each hears control messages while its connection lives. undefined = it does not
 * say.
 */
export async function hasProcess(
  courier: Courier,
  { group, queue }: Pick<Subscription, "group" | "queue">,
  clock: Clock
): Promise<boolean | undefined> {
  const { outcome } = await tellConsumers(courier, queue, baseGroup(group), clock);
  return outcome === "confirmed" ? true : outcome === "returned" ? false : undefined;
}
