import type { Delivery } from "../couriers/courier";
import { isParkedMessage } from "../inbound/parked-messages";
import type { Fault } from "../inbound/parking";
import { highestAttempt, judgeFailure } from "../message/attempts";
import { isOpen } from "../message/lifecycle";
import type { FailureError } from "../message/message";
import type { FailedRecord } from "../stores/store-records";
import { parseEnvelope } from "../wire/envelope";
import { Unreadable } from "../wire/json";
import type { Queues } from "../wire/names";
import { type Death, Displaced } from "./displaced";
import type { TrackerParts } from "./tracker-parts";

/** What consumers could not read, and what RabbitMQ has taken out of a queue or gave up delivering (`x-death`) → store. */
export class ParkedQueue {
  constructor(readonly parts: TrackerParts) {}

  /** Returns what is to be parked. */
  async take(deliveries: Delivery[]): Promise<Fault[]> {
    const faults: Fault[] = [];
    const failures: FailedRecord[] = [];
    const displaced = new Displaced(this.parts);
    for (const delivery of deliveries) {
      const death = isParkedMessage(delivery) ? undefined : deathOf(delivery, this.parts.queues);
      try {
        if (isParkedMessage(delivery)) this.parts.signatures?.check(delivery, "parked");
        if (death && (await displaced.take(delivery, death))) continue;
        const failure = death && (await this.#crashLoop(delivery, death));
        if (failure) failures.push(failure);
        else faults.push([delivery, reasonFor(delivery, death)]);
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        faults.push([delivery, error.message]);
      }
    }
    await displaced.end();
    await this.parts.progress.failed(failures);
    return faults;
  }

  /**
   * A message of ours whose consumers died on it until RabbitMQ's delivery limit was reached, or that one of them
   * rejected: one failed attempt of that group.
   */
  async #crashLoop(delivery: Delivery, death: Death): Promise<FailedRecord | undefined> {
    const { store, subscriptions } = this.parts;
    const group = subscriptions.groupOfQueue(death.queue);
    if (!group) return undefined;
    try {
      this.parts.signatures?.check(delivery, "event");
      const { id, attempt } = parseEnvelope(delivery);
      const [message] = await store.messages.heads([id]);
      if (!message || !isOpen(message) || attempt > highestAttempt(message, group)) return undefined;
      return judgeFailure(message, group, attempt, "crash-loop", failureOf(death), { now: store.now() });
    } catch (error) {
      if (error instanceof Unreadable) return undefined;
      throw error;
    }
  }
}

function reasonFor(delivery: Delivery, death: Death | undefined): string {
  if (isParkedMessage(delivery)) return String(delivery.headers["x-reliable-reason"]);
  if (!death) return "neither a parked message nor one that RabbitMQ has dead-lettered";
  if (death.reason === "rejected") return `its consumer rejected it in ${death.queue}`;
  if (death.reason === "delivery_limit") return "RabbitMQ gave up delivering it (x-delivery-limit)";
  return `RabbitMQ took it out of ${death.queue} (${death.reason}), and its group is not known`;
}

/** Consumers in other languages may reject what they cannot read. */
function failureOf({ reason }: Death): FailureError {
  return reason === "rejected"
    ? {
        name: "Rejected",
        message: "its consumer rejected it (basic.reject without requeue) instead of answering with a receipt",
        code: "REJECTED"
      }
    : {
        name: "CrashLoop",
        message: "its consumers went away before they answered, until the broker gave up (x-delivery-limit)",
        code: "DELIVERY_LIMIT"
      };
}

/** The last queue that it was taken out of, newest first in `x-death`; the two for such messages do not count. */
function deathOf({ headers }: Delivery, { parked, displaced }: Queues): Death | undefined {
  const deaths = headers["x-death"];
  if (!Array.isArray(deaths)) return undefined;
  const death = (deaths as (Partial<Death> | null)[]).find(
    each => typeof each?.queue === "string" && each.queue !== parked && each.queue !== displaced
  );
  return death ? { queue: String(death.queue), reason: String(death.reason) } : undefined;
}
