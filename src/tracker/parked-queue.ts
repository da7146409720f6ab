import type { Delivery } from "../couriers/courier";
import { isParkedMessage } from "../inbound/parked-messages";
import type { Fault } from "../inbound/parking";
import { highestAttempt, judgeFailure } from "../message/attempts";
import type { FailureError } from "../message/message";
import type { FailedRecord } from "../stores/store-records";
import { parseEnvelope } from "../wire/envelope";
import { Unreadable } from "../wire/json";
import type { TrackerParts } from "./tracker-parts";

/** What consumers could not read, and what RabbitMQ gave up delivering (`x-death`) → store. */
export class ParkedQueue {
  constructor(readonly parts: TrackerParts) {}

  /** Returns what is to be parked. */
  async take(deliveries: Delivery[]): Promise<Fault[]> {
    const faults: Fault[] = [];
    const failures: FailedRecord[] = [];
    for (const delivery of deliveries) {
      const failure = isParkedMessage(delivery) ? undefined : await this.#crashLoop(delivery);
      if (failure) failures.push(failure);
      else faults.push([delivery, reasonFor(delivery)]);
    }
    await this.parts.progress.failed(failures);
    return faults;
  }

  /**
   * A message of ours whose consumers died on it until RabbitMQ's delivery limit was reached: one failed attempt of
   * that group.
   */
  async #crashLoop(delivery: Delivery): Promise<FailedRecord | undefined> {
    const { store, subscriptions } = this.parts;
    const death = deathOf(delivery);
    const group = death && subscriptions.groupOfQueue(death.queue);
    if (!group) return undefined;
    try {
      const { id, attempt } = parseEnvelope(delivery);
      const [message] = await store.messages.find([id]);
      if (!message?.open || attempt > highestAttempt(message, group)) return undefined;
      return judgeFailure(message, group, attempt, "crash-loop", death.error, { now: store.now() });
    } catch (error) {
      if (error instanceof Unreadable) return undefined;
      throw error;
    }
  }
}

function reasonFor(delivery: Delivery): string {
  if (isParkedMessage(delivery)) return String(delivery.headers["x-reliable-reason"]);
  return deathOf(delivery)?.why ?? "neither a parked message nor one that RabbitMQ has dead-lettered";
}

/** Why RabbitMQ has dead-lettered it, from `x-death`. Consumers in other languages may reject what they cannot read. */
function deathOf({ headers }: Delivery): { queue: string; why: string; error: FailureError } | undefined {
  const deaths = headers["x-death"];
  const [death] = Array.isArray(deaths) ? (deaths as { queue?: unknown; reason?: unknown }[]) : [];
  if (typeof death?.queue !== "string") return undefined;
  const { queue } = death;
  if (death.reason === "rejected") {
    const message = "its consumer rejected it (basic.reject without requeue) instead of answering with a receipt";
    return {
      queue,
      why: `its consumer rejected it in ${queue}`,
      error: { name: "Rejected", message, code: "REJECTED" }
    };
  }
  const message = "its consumers went away before they answered, until the broker gave up (x-delivery-limit)";
  return {
    queue,
    why: "RabbitMQ gave up delivering it (x-delivery-limit)",
    error: { name: "CrashLoop", message, code: "DELIVERY_LIMIT" }
  };
}
