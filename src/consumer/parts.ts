import type { Courier, Delivery } from "../couriers/courier";
import type { ConsumerOptions } from "../options/options";
import type { Clock } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { InboxStore } from "../stores/store";
import type { Events } from "../telemetry/events";
import type { Metrics } from "../telemetry/metrics";
import type { Envelope } from "../wire/envelope";
import type { Queues } from "../wire/names";

export interface HandlerExtras {
  /** MongoDB session of the inbox transaction, with `inbox: "transaction"`. */
  session?: unknown;
}

/** How the handler of an event ended. `rejected`: it was not reached. */
export interface HandlerEnd {
  error?: unknown;
  rejected?: boolean;
}

/**
 * How the handler of a plain message ended: what it wants done at the broker, or that it failed. `gone`: the message is
 * not ours any more.
 */
export type PlainEnd = { act: "ack" | "gone" } | { act: "nack"; requeue: boolean } | { error: unknown };

/** One group's handler of one pattern. */
export interface ConsumerSpec {
  pattern: string;
  group: string;
  queue: string;
  bindings: string[];
  service: string;
  options: ConsumerOptions;
  /** Never rejects: an error is part of the end. */
  handle(envelope: Envelope, extras: HandlerExtras, delivery: Delivery): Promise<HandlerEnd>;
  /**
   * A queue of somebody else: declared as it is, not announced; what comes without a receipt's address is a plain
   * message.
   */
  foreign?: { plain(delivery: Delivery): Promise<PlainEnd>; close(): void };
}

export interface ConsumerParts {
  courier: Courier;
  /** A node without a store has none. */
  inbox: InboxStore | undefined;
  queues: Queues;
  metrics: Metrics;
  logger: Logger;
  events: Events;
  clock: Clock;
  nodeID: string;
}

/** Before something that the broker or the store did not take is repeated. */
export const RETRY = { initialMs: 200, maxMs: 10_000, jitter: "half" } as const;
