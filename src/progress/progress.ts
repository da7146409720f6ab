import { reasonOf } from "../errors";
import { isFinal, isUnsent, STATUS } from "../message/lifecycle";
import { ANY_GROUP, type Failure, type Message, type MessageHead, type Note } from "../message/message";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Logger } from "../platform/logger";
import type { Warnings } from "../platform/warnings";
import type { LaneEnd } from "../stores/lane-store";
import type { Store } from "../stores/store";
import type {
  DeadMessage,
  DisplacedRecord,
  ExcusedRecord,
  FailedRecord,
  HandledRecord,
  ReleaseScope
} from "../stores/store-records";
import type { Events } from "../telemetry/events";
import type { Metrics } from "../telemetry/metrics";

export interface ProgressParts {
  store: Store;
  subscriptions: Subscriptions;
  metrics: Metrics;
  logger: Logger;
  warnings: Warnings;
  events: Events;
}

/**
 * The only writer of outcomes: a group has handled a message, an attempt has failed, a message's recipients are known,
 * a group is gone. Tracker, sweeper, outbox and `forget` pass every outcome to this class. If it makes the message
 * `consumed` or `dead`, `Events` says so once.
 *
 *   process dies before the write       the outcome comes again: its receipt is not acked, its row stays due
 *   … between the write and the event   the status is in the store, and an emit that waits for it asks the store
 */
export class Progress {
  constructor(readonly parts: ProgressParts) {
    const { store, logger, events } = parts;
    store.onRefused((error, dead) => {
      logger.error(`Reliable: ${error.message}`);
      events.emit("error", error, "store");
      if (!dead) return;
      this.#dead([dead]);
      void this.#leftDead(dead.id);
    });
  }

  /** Groups have handled messages. Returns the ids that are not in the store. */
  async handled(records: HandledRecord[], at: Date): Promise<Set<string>> {
    if (!records.length) return new Set();
    const { store } = this.parts;
    const { unknown, consumed, unresolved } = await store.messages.handled(records);
    this.#consumed(consumed, at);
    this.#left(records.flatMap(({ orderKey: key, group }) => (key === undefined ? [] : { key, group })));
    if (unresolved.length) await this.resolveRecipients(await store.messages.heads(unresolved));
    return new Set(unknown);
  }

  /**
   * Messages of strategy `callback` that are first known from receipts, as rows with these receipts. Returns the ids
   * that had no row yet; nothing is written for the others.
   */
  async insertFromReceipts(rows: Message[], at: Date): Promise<Set<string>> {
    if (!rows.length) return new Set();
    const inserted = await this.parts.store.messages.insertFromReceipts(rows);
    this.#consumed(
      rows.filter(({ _id, status }) => status === STATUS.consumed && inserted.has(_id)).map(({ _id }) => _id),
      at
    );
    return inserted;
  }

  /** Attempts have failed. */
  async failed(records: FailedRecord[]): Promise<void> {
    if (!records.length) return;
    this.#dead((await this.parts.store.messages.failed(records)).dead);
    this.#left(records.flatMap(({ leaves: key, group }) => (key === undefined ? [] : { key, group })));
  }

  /** Attempts have reached no consumer, and do not count. */
  async displaced(records: DisplacedRecord[]): Promise<void> {
    if (!records.length) return;
    await this.parts.store.messages.displaced(records);
    for (const { id, unroutable, failure } of records)
      if (unroutable)
        this.parts.warnings.warn(
          "unroutable",
          unroutable.event,
          `Reliable: message ${id} is unroutable and stays pending: ${failure.error.message}`
        );
  }

  /** Attempts have failed, and do not count. */
  async excused(records: ExcusedRecord[]): Promise<void> {
    if (records.length) await this.parts.store.messages.excused(records);
  }

  /** It cannot be known whether the business write of this intent happened. False = it is no intent any more. */
  async intentExpired({ _id: id, event }: Message, failure: Failure, reason: string): Promise<boolean> {
    const expired = await this.parts.store.intents.expire(id, failure, reason);
    if (expired) this.#dead([{ id, event, reason, cause: failure.cause }]);
    return expired;
  }

  /**
   * A group is forgotten: messages that wait only for it end here. Returns how many do not wait for it any more.
   *
   *   process dies between two pages   the operator repeats the act; what is freed stays freed
   */
  async groupForgotten(scope: ReleaseScope, note: Note): Promise<number> {
    const { store, events } = this.parts;
    let freed = 0;
    for (;;) {
      const page = await store.operations.release(scope, note);
      if (!page) return freed;
      freed += page.freed;
      this.#consumed(page.consumed, note.at);
      this.#left(page.left ?? []);
      if (page.resolved.length) events.emit("acted", "resolved", page.resolved, note.by);
    }
  }

  /**
   * The emit knew no group. Now one has answered, and the groups that are known by now take the place of ANY_GROUP.
   * `answered`: groups that have just answered, by id.
   */
  async resolveRecipients(messages: MessageHead[], answered: { id: string; group: string }[] = []): Promise<void> {
    const open = messages.filter(
      // A dead one that waits for nobody is among them if its sweep has died before it had closed it.
      ({ status, waiting }) => !isFinal(status) && !isUnsent(status) && (!waiting.length || waiting.includes(ANY_GROUP))
    );
    if (!open.length) return;
    const { store, subscriptions } = this.parts;
    await subscriptions.refresh();
    const now = store.now();
    const groupsOf = ({ _id, event, groups: named, failed, resolved }: MessageHead) => {
      const known = [
        ...subscriptions.waitingFor(event, named),
        ...answered.filter(({ id }) => id === _id).map(({ group }) => group)
      ];
      return [...new Set(known)].filter(group => ![ANY_GROUP, ...failed, ...resolved].includes(group));
    };
    const { consumed } = await store.messages.resolveRecipients(
      open.map(message => ({ id: message._id, groups: groupsOf(message) }))
    );
    this.#consumed(consumed, now);
  }

  #consumed(ids: string[], since: Date): void {
    if (!ids.length) return;
    const { metrics, events } = this.parts;
    metrics.count("consumed", ids.length);
    if (metrics.sink) void this.#time(ids, since);
    events.emit("consumed", ids);
  }

  /** Only where metrics are enabled: one projected read per batch. */
  async #time(ids: string[], since: Date): Promise<void> {
    const { store, metrics, logger } = this.parts;
    try {
      for (const { event, emittedAt, consumedAt } of await store.messages.timings(ids))
        if (consumedAt >= since) metrics.time("end.to.end.time", consumedAt.getTime() - emittedAt.getTime(), event);
    } catch (error) {
      logger.debug(`Reliable: the time of ${ids.length} consumed message(s) could not be read: ${reasonOf(error)}`);
    }
  }

  /** Of one with an order key those behind it may go on. What fails here is seen when its lane is looked at. */
  async #leftDead(id: string): Promise<void> {
    const [message] = await this.parts.store.messages.heads([id]).catch(() => []);
    if (message?.order?.onDead !== "skip") return;
    const { key } = message.order;
    this.#left(message.failed.map(group => ({ key, group })));
  }

  #left(ends: LaneEnd[]): void {
    if (ends.length) this.parts.events.emit("left", ends);
  }

  #dead(dead: DeadMessage[]): void {
    if (!dead.length) return;
    const { metrics, warnings, events } = this.parts;
    metrics.dead(dead);
    for (const { id, reason, group = "", cause = "" } of dead)
      warnings.warn("dead", `${cause} ${group}`, `Reliable: message ${id} is dead: ${reason}`);
    events.emit("dead", dead);
  }
}
