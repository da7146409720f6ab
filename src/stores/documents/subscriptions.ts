import type { Pause, Subscription } from "../../message/records";
import { unreadableRow } from "../../message/unreadable";
import type { SubscriptionStore } from "../store";
import { type Database, type Doc, EPOCH } from "./collection";
import { isPause, toPause } from "./pauses";
import { isInstant, isText } from "./row-check";

export function subscriptionId({ group, pattern }: Pick<Subscription, "group" | "pattern">): string {
  return JSON.stringify([group, pattern]);
}

/** Without these it names no group. What else is damaged the next announcement writes anew. */
const NEEDED = ["group", "pattern", "queue"];

function shown({ _id, ...row }: Doc): Subscription {
  const [firstSeenAt, seenAt] = [row.firstSeenAt, row.seenAt].map(at => (isInstant(at) ? at : EPOCH));
  return { ...row, firstSeenAt, seenAt } as unknown as Subscription;
}

const compare = (a: string, b: string) => (a < b ? -1 : Number(a > b));

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

  async list(unreadable?: (error: Error) => void): Promise<Subscription[]> {
    return (await this.known(unreadable)).subscriptions;
  }

  async known(unreadable?: (error: Error) => void): Promise<{ subscriptions: Subscription[]; pauses: Pause[] }> {
    const docs = await this.db.collections.subscriptions.find({});
    const subscriptions = docs
      .filter(doc => !isPause(doc))
      .flatMap(doc => {
        const fault = NEEDED.find(field => !isText(doc[field]));
        if (fault) unreadable?.(unreadableRow(doc._id, `its '${fault}' is not text`, "subscription"));
        return fault ? [] : shown(doc);
      })
      .sort((a, b) => compare(a.group, b.group) || compare(a.pattern, b.pattern));
    return { subscriptions, pauses: docs.filter(isPause).flatMap(toPause) };
  }
}
