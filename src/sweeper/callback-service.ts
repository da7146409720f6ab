import { randomUUID } from "node:crypto";
import type { Deadline } from "../async/deadline";
import type { Delivery } from "../couriers/courier";
import { reasonOf } from "../errors";
import { BatchConsumer } from "../inbound/batch-consumer";
import type { Parkable } from "../inbound/parked-messages";
import { type Fault, mayPass } from "../inbound/parking";
import { isOpen, isUnsent, STATUS } from "../message/lifecycle";
import { ANY_GROUP, type Message } from "../message/message";
import { printable } from "../platform/printable";
import type { RowStatus } from "../stores/store-records";
import { type Check, parseCheck } from "../wire/check";
import { CHECKS_TYPE, type CheckItem, MAX_CHECKS_READ, parseChecks } from "../wire/checks";
import { HEADER, isCount, type Wire } from "../wire/envelope";
import { sameJson, Unreadable } from "../wire/json";
import type { Queues } from "../wire/names";
import { delayOf } from "../wire/plan";
import { kindOf } from "../wire/signature";
import { newCounts } from "./counts";
import { claimPage, sweepPage } from "./sweep";
import type { SweepParts } from "./sweep-parts";

/** Of what it takes. */
interface Taken {
  of: Delivery;
  /** Where it was not alone in its message: it is parked alone. */
  part?: Parkable;
  number?: number;
  id: string;
  event: string;
  /** Read when it is needed. Throws Unreadable. */
  check(): Check;
}

export interface CallbackOptions {
  queues: Queues;
  retainMs: number;
  /** See the option `keepCallbackBodies`. */
  keepBodies: boolean;
}

/**
 * The callback service handles delayed checks. Any number of instances compete on one queue. Most messages are consumed
 * when their checks come: one look at their statuses, and nothing more. Of the others it stores a row (many have one
 * already, from receipts) and treats it like a due message of the sweep, under a claim of its own, so that two callback
 * services, or one and a sweeper, never do a round twice. A message with checks is acked once the rows of all say what
 * must be done next. After that the rows, not the checks, keep the messages from being forgotten:
 *
 *   process dies before the row is stored   the check is delivered again
 *   … between the row and the RPC           the check is delivered again, and the row is due for the sweeper
 *   … after the RPC                         the new round's check is under way; the old one changes nothing
 *   … when some checks of a message are     all of them are delivered again: of those that were done the row is
 *     done and others are not               consumed, claimed, of a later round, or due later
 */
export class CallbackService {
  readonly #consumer: BatchConsumer;
  /** What is in a delivery is the same each time it is handled; and is told once if it is parked. */
  readonly #read = new WeakMap<Delivery, { taken: Taken[]; faults: Fault[] }>();

