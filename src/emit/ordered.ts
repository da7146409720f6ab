import { reasonOf } from "../errors";
import type { Message } from "../message/message";
import { type Order, placeToCome } from "../message/order";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Clock } from "../platform/clock";
import { newId } from "../platform/ids";
import type { Logger } from "../platform/logger";
import type { Store } from "../stores/store";
import type { InsertOutcome } from "../stores/store-records";
import type { Events } from "../telemetry/events";
import { InsertQueue } from "./insert-queue";

/** A message goes to the groups that are known when it is stored, and to no others: they are not known from long ago. */
const FRESH_MS = 500;
/** More than a transaction lives: a server ends it after a minute, unless its operator has said otherwise. */
const EXPECTED_MS = 600_000;
/** Said again after this time. */
const SAID_MS = EXPECTED_MS / 2;
/** Keys of which it is known to be said. */
const MAX_SAID = 10_000;

export interface OrderedParts {
  store: Store;
  subscriptions: Subscriptions;
  events: Events;
  logger: Logger;
  clock: Clock;
}

/**
 * Emits with an order key: one writer, so that those of this process are stored in the order of their calls. What is
 * stored is published by `Turns`, when its turn has come.
 */
export class OrderedEmits {
  readonly #queue: InsertQueue;
  /** By session: a name for its messages, and how many there are. */
  readonly #sessions = new WeakMap<object, { name: string; count: number }>();
  readonly #said = new Map<string, number>();
  #placing: Promise<void> = Promise.resolve();

  constructor(private readonly parts: OrderedParts) {
    const { store, clock } = parts;
    this.#queue = new InsertQueue(store, clock, { parallel: 1, insert: messages => this.#enter(messages) });
  }

  get size(): number {
    return this.#queue.size;
  }

  get bytes(): number {
    return this.#queue.bytes;
  }

  /** As `InsertQueue.insert`. */
  insert(message: Message, timeoutMs: number): Promise<InsertOutcome> {
    return this.#queue.insert(message, timeoutMs, () => undefined);
  }

  /** As `MessageStore.insertIn`. It has its place after the commit; whoever emits with this key from then on, a later one. */
  async insertIn(session: object, message: Message): Promise<InsertOutcome> {
    const { store } = this.parts;
    const { key } = message.order as Order;
    const mine = this.#sessions.get(session) ?? { name: newId(), count: 0 };
    this.#sessions.set(session, mine);
    message.place = placeToCome(key, mine.name, mine.count++);
    await this.#expect(key);
    return store.messages.insertIn(session, message);
  }

  /** Of what is stored without a number. */
  standing(message: Message): Message {
    message.place = placeToCome((message.order as Order).key, message._id);
    return message;
  }

  /** They are on their way from now on, in this order: a transaction is committed, an intent has happened. */
  place(messages: Message[]): Promise<void> {
    const { store, events, logger } = this.parts;
    const placed = this.#placing.then(async () => {
      const turns = await store.lanes.place(messages);
      if (turns.length) events.emit("turns", turns);
    });
    this.#placing = placed.catch(error =>
      logger.debug(`Reliable: messages got no place in their line yet; the sweeper gives it: ${reasonOf(error)}`)
    );
    return this.#placing;
  }

  async idle(): Promise<void> {
    await this.#queue.idle();
    await this.#placing;
  }

  stop(): void {
    this.#queue.stop();
  }

  async #enter(messages: Message[]) {
    const { store, subscriptions, events } = this.parts;
    await subscriptions.fresh(FRESH_MS);
    for (const message of messages) message.waiting = subscriptions.waitingFor(message.event, message.groups);
    const { outcomes, turns } = await store.lanes.enter(messages);
    if (turns.length) events.emit("turns", turns);
    return outcomes;
  }

  async #expect(key: string): Promise<void> {
    const { store, clock } = this.parts;
    const now = clock.monotonic();
    if ((this.#said.get(key) ?? -Infinity) > now - SAID_MS) return;
    await store.lanes.expect([key], new Date(store.now().getTime() + EXPECTED_MS));
    if (this.#said.size >= MAX_SAID) this.#said.clear();
    this.#said.set(key, now);
  }
}
