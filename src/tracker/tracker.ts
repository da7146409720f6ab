import type { Deadline } from "../async/deadline";
import type { Courier, Delivery } from "../couriers/courier";
import type { StatusWaiter } from "../emit/status-waiter";
import { reasonOf } from "../errors";
import { BatchConsumer } from "../inbound/batch-consumer";
import { isParkedMessage, toParked } from "../inbound/parked-messages";
import { highestAttempt, judgeFailure } from "../message/attempts";
import { describeError } from "../message/failure-text";
import { STATUS } from "../message/lifecycle";
import { ANY_GROUP, type FailureError, type Message, type Receipt } from "../message/message";
import type { Parked, Subscription } from "../message/records";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Logger } from "../platform/logger";
import type { DeadMessage, FailedRecord, HandledRecord, Store } from "../stores/store";
import type { Metrics } from "../telemetry/metrics";
import { parseAnnouncement } from "../wire/announcement";
import { answeredRow, rowOfEcho } from "../wire/check";
import { parseEnvelope } from "../wire/envelope";
import { Unreadable } from "../wire/json";
import type { Queues } from "../wire/names";
import { type Echo, parseReceipts, parseWithdrawal, type ReceiptItem, WITHDRAWAL_TYPE } from "../wire/receipt";

export interface TrackerParts {
  store: Store;
  courier: Courier;
  subscriptions: Subscriptions;
  statusWaiter: StatusWaiter;
  queues: Queues;
  metrics: Metrics;
  logger: Logger;
  nodeID: string;
  /** Of the namespace's names. */
  prefix: string;
  /** Tells the world of messages that became consumed or dead here. */
  onConsumed(ids: string[]): void;
  onDead(messages: DeadMessage[]): void;
  onError(error: unknown, module: string): void;
  /** Checks of strategy `callback`, in batches. */
  onChecks(deliveries: Delivery[]): Promise<void>;
  /** Older messages may have been pruned: what still comes of them must not bring them back. */
  retainMs: number;
}

/** Faults of one receipt message that are named; the rest can be seen in its bytes. */
const MAX_REASONS = 3;

function summaryOf(reasons: string[]): string {
  const more = reasons.length - MAX_REASONS;
  return [...reasons.slice(0, MAX_REASONS), ...(more > 0 ? [`and ${more} more`] : [])].join("; ");
}

type Answer = { nodeID: string; group: string; item: ReceiptItem; delivery: Delivery };

/**
 * Receipts → store. Any number of trackers compete on the same queues. A message from a queue is acked after the store
 * has what it says; every store verb may be repeated, so a crash in between only does it again. Receipts may come
 * early, late, twice or out of order: the conditions are in the store's filters, not in the order of arrival.
 */
export class Tracker {
  readonly #intakes: BatchConsumer[] = [];
  #stopped = false;

  constructor(readonly parts: TrackerParts) {}

