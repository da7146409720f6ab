import { Batcher } from "../async/batcher";
import { reasonOf } from "../errors";
import type { Message } from "../message/message";
import { type Order, placeToCome, turnClaimMs } from "../message/order";
import type { MessagePublisher } from "../outbound/message-publisher";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Clock } from "../platform/clock";
import { newId } from "../platform/ids";
import type { Logger } from "../platform/logger";
import type { Store } from "../stores/store";
import type { InsertOutcome } from "../stores/store-records";
import type { Events } from "../telemetry/events";
import { InsertQueue } from "./insert-queue";

/** A message goes to the groups that are known when it is stored, and to no others: they are not known from long ago. */
const FRESH_MS = 1000;
/** Of ms up to the year 9999. */
const INSTANT_DIGITS = 15;
/** More than a transaction lives: a server ends it after a minute, unless its operator has said otherwise. */
const EXPECTED_MS = 600_000;
/** Per store command. */
const MAX_EXPECTED = 500;

export interface OrderedParts {
  store: Store;
  subscriptions: Subscriptions;
  publisher: MessagePublisher;
  events: Events;
  logger: Logger;
  clock: Clock;
  /** How long the claim holds of what is published at once. */
  claimMs: number;
}

/**
 * Emits with an order key: one writer, so that those of this process are stored in the order of their calls. What is
 * stored is published by `Turns`, when its turn has come.
 */
export class OrderedEmits {
  readonly #queue: InsertQueue;
  readonly #expected: Batcher<string, void>;
  /** By session: a name for its messages, and how many of each key there are. */
  readonly #sessions = new WeakMap<object, { name: string; counts: Map<string, number> }>();
  #placing: Promise<void> = Promise.resolve();

  constructor(private readonly parts: OrderedParts) {
    const { store, clock } = parts;
    this.#expected = new Batcher({ maxItems: MAX_EXPECTED, write: keys => this.#expect(keys).then(() => []) });
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
    const key = keyOfMessage(message);
    const mine = this.#sessions.get(session) ?? { name: newId(), counts: new Map<string, number>() };
    this.#sessions.set(session, mine);
    const within = mine.counts.get(key) ?? 0;
    mine.counts.set(key, within + 1);
    message.place = placeToCome(key, mine.name, within);
    // The transaction is that of the call, whatever the session does meanwhile.
    const expected = this.#expected.add(key);
    // A session that is refused does not wait for it.
    expected.catch(() => undefined);
    return store.messages.insertIn(session, message, expected);
  }

  /** Of what is stored without a number. */
  standing(message: Message): Message {
    // Of several that one sweep finds the earlier one comes first.
    const sendAt = String(message.sendAt?.getTime() ?? 0).padStart(INSTANT_DIGITS, "0");
    message.place = placeToCome(keyOfMessage(message), `${sendAt} ${message._id}`);
    return message;
  }

  /** They are on their way from now on, in this order: a transaction is committed, an intent has happened. */
  place(messages: Message[]): Promise<void> {
    const { store, events, logger } = this.parts;
    const placed = this.#placing.then(async () => {
      const turns = await store.lanes.place(messages.map(keyOfMessage));
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

  async #expect(keys: string[]): Promise<void> {
    const { store, events } = this.parts;
    const turns = await store.lanes.expect(keys, new Date(store.now().getTime() + EXPECTED_MS));
    if (turns.length) events.emit("turns", turns);
  }

  async #enter(messages: Message[]) {
    const { store, subscriptions, events, publisher, claimMs } = this.parts;
    await subscriptions.fresh(FRESH_MS);
    for (const message of messages) message.waiting = subscriptions.waitingFor(message.event, message.groups);
    // The same one if it is tried again: what is stored already has it.
    const claim = messages.find(({ claim }) => claim)?.claim ?? `${publisher.nodeID}#emit#${newId()}`;
    const until = new Date(store.now().getTime() + turnClaimMs(claimMs));
    const entered = await store.lanes.enter(messages, publisher.courier.ready ? { claim, until } : undefined);
    const { outcomes, turns, claimed } = entered;
    const mine = new Set(claimed.map(({ _id }) => _id));
    const others = turns.filter(({ id }) => !mine.has(id));
    if (claimed.length)
      events.emit(
        "claimed",
        claimed,
        claim,
        turns.filter(({ id }) => mine.has(id))
      );
    if (others.length) events.emit("turns", others);
    return outcomes;
  }
}

function keyOfMessage({ order }: Message): string {
  return (order as Order).key;
}
