import { prefixOf } from "../../wire/names";
import { DEFAULT_DELIVERY_LIMIT, NO_DELIVERY_LIMIT, type QueueSpec } from "../courier";

/**
 * What is declared at the broker, as data. Both sides declare all they use, always with the same arguments: the broker
 * refuses (406) a queue that exists with others, so nothing here may depend on broker version, node or time.
 */
export interface QueueDeclaration {
  name: string;
  arguments: Record<string, string | number>;
  bindings: string[];
  /** Looked up first, and not changed if it exists. */
  foreign?: boolean;
}

export interface ExchangeDeclaration {
  name: string;
  type: "topic" | "direct";
}

/** The largest TTL RabbitMQ accepts, about 49 days. */
const MAX_TTL_MS = 4_294_967_295;

export function eventsExchange(namespace: string): ExchangeDeclaration {
  return { name: `${prefixOf(namespace)}.events`, type: "topic" };
}

/** To the consuming nodes that are there, by group. */
export function controlExchange(namespace: string): ExchangeDeclaration {
  return { name: `${prefixOf(namespace)}.control`, type: "direct" };
}

export function queueDeclaration(spec: QueueSpec): QueueDeclaration {
  // Declared like moleculer-amqp-queue does, so that its workers can declare it too.
  if (spec.foreign) return { name: spec.name, arguments: {}, bindings: [], foreign: true };
  const args: QueueDeclaration["arguments"] = { "x-queue-type": "quorum" };
  if (spec.deadLetterTo === undefined) args["x-delivery-limit"] = NO_DELIVERY_LIMIT;
  else {
    args["x-delivery-limit"] = spec.deliveryLimit ?? DEFAULT_DELIVERY_LIMIT;
    Object.assign(args, deadLetterArguments(spec.deadLetterTo));
  }
  return { name: spec.name, arguments: args, bindings: [...(spec.bindings ?? [])] };
}

/** The delay queue in which a message waits `delayMs` before the broker moves it on to `target`. */
export function delayQueueDeclaration(target: string, delayMs: number): QueueDeclaration {
  const ttl = delayStepMs(delayMs);
  return {
    name: delayQueueName(target, delayMs),
    arguments: {
      "x-queue-type": "quorum",
      "x-delivery-limit": NO_DELIVERY_LIMIT,
      "x-message-ttl": ttl,
      ...deadLetterArguments(target)
    },
    bindings: []
  };
}

export function delayQueueName(target: string, delayMs: number): string {
  return `${target}.delay.${delayStepMs(delayMs)}`;
}

/**
 * Rounded up to two significant digits: a TTL must be one per queue (a per-message TTL blocks at the head), so freely
 * jittered delays would otherwise make a queue each. Never early, at most a tenth late, at most 90 delay queues for
 * each power of ten.
 */
export function delayStepMs(delayMs: number): number {
  const whole = Math.min(Math.max(1, Math.ceil(delayMs)), MAX_TTL_MS);
  const step = 10 ** Math.max(0, Math.floor(Math.log10(whole)) - 1);
  return Math.min(Math.ceil(whole / step) * step, MAX_TTL_MS);
}

/** At-least-once needs `reject-publish`. With the default overflow the broker silently falls back to at-most-once. */
function deadLetterArguments(target: string): Record<string, string> {
  return {
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": target,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish"
  };
}
