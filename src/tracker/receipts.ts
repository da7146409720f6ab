import type { Delivery } from "../couriers/courier";
import { type Fault, mayPass } from "../inbound/parking";
import { excuse, highestAttempt, judgeFailure } from "../message/attempts";
import { describeError } from "../message/failure-text";
import { isOpen, STATUS } from "../message/lifecycle";
import { ANY_GROUP, type Message, type MessageHead, type Receipt } from "../message/message";
import type { ExcusedRecord, FailedRecord } from "../stores/store-records";
import { messageOfEcho, withReceipts } from "../wire/check";
import { Unreadable } from "../wire/json";
import { type Echo, parseReceipts, parseWithdrawal, type ReceiptItem, WITHDRAWAL_TYPE } from "../wire/receipt";
import type { TrackerParts } from "./tracker-parts";

/** So many faults of one receipt message are named. Its bytes show the rest. */
const MAX_REASONS = 3;

function summaryOf(reasons: string[]): string {
  const more = reasons.length - MAX_REASONS;
  return [...reasons.slice(0, MAX_REASONS), ...(more > 0 ? [`and ${more} more`] : [])].join("; ");
}

type Receipted = { nodeID: string; group: string; item: ReceiptItem };
type Answer = Receipted & { delivery: Delivery };

/** The content of a batch of receipt messages. */
interface Batch {
  answers: Answer[];
  /** Messages of strategy `callback` that are rebuilt from their receipts, by id. */
  rows: Map<string, Message>;
  /** Intents whose business write failed. */
  withdrawn: Message[];
  faults: Faults;
}

/** Each receipt message is parked once and whole, however many of its items have a fault. */
class Faults {
  readonly #reasons = new Map<Delivery, string[]>();

  add(delivery: Delivery, reason: string): void {
    const known = this.#reasons.get(delivery);
    if (known) known.push(reason);
    else this.#reasons.set(delivery, [reason]);
  }

  *[Symbol.iterator](): Iterator<Fault> {
    for (const [delivery, reasons] of this.#reasons) yield [delivery, summaryOf(reasons)];
  }
}

/** An answer that changes nothing, and the reason. */
type Unmatched = [Answer, string];

/**
 * Receipts and withdrawals → outcomes. Receipts may come early, late, twice or out of order: the conditions are in the
 * store's filters, not in the order of arrival.
 */
export class Receipts {
  constructor(readonly parts: TrackerParts) {}

  /** Returns what is to be parked. */
  async take(deliveries: Delivery[]): Promise<Fault[]> {
    const { answers, rows, withdrawn, faults } = this.#read(deliveries);
    await this.#withdraw(withdrawn);
    const inserted = await this.#insertFirst(rows, answers);
    const left = answers.filter(({ item }) => !inserted.has(item.id));
    await this.#complete([...rows.values()].filter(row => !inserted.has(row._id)));
    const unmatched = [
      ...(await this.#handled(left.filter(({ item }) => item.outcome === "handled"))),
      ...(await this.#failed(left.filter(({ item }) => item.outcome === "failed")))
    ];
    for (const [{ delivery }, reason] of unmatched) faults.add(delivery, reason);
    return [...faults];
  }

  /**
   * Receipts `handled` of a consumer of this node, whose messages lie here. Returns the ids that have no row: their
   * receipts have to come as messages, like all others.
   */
  async handled(group: string, items: ReceiptItem[]): Promise<Set<string>> {
    const { nodeID } = this.parts;
    const rows = new Map(items.flatMap(item => this.#rowOf(item) ?? []).map(row => [row._id, row]));
    const answers = items.map(item => ({ group, nodeID, item }));
    const inserted = await this.#insertFirst(rows, answers);
    await this.#complete([...rows.values()].filter(row => !inserted.has(row._id)));
    return this.#record(answers.filter(({ item }) => !inserted.has(item.id)));
  }

  #read(deliveries: Delivery[]): Batch {
    const batch: Batch = { answers: [], rows: new Map(), withdrawn: [], faults: new Faults() };
    for (const delivery of deliveries) {
      try {
        this.parts.signatures?.check(delivery, delivery.type === WITHDRAWAL_TYPE ? "withdrawal" : "receipt");
        if (delivery.type === WITHDRAWAL_TYPE) {
          const row = this.#rowOf(parseWithdrawal(delivery.body));
          if (row) batch.withdrawn.push(row);
        } else this.#readReceipts(delivery, batch);
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        batch.faults.add(delivery, error.message);
      }
    }
    return batch;
  }

  #readReceipts(delivery: Delivery, { answers, rows, faults }: Batch): void {
    const { group, nodeID, items, bad } = parseReceipts(delivery.body);
    for (const item of items) {
      try {
        const row = this.#rowOf(item);
        if (row && (!rows.has(row._id) || !row.partial)) rows.set(row._id, row);
        answers.push({ group, nodeID, item, delivery });
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        bad.push(`receipt for ${item.id}: ${error.message}`);
      }
    }
    for (const reason of bad) faults.add(delivery, reason);
  }

  /**
   * The row of a message that no emit has stored, from what its receipt brings back; undefined if it brings nothing
   * back, or if the row may have been pruned. Throws Unreadable.
   */
  #rowOf({ id, echo }: { id: string; echo?: Echo }): Message | undefined {
    if (!echo) return undefined;
    const { subscriptions, store, clock, retainMs } = this.parts;
    const row = messageOfEcho(id, echo, (event, only) => subscriptions.waitingFor(event, only), store.now());
    return row.createdAt.getTime() < clock.now() - retainMs ? undefined : row;
  }

  /** One that the store refuses has no row then, and its receipts are parked. */
  async #complete(rows: Message[]): Promise<void> {
    const { store } = this.parts;
    await store.messages.upsertFromChecks(rows).catch(error => {
      if (mayPass(error, store)) throw error;
    });
  }

