import type { Delivery } from "../couriers/courier";
import { toParked } from "../inbound/parked-messages";
import type { Parked, Subscription } from "../message/records";
import { parseAnnouncement } from "../wire/announcement";
import { Unreadable } from "../wire/json";
import type { TrackerParts } from "./tracker-parts";

/** Announcements of consumers → the groups in the store. */
export class Announcements {
  constructor(readonly parts: TrackerParts) {}

  async take(deliveries: Delivery[]): Promise<void> {
    const { store, subscriptions, clock, prefix } = this.parts;
    const known = new Map<string, Subscription>();
    const parked: Parked[] = [];
    const now = new Date(clock.now());
    for (const delivery of deliveries) {
      try {
        const { pattern, group, queue, nodeID, service } = parseAnnouncement(delivery.body, prefix);
        // The key under which the store keeps them: one queue may serve two patterns. The last announcement wins there,
        // and so it does here.
        const key = JSON.stringify([group, pattern]);
        known.delete(key);
        known.set(key, { pattern, group, queue, nodeID, service, firstSeenAt: now, seenAt: now });
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        parked.push(toParked(delivery, error.message, this.parts));
      }
    }
    if (parked.length) await store.parked.add(parked);
    if (!known.size) return;
    await store.subscriptions.announce([...known.values()]);
    await subscriptions.refresh();
  }
}
