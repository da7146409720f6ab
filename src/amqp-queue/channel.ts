import type { HandlerEnd, HandlerExtras, PlainEnd } from "../consumer/consumer-parts";
import { decodePayload } from "../consumer/decoding";
import type { Delivery } from "../couriers/courier";
import { ReliableError, ReliableRetryableError } from "../errors";
import type { Decode } from "../options/hooks";
import type { Clock } from "../platform/clock";
import type { Warnings } from "../platform/warnings";
import type { Events } from "../telemetry/events";
import { type Envelope, HEADER } from "../wire/envelope";

/** The part of a message of amqplib that a handler written for it may read. */
export interface QueueMessage {
  content: Buffer;
  fields: { deliveryTag: number; redelivered: boolean; exchange: string; routingKey: string; consumerTag?: string };
  properties: Record<string, unknown> & { headers?: Record<string, unknown> };
}

/** The channel that a handler gets. Every other method of an amqplib channel throws RELIABLE_UNSUPPORTED. */
export interface QueueChannel {
  /** The message is handled: its receipt is sent, and acked after the receipt's confirm. Throws RELIABLE_BAD_ACK. */
  ack(message: QueueMessage, allUpTo?: boolean): void;
  /** The message failed. Without `requeue` no further attempt is made. Throws RELIABLE_BAD_ACK. */
  nack(message: QueueMessage, allUpTo?: boolean, requeue?: boolean): void;
  /** Like `nack`. */
  reject(message: QueueMessage, requeue?: boolean): void;
}

/** The user's handler, bound to its service. */
export type QueueHandler = (channel: QueueChannel, message: QueueMessage) => unknown;

export interface ManualAckParts {
  queue: string;
  maxInFlight: number;
  handlerTimeoutMs: number;
  handler: QueueHandler;
  warnings: Warnings;
  events: Events;
  clock: Clock;
  /** The service's hook. */
  decode: Decode | undefined;
}

/** One delivery that a handler is working on. */
interface Open {
  delivery: Delivery;
  /** A message that wants no receipt can be answered only on the channel it came from. */
  plain: boolean;
  answered: boolean;
  answer(end: PlainEnd): void;
}

/** Property names that a runtime reads from any object. */
const ASKED_OF_ANY_OBJECT = new Set(["then", "toJSON", "constructor", "inspect", "nodeType"]);

/**
 * Turns handlers that ack by themselves, `(channel, message) => … channel.ack(message)`, into handlers whose promise
 * settles with that ack. The first answer to a delivery counts. A later answer, or one to a delivery that is not open
 * here, throws and changes nothing.
 */
export class ManualAck {
  /**
   * By `message.fields`, which copies of a message share. Weak: a delivery that the handler never answers must not be
   * kept for ever.
   */
  readonly #open = new WeakMap<object, Open>();
  readonly #channel: QueueChannel;
  readonly #end = new AbortController();

  constructor(readonly parts: ManualAckParts) {
    this.#channel = this.#newChannel();
  }

  /** Never rejects; the consumer limits how long it waits. */
  async handle(_envelope: Envelope, _extras: HandlerExtras, delivery: Delivery): Promise<HandlerEnd> {
    const end = await this.#decoded(delivery, false);
    const { queue } = this.parts;
    if ("error" in end) return { error: end.error };
    if (end.act !== "nack") return {};
    const text = `The handler of queue '${queue}' answered with a nack${end.requeue ? "" : " without requeue"}.`;
    return {
      error: end.requeue
        ? new ReliableRetryableError("RELIABLE_NACKED", text, { queue })
        : new ReliableError("RELIABLE_REJECTED", text, { queue })
    };
  }

