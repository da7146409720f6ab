import type { Subscription } from "../../message/records";
import type { SubscriptionStore } from "../store";
import type { Database } from "./collection";

export function subscriptionId({ group, pattern }: Pick<Subscription, "group" | "pattern">): string {
  return JSON.stringify([group, pattern]);
}

/** Groups and their queues, as consumers announce them. */
export class DocumentSubscriptions implements SubscriptionStore {
  constructor(private readonly db: Database) {}

  async announce(subscriptions: Subscription[]): Promise<void> {
    if (!subscriptions.length) return;
    await this.db.collections.subscriptions.bulk(
      subscriptions.map(({ pattern, group, queue, nodeID, service, firstSeenAt, seenAt }) => ({
        filter: { _id: subscriptionId({ group, pattern }) },
        change: { $set: { pattern, group, queue, nodeID, service }, $min: { firstSeenAt }, $max: { seenAt } },
        upsert: true
      }))
    );
  }

  async list(): Promise<Subscription[]> {
    const docs = await this.db.collections.subscriptions.find({}, { sort: { group: 1, pattern: 1 } });
    return docs.map(({ _id, ...subscription }) => subscription as unknown as Subscription);
  }
}
