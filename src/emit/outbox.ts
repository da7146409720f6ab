import { Batcher } from "../async/batcher";
import { WaitGroup } from "../async/wait-group";
import type { PublishResult } from "../couriers/courier";
import { ReliableError, reasonOf } from "../errors";
import { judgeFailure } from "../message/attempts";
import { STATUS } from "../message/lifecycle";
import { ANY_GROUP, type FailureCause, type Message } from "../message/message";
import type { MessagePublisher } from "../outbound/message-publisher";
import type { Logger } from "../platform/logger";
import type { FailedRecord, Store } from "../stores/store";
import type { Metrics } from "../telemetry/metrics";
import { delayOf } from "../wire/check";
import { sameJson } from "../wire/json";
import { ConfirmBuffer } from "./confirm-buffer";
import type { InsertQueue } from "./insert-queue";
import type { StatusWaiter } from "./status-waiter";
import type { EmitPlan, EmitResult, Strategy } from "./strategy";

/** Status writes per store command. */
const MAX_BATCH = 500;
/** After a publish without a positive answer; the broker may be back by then, and a sweep looks whether it is. */
const POSTPONE_MS = 1000;
/** A row of a transaction is published when its session ends; should that be missed, the sweeper has it after this. */
const SESSION_GRACE_MS = 3000;
/** Above the longest time that a confirm is kept before it is written, and what the write takes. */
const SOON_MS = 8000;
/**
 * Above the confirm timeout and SOON_MS, so that a sweep never races a publish that is still waiting for its confirm or
 * its record.
 */
const GRACE_MARGIN_MS = 10_000;

export interface OutboxParts {
  store: Store;
  insertQueue: InsertQueue;
  publisher: MessagePublisher;
  statusWaiter: StatusWaiter;
  metrics: Metrics;
  logger: Logger;
  confirmTimeoutMs: number;
  /** Writes failures and tells of messages that became dead. */
  recordFailures(records: FailedRecord[]): Promise<void>;
}

