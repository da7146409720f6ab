import { Batcher } from "../async/batcher";
import { WaitGroup } from "../async/wait-group";
import type { PublishResult } from "../couriers/courier";
import { reasonOf } from "../errors";
import { displaced, judgeFailure, noRoute, refused, unroutableYet } from "../message/attempts";
import { STATUS } from "../message/lifecycle";
import { ANY_GROUP, type Message } from "../message/message";
import type { MessagePublisher } from "../outbound/message-publisher";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Clock } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { Warnings } from "../platform/warnings";
import type { Progress } from "../progress/progress";
import type { Store } from "../stores/store";
import type { DisplacedRecord, FailedRecord, InsertOutcome } from "../stores/store-records";
import type { Events } from "../telemetry/events";
import type { Metrics } from "../telemetry/metrics";
import { ConfirmBuffer } from "./confirm-buffer";
import { assertSame, duplicateId, replaceWithdrawn } from "./duplicate";
import type { InsertQueue } from "./insert-queue";
import { type BusinessWrite, StoredIntent } from "./intent";
import { OrderedEmits } from "./ordered";
import { leftOf } from "./published";
import { SessionEmits } from "./session-emits";
import type { StatusWaiter } from "./status-waiter";
import { type EmitConditions, type EmitResult, resultOf, type Strategy } from "./strategy";

/** Status updates per store command. */
const MAX_BATCH = 500;
/** Delay after a publish that the broker has not taken. It may be back by then, and a sweep tries. */
const POSTPONE_MS = 1000;
/**
 * After one without an answer. Mostly the broker has it, and delivers it as soon as its queue has another leader: what
 * was sent again at that very moment could be handled beside it, on another node.
 */
const UNANSWERED_MS = 3000;
/**
 * A row of a transaction is published when its session ends. If that is missed, the sweeper takes it after this delay.
 */
const SESSION_GRACE_MS = 3000;
/** More than the longest time that a confirm is kept before it is written, plus the write. */
const SOON_MS = 8000;
/**
 * More than the confirm timeout plus SOON_MS, so that a sweep does not overtake a publish that still waits for its
 * confirm or its record.
 */
const GRACE_MARGIN_MS = 10_000;

export interface OutboxParts {
  store: Store;
  insertQueue: InsertQueue;
  publisher: MessagePublisher;
  subscriptions: Subscriptions;
  statusWaiter: StatusWaiter;
  metrics: Metrics;
  logger: Logger;
  warnings: Warnings;
  progress: Progress;
  events: Events;
  clock: Clock;
  confirmTimeoutMs: number;
  claimMs: number;
}

