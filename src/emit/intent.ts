import { reasonOf } from "../errors";
import { STATUS } from "../message/lifecycle";
import type { Message, Note } from "../message/message";
import type { MessagePublisher } from "../outbound/message-publisher";
import type { Clock } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { IntentStore, Store } from "../stores/store";
import type { Metrics } from "../telemetry/metrics";
import { WIRE_VERSION } from "../wire/envelope";
import { delayOf, encodePlan } from "../wire/plan";
import { WITHDRAWAL_TYPE, type Withdrawal } from "../wire/receipt";
import { assertSame, duplicateId, replace, replaceWithdrawn } from "./duplicate";
import type { CommitMessage } from "./emit-options";
import type { InsertQueue } from "./insert-queue";
import { assertCheckConfirmed, outcomeUnknown, publishedBy } from "./published";

/**
 * Intent first: with `commit` a durable intent comes before the business write, and the message after it. The crash
 * table is in `strategy.ts`.
 */
export interface BusinessWrite {
  commit(): Promise<void>;
  /**
   * After `commit` has failed: true = its write has not happened and will not. False = not known; then the intent is
   * asked about.
   */
  rolledBack(): Promise<boolean>;
}

/** `intents`: throws where the node has no store; asked only when the barrier is written. */
export function businessWrite(
  { _id: id, event, intent }: Message,
  payload: unknown,
  commit: (message: CommitMessage) => unknown,
  { intents, logger }: { intents(): IntentStore; logger: Logger }
): BusinessWrite {
  let fenced = false;
  const barrier = async (session: unknown) => {
    await intents().barrier(session, id);
    fenced = true;
  };
  return {
    async commit() {
      await commit({ id, event, payload, barrier });
      // It is done and will be announced; but had the process died in it, nobody could have told.
      if (intent === "barrier" && !fenced)
        logger.error(
          `Reliable: the 'commit' of '${event}' (${id}) promised a barrier row and wrote none; after a crash it would have been withdrawn.`
        );
    },
    async rolledBack() {
      if (!fenced) return true;
      // The transaction may have been committed, and only the answer was lost.
      return intents()
        .rolledBack(id)
        .catch(() => false);
    }
  };
}

export interface StoredIntentParts {
  store: Store;
  insertQueue: InsertQueue;
  metrics: Metrics;
  logger: Logger;
  clock: Clock;
}

/** Strategy `outbox`: the intent is a row `intended`, which no sweep publishes. */
export class StoredIntent {
  constructor(private readonly parts: StoredIntentParts) {}

  /**
   * Stores the intent, then does the business write. `dueAt`: when the message becomes the sweeper's, asked after the
   * write. Returns the row where it is not to be published by this emit.
   */
  async write(
    message: Message,
    { commit, rolledBack }: BusinessWrite,
    timeoutMs: number,
    dueAt: () => Date
  ): Promise<Message | undefined> {
    await this.#store(message, timeoutMs);
    try {
      await commit();
    } catch (error) {
      // Should the withdrawal get lost, the intent is asked about and withdrawn then.
      if (await rolledBack()) await this.#withdraw(message, error);
      throw error;
    }
    const { store, logger } = this.parts;
    const { _id: id } = message;
    const due = dueAt();
    // The business write has happened, so this emit does not fail any more: unconfirmed, the intent is asked about when
    // it comes due.
    const happened = await store.intents.happened(id, due).catch(error => {
      logger.warn(`Reliable: intent ${id} was not confirmed yet: ${reasonOf(error)}`);
      return false;
    });
    message.status = STATUS.pending;
    message.dueAt = due;
    return happened ? undefined : this.#overtaken(message);
  }

