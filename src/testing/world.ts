import type { MemoryBroker, Queued } from "../couriers/memory/broker";
import { MemoryCourier } from "../couriers/memory/courier";
import { isOpen, STATUS } from "../message/lifecycle";
import { ANY_GROUP, type ListedMessage } from "../message/message";
import { BEHIND_AT } from "../message/order";
import { queueTargetOf } from "../message/queue-target";
import type { Storage } from "../runtime/assemble";
import type { Runtime } from "../runtime/runtime";
import { decodeListed } from "../stores/documents/codec";
import { EmbeddedStore } from "../stores/embedded/store";
import { systemQueues } from "../wire/names";
import type { TestClock } from "./clock";
import type { Emits } from "./emits";

/** A handler at work. */
export interface Running {
  id: string;
  event: string;
  group: string;
}

/** What is not settled, and why. */
export interface OpenMessage {
  id: string;
  event: string;
  status: string;
  /** As a person reads it. */
  why: string;
}

/** While a breaker is not closed: it opens and closes by timers of its own. */
const BREAKER_STEP_MS = 1000;

/** What the nodes of a kit hold, read in their memory. It changes nothing. */
export class World {
  readonly runtimes = new Set<Runtime>();
  readonly running = new Set<Running>();

  constructor(
    private readonly clock: TestClock,
    private readonly emits: Emits
  ) {}

  get up(): { runtime: Runtime; storage: Storage }[] {
    return [...this.runtimes].flatMap(runtime =>
      runtime.running && runtime.storage ? [{ runtime, storage: runtime.storage }] : []
    );
  }

  /** One node of each store: nodes of a namespace share it. */
  get stores(): { runtime: Runtime; storage: Storage; store: EmbeddedStore }[] {
    const found = new Map(this.up.map(node => [node.runtime.identity.namespace, node]));
    return [...found.values()].flatMap(node => {
      const { store } = node.storage;
      return store instanceof EmbeddedStore && store.ready ? [{ ...node, store }] : [];
    });
  }

  get brokers(): MemoryBroker[] {
    const couriers = this.up.map(({ runtime }) => runtime.courier);
    return [...new Set(couriers.flatMap(courier => (courier instanceof MemoryCourier && courier.broker) || []))];
  }

  /** Groups have announced themselves, and nobody has read it yet. */
  get announcing(): boolean {
    const names = this.up.map(({ runtime }) => systemQueues(runtime.identity.namespace).announcements);
    const queues = this.brokers.flatMap(({ queues }) => names.flatMap(name => queues.get(name) ?? []));
    return queues.some(({ ready, consumers }) => ready.length > 0 || consumers.some(({ held }) => held.size > 0));
  }

  get rows(): ListedMessage[] {
    return this.stores.flatMap(({ store }) => store.collections.messages.rows().map(decodeListed));
  }

  /** In the hands of consumers, trackers and the callback service. */
  held(): Queued[] {
    return this.brokers.flatMap(({ queues }) =>
      [...queues.values()].flatMap(({ consumers }) => consumers.flatMap(({ held }) => [...held.values()]))
    );
  }

  /** Something is on its way, or in somebody's hands. */
  busy(but: ReadonlySet<Queued>): boolean {
    const delivers = this.brokers.some(({ queues }) =>
      [...queues.values()].some(
        ({ ready, consumers }) => ready.length > 0 && consumers.some(({ full, absent }) => !full && !absent)
      )
    );
    return delivers || this.held().some(queued => !but.has(queued));
  }

  /** Due for a sweep. */
  get due(): boolean {
    const now = this.clock.now();
    return this.stores.some(({ store }) =>
      store.collections.messages.rows().some(({ dueAt }) => dueAt instanceof Date && dueAt.getTime() <= now)
    );
  }

  /** Remembers rows as they are now. */
  look(): void {
    for (const row of this.rows) this.emits.saw(row);
  }

  /** What has to be handled or dead before all is settled. */
  get open(): OpenMessage[] {
    const open = this.rows.filter(row => this.#counts(row));
    return [
      ...open.map(row => ({ id: row._id, event: row.event, status: row.status as string, why: this.#whyOf(row) })),
      ...this.emits.unseen.map(({ message: { _id: id, event } }) => ({
        ...{ id, event, status: STATUS.published },
        why: this.#handlerOf(id) ?? "no group has answered, and its check has not come"
      }))
    ];
  }

  /** In how many ms time leads something on: of what is `open` alone, or of all. undefined = nothing of it. */
  next(all: boolean): number | undefined {
    const now = this.clock.now();
    const rows = this.rows.filter(
      row => row.dueAt && !isBehind(row) && (all || (this.#counts(row) && !this.#paused(row).length))
    );
    const left = rows.map(({ dueAt }) => (dueAt as Date).getTime() - now);
    const checks = all || this.#waitsForCheck();
    if (checks)
      for (const { queues } of this.brokers)
        for (const { timers } of queues.values())
          for (const timer of timers.keys()) left.push(Math.ceil(this.clock.left(timer)));
    if (this.up.some(({ runtime }) => [...runtime.consumers].some(({ breaker }) => breaker?.opened)))
      left.push(BREAKER_STEP_MS);
    return left.length ? Math.max(1, Math.min(...left)) : undefined;
  }

  /** The same as long as time leads nothing on but instants at which it is looked at again. */
  get progress(): string {
    const of = ({ _id, status, waiting, failed, spent, base, asks, round }: ListedMessage) =>
      JSON.stringify([_id, status, waiting, failed, spent, base, asks, round]);
    return this.rows.map(of).join();
  }

  #waitsForCheck(): boolean {
    return this.emits.unseen.length > 0 || this.rows.some(row => row.delays && this.#counts(row));
  }

  /** Not that for which nobody is: no group of the test takes it, and there is nothing to wait for. */
  #counts(row: ListedMessage): boolean {
    return (
      isOpen(row) &&
      (row.status === STATUS.intended ||
        row.waiting.some(group => this.#isTaken(group, row.event) && !this.#isHeld(row, group)))
    );
  }

  /** Its key is held in this group: a human has to act. */
  #isHeld(row: ListedMessage, group: string): boolean {
    return isBehind(row) && this.rows.some(({ holds, failed }) => holds === row.order?.key && failed.includes(group));
  }

  #isTaken(group: string, event: string): boolean {
    if (queueTargetOf(group)) return true;
    return this.up.some(({ storage: { subscriptions } }) =>
      group === ANY_GROUP ? subscriptions.groupsFor(event).length > 0 : subscriptions.knows(group, event)
    );
  }

  #paused({ event, waiting }: ListedMessage): string[] {
    return waiting.filter(group =>
      this.up.some(({ storage }) => storage.subscriptions.pausedIn(group, event).length > 0)
    );
  }

  #handlerOf(id: string): string | undefined {
    const groups = [...this.running].filter(running => running.id === id).map(({ group }) => group);
    return groups.length ? `the handler in ${groups.join(", ")} has not ended` : undefined;
  }

  #whyOf(row: ListedMessage): string {
    const paused = this.#paused(row);
    const { error } = row.failures.at(-1) ?? {};
    return [
      this.#handlerOf(row._id) ?? `waits for ${row.waiting.join(", ") || "its producer's answer"}`,
      ...(paused.length ? [`paused: ${paused.join(", ")}`] : []),
      ...(error ? [`last failure: ${error.name}: ${error.message}`] : [])
    ].join("; ");
  }
}

/** It stands in the line of its order key: no time leads it on. */
function isBehind({ dueAt }: ListedMessage): boolean {
  return dueAt?.getTime() === BEHIND_AT.getTime();
}