/** The message goes into the store, then to the broker. `strategy.ts` says what that promises. */
export class Outbox implements Strategy {
  readonly #intent: StoredIntent;
  readonly #confirms: ConfirmBuffer;
  readonly #sessions: SessionEmits;
  readonly #ordered: OrderedEmits;
  readonly #postponed: Batcher<string, void>;
  readonly #unanswered: Batcher<string, void>;
  readonly #failed: Batcher<FailedRecord, void>;
  readonly #displaced: Batcher<DisplacedRecord, void>;
  readonly #publishing = new WaitGroup(error =>
    this.parts.logger.debug(
      `Reliable: an emit's publish was not recorded; the sweeper will send the message again: ${reasonOf(error)}`
    )
  );

  constructor(readonly parts: OutboxParts) {
    const { store, progress } = parts;
    this.#intent = new StoredIntent(parts);
    this.#confirms = new ConfirmBuffer(parts);
    this.#ordered = new OrderedEmits(parts);
    this.#sessions = new SessionEmits(
      store,
      rows => this.#startCommitted(rows),
      work => this.#publishing.track(work)
    );
    const postponedBy = (ms: number) =>
      new Batcher<string, void>({
        maxItems: MAX_BATCH,
        write: ids => store.messages.postponed(ids, new Date(store.now().getTime() + ms)).then(() => [])
      });
    this.#postponed = postponedBy(POSTPONE_MS);
    this.#unanswered = postponedBy(UNANSWERED_MS);
    this.#failed = new Batcher({ maxItems: MAX_BATCH, write: records => progress.failed(records).then(() => []) });
    this.#displaced = new Batcher({
      maxItems: MAX_BATCH,
      write: records => progress.displaced(records).then(() => [])
    });
  }

  get pending(): number {
    return this.parts.insertQueue.size + this.#ordered.size;
  }

  get pendingBytes(): number {
    return this.parts.insertQueue.bytes + this.#ordered.bytes;
  }

  /** No frame of its own: thousands of emits may wait for the store. */
  emit(message: Message, conditions: EmitConditions): Promise<EmitResult> {
    const { store, clock, insertQueue } = this.parts;
    const until = clock.monotonic() + conditions.timeoutMs;
    const { session, write } = conditions;
    if (write) return this.#emitIntent(message, write, conditions, until);
    const { sendAt, order } = message;
    // What is in order goes out when it has its turn.
    const direct = !sendAt && !order && this.#direct;
    message.dueAt =
      sendAt ?? (session ? new Date(store.now().getTime() + SESSION_GRACE_MS) : this.#dueAt(this.#direct));
    const late = () => direct && this.#startPublish(message, conditions);
    const inserted = order
      ? this.#insertOrdered(message, conditions)
      : session
        ? store.messages.insertIn(session, message)
        : insertQueue.insert(message, conditions.timeoutMs, late);
    return inserted.then(outcome =>
      outcome.stored
        ? this.#stored(message, conditions, direct, until)
        : this.#notStored(message, outcome.existing, conditions, direct, until)
    );
  }

  #insertOrdered(message: Message, { session, timeoutMs }: EmitConditions): Promise<InsertOutcome> {
    const ordered = this.#ordered;
    // It has its place when it is sent.
    if (message.sendAt) return this.#insertScheduled(ordered.standing(message), session, timeoutMs);
    return session ? ordered.insertIn(session as object, message) : ordered.insert(message, timeoutMs);
  }

  #insertScheduled(message: Message, session: unknown, timeoutMs: number): Promise<InsertOutcome> {
    const { store, insertQueue } = this.parts;
    return session
      ? store.messages.insertIn(session, message)
      : insertQueue.insert(message, timeoutMs, () => undefined);
  }

  #stored(
    message: Message,
    conditions: EmitConditions,
    direct: boolean,
    until: number
  ): EmitResult | Promise<EmitResult> {
    const { session, waitFor } = conditions;
    this.parts.metrics.stored(message.event);
    if (session && !message.sendAt) this.#sessions.add(session as object, message._id);
    else if (direct) this.#startPublish(message, conditions);
    return waitFor === "stored" ? resultOf(message, message.status) : this.#wait(message, conditions, until);
  }

  async #notStored(
    message: Message,
    there: Message,
    conditions: EmitConditions,
    direct: boolean,
    until: number
  ): Promise<EmitResult> {
    const { session, joined, plain } = conditions;
    // Only an insert can join a transaction; and the handler has not asked for one.
    if (joined && there.status === STATUS.withdrawn)
      return this.emit(message, { ...conditions, session: undefined, joined: false });
    if (message.order && !session && there.status === STATUS.withdrawn) this.#withoutPlace(message);
    const existing = session ? there : await replaceWithdrawn(this.parts.store, message, there, plain);
    if (existing) return this.#asBefore(message, existing, conditions, until);
    if (message.order && !message.sendAt) await this.#ordered.place([message]);
    return this.#stored(message, conditions, direct, until);
  }

  /** What was to be inserted was lined up as such; what takes the place of another row is lined up after it. */
  #withoutPlace(message: Message): void {
    this.#ordered.standing(message);
    delete message.claim;
    message.dueAt = message.sendAt ?? this.#dueAt(true);
  }

  /** The id has a row already, which stays. */
  async #asBefore(message: Message, existing: Message, conditions: EmitConditions, until: number): Promise<EmitResult> {
    await assertSame(existing, message, conditions.plain);
    // Only an insert can join the caller's transaction.
    if (existing.status === STATUS.withdrawn)
      throw duplicateId(
        existing,
        "it was withdrawn and has a row of its own; emit without 'session', or with another id"
      );
    return this.#wait(existing, conditions, until);
  }

  async #emitIntent(
    message: Message,
    write: BusinessWrite,
    conditions: EmitConditions,
    until: number
  ): Promise<EmitResult> {
    let direct = false;
    const { order } = message;
    if (order) this.#ordered.standing(message);
    const row = await this.#intent.write(message, write, conditions, () => {
      direct = this.#direct && !order;
      return this.#dueAt(direct || order !== undefined);
    });
    if (row) return resultOf(row, row.status);
    if (order) await this.#ordered.place([message]);
    if (direct) this.#startPublish(message, conditions);
    return this.#wait(message, conditions, until);
  }

  /**
   * The broker is away or too much is waiting already. The row is due at once for the sweeper; no second write is
   * needed.
   */
  get #direct(): boolean {
    const { courier } = this.parts.publisher;
    return courier.ready && courier.writable;
  }

  #dueAt(direct: boolean): Date {
    const { store, confirmTimeoutMs } = this.parts;
    return new Date(store.now().getTime() + (direct ? confirmTimeoutMs + GRACE_MARGIN_MS : 0));
  }

  async idle(): Promise<void> {
    await this.parts.insertQueue.idle();
    await this.#ordered.idle();
    await this.#publishing.idle();
    await Promise.all(
      [this.#confirms, this.#postponed, this.#unanswered, this.#failed, this.#displaced].map(writes => writes.idle())
    );
  }

  stop(): void {
    this.#confirms.stop();
    this.#ordered.stop();
  }

  async #wait(message: Message, { waitFor, timeoutMs }: EmitConditions, until: number): Promise<EmitResult> {
    const { _id: id, event, status } = message;
    if (waitFor === "stored" || status === STATUS.consumed) return resultOf(message, status);
    if (waitFor === "confirmed" && status === STATUS.published) return resultOf(message, status);
    const { statusWaiter, clock } = this.parts;
    return resultOf(message, await statusWaiter.wait(id, event, waitFor, timeoutMs, leftOf(until, clock)));
  }

  #startCommitted(rows: Message[]): void {
    const ordered = rows.filter(({ order }) => order);
    if (ordered.length) this.#publishing.track(this.#ordered.place(ordered));
    for (const row of rows)
      if (!row.order && row.status === STATUS.pending && !row.claim && this.parts.publisher.courier.ready)
        this.#startPublish(row, { waitFor: "stored" });
  }

  #startPublish(message: Message, conditions: Pick<EmitConditions, "waitFor">): void {
    this.#publishing.track(this.#publish(message, conditions));
  }

  #publish(message: Message, conditions: Pick<EmitConditions, "waitFor">): Promise<void> {
    const { publisher } = this.parts;
    const { groups, waiting } = message;
    if (groups === undefined || waiting.includes(ANY_GROUP))
      return publisher.toAll(message, 1).then(result => this.#answered(message, conditions, [result]));
    const steps = waiting.map(group => ({ group, attempt: 1 }));
    return publisher.toGroups(message, steps).then(results => this.#answered(message, conditions, results, waiting));
  }

  /** `asked`: the groups that the publishes went to; undefined = one publish to all groups. */
  #answered(
    message: Message,
    { waitFor }: Pick<EmitConditions, "waitFor">,
    results: PublishResult[],
    asked?: string[]
  ): void | Promise<void> {
    for (const { outcome } of results) this.parts.metrics.outcome(message.event, outcome);
    const at = this.parts.store.now();
    const confirmed = results.some(result => result.outcome === "confirmed");
    if (confirmed) {
      const dueAt = new Date(at.getTime() + message.receiptTimeoutMs);
      this.parts.statusWaiter.saw(message._id, STATUS.published);
      // For a row of a transaction, or one that the store was slow to take: a sweep would come before the record.
      const dueSoon = (message.dueAt?.getTime() ?? 0) < at.getTime() + SOON_MS;
      this.#confirms.add({ id: message._id, at, dueAt }, message.createdAt, dueSoon || waitFor === "confirmed");
      if (results.length === 1) return;
    }
    return this.#recordFailed(message, results, asked, confirmed, at);
  }

  async #recordFailed(
    message: Message,
    results: PublishResult[],
    asked: string[] | undefined,
    confirmed: boolean,
    at: Date
  ): Promise<void> {
    const open = results.filter(({ outcome }) => outcome === "nacked" || outcome === "unknown");
    const mayBeThere = open.some(({ outcome, sent }) => outcome === "unknown" && sent !== false);
    if (!confirmed && open.length) await (mayBeThere ? this.#unanswered : this.#postponed).add(message._id);
    await Promise.all(
      results.flatMap((result, i) =>
        (asked ? [asked[i] as string] : message.waiting).map(group => this.#recordGroup(message, group, result, at))
      )
    );
  }

  /**
   * A group that is known and has no queue at the moment is offline, and its message waits; so it does for a group that
   * is not known yet, for a time.
   */
  async #recordGroup(message: Message, group: string, result: PublishResult, now: Date): Promise<void> {
    const { outcome, reason, code } = result;
    const { subscriptions } = this.parts.publisher;
    if (outcome === "refused")
      await this.#failed.add(judgeFailure(message, group, 1, "refused", refused(reason), { now }));
    else if (outcome === "returned") {
      const known = subscriptions?.knows(group, message.event);
      const again =
        known && code === "NO_ROUTE"
          ? displaced(message, group, 1, now)
          : unroutableYet(message, group, 1, { now, known, reason });
      await (again
        ? this.#displaced.add(again)
        : this.#failed.add(judgeFailure(message, group, 1, "unroutable", noRoute(reason), { now })));
    }
  }
}
