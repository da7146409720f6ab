import { reasonOf } from "../errors";
import { STATUS } from "../message/lifecycle";
import type { Message, Note } from "../message/message";
import type { PlainPayload } from "../outbound/encoding";
import type { MessagePublisher } from "../outbound/message-publisher";
import type { Clock } from "../platform/clock";
import type { Warnings } from "../platform/warnings";
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
 * With `commit` a durable intent comes before the business write, and the message after it. The crash table is in
 * `strategy.ts`.
 */
export interface BusinessWrite {
  commit(): Promise<void>;
  /**
   * After `commit` has failed: true = its write has not happened and will not. False = not known; then the source or
   * the barrier row is asked later.
   */
  rolledBack(): Promise<boolean>;
}

/** `intents` throws on a node without a store; it is called only when the barrier is written. */
export function businessWrite(
  { _id: id, event, intent }: Message,
  payload: unknown,
  commit: (message: CommitMessage) => unknown,
  { intents, warnings }: { intents(): IntentStore; warnings: Warnings }
): BusinessWrite {
  let fenced = false;
  /** Of each call: whether its row may be there. */
  const calls: Promise<boolean>[] = [];
  const barrier = async (session: unknown) => {
    const written = intents().barrier(session, id);
    calls.push(written.then(() => true, mayPass));
    await written;
    fenced = true;
  };
  return {
    async commit() {
      await commit({ id, event, payload, barrier });
      // The write is done and will be announced. But if the process had died during it, nothing could have told whether
      // it happened.
      if (intent === "barrier" && !fenced)
        warnings.error(
          "no barrier row",
          event,
          `Reliable: the 'commit' of '${event}' (${id}) announced a barrier row and wrote none; after a crash the message would have been withdrawn.`
        );
    },
    async rolledBack() {
      // A call that nobody has awaited may be on its way, and its row would come after the answer.
      if (!(await Promise.all(calls)).includes(true)) return true;
      // The transaction may have been committed and only the answer lost.
      return intents()
        .rolledBack(id)
        .catch(() => false);
    }
  };
}

/** What is refused for good was not written. Of the rest, a lost answer for one, that is not known. */
function mayPass(error: { retryable?: boolean } | undefined): boolean {
  return error?.retryable !== false;
}

export interface StoredIntentParts {
  store: Store;
  insertQueue: InsertQueue;
  metrics: Metrics;
  warnings: Warnings;
  clock: Clock;
}

interface StoreConditions {
  timeoutMs: number;
  /** See EmitConditions. */
  plain?: PlainPayload;
}

/** Strategy `outbox`: the intent is a row `intended`, which the sweeper does not publish. */
export class StoredIntent {
  constructor(private readonly parts: StoredIntentParts) {}

  /**
   * Stores the intent, then does the business write. `dueAt`: when the message becomes due for the sweeper, called
   * after the write. Returns the row if this emit must not publish it.
   */
  async write(
    message: Message,
    { commit, rolledBack }: BusinessWrite,
    conditions: StoreConditions,
    dueAt: () => Date
  ): Promise<Message | undefined> {
    await this.#store(message, conditions);
    try {
      await commit();
    } catch (error) {
      // If the withdrawal is lost, the sweeper asks about the intent and withdraws it then.
      if (await rolledBack()) await this.#withdraw(message, error);
      throw error;
    }
    const { store, warnings } = this.parts;
    const { _id: id } = message;
    const due = dueAt();
    // The business write has happened, so this emit does not fail any more. If this is not confirmed, the sweeper asks
    // about the intent when it comes due.
    const happened = await store.intents.happened(id, due).catch(error => {
      warnings.warn("intent", "unconfirmed", `Reliable: intent ${id} was not confirmed yet: ${reasonOf(error)}`);
      return false;
    });
    message.status = STATUS.pending;
    message.dueAt = due;
    return happened ? undefined : this.#overtaken(message);
  }

