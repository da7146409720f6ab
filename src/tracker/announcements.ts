import type { Delivery } from "../couriers/courier";
import { ReliableError, reasonOf } from "../errors";
import type { Fault } from "../inbound/parking";
import { pausedName, pauses } from "../message/paused";
import type { Subscription } from "../message/records";
import { parseAnnouncement } from "../wire/announcement";
import { Unreadable } from "../wire/json";
import { AnnouncedCounts } from "./announced-counts";
import type { TrackerParts } from "./tracker-parts";

/** Groups and patterns of a namespace: far more than services have, and what a node keeps in memory and reads again. */
const MAX_SUBSCRIPTIONS = 5000;

/** The key under which the store keeps them: one queue may serve two patterns. */
const keyOf = ({ group, pattern }: Pick<Subscription, "group" | "pattern">) => JSON.stringify([group, pattern]);

/**
 * Announcements of consumers → the groups in the store. Every later message waits for what is recorded here, so a
 * stranger's announcement is looked at: its queue must exist, a group whose consumers live stays where it is, and the
 * number of groups is limited.
 */
export class Announcements {
  #full = false;
  readonly #counts: AnnouncedCounts;

  constructor(readonly parts: TrackerParts) {
    this.#counts = new AnnouncedCounts(parts.store);
  }

  /** Returns what is to be parked. */
  async take(deliveries: Delivery[]): Promise<Fault[]> {
    const { store, subscriptions, clock, prefix } = this.parts;
    const announced = new Map<string, Subscription>();
    const faults: Fault[] = [];
    const now = new Date(clock.now());
    for (const delivery of deliveries) {
      try {
        this.parts.signatures?.check(delivery, "announcement");
        const { pattern, group, queue, nodeID, service, counts } = parseAnnouncement(delivery.body, prefix);
        const subscription = { pattern, group, queue, nodeID, service, firstSeenAt: now, seenAt: now };
        const key = keyOf(subscription);
        if (!(await this.#admits(subscription, announced.get(key), announced.size))) continue;
        // The last announcement wins in the store, and so it does here.
        announced.delete(key);
        announced.set(key, subscription);
        if (counts) this.#counts.add({ nodeID }, counts);
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        faults.push([delivery, error.message]);
      }
    }
    if (announced.size) {
      const known = new Set(subscriptions.all.map(keyOf));
      await store.subscriptions.announce([...announced.values()]);
      await subscriptions.refresh();
      // A process that dies before this leaves them to their own pauses, which are bounded.
      const found = [...announced].filter(([key]) => !known.has(key)).map(([, subscription]) => subscription);
      if (found.length) await store.messages.routable(found, store.now());
      await this.#counts.write();
    }
    return faults;
  }

  /**
   * False = there are too many already. `before`: what the same batch has said of it, `more`: how much that batch adds.
   * Throws Unreadable.
   */
  async #admits(subscription: Subscription, before: Subscription | undefined, more: number): Promise<boolean> {
    const { all } = this.parts.subscriptions;
    const { group, pattern, queue } = subscription;
    const known = before ?? all.find(other => other.group === group && other.pattern === pattern);
    if (known?.queue === queue) return true;
    if (!known && all.length + more >= MAX_SUBSCRIPTIONS) {
      this.#tellFull(subscription);
      return false;
    }
    if ((await this.#consumersOf(queue)) === undefined)
      throw new Unreadable(`announcement of the queue '${queue}', which does not exist`);
    const paused = known && this.parts.subscriptions.paused.find(pause => pauses(pause, known));
    if (paused)
      throw new Unreadable(
        `announcement that would move group ${group} to the queue '${queue}': it is paused (${pausedName(paused)})`
      );
    const consumers = known && (await this.#consumersOf(known.queue));
    if (consumers)
      throw new Unreadable(
        `announcement that would move group ${group} to the queue '${queue}': it has ${consumers} consumer(s) on ${known?.queue}`
      );
    return true;
  }

  /** undefined = there is no such queue. Throws Unreadable if it may not be looked at, RELIABLE_UNAVAILABLE. */
  async #consumersOf(queue: string): Promise<number | undefined> {
    const { courier } = this.parts;
    try {
      return (await courier.depth(queue))?.consumers;
    } catch (error) {
      const { code } = ((error as { cause?: unknown }).cause ?? {}) as { code?: unknown };
      // Another connection has it for itself, or this user may not read it: that stays so. The others must not wait.
      if (code === 403 || code === 405)
        throw new Unreadable(`announcement of the queue '${queue}': ${reasonOf(error)}`);
      // Anything else passes, and the announcement is looked at again.
      throw error;
    }
  }

  /** Told once. They are not kept: living groups announce themselves again and again. */
  #tellFull({ group, pattern }: Subscription): void {
    if (this.#full) return;
    this.#full = true;
    const { logger, events } = this.parts;
    const error = new ReliableError(
      "RELIABLE_TOO_MANY_GROUPS",
      `Group ${group} with '${pattern}' and others after it are not recorded: ${MAX_SUBSCRIPTIONS} groups and patterns are known.`,
      { group, limit: MAX_SUBSCRIPTIONS }
    );
    logger.error(`Reliable: ${error.message}`);
    events.emit("error", error, "tracker");
  }
}
