import type { Delivery, QueueDepth } from "../couriers/courier";
import { ReliableError, ReliableRetryableError } from "../errors";
import { backoffMs } from "../message/backoff";
import { isOpen } from "../message/lifecycle";
import type { Message } from "../message/message";
import { offlinePauseMs } from "../message/offline";
import type { DisplacedRecord } from "../stores/store-records";
import { messageOfEnvelope } from "../wire/check";
import { type Envelope, HEADER, parseEnvelope } from "../wire/envelope";
import { Unreadable } from "../wire/json";
import type { TrackerParts } from "./tracker-parts";

/** Why and out of which queue RabbitMQ has taken a message, from `x-death`. */
export interface Death {
  queue: string;
  reason: string;
}

/** By these a policy, or its operator's limits, takes a message away. Nobody has seen it. */
const BY_POLICY: ReadonlySet<string> = new Set(["expired", "maxlen"]);

/** How often a message goes back that trackers have died on: they may have died of something else. */
const MAX_RETURNS = 3;
const RETURNED = "x-reliable-returned";

/**
 * What a policy of RabbitMQ's operator has taken out of a queue (`message-ttl`, `max-length`). Nobody has handled it, so
 * it costs no attempt and comes again: a message of ours back into its queue, at once; an event when the sweeper sends
 * it, which knows whether its group is there.
 *
 *   process dies before the record, or the confirm   the delivery comes again, and is recorded or sent again
 *   … after it, before the ack                        the same: a second record changes nothing, a second copy of a
 *                                                     receipt, check or announcement neither
 */
export class Displaced {
  readonly #records: DisplacedRecord[] = [];
  readonly #told = new Map<string, Death & { messages: number }>();
  readonly #depths = new Map<string, Promise<QueueDepth | undefined>>();

  constructor(private readonly parts: TrackerParts) {}

  /** False = it is none, and its reader has to decide. Throws Unreadable if it can only be parked. */
  async take(delivery: Delivery, death: Death): Promise<boolean> {
    const { receipts, callbackReceipts, checks, announcements } = this.parts.queues;
    const byPolicy = BY_POLICY.has(death.reason);
    if ([receipts, callbackReceipts, checks, announcements].includes(death.queue)) {
      if (!byPolicy && death.reason !== "delivery_limit") return false;
      await this.#putBack(delivery, death, byPolicy);
    } else if (byPolicy) {
      const group = this.parts.subscriptions.groupOfQueue(death.queue);
      if (group === undefined) return false;
      this.parts.signatures?.check(delivery, "event");
      await this.#wait(parseEnvelope(delivery), delivery, group, death);
    } else return false;
    this.#note(death);
    return true;
  }

  /** Writes what `take` has collected, and tells it. */
  async end(): Promise<void> {
    await this.parts.progress.displaced(this.#records);
    const { events, warnings } = this.parts;
    for (const { queue, reason, messages } of this.#told.values()) {
      const error = new ReliableError(
        "RELIABLE_DISPLACED",
        `RabbitMQ has taken ${messages} message(s) out of ${queue} (${reason}), most likely because of a policy; they come again.`,
        { queue, reason, messages }
      );
      warnings.warn("displaced", `${queue} ${reason}`, `Reliable: ${error.message}`, messages);
      events.emit("error", error, "tracker");
    }
  }

  async #putBack(delivery: Delivery, { queue, reason }: Death, byPolicy: boolean): Promise<void> {
    const { messageId, type, body, appId, contentType } = delivery;
    const headers = ownHeaders(delivery.headers);
    if (!byPolicy) {
      const returns = Number(headers[RETURNED] ?? 0) + 1;
      if (!(returns <= MAX_RETURNS))
        throw new Unreadable(`the nodes that took it from ${queue} went away before they were done (x-delivery-limit)`);
      headers[RETURNED] = returns;
    }
    if (messageId === undefined || type === undefined)
      throw new Unreadable(`RabbitMQ took it out of ${queue} (${reason}), and it has no id or no type`);
    const publication = { to: { queue }, messageId, type, body, headers, appId, contentType };
    const { outcome, reason: why } = await this.parts.courier.publish(publication);
    if (outcome === "refused")
      throw new Unreadable(`RabbitMQ took it out of ${queue} (${reason}), and refuses it: ${why}`);
    if (outcome !== "confirmed")
      throw new ReliableRetryableError(
        "RELIABLE_UNAVAILABLE",
        `A message could not be put back into ${queue}: ${outcome}, ${why}.`,
        { queue, outcome }
      );
  }

  /** The group's attempt is taken back. */
  async #wait(envelope: Envelope, delivery: Delivery, group: string, { queue, reason }: Death): Promise<void> {
    const { id, attempt } = envelope;
    const { store } = this.parts;
    const [stored] = await store.messages.find([id]);
    const message = stored ?? (await this.#fromEnvelope(envelope, delivery));
    // Handled by others, resolved, or dead by now: what is left in the broker is not needed any more.
    if (!isOpen(message)) return;
    const now = store.now();
    const online = (await this.#depthOf(queue))?.consumers;
    const pauseMs = online ? backoffMs(message.backoff, 1) : offlinePauseMs(message);
    const error = {
      name: "Displaced",
      message: `RabbitMQ took it out of ${queue} (${reason}) before a consumer did`,
      code: "DISPLACED"
    };
    this.#records.push({
      id,
      group,
      attempt,
      nextAt: new Date(now.getTime() + pauseMs),
      failure: { at: now, cause: "displaced", group, attempt, error }
    });
  }

  /** Strategy `callback`: nothing is stored of it yet, and its check need not be waited for. */
  async #fromEnvelope({ id, echo }: Envelope, delivery: Delivery): Promise<Message> {
    const { store, subscriptions, clock, retainMs } = this.parts;
    if (echo === undefined) throw new Unreadable(`message ${id} is not in the store`);
    const row = messageOfEnvelope(delivery, (event, only) => subscriptions.waitingFor(event, only), store.now());
    if (row.createdAt.getTime() < clock.now() - retainMs)
      throw new Unreadable(`message ${id} is older than retainMs, and its row may have been pruned`);
    const [stored] = await store.messages.upsertFromChecks([row]);
    if (!stored) throw new Unreadable(`message ${id} was discarded`);
    return stored;
  }

  #depthOf(queue: string): Promise<QueueDepth | undefined> {
    let depth = this.#depths.get(queue);
    if (!depth) this.#depths.set(queue, (depth = this.parts.courier.depth(queue).catch(() => undefined)));
    return depth;
  }

  #note(death: Death): void {
    const key = `${death.queue} ${death.reason}`;
    const told = this.#told.get(key);
    if (told) told.messages++;
    else this.#told.set(key, { ...death, messages: 1 });
  }
}

/** Without those that the broker has added. */
function ownHeaders(headers: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => name === RETURNED || OWN.has(name)));
}

const OWN: ReadonlySet<string> = new Set(Object.values(HEADER));