  async start(): Promise<void> {
    const { courier, queues, logger, store, statusWaiter } = this.parts;
    const intakes: [string, (deliveries: Delivery[]) => Promise<void>][] = [
      [queues.parked, deliveries => this.#parked(deliveries)],
      [queues.receipts, deliveries => this.#receipts(deliveries)],
      [queues.callbackReceipts, deliveries => this.#receipts(deliveries)],
      [queues.checks, deliveries => this.parts.onChecks(deliveries)],
      [queues.announcements, deliveries => this.#announcements(deliveries)]
    ];
    for (const [queue, handle] of intakes) {
      if (this.#stopped) return;
      this.parts.metrics.begin(["parked"], { queue });
      const park = (delivery: Delivery, reason: string) => store.park([toParked(delivery, reason, this.parts)]);
      const intake = new BatchConsumer(queue, {
        handle,
        park,
        store,
        logger,
        awaited: () => statusWaiter.waiting,
        onError: error => this.parts.onError(error, "tracker")
      });
      this.#intakes.push(intake);
      await intake.start(courier);
    }
  }

  async stop(deadline: Deadline): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#intakes.map(intake => intake.stop(deadline)));
  }

  async #receipts(deliveries: Delivery[]): Promise<void> {
    const answers: Answer[] = [];
    // Each is parked once, however many of its items are bad or find no message: it is kept whole.
    const faults = new Map<Delivery, string[]>();
    const fault = (delivery: Delivery, reason: string) => {
      const known = faults.get(delivery);
      if (known) known.push(reason);
      else faults.set(delivery, [reason]);
    };
    const rows = new Map<string, Message>();
    const withdrawn: Message[] = [];
    for (const delivery of deliveries) {
      try {
        if (delivery.type === WITHDRAWAL_TYPE) {
          const { id, echo } = parseWithdrawal(delivery.body);
          withdrawn.push(...this.#learn({ id, echo }));
          continue;
        }
        const { group, nodeID, items, bad } = parseReceipts(delivery.body);
        for (const item of items) {
          try {
            for (const row of this.#learn(item)) if (!rows.has(row._id) || !row.partial) rows.set(row._id, row);
            answers.push({ group, nodeID, item, delivery });
          } catch (error) {
            if (!(error instanceof Unreadable)) throw error;
            bad.push(`receipt for ${item.id}: ${error.message}`);
          }
        }
        for (const reason of bad) fault(delivery, reason);
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        fault(delivery, error.message);
      }
    }
    await this.#withdraw(withdrawn);
    const known = await this.#learned(rows, answers);
    const left = answers.filter(({ item }) => !known.has(item.id));
    await this.parts.store.upsertFromChecks([...rows.values()].filter(row => !known.has(row._id)));
    const homeless = new Map([
      ...(await this.#handled(left.filter(({ item }) => item.outcome === "handled"))),
      ...(await this.#failed(left.filter(({ item }) => item.outcome === "failed")))
    ]);
    for (const [{ delivery }, reason] of homeless) fault(delivery, reason);
    if (faults.size)
      await this.parts.store.park(
        [...faults].map(([delivery, reasons]) => toParked(delivery, summaryOf(reasons), this.parts))
      );
  }

  /**
   * Most messages of strategy `callback` are seen here for the first time, and were handled: their rows are written as
   * what they have come to. Returns the ids.
   */
  async #learned(rows: Map<string, Message>, answers: Answer[]): Promise<Set<string>> {
    if (!rows.size) return new Set();
    const { store, metrics } = this.parts;
    const at = store.now();
    const plain = new Map(
      [...rows]
        .filter(([, { waiting }]) => !waiting.includes(ANY_GROUP))
        .map(([id]) => [id, new Map<string, Receipt>()])
    );
    for (const { group, nodeID, item } of answers) {
      const { id, outcome, durationMs, attempt } = item;
      const receipts = plain.get(id);
      // What failed, or came twice, is judged beside its row.
      if (outcome === "failed" || receipts?.has(group)) plain.delete(id);
      else receipts?.set(group, { at, nodeID, durationMs, attempt });
    }
    const firsts = new Map(
      [...plain].map(([id, receipts]) => [id, answeredRow(rows.get(id) as Message, receipts, at)])
    );
    const learned = await store.insertFromReceipts([...firsts.values()]);
    const stored = [...learned].map(id => firsts.get(id) as Message);
    metrics.count(
      "receipts",
      stored.reduce((sum, { receipts }) => sum + Object.keys(receipts).length, 0)
    );
    this.#tellConsumed(
      stored.filter(({ status }) => status === STATUS.consumed).map(({ _id }) => _id),
      at
    );
    return learned;
  }

  /** The row of a message that no emit has stored, from what its receipt brings back. Throws Unreadable. */
  #learn({ id, echo }: { id: string; echo?: Echo }): Message[] {
    if (!echo) return [];
    const row = rowOfEcho(
      id,
      echo,
      (event, only) => this.parts.subscriptions.waitingFor(event, only),
      this.parts.store.now()
    );
    return row.createdAt.getTime() < Date.now() - this.parts.retainMs ? [] : [row];
  }

  /** The business write of these intents failed. */
  async #withdraw(rows: Message[]): Promise<void> {
    if (!rows.length) return;
    await this.parts.store.upsertFromChecks(rows.map(row => ({ ...row, status: STATUS.intended })));
    for (const { _id, producer, createdAt } of rows)
      await this.parts.store.withdraw(
        _id,
        { at: new Date(), by: producer, act: "withdraw", note: "commit failed" },
        createdAt
      );
  }

  /** Returns what found no message. */
  async #handled(answers: Answer[]): Promise<[Answer, string][]> {
    if (!answers.length) return [];
    const at = this.parts.store.now();
    const records: HandledRecord[] = answers.map(({ group, nodeID, item }) => ({
      id: item.id,
      group,
      receipt: { at, nodeID, durationMs: item.durationMs, attempt: item.attempt }
    }));
    const { unknown, duplicates, consumed, dead, unresolved: anyone } = await this.parts.store.handled(records);
    this.parts.metrics.count("receipts", records.length);
    this.parts.metrics.count("receipts.duplicate", duplicates);
    this.#tellConsumed(consumed, at);
    this.announceDead(dead);
    if (anyone.length) await this.resolveRecipients(await this.parts.store.find(anyone));
    const missing = new Set(unknown);
    return answers
      .filter(({ item }) => missing.has(item.id))
      .map(answer => [answer, `receipt for an id that is not in the store: ${answer.item.id}`]);
  }

  /**
   * Returns what found no message, or a closed one that did not expect this group, or names an attempt that was never
   * made: nothing will be done about such a failure but by a human.
   */
  async #failed(answers: Answer[]): Promise<[Answer, string][]> {
    if (!answers.length) return [];
    const { store, metrics } = this.parts;
    const messages = new Map(
      (await store.find([...new Set(answers.map(answer => answer.item.id))])).map(message => [message._id, message])
    );
    const now = store.now();
    await this.resolveRecipients([...messages.values()], answers);
    const records: FailedRecord[] = [];
    const homeless: [Answer, string][] = [];
    for (const answer of answers) {
      const { group, nodeID, item } = answer;
      const message = messages.get(item.id);
      if (!message) {
        homeless.push([answer, `receipt for an id that is not in the store: ${item.id}`]);
        continue;
      }
      const highest = highestAttempt(message, group);
      // Taken at its word it would use up the attempts that nobody has made. What it is about stays without an answer,
      // and is sent again.
      if (item.attempt > highest) {
        homeless.push([
          answer,
          `failed receipt of group ${group} for attempt ${item.attempt} of message ${item.id}, of which at most ${highest} can have been sent`
        ]);
        continue;
      }
      if (!message.open && !message.receipts[group] && !message.failed.includes(group))
        homeless.push([
          answer,
          `failed receipt of group ${group}, which message ${item.id} (${message.status}) did not expect`
        ]);
      const cause = item.rejected ? "rejected" : "handler";
      const error = item.error ?? { name: "Error", message: "the handler failed" };
      // A receipt may come from another language: what has the right shape is kept, bounded here too.
      records.push(
        judgeFailure(message, group, item.attempt, cause, describeError(error), {
          now,
          retryable: item.retryable !== false,
          nodeID
        })
      );
    }
    metrics.count("receipts.failed", answers.length);
    await this.record(records);
    return homeless;
  }

  /** Writes failures, and tells of messages they made `dead`. The sweeper's failures go this way too. */
  async record(records: FailedRecord[]): Promise<void> {
    if (!records.length) return;
    this.announceDead((await this.parts.store.failed(records)).dead);
  }

  /** The emit knew no group; now that one has answered, those that are known by now take the place of ANY_GROUP. */
  async resolveRecipients(messages: Message[], answered: Answer[] = []): Promise<void> {
    const open = messages.filter(({ open, waiting }) => open && (!waiting.length || waiting.includes(ANY_GROUP)));
    if (!open.length) return;
    const { store, subscriptions } = this.parts;
    await subscriptions.refresh();
    const now = store.now();
    const groupsOf = ({ _id, event, groups, failed }: Message) =>
      [
        ...subscriptions.waitingFor(event, groups),
        ...answered.filter(({ item }) => item.id === _id).map(({ group }) => group)
      ].filter(group => group !== ANY_GROUP && !failed.includes(group));
    const { consumed, dead } = await store.resolveRecipients(
      open.map(message => ({ id: message._id, groups: [...new Set(groupsOf(message))] }))
    );
    this.#tellConsumed(consumed, now);
    this.announceDead(dead);
  }

  #tellConsumed(ids: string[], since: Date): void {
    if (!ids.length) return;
    this.parts.metrics.count("consumed", ids.length);
    if (this.parts.metrics.sink) void this.#time(ids, since);
    for (const id of ids) this.parts.statusWaiter.saw(id, STATUS.consumed);
    this.parts.onConsumed(ids);
  }