  constructor(
    readonly parts: SweepParts,
    readonly options: CallbackOptions
  ) {
    this.#consumer = new BatchConsumer(options.queues.checks, {
      ...parts,
      queues: options.queues,
      handle: deliveries => this.take(deliveries),
      itemsOf
    });
  }

  start(): Promise<void> {
    return this.#consumer.start();
  }

  stop(deadline: Deadline): Promise<void> {
    return this.#consumer.stop(deadline);
  }

  /**
   * Handles a batch of messages with checks. Returns what is to be parked. Rejects when the store cannot be reached;
   * repeating it is harmless.
   */
  async take(deliveries: Delivery[]): Promise<Fault[]> {
    const taken: Taken[] = [];
    const faults: Fault[] = [];
    for (const delivery of deliveries) {
      const read = this.#read.get(delivery) ?? this.#readDelivery(delivery);
      this.#read.set(delivery, read);
      taken.push(...read.taken);
      faults.push(...read.faults);
    }
    try {
      faults.push(...(await this.#handle(taken)));
    } catch (error) {
      // What is about one check must not hold up the others, nor be parked with them. Of several messages each is
      // handled by itself first.
      if (deliveries.length > 1 || taken.length < 2 || mayPass(error, this.parts.store)) throw error;
      for (const one of taken) faults.push(...(await this.#handleAlone(one)));
    }
    return faults;
  }

  #readDelivery(delivery: Delivery): { taken: Taken[]; faults: Fault[] } {
    const taken: Taken[] = [];
    const faults: Fault[] = [];
    try {
      const kind = kindOf(delivery) === "checks" ? "checks" : "check";
      this.parts.signatures?.check(delivery, kind);
      if (kind === "check") taken.push(this.#single(delivery));
      else for (const item of parseChecks(delivery)) this.#readItem(delivery, item, taken, faults);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      faults.push([delivery, error.message]);
    }
    return { taken, faults };
  }

  #readItem(of: Delivery, item: CheckItem, taken: Taken[], faults: Fault[]): void {
    const { id, event, at, fault } = item;
    const part = partOf(of, item);
    const text = fault ?? this.#tooOld(id, at);
    const one = { of, part, number: item.number, id, event, check: () => this.#parse(item.wire()) };
    if (text) faults.push(faultOf(one, text));
    else taken.push(one);
  }

  #single(of: Delivery): Taken {
    const check = this.#parse(of);
    const { _id: id, event, createdAt } = check.row;
    const text = this.#tooOld(id, createdAt.getTime());
    if (text) throw new Unreadable(text);
    return { of, id, event, check: () => check };
  }

  #parse(wire: Wire): Check {
    const { subscriptions, store } = this.parts;
    return parseCheck(wire, (event, only) => subscriptions.waitingFor(event, only), store.now());
  }

  /** Its row may have been pruned long ago: a new row would send a message again that was handled. */
  #tooOld(id: string, at: number): string | undefined {
    if (at >= this.parts.clock.now() - this.options.retainMs) return undefined;
    return `check of message ${id}, older than retainMs (emitted ${new Date(at).toISOString()})`;
  }

  async #handleAlone(one: Taken): Promise<Fault[]> {
    try {
      return await this.#handle([one]);
    } catch (error) {
      if (mayPass(error, this.parts.store)) throw error;
      return [faultOf(one, `it could not be handled: ${reasonOf(error)}`)];
    }
  }

  async #handle(taken: Taken[]): Promise<Fault[]> {
    const faults: Fault[] = [];
    const read: { check: Check; one: Taken }[] = [];
    for (const one of await this.#unfinished(taken, faults)) {
      try {
        read.push({ check: one.check(), one });
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        faults.push(faultOf(one, error.message));
      }
    }
    if (!read.length) return faults;
    // One row per id, that of its latest round. A batch may hold several checks of one id, and one of another message
    // under the same id.
    const latest = new Map(
      read.toSorted((a, b) => a.check.round - b.check.round).map(({ check }) => [check.row._id, check.row])
    );
    const rows = await this.#released(await this.parts.store.messages.upsertFromChecks([...latest.values()]));
    const stored = new Map(rows.map(row => [row._id, row]));
    const checks = new Map<string, Check>();
    for (const { check, one } of read) {
      const { _id } = check.row;
      const row = stored.get(_id);
      if (row && isOther(row, check.row)) faults.push(faultOf(one, otherMessage(_id)));
      // It would be sent again by nobody: of that row nothing was sent.
      else if (row && isUnsent(row.status)) faults.push(faultOf(one, unsent(_id, row.status)));
      // A policy took it out of its delay queue: its row is due when it should have come.
      else if (isEarly(one.of, delayOf(check.row, check.round), this.parts.clock.now())) continue;
      else if ((checks.get(_id)?.round ?? 0) < check.round) checks.set(_id, check);
    }
    await this.#work(
      rows.filter(row => isOpen(row) && checks.has(row._id) && (row.round ?? 1) <= (checks.get(row._id) as Check).round)
    );
    return faults;
  }

  /** Nothing changes what is final; and of what receipts alone tell of there is no payload to compare. */
  async #unfinished(taken: Taken[], faults: Fault[]): Promise<Taken[]> {
    const found = await this.parts.store.messages.statuses([...new Set(taken.map(({ id }) => id))]);
    const finished = new Map(
      found.flatMap(row => (isFinished(row) && row.partial && !this.options.keepBodies ? [[row.id, row] as const] : []))
    );
    return taken.filter(one => {
      const row = finished.get(one.id);
      if (row && row.event !== one.event) faults.push(faultOf(one, otherMessage(one.id)));
      return !row;
    });
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

/** A stranger may say less than there is: then the message is read as a whole, and parked for it. */
function itemsOf({ type, headers }: Delivery): number {
  const count = headers[HEADER.count];
  return type === CHECKS_TYPE && isCount(count) ? Math.min(count, MAX_CHECKS_READ) : 1;
}

function faultOf({ of, part, number }: Taken, reason: string): Fault {
  return part ? [of, `${reason} (check ${number} of its message)`, part] : [of, reason];
}

/** It keeps its bytes, and the properties of the message that it came in. */
function partOf(
  { queue, contentType, timestamp, appId, redelivered, tag, epoch, messageId }: Delivery,
  item: CheckItem
): Parkable {
  const { id, event: type, body, number } = item;
  const common = { queue, contentType, timestamp, appId, redelivered, tag, epoch, type, body };
  return {
    ...common,
    // By it and the body the record is known again; ids of strangers may be no names.
    messageId: printable(item.fault === undefined ? id : `${messageId}.${number}`),
    get headers() {
      return { ...item.headers, "x-reliable-checks": messageId, "x-reliable-item": number };
    }
  };
}

function isFinished({ status, event }: RowStatus): boolean {
  return typeof event === "string" && (status === STATUS.consumed || status === STATUS.resolved);
}

function unsent(id: string, status: string): string {
  return `the id '${id}' is that of a message that is ${status}; emitted with strategy 'callback' it is not kept`;
}

function otherMessage(id: string): string {
  return `id '${id}' was emitted before with another event or payload`;
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