  async #withdraw(rows: Message[]): Promise<void> {
    if (!rows.length) return;
    const { store, clock } = this.parts;
    await this.#complete(rows.map(row => ({ ...row, status: STATUS.intended })));
    for (const { _id, producer, createdAt } of rows) {
      const at = new Date(clock.now());
      await store.intents.withdraw(_id, { at, by: producer, act: "withdraw", note: "commit failed" }, createdAt);
    }
  }

  /**
   * Most messages of strategy `callback` are first seen here, and were handled: their rows are inserted with these
   * receipts. Returns the ids.
   */
  async #insertFirst(rows: Map<string, Message>, answers: Receipted[]): Promise<Set<string>> {
    if (!rows.size) return new Set();
    const at = this.parts.store.now();
    const handled = new Map(
      [...rows]
        .filter(([, { waiting }]) => !waiting.includes(ANY_GROUP))
        .map(([id]) => [id, new Map<string, Receipt>()])
    );
    for (const { group, nodeID, item } of answers) {
      const { id, outcome } = item;
      const receipts = handled.get(id);
      // A failure, or a second receipt of one group, is judged against its row.
      if (outcome === "failed" || receipts?.has(group)) handled.delete(id);
      else receipts?.set(group, receiptOf(item, nodeID, at));
    }
    const first = [...handled].map(([id, receipts]) => withReceipts(rows.get(id) as Message, receipts, at));
    return this.parts.progress.insertFromReceipts(first, at);
  }

  /** Returns the ids that are not in the store. */
  async #record(answers: Receipted[]): Promise<Set<string>> {
    const at = this.parts.store.now();
    return this.parts.progress.handled(
      answers.map(({ group, nodeID, item }) => {
        const { id, orderKey } = item;
        return { id, group, receipt: receiptOf(item, nodeID, at), ...(orderKey !== undefined && { orderKey }) };
      }),
      at
    );
  }

  async #handled(answers: Answer[]): Promise<Unmatched[]> {
    const unknown = await this.#record(answers);
    return this.#notStored(answers.filter(({ item }) => unknown.has(item.id)));
  }

  async #failed(answers: Answer[]): Promise<Unmatched[]> {
    if (!answers.length) return [];
    const { store, progress } = this.parts;
    const ids = [...new Set(answers.map(({ item }) => item.id))];
    const messages = new Map((await store.messages.heads(ids)).map(message => [message._id, message]));
    const now = store.now();
    await progress.resolveRecipients(
      [...messages.values()],
      answers.map(({ group, item }) => ({ id: item.id, group }))
    );
    const records: FailedRecord[] = [];
    const excused: ExcusedRecord[] = [];
    const givenBack = new Set(answers.flatMap(answer => (answer.item.excused === "all" ? keyOf(answer) : [])));
    const unmatched: Unmatched[] = [];
    for (const answer of answers) {
      const message = messages.get(answer.item.id);
      const why = message && objection(message, answer);
      if (why) unmatched.push([answer, why.text]);
      if (!message || why?.counts === false) continue;
      if (isExcused(answer)) excused.push(excuseOf(message, answer, now));
      // It is taken back at once; the message must not die of it.
      else if (!givenBack.has(keyOf(answer))) records.push(failureOf(message, answer, now));
    }
    await progress.failed(records);
    await progress.excused(excused);
    return [...unmatched, ...(await this.#notStored(answers.filter(({ item }) => !messages.has(item.id))))];
  }

  /**
   * Who looks at one that came after a human's discard is told so. What gives attempts back to a message that is gone has
   * nothing to say: a breaker opens when it opens, whatever humans have done with its run meanwhile.
   */
  async #notStored(told: Answer[]): Promise<Unmatched[]> {
    const answers = told.filter(answer => !isGivenBack(answer));
    for (const { group, item } of told.filter(isGivenBack))
      this.parts.logger.debug(`Reliable: group ${group} gives attempts back to message ${item.id}, which is gone.`);
    if (!answers.length) return [];
    const ids = [...new Set(answers.map(({ item }) => item.id))];
    const gone = new Set((await this.parts.store.audits.discarded(ids)).map(({ id }) => id));
    return answers.map(answer => {
      const { id } = answer.item;
      const what = gone.has(id) ? "a message that was discarded" : "an id that is not in the store";
      return [answer, `receipt for ${what}: ${id}`];
    });
  }
}