  /** Only where metrics are enabled: one projected read per batch. */
  async #time(ids: string[], since: Date): Promise<void> {
    const { store, metrics, logger } = this.parts;
    try {
      for (const { event, createdAt, consumedAt } of await store.timings(ids))
        if (consumedAt >= since) metrics.time("end.to.end.time", consumedAt.getTime() - createdAt.getTime(), event);
    } catch (error) {
      logger.debug(`Reliable: the time of ${ids.length} consumed message(s) could not be read: ${reasonOf(error)}`);
    }
  }

  announceDead(dead: DeadMessage[]): void {
    if (!dead.length) return;
    this.parts.metrics.dead(dead.length);
    for (const { id, reason } of dead) this.parts.statusWaiter.saw(id, STATUS.dead, reason);
    this.parts.onDead(dead);
  }

  async #announcements(deliveries: Delivery[]): Promise<void> {
    const known = new Map<string, Subscription>();
    const parked: Parked[] = [];
    const now = new Date();
    for (const delivery of deliveries) {
      try {
        const { pattern, group, queue, nodeID, service } = parseAnnouncement(delivery.body, this.parts.prefix);
        // As the store knows them apart: one queue may serve two patterns. The last one wins there, so here too.
        const key = JSON.stringify([group, pattern]);
        known.delete(key);
        known.set(key, { pattern, group, queue, nodeID, service, firstSeenAt: now, seenAt: now });
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        parked.push(toParked(delivery, error.message, this.parts));
      }
    }
    if (parked.length) await this.parts.store.park(parked);
    if (!known.size) return;
    await this.parts.store.announce([...known.values()]);
    await this.parts.subscriptions.refresh();
  }

  /** What consumers could not read, and what RabbitMQ gave up delivering (`x-death`). */
  async #parked(deliveries: Delivery[]): Promise<void> {
    const parked: Parked[] = [];
    const failures: FailedRecord[] = [];
    for (const delivery of deliveries) {
      if (isParkedMessage(delivery)) {
        parked.push(toParked(delivery, String(delivery.headers["x-reliable-reason"]), this.parts));
        continue;
      }
      const failure = await this.#crashLoop(delivery);
      if (failure) failures.push(failure);
      else
        parked.push(
          toParked(
            delivery,
            deathOf(delivery)?.why ?? "neither a parked message nor one that RabbitMQ has dead-lettered",
            this.parts
          )
        );
    }
    if (failures.length) await this.record(failures);
    if (parked.length) {
      await this.parts.store.park(parked);
      this.parts.metrics.count("parked.stored", parked.length);
    }
  }

  /** A message of ours whose consumers died on it until the broker's fuse blew: one failed attempt of that group. */
  async #crashLoop(delivery: Delivery): Promise<FailedRecord | undefined> {
    const death = deathOf(delivery);
    const group = death && this.parts.subscriptions.groupOfQueue(death.queue);
    if (!group) return undefined;
    try {
      const { id, attempt } = parseEnvelope(delivery);
      const [message] = await this.parts.store.find([id]);
      if (!message?.open || attempt > highestAttempt(message, group)) return undefined;
      return judgeFailure(message, group, attempt, "crash-loop", death.error, { now: this.parts.store.now() });
    } catch (error) {
      if (error instanceof Unreadable) return undefined;
      throw error;
    }
  }
}

/**
 * Why RabbitMQ has dead-lettered it, by its `x-death`. Consumers in other languages may reject what they cannot read.
 */
function deathOf({ headers }: Delivery): { queue: string; why: string; error: FailureError } | undefined {
  const [death] = Array.isArray(headers["x-death"])
    ? (headers["x-death"] as { queue?: unknown; reason?: unknown }[])
    : [];
  if (typeof death?.queue !== "string") return undefined;
  if (death.reason === "rejected")
    return {
      queue: death.queue,
      why: `its consumer rejected it in ${death.queue}`,
      error: {
        name: "Rejected",
        message: "its consumer rejected it (basic.reject without requeue) instead of answering with a receipt",
        code: "REJECTED"
      }
    };
  const message = "its consumers went away before they answered, until the broker gave up (x-delivery-limit)";
  return {
    queue: death.queue,
    why: "RabbitMQ gave up delivering it (x-delivery-limit)",
    error: { name: "CrashLoop", message, code: "DELIVERY_LIMIT" }
  };
}