/** The message goes into the store, then to the broker. See `strategy.ts` for what that promises. */
export class Outbox implements Strategy {
  readonly #confirms: ConfirmBuffer;
  readonly #postponed: Batcher<string, void>;
  readonly #failed: Batcher<FailedRecord, void>;
  readonly #dispatching = new WaitGroup(error =>
    this.parts.logger.debug(
      `Reliable: an emit's publish was not recorded, the sweeper will see to it: ${reasonOf(error)}`
    )
  );

  constructor(readonly parts: OutboxParts) {
    const { store } = parts;
    this.#confirms = new ConfirmBuffer(store, parts.logger);
    this.#postponed = new Batcher({
      maxItems: MAX_BATCH,
      write: ids => store.postponed(ids, new Date(store.now().getTime() + POSTPONE_MS)).then(() => [])
    });
    this.#failed = new Batcher({ maxItems: MAX_BATCH, write: records => parts.recordFailures(records).then(() => []) });
  }

  async emit(message: Message, plan: EmitPlan): Promise<EmitResult> {
    const started = performance.now();
    if (plan.commit) return this.#emitIntent(message, plan, plan.commit, started);
    const { courier } = this.parts.publisher;
    const now = this.parts.store.now().getTime();
    // Not reachable or too much in line already: the row is due at once and the sweeper's, no second write is needed.
    const direct = courier.ready && courier.writable;
    message.dueAt = new Date(direct ? now + this.parts.confirmTimeoutMs + GRACE_MARGIN_MS : now);
    if (plan.session) message.dueAt = new Date(now + SESSION_GRACE_MS);

    const late = () => direct && this.#dispatch(message, plan);
    const outcome = await (plan.session
      ? this.parts.store.insertIn(plan.session, message)
      : this.parts.insertQueue.insert(message, plan.timeoutMs, late));
    const existing = outcome.stored
      ? undefined
      : plan.session
        ? outcome.existing
        : await this.#replaceWithdrawn(message, outcome.existing);
    if (existing) {
      assertSame(existing, message);
      // Nothing but an insert can join the caller's transaction.
      if (existing.status === STATUS.withdrawn)
        throw duplicate(
          existing,
          "it was withdrawn and has a row of its own; emit without 'session', or with another id"
        );
      return this.#wait(existing, plan, started);
    }
    this.parts.metrics.stored(message.event);
    if (plan.session) this.#afterSession(plan.session, message._id, plan);
    else if (direct) this.#dispatch(message, plan);
    return this.#wait(message, plan, started);
  }

  /** Intent first: a row that no sweep publishes, the business write, then the message. */
  async #emitIntent(
    message: Message,
    plan: EmitPlan,
    commit: () => Promise<void>,
    started: number
  ): Promise<EmitResult> {
    const { store, logger, metrics } = this.parts;
    const { _id: id } = message;
    message.status = STATUS.intended;
    message.dueAt = new Date(store.now().getTime() + delayOf(message, 1));
    // Stored too late, it is an intent whose business write was never begun: asked about, it is withdrawn.
    const outcome = await this.parts.insertQueue.insert(message, plan.timeoutMs, () => undefined);
    const existing = outcome.stored ? undefined : await this.#replaceWithdrawn(message, outcome.existing);
    if (existing) {
      assertSame(existing, message);
      throw duplicate(existing, "its business write is not done again");
    }
    metrics.stored(message.event);
    try {
      await commit();
    } catch (error) {
      const note = {
        at: new Date(),
        by: message.producer,
        act: "withdraw" as const,
        note: `commit failed: ${reasonOf(error)}`
      };
      // Should this get lost, the intent is asked about and withdrawn then.
      if ((await plan.rolledBack?.()) !== false)
        await store
          .withdraw(id, note, message.createdAt)
          .catch(failed => logger.warn(`Reliable: intent ${id} was not withdrawn yet: ${reasonOf(failed)}`));
      throw error;
    }
    const direct = this.parts.publisher.courier.ready && this.parts.publisher.courier.writable;
    const dueAt = new Date(store.now().getTime() + (direct ? this.parts.confirmTimeoutMs + GRACE_MARGIN_MS : 0));
    // The business write has happened, so this emit does not fail any more: unconfirmed, the intent is asked about when
    // it comes due.
    const confirmed = await store
      .happened(id, dueAt)
      .catch(failed => (logger.warn(`Reliable: intent ${id} was not confirmed yet: ${reasonOf(failed)}`), false));
    message.status = STATUS.pending;
    message.dueAt = dueAt;
    const row = confirmed ? undefined : await this.#overtaken(message);
    if (row) return { id, status: row.status };
    if (direct) this.#dispatch(message, plan);
    return this.#wait(message, plan, started);
  }

  /** Returns the row that stays. One that was withdrawn gives way: emitted again, the id is a new message. */
  async #replaceWithdrawn(message: Message, existing: Message): Promise<Message | undefined> {
    if (existing.status !== STATUS.withdrawn) return existing;
    assertSame(existing, message);
    // It tells the two apart, also when both were emitted within the same millisecond.
    message.createdAt = new Date(Math.max(message.createdAt.getTime(), existing.createdAt.getTime() + 1));
    return this.#replace(message);
  }

  async #replace(message: Message): Promise<Message | undefined> {
    const [row] = await this.parts.store.upsertFromChecks([message]);
    return row?.createdAt.getTime() === message.createdAt.getTime() ? undefined : row;
  }

  /**
   * The intent was asked about while its business write was under way. Where no barrier has stopped that write, it
   * counts, and what was withdrawn is announced all the same. Returns the row that is as it should be; undefined =
   * dispatch.
   */
  async #overtaken(message: Message): Promise<Message | undefined> {
    const { store, logger } = this.parts;
    try {
      const [row] = await store.find([message._id]);
      if (row?.status !== STATUS.withdrawn) return row ?? { ...message, status: STATUS.intended };
      logger.warn(
        `Reliable: message ${message._id} was withdrawn while its business write was under way, which has happened all the same; it is sent. A barrier row would have stopped it.`
      );
      message.createdAt = new Date(Math.max(Date.now(), message.createdAt.getTime() + 1));
      return await this.#replace(message);
    } catch (failed) {
      logger.warn(`Reliable: intent ${message._id} was not confirmed yet: ${reasonOf(failed)}`);
      return { ...message, status: STATUS.intended };
    }
  }

  async idle(): Promise<void> {
    await this.parts.insertQueue.idle();
    await this.#dispatching.idle();
    await Promise.all([this.#confirms.idle(), this.#postponed.idle(), this.#failed.idle()]);
  }

  /** Told of what this node sees; of the rest the store knows. */
  consumed(ids: string[]): void {
    this.#confirms.consumed(ids);
  }

  async #wait(message: Message, plan: EmitPlan, started: number): Promise<EmitResult> {
    const { _id: id, status } = message;
    if (
      plan.waitFor === "stored" ||
      status === STATUS.consumed ||
      (plan.waitFor === "confirmed" && status === STATUS.published)
    )
      return { id, status };
    const left = Math.max(0, plan.timeoutMs - (performance.now() - started));
    return { id, status: await this.parts.statusWaiter.wait(id, message.event, plan.waitFor, plan.timeoutMs, left) };
  }

  /**
   * Committed: the row is there and pending. Aborted: it is not. The driver has no hook for a commit, only for the
   * session's end.
   */
  #afterSession(session: unknown, id: string, plan: EmitPlan): void {
    this.parts.store.onSessionEnd(session, () => {
      this.#dispatching.track(
        this.parts.store.find([id]).then(([row]) => {
          if (row?.status === STATUS.pending && !row.claim && this.parts.publisher.courier.ready)
            this.#dispatch(row, plan);
        })
      );
    });
  }

  #dispatch(message: Message, plan: EmitPlan): void {
    const { publisher } = this.parts;
    const { groups, waiting } = message;
    if (groups === undefined || waiting.includes(ANY_GROUP))
      return this.#dispatching.track(
        publisher.toAll(message, 1).then(result => this.#answered(message, plan, [result]))
      );
    const steps = waiting.map(group => ({ group, attempt: 1 }));
    this.#dispatching.track(
      publisher.toGroups(message, steps).then(results => this.#answered(message, plan, results, waiting))
    );
  }

  /** `asked`: the groups that the publishes went to; without, one went to all of them. */
  #answered(message: Message, { waitFor }: EmitPlan, results: PublishResult[], asked?: string[]): void | Promise<void> {
    for (const { outcome } of results) this.parts.metrics.outcome(message.event, outcome);
    const at = this.parts.store.now();
    const confirmed = results.some(result => result.outcome === "confirmed");
    if (confirmed) {
      const dueAt = new Date(at.getTime() + message.receiptTimeoutMs);
      this.parts.statusWaiter.saw(message._id, STATUS.published);
      // A row of a transaction, or one that the store was slow to take: a sweep would come before the record.
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
    if (!confirmed && results.some(result => result.outcome !== "returned")) await this.#postponed.add(message._id);
    await Promise.all(
      results.flatMap((result, i) =>
        result.outcome === "returned"
          ? this.#unroutable(message, asked ? [asked[i] as string] : message.waiting, result, at)
          : []
      )
    );
  }

  #unroutable(message: Message, groups: string[], result: PublishResult, now: Date): Promise<void>[] {
    const cause: FailureCause = "unroutable";
    const error = { name: "Unroutable", message: result.reason ?? "no queue took it", code: "NO_ROUTE" };
    return groups.map(group => this.#failed.add(judgeFailure(message, group, 1, cause, error, { now })));
  }
}

function duplicate({ _id: id, event, status }: Message, why: string): Error {
  return new ReliableError("RELIABLE_DUPLICATE_ID", `The id '${id}' was emitted before (${status}); ${why}.`, {
    id,
    event,
    status
  });
}

/**
 * The same `id` with the same event and payload is the same message, whoever stores it first; with another payload it
 * is a mistake.
 */
export function assertSame(existing: Message, message: Message): void {
  if (existing.event === message.event && sameJson(existing.body, message.body)) return;
  const what = existing.event === message.event ? "another payload" : `the event '${existing.event}'`;
  throw new ReliableError(
    "RELIABLE_DUPLICATE_ID",
    `The id '${message._id}' was used before with ${what}; nothing was stored of '${message.event}'.`,
    { id: message._id, event: message.event }
  );
}
