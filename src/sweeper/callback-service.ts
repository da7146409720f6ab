import { randomUUID } from "node:crypto";
import type { Deadline } from "../async/deadline";
import type { Delivery } from "../couriers/courier";
import { BatchConsumer } from "../inbound/batch-consumer";
import type { Fault } from "../inbound/parking";
import { isOpen, STATUS } from "../message/lifecycle";
import { ANY_GROUP, type Message } from "../message/message";
import { type Check, parseCheck } from "../wire/check";
import { sameJson, Unreadable } from "../wire/json";
import type { Queues } from "../wire/names";
import { delayOf } from "../wire/plan";
import { newCounts } from "./counts";
import { claimPage, sweepPage } from "./sweep";
import type { SweepParts } from "./sweep-parts";

/**
 * The callback service handles delayed checks. Any number of instances compete on one queue. It stores a row for the
 * check's message (most have one already, from receipts) and treats it like a due message of the sweep, under a claim
 * of its own, so that two callback services, or one and a sweeper, never do a round twice. The check is acked once the
 * row says what must be done next. After that the row, not the check, keeps the message from being forgotten:
 *
 *   process dies before the row is stored   the check is delivered again
 *   … between the row and the RPC           the check is delivered again, and the row is due for the sweeper
 *   … after the RPC                         the new round's check is under way; the old one changes nothing
 */
export class CallbackService {
  readonly #consumer: BatchConsumer;

  constructor(
    readonly parts: SweepParts,
    readonly options: { queues: Queues; retainMs: number }
  ) {
    this.#consumer = new BatchConsumer(options.queues.checks, {
      ...parts,
      queues: options.queues,
      handle: deliveries => this.take(deliveries)
    });
  }

  start(): Promise<void> {
    return this.#consumer.start();
  }

  stop(deadline: Deadline): Promise<void> {
    return this.#consumer.stop(deadline);
  }

  /**
   * Handles a batch of checks. Returns what is to be parked. Rejects when the store cannot be reached; repeating it is
   * harmless.
   */
  async take(deliveries: Delivery[]): Promise<Fault[]> {
    const read: { check: Check; delivery: Delivery }[] = [];
    const faults: Fault[] = [];
    for (const delivery of deliveries) {
      try {
        this.parts.signatures?.check(delivery, "check");
        const check = parseCheck(
          delivery,
          (event, only) => this.parts.subscriptions.waitingFor(event, only),
          this.parts.store.now()
        );
        const { _id, createdAt } = check.row;
        // Its row may have been pruned long ago: a new row would send a message again that was handled.
        if (createdAt.getTime() < this.parts.clock.now() - this.options.retainMs)
          throw new Unreadable(`check of message ${_id}, older than retainMs (emitted ${createdAt.toISOString()})`);
        read.push({ check, delivery });
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        faults.push([delivery, error.message]);
      }
    }
    // One row per id, that of its latest round. A batch may hold several checks of one id, and one of another message
    // under the same id.
    const latest = new Map(
      read.toSorted((a, b) => a.check.round - b.check.round).map(({ check }) => [check.row._id, check.row])
    );
    const rows = await this.#released(await this.parts.store.messages.upsertFromChecks([...latest.values()]));
    const stored = new Map(rows.map(row => [row._id, row]));
    const checks = new Map<string, Check>();
    for (const { check, delivery } of read) {
      const { _id } = check.row;
      const row = stored.get(_id);
      if (row && isOther(row, check.row))
        faults.push([delivery, `id '${_id}' was emitted before with another event or payload`]);
      // A policy took it out of its delay queue: its row is due when it should have come.
      else if (isEarly(delivery, delayOf(check.row, check.round), this.parts.clock.now())) continue;
      else if ((checks.get(_id)?.round ?? 0) < check.round) checks.set(_id, check);
    }
    await this.#work(
      rows.filter(row => isOpen(row) && checks.has(row._id) && (row.round ?? 1) <= (checks.get(row._id) as Check).round)
    );
    return faults;
  }

  /**
   * Frees what was emitted to groups by name that a human has forgotten since: there was no row yet that he could have
   * freed. Such a group is known to nobody.
   */
  async #released(rows: Message[]): Promise<Message[]> {
    const { store, subscriptions, progress } = this.parts;
    const unknown = new Set(
      rows.flatMap(({ event, groups, waiting }) =>
        groups ? waiting.filter(group => group !== ANY_GROUP && !subscriptions.queueOf(group, event)) : []
      )
    );
    if (!unknown.size) return rows;
    const forgotten = await store.audits.forgotten([...unknown]);
    for (const [group, note] of forgotten)
      await progress.groupForgotten({ group, exactly: true, emittedBy: note.at }, note);
    return forgotten.size ? store.messages.find(rows.map(({ _id }) => _id)) : rows;
  }

  async #work(rows: Message[]): Promise<void> {
    const { store, courier, nodeID } = this.parts;
    // Without the broker nothing can be sent again. The rows become due for the sweeper.
    if (!rows.length || !courier.ready) return;
    const claim = `${nodeID}#check#${randomUUID()}`;
    const page = await claimPage(this.parts, { claim, checked: true, ids: rows.map(row => row._id) });
    if (page.length) await sweepPage(this.parts, page, claim, newCounts(), { checked: true });
    // An intent that turned out to have happened is sent now.
    const intended = page.filter(row => row.status === STATUS.intended).map(row => row._id);
    const happened = (await store.messages.heads(intended))
      .filter(row => row.status === STATUS.pending)
      .map(row => row._id);
    if (!happened.length) return;
    const again = `${claim}#sent`;
    const pending = await claimPage(this.parts, { claim: again, checked: true, ids: happened });
    if (pending.length) await sweepPage(this.parts, pending, again, newCounts());
  }
}

/** The producer's clock, or the second that AMQP rounds to, may make a check look this much too young. */
const EARLY_MARGIN_MS = 10_000;

/** It came before its delay was over, by more than half of it or than what clocks may differ. */
function isEarly({ headers, timestamp }: Delivery, delayMs: number, now: number): boolean {
  const deaths = headers["x-death"];
  const [last] = Array.isArray(deaths) ? (deaths as ({ reason?: unknown } | null)[]) : [];
  // Without one it did not wait in a delay queue.
  if (!last) return false;
  if (last.reason === "maxlen") return true;
  return timestamp !== undefined && now - timestamp * 1000 < delayMs - Math.min(delayMs / 2, EARLY_MARGIN_MS);
}

/**
 * The same id was used for another message. If the payload is the source's, or encoded (twice the same is not the same
 * bytes then), only the event can tell.
 */
function isOther(stored: Message, given: Message): boolean {
  if (stored.event !== given.event) return true;
  return (
    !stored.source &&
    !given.source &&
    !stored.encoded &&
    !given.encoded &&
    stored.body.length > 0 &&
    given.body.length > 0 &&
    !sameJson(stored.body, given.body)
  );
}
