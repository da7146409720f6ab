import { reasonOf } from "../errors";
import { ANY_GROUP } from "../message/message";
import { matches, namesGroup } from "../message/pattern";
import { pausableGroup, pauses } from "../message/paused";
import { queueGroup, queueTargetOf } from "../message/queue-target";
import type { Pause, Subscription } from "../message/records";
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
  #pauses: Pause[] = [];
  #groups = new Map<string, string[]>();
  readonly #told = new Set<string>();
  #timer: Timer | undefined;
  #readAt = -Infinity;
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

  /** Paused now. */
  get paused(): Pause[] {
    return this.#pauses.filter(({ resumed }) => !resumed);
  }

  /** Resumed ones too, as long as their rows are there. */
  get pauses(): readonly Pause[] {
    return this.#pauses;
  }

  /** Those because of which a group does not take this event. */
  pausedFor(event: string): Pause[] {
    const { paused } = this;
    const taking = paused.length ? this.#known.filter(sub => matches(event, sub.pattern)) : [];
    // A queue for jobs is not announced, and its name is the event.
    const job = queueGroup({ queue: event, settle: "receipt" });
    return paused.filter(pause => pause.group === job || taking.some(sub => pauses(pause, sub)));
  }

  /**
   * Since when the group can take this event: `never` while it is paused; undefined = it was not paused lately, or the
   * group is not known.
   */
  takesSince(group: string, event: string): Date | "never" | undefined {
    const found = this.#pausesOf(group, event);
    if (found.some(({ resumed }) => !resumed)) return "never";
    return found.flatMap(({ resumed }) => resumed?.at ?? []).sort((a, b) => b.getTime() - a.getTime())[0];
  }

  /** Because of which this group does not take this event. */
  pausedIn(group: string, event: string): Pause[] {
    return this.#pausesOf(group, event).filter(({ resumed }) => !resumed);
  }

  #pausesOf(group: string, event: string): Pause[] {
    if (!this.#pauses.length) return this.#pauses;
    return this.#pauses.filter(
      ({ group: base, pattern }) =>
        pausableGroup(group) === base && (pattern === undefined || pattern === this.#patternOf(group, event))
    );
  }

  #patternOf(group: string, event: string): string | undefined {
    return this.#known.find(sub => sub.group === group && matches(event, sub.pattern))?.pattern;
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

  /** As they were at most `ms` ago, if the store answers. */
  async fresh(ms: number): Promise<void> {
    if (this.clock.monotonic() - this.#readAt > ms) await this.refresh();
  }

  async #read(): Promise<void> {
    if (!this.store.ready) return;
    const now = this.clock.monotonic();
    try {
      const { subscriptions, pauses } = await this.store.subscriptions.known(this.#unreadable);
      this.#pauses = pauses;
      this.#set(subscriptions);
      this.#readAt = now;
    } catch (error) {
      this.logger.debug(`Reliable: could not read the subscriptions: ${reasonOf(error)}`);
    }
  }

  /** Once each, not at every read. */
  readonly #unreadable = (error: Error): void => {
    if (this.#told.has(error.message)) return;
    this.#told.add(error.message);
    this.logger.error(`Reliable: ${error.message} Nobody is known by it.`);
  };

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

  /** When the group was first seen; undefined = it is not known. */
  knownSince(group: string, event: string): Date | undefined {
    return this.#known.find(sub => sub.group === group && matches(event, sub.pattern))?.firstSeenAt;
  }

  groupOfQueue(queue: string): string | undefined {
    return this.#known.find(sub => sub.queue === queue)?.group;
  }
}
