import { reasonOf } from "../errors";
import { ANY_GROUP } from "../message/message";
import { matches, namesGroup } from "../message/pattern";
import { queueTargetOf } from "../message/queue-target";
import type { Subscription } from "../message/records";
import type { Clock, Timer } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { Store } from "../stores/store";

/**
 * The groups that the store knows, kept in memory and read again every `refreshMs`. Each emit fills `waiting` from
 * them, and resends find the groups' queues in them. A group that announced itself less than `refreshMs` ago may be
 * missing. Its receipts count all the same.
 */
export class Subscriptions {
  #known: Subscription[] = [];
  #groups = new Map<string, string[]>();
  #timer: Timer | undefined;
  #reading: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(
    readonly store: Store,
    readonly refreshMs: number,
    readonly logger: Logger,
    readonly clock: Clock
  ) {}

  async start(): Promise<void> {
    this.#timer = this.clock.every(this.refreshMs, () => void this.refresh());
    this.store.onReady(() => void this.refresh());
    if (this.store.ready) await this.refresh();
  }

  stop(): void {
    this.#timer?.stop();
  }

  get all(): readonly Subscription[] {
    return this.#known;
  }

  /**
   * Reads the store. Concurrent callers share a read that begins after their call, since they may just have written. If
   * the store is down, the known groups stay.
   */
  refresh(): Promise<void> {
    if (!this.#reading) return (this.#reading = this.#read().finally(() => (this.#reading = undefined)));
    this.#next ??= this.#reading.then(() => {
      this.#next = undefined;
      return this.refresh();
    });
    return this.#next;
  }

  async #read(): Promise<void> {
    if (!this.store.ready) return;
    try {
      this.#set(await this.store.subscriptions.list());
    } catch (error) {
      this.logger.debug(`Reliable: could not read the subscriptions: ${reasonOf(error)}`);
    }
  }

  #set(known: Subscription[]): void {
    this.#known = known;
    this.#groups.clear();
  }

  /** Groups whose pattern matches the event. */
  groupsFor(event: string): string[] {
    let groups = this.#groups.get(event);
    if (!groups) {
      groups = [...new Set(this.#known.filter(sub => matches(event, sub.pattern)).map(sub => sub.group))];
      // Event names with an id in them must not fill the memory.
      if (this.#groups.size > 10_000) this.#groups.clear();
      this.#groups.set(event, groups);
    }
    return groups;
  }

  /** The group has announced that it takes this event. */
  knows(group: string, event: string): boolean {
    return this.groupsFor(event).includes(group);
  }

  /**
   * The groups that owe a receipt for this event; never empty. Groups that the emit names count even if they are
   * unknown.
   */
  waitingFor(event: string, named?: string[]): string[] {
    const known = this.groupsFor(event);
    if (!named) return known.length ? [...known] : [ANY_GROUP];
    const wanted = named.flatMap(name => {
      const meant = known.filter(group => namesGroup(name, group));
      return meant.length ? meant : [name];
    });
    return [...new Set(wanted)];
  }

  /** The queue in which the group takes this event; undefined = not known, or not any more. */
  queueOf(group: string, event: string): string | undefined {
    return (
      queueTargetOf(group)?.queue ?? this.#known.find(sub => sub.group === group && matches(event, sub.pattern))?.queue
    );
  }

  groupOfQueue(queue: string): string | undefined {
    return this.#known.find(sub => sub.queue === queue)?.group;
  }
}
