import type { Address, Courier, Delivery } from "../../couriers/courier";
import type { Message } from "../../message/message";
import { queueTargetOfMessage } from "../../message/queue-target";
import type { Clock } from "../../platform/clock";
import { printable } from "../../platform/printable";
import type { Envelope } from "../../wire/envelope";
import type { Attributes } from "./api";

/** The semantic conventions that names, kinds and attributes are of. Those for messaging are in development. */
export const CONVENTIONS = "https://opentelemetry.io/schemas/1.44.0";

export type Operation = "create" | "send" | "process" | "settle";

/** A look at the courier's connections is good for so long: where it is connected changes with a reconnect. */
const LOOK_HOLDS_MS = 1000;

/** The attributes of every span, and where to it goes. */
export class MessagingAttributes {
  readonly #system: string;
  #server: { publish: Attributes; consume: Attributes } = { publish: {}, consume: {} };
  #lookedAt = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly courier: Courier,
    /** Of the namespace, to which events go. */
    private readonly exchange: string,
    private readonly clock: Clock
  ) {
    // The conventions have no name for what stays in one process, and allow one of our own.
    this.#system = courier.features.shared ? "rabbitmq" : "moleculer-reliable-emit";
  }

  /** Where an emit's message will go, as far as it is known before it does. */
  destinationOf(message: Message): Address {
    const foreign = queueTargetOfMessage(message);
    return foreign ? { queue: foreign.queue } : { event: message.event };
  }

  /** Of one publish, or of an emit. */
  ofMessage(operation: Operation, message: Message, to: Address): Attributes {
    const { _id: id, event, body, strategy, origin } = message;
    const attributes = this.#of(operation, this.#nameOf(to), id, event, body.length, origin.requestID);
    attributes["reliable.strategy"] = strategy;
    const key = "event" in to ? to.event : "queue" in to ? to.queue : undefined;
    if (key !== undefined && this.#isRabbit) attributes["messaging.rabbitmq.destination.routing_key"] = key;
    return Object.assign(attributes, this.#look().publish);
  }

  /** Of one delivery. */
  ofDelivery(operation: Operation, envelope: Envelope, delivery: Delivery, group: string): Attributes {
    const { id, event, attempt, strategy, origin } = envelope;
    const { exchange = "", routingKey = "" } = fieldsOf(delivery);
    const { queue } = delivery;
    // By the conventions for RabbitMQ: what is empty, or there twice, is left out.
    const name = [...new Set([exchange, routingKey, queue])].filter(Boolean).join(":");
    const attributes = this.#of(operation, name, id, event, delivery.body.length, origin.requestID);
    attributes["messaging.consumer.group.name"] = group;
    if (routingKey) attributes["messaging.rabbitmq.destination.routing_key"] = routingKey;
    attributes["reliable.strategy"] = strategy;
    attributes["reliable.attempt"] = attempt;
    return Object.assign(attributes, this.#look().consume);
  }

  get #isRabbit(): boolean {
    return this.#system === "rabbitmq";
  }

  #of(operation: Operation, destination: string, id: string, event: string, bytes: number, conversation: unknown) {
    const attributes: Attributes = {
      "messaging.system": this.#system,
      "messaging.operation.type": operation,
      "messaging.operation.name": operation,
      "messaging.destination.name": destination,
      "messaging.message.id": id,
      "messaging.message.body.size": bytes,
      "reliable.event": event
    };
    // User code may have set it to any type.
    if (conversation) attributes["messaging.message.conversation_id"] = printable(String(conversation));
    return attributes;
  }

  #nameOf(to: Address): string {
    if ("event" in to) return `${this.exchange}:${to.event}`;
    return "queue" in to ? to.queue : to.control;
  }

  #look(): { publish: Attributes; consume: Attributes } {
    const now = this.clock.monotonic();
    if (now - this.#lookedAt < LOOK_HOLDS_MS) return this.#server;
    this.#lookedAt = now;
    const { publish, consume } = this.courier.status();
    this.#server = { publish: serverOf(publish.address), consume: serverOf(consume.address) };
    return this.#server;
  }
}

/** Span names go by the destination, which is of few values. */
export function nameOf(attributes: Attributes): string {
  return `${attributes["messaging.operation.name"]} ${attributes["messaging.destination.name"]}`;
}

/** As amqplib tells it; the in-process courier has none. */
function fieldsOf({ original }: Delivery): { exchange?: string; routingKey?: string } {
  return (original as { fields?: { exchange?: string; routingKey?: string } } | undefined)?.fields ?? {};
}

/** `host:port`, where an IPv6 host has brackets. */
function serverOf(address: string | undefined): Attributes {
  const [, host, port] = /^\[?(.+?)\]?:(\d+)$/.exec(address ?? "") ?? [];
  return host === undefined ? {} : { "server.address": host, "server.port": Number(port) };
}