  /**
   * For messages that want no receipt: what to do at the broker. A handler that does not answer keeps its message, as
   * with moleculer-amqp-queue.
   */
  async plain(delivery: Delivery): Promise<PlainEnd> {
    const { queue, handlerTimeoutMs, clock } = this.parts;
    const late = () =>
      this.#report(
        new ReliableRetryableError(
          "RELIABLE_HANDLER_TIMEOUT",
          `The handler of queue '${queue}' has not answered within ${handlerTimeoutMs} ms. The message came without a receipt's address, so it stays with this handler.`,
          { queue }
        )
      );
    const timer = clock.after(handlerTimeoutMs, late);
    const end = await this.#decoded(delivery, true);
    timer.stop();
    return end;
  }

  /** The consumer has stopped: later answers have no effect. */
  close(): void {
    this.#end.abort();
  }

  /** Of jobs that the broker's confirm settles, too: their worker may have the mixin. */
  async #decoded(delivery: Delivery, plain: boolean): Promise<PlainEnd> {
    const { messageId: id = "", type: event = "", body, headers } = delivery;
    if (headers[HEADER.encoded] !== true) return this.#run(delivery, plain, body);
    try {
      const payload = await decodePayload(JSON.parse(body.toString()), { id, event }, this.parts.decode);
      return this.#run(delivery, plain, Buffer.from(JSON.stringify(payload)));
    } catch (error) {
      return { error };
    }
  }

  #run(delivery: Delivery, plain: boolean, content: Buffer): Promise<PlainEnd> {
    const message = messageOf(delivery, content);
    return new Promise(resolve => {
      const open: Open = {
        delivery,
        plain,
        answered: false,
        answer(end) {
          open.answered = true;
          resolve(end);
        }
      };
      this.#open.set(message.fields, open);
      const failed = (error: unknown) => {
        if (!open.answered) open.answer({ error: error ?? new Error("the handler threw nothing") });
        else this.#report(error instanceof Error ? error : new Error(String(error)));
      };
      try {
        // A promise that resolves without an answer settles nothing: the answer may come later.
        Promise.resolve(this.parts.handler(this.#channel, message)).catch(failed);
      } catch (error) {
        failed(error);
      }
    });
  }

  #newChannel(): QueueChannel {
    const { queue } = this.parts;
    const own: QueueChannel = {
      ack: (message, allUpTo = false) => this.#answer("ack", message, allUpTo, { act: "ack" }),
      nack: (message, allUpTo = false, requeue = true) =>
        this.#answer("nack", message, allUpTo, { act: "nack", requeue: requeue !== false }),
      reject: (message, requeue = true) =>
        this.#answer("reject", message, false, { act: "nack", requeue: requeue !== false })
    };
    return new Proxy(own, {
      get(target, name) {
        if (name in target || typeof name === "symbol" || ASKED_OF_ANY_OBJECT.has(name))
          return Reflect.get(target, name);
        return () => {
          throw new ReliableError(
            "RELIABLE_UNSUPPORTED",
            `channel.${name}() is not there for the handler of queue '${queue}', whose connection belongs to the library: ack, nack and reject are. To send, use this.addAMQPJob().`,
            { queue, method: name }
          );
        };
      }
    });
  }

  /** A mistake or failure that no caller waits for. */
  #report(error: Error): void {
    const { queue, warnings, events } = this.parts;
    warnings.warn(`queue ${queue}`, error.message, `Reliable: ${error.message}`);
    events.emit("error", error, "consumer");
  }

  #answer(verb: string, message: QueueMessage, allUpTo: boolean, end: PlainEnd): void {
    const { queue, maxInFlight } = this.parts;
    const bad = (why: string) => {
      const error = new ReliableError(
        "RELIABLE_BAD_ACK",
        `channel.${verb}() in the handler of queue '${queue}': ${why}.`,
        { queue, messageId: message?.properties?.messageId }
      );
      this.#report(error);
      return error;
    };
    if (allUpTo && maxInFlight > 1)
      throw new ReliableError(
        "RELIABLE_UNSUPPORTED",
        `channel.${verb}() in the handler of queue '${queue}' answers one message: allUpTo goes with maxInFlight 1 only.`,
        { queue, method: verb }
      );
    const open = message?.fields && this.#open.get(message.fields);
    if (!open) throw bad("this message was not delivered here");
    if (open.answered) throw bad("this message was answered before, and the first answer counts");
    if (this.#end.signal.aborted || (open.plain && !open.delivery.live)) {
      open.answer({ act: "gone" });
      throw bad("the channel of this message is gone, and RabbitMQ delivers it again");
    }
    open.answer(end);
  }
}

function messageOf(delivery: Delivery, content: Buffer): QueueMessage {
  const { queue, redelivered, tag, headers, messageId, type, contentType, timestamp, appId } = delivery;
  // A copy, so that a handler that writes into it changes nothing of the library's.
  const original = delivery.original as QueueMessage | undefined;
  return {
    content,
    fields: original ? { ...original.fields } : { deliveryTag: tag, redelivered, exchange: "", routingKey: queue },
    properties: original
      ? { ...original.properties }
      : { headers, messageId, type, contentType, timestamp, appId, deliveryMode: 2 }
  };
}