  async #store(message: Message, { timeoutMs, plain }: StoreConditions): Promise<void> {
    const { store, insertQueue, metrics } = this.parts;
    message.status = STATUS.intended;
    message.dueAt = new Date(store.now().getTime() + delayOf(message, 1));
    // It was stored too late: its business write was never begun. The sweeper will ask about it and withdraw it.
    const outcome = await insertQueue.insert(message, timeoutMs, () => undefined);
    const existing = outcome.stored ? undefined : await replaceWithdrawn(store, message, outcome.existing, plain);
    if (existing) {
      await assertSame(existing, message, plain);
      throw duplicateId(existing, "its business write is not done again");
    }
    metrics.stored(message.event);
  }

  async #withdraw({ _id: id, producer, createdAt }: Message, error: unknown): Promise<void> {
    const { store, clock, warnings } = this.parts;
    const at = new Date(clock.now());
    const note: Note = { at, by: producer, act: "withdraw", note: `commit failed: ${reasonOf(error)}` };
    await store.intents
      .withdraw(id, note, createdAt)
      .catch(failed =>
        warnings.warn("intent", "not withdrawn", `Reliable: intent ${id} was not withdrawn yet: ${reasonOf(failed)}`)
      );
  }

  /**
   * The sweeper asked about the intent while its business write was under way. If no barrier has stopped that write, it
   * counts, and a withdrawn message is announced all the same. Returns the row if it is right as it is; undefined =
   * publish.
   */
  async #overtaken(message: Message): Promise<Message | undefined> {
    const { store, clock, warnings } = this.parts;
    const { _id: id } = message;
    try {
      const [row] = await store.messages.find([id]);
      if (row?.status !== STATUS.withdrawn) return row ?? { ...message, status: STATUS.intended };
      warnings.warn(
        "intent",
        "overtaken",
        `Reliable: message ${id} was withdrawn while its business write was under way, and that write has happened; the message is sent. A barrier row would have stopped the write.`
      );
      message.createdAt = new Date(Math.max(clock.now(), message.createdAt.getTime() + 1));
      return await replace(store, message);
    } catch (error) {
      warnings.warn("intent", "unconfirmed", `Reliable: intent ${id} was not confirmed yet: ${reasonOf(error)}`);
      return { ...message, status: STATUS.intended };
    }
  }
}

export interface SentIntentParts {
  publisher: MessagePublisher;
  metrics: Metrics;
  clock: Clock;
}

/** Strategy `callback`: the intent is the check, which is sent before the business write and marked as such. */
export class SentIntent {
  constructor(private readonly parts: SentIntentParts) {}

  /**
   * Returns whether the message is confirmed and routed. `until`: monotonic time by which the check must be confirmed.
   */
  async write(message: Message, write: BusinessWrite, until: number): Promise<boolean> {
    const { publisher, metrics, clock } = this.parts;
    message.status = STATUS.intended;
    assertCheckConfirmed(message, await publishedBy(publisher.check(message, 1), until, clock));
    await this.#commit(message, write);
    // A business write takes time, and the steps after it get their full time limit. The write has happened, and its
    // caller must not undo it: the check is out and will have the message sent.
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
      // The caller may emit the id again at once, and nothing but `createdAt` tells the two emissions apart. A timer of
      // 2 ms may fire after little more than one.
      if (clock.now() === message.createdAt.getTime()) await clock.sleep(2);
      throw error;
    }
    message.status = STATUS.pending;
    if (clock.monotonic() < asked) return;
    // The question may have been asked in the meantime and answered with "no". A check that asks nothing overrules that
    // answer.
    message.createdAt = new Date(Math.max(clock.now(), message.createdAt.getTime() + 1));
    const check = await publisher.check(message, 1);
    if (check.outcome !== "confirmed")
      throw outcomeUnknown(message, check, "the check after its business write, which has happened,");
  }

  /** Best effort: if it is lost, the check asks and learns the same. */
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