  async #store(message: Message, timeoutMs: number): Promise<void> {
    const { store, insertQueue, metrics } = this.parts;
    message.status = STATUS.intended;
    message.dueAt = new Date(store.now().getTime() + delayOf(message, 1));
    // Stored too late, it is an intent whose business write was never begun: asked about, it is withdrawn.
    const outcome = await insertQueue.insert(message, timeoutMs, () => undefined);
    const existing = outcome.stored ? undefined : await replaceWithdrawn(store, message, outcome.existing);
    if (existing) {
      assertSame(existing, message);
      throw duplicateId(existing, "its business write is not done again");
    }
    metrics.stored(message.event);
  }

  async #withdraw({ _id: id, producer, createdAt }: Message, error: unknown): Promise<void> {
    const { store, clock, logger } = this.parts;
    const at = new Date(clock.now());
    const note: Note = { at, by: producer, act: "withdraw", note: `commit failed: ${reasonOf(error)}` };
    await store.intents
      .withdraw(id, note, createdAt)
      .catch(failed => logger.warn(`Reliable: intent ${id} was not withdrawn yet: ${reasonOf(failed)}`));
  }

  /**
   * The intent was asked about while its business write was under way. Where no barrier has stopped that write, it
   * counts, and what was withdrawn is announced all the same. Returns the row that is as it should be; undefined =
   * publish.
   */
  async #overtaken(message: Message): Promise<Message | undefined> {
    const { store, clock, logger } = this.parts;
    const { _id: id } = message;
    try {
      const [row] = await store.messages.find([id]);
      if (row?.status !== STATUS.withdrawn) return row ?? { ...message, status: STATUS.intended };
      logger.warn(
        `Reliable: message ${id} was withdrawn while its business write was under way, which has happened all the same; it is sent. A barrier row would have stopped it.`
      );
      message.createdAt = new Date(Math.max(clock.now(), message.createdAt.getTime() + 1));
      return await replace(store, message);
    } catch (error) {
      logger.warn(`Reliable: intent ${id} was not confirmed yet: ${reasonOf(error)}`);
      return { ...message, status: STATUS.intended };
    }
  }
}

export interface SentIntentParts {
  publisher: MessagePublisher;
  metrics: Metrics;
  clock: Clock;
}

/** Strategy `callback`: the intent is the check, sent before the business write and marked so. */
export class SentIntent {
  constructor(private readonly parts: SentIntentParts) {}

  /** Returns whether the message is confirmed and routed. `until`: by the clock's monotonic time, for the check. */
  async write(message: Message, write: BusinessWrite, until: number): Promise<boolean> {
    const { publisher, metrics, clock } = this.parts;
    message.status = STATUS.intended;
    assertCheckConfirmed(message, await publishedBy(publisher.check(message, 1), until, clock));
    await this.#commit(message, write);
    // A business write takes its time; what follows it is not given up for that. It has happened, and its caller must
    // not take it back: the check is out and will see to the message.
    const result = await publisher.toAll(message, 1);
    metrics.outcome(message.event, result.outcome);
    return result.outcome === "confirmed";
  }

  async #commit(message: Message, { commit, rolledBack }: BusinessWrite): Promise<void> {
    const { publisher, clock } = this.parts;
    const asked = clock.monotonic() + delayOf(message, 1);
    try {
      await commit();
    } catch (error) {
      if (await rolledBack()) await this.#withdraw(message);
      throw error;
    }
    message.status = STATUS.pending;
    if (clock.monotonic() < asked) return;
    // The question may have been put meanwhile, and answered with "no". A check that asks nothing stands against it.
    message.createdAt = new Date(Math.max(clock.now(), message.createdAt.getTime() + 1));
    const check = await publisher.check(message, 1);
    if (check.outcome !== "confirmed")
      throw outcomeUnknown(message, check, "the check after its business write, which has happened,");
  }

  /** Best effort: should it get lost, the check asks and learns the same. */
  async #withdraw(message: Message): Promise<void> {
    const { publisher } = this.parts;
    const { _id: id, event, producer } = message;
    const withdrawal: Withdrawal = { v: WIRE_VERSION, id, echo: { event, producer, plan: encodePlan(message) } };
    await publisher.courier.publish({
      to: { queue: publisher.queues.callbackReceipts },
      messageId: id,
      type: WITHDRAWAL_TYPE,
      headers: {},
      body: Buffer.from(JSON.stringify(withdrawal))
    });
  }
}