function receiptOf({ durationMs, attempt, runs }: ReceiptItem, nodeID: string, at: Date): Receipt {
  return { at, nodeID, durationMs, attempt, ...repeats(runs) };
}

const UNSAID = { name: "Error", message: "the handler failed" };

/** One run is what is expected, and not kept. A consumer in another language may tell it. */
const repeats = (runs = 1) => (runs > 1 ? { runs } : {});

/** Why an operator has to look at this failure. `counts`: the store records it all the same. */
function objection(message: MessageHead, { group, item }: Answer): { text: string; counts: boolean } | undefined {
  const highest = highestAttempt(message, group);
  // If it counted, it would use up attempts that were never made. The attempt it is about stays without an answer and
  // is made again.
  if (item.attempt > highest)
    return {
      text: `failed receipt of group ${group} for attempt ${item.attempt} of message ${item.id}, of which at most ${highest} can have been sent`,
      counts: false
    };
  const { receipts, failed, resolved } = message;
  if (!isOpen(message) && !receipts[group] && !failed.includes(group) && !resolved.includes(group))
    return {
      text: `failed receipt of group ${group}, which message ${item.id} (${message.status}) did not expect`,
      counts: true
    };
  return undefined;
}

/** One attempt. */
function keyOf({ group, item: { id, attempt } }: Answer): string {
  return JSON.stringify([id, group, attempt]);
}

/** What no further attempt can help cannot be excused, whatever its receipt says. */
function isExcused({ item: { excused, rejected, retryable } }: Answer): boolean {
  return excused !== undefined && !rejected && retryable !== false;
}

/** An older failure of it was told as counting, and its breaker has opened since. */
function isGivenBack(answer: Answer): boolean {
  return answer.item.excused === "all" && isExcused(answer);
}

function excuseOf(message: MessageHead, { group, nodeID, item }: Answer, now: Date): ExcusedRecord {
  const { attempt, runs, excused, error = UNSAID } = item;
  const all = excused === "all";
  return excuse(message, group, attempt, describeError(error), { now, all, ...repeats(runs), nodeID });
}

function failureOf(message: MessageHead, { group, nodeID, item }: Answer, now: Date): FailedRecord {
  const { attempt, runs, rejected, retryable, error = UNSAID } = item;
  // A receipt may come from another language. What has the right shape is kept, and its size is bounded here too.
  return judgeFailure(message, group, attempt, rejected ? "rejected" : "handler", describeError(error), {
    now,
    retryable: retryable !== false,
    ...repeats(runs),
    nodeID
  });
}
