import type { Courier, Delivery } from "../couriers/courier";
import type { Signatures } from "../inbound/signatures";
import type { Decode } from "../options/hooks";
import type { ConsumerOptions } from "../options/options";
import type { Clock } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { Warnings } from "../platform/warnings";
import type { InboxStore } from "../stores/store";
import type { Events } from "../telemetry/events";
import type { Metrics } from "../telemetry/metrics";
import type { MessageSpans } from "../telemetry/open-telemetry/message-spans";
import type { Envelope } from "../wire/envelope";
import type { Queues } from "../wire/names";
import type { ReceiptItem } from "../wire/receipt";
import type { AnnouncedHistory } from "./announced-history";

export interface HandlerExtras {
  /** MongoDB session of the inbox transaction, with `inbox: "transaction"`. */
  session?: unknown;
  /** Number of the run within the attempt, from 1, with `inbox: "transaction"`. */
  run?: number;
}

/** How the handler of an event ended. `rejected`: the handler was not reached. */
export interface HandlerEnd {
  error?: unknown;
  rejected?: boolean;
  /** Not the message's fault, nor the handler's: it costs no attempt. */
  excused?: true;
}

/**
 * How the handler of a plain message ended: what it wants done at the broker, or a failure. `gone`: the message no
 * longer belongs to this consumer.
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
  /** The service's hook, before `handle`. A queue that does not belong to this library decodes by itself. */
  decode?: Decode | undefined;
  /** Never rejects: an error is part of the returned end. */
  handle(envelope: Envelope, extras: HandlerExtras, delivery: Delivery): Promise<HandlerEnd>;
  /**
   * A queue that does not belong to this library: declared as it is and not announced. Messages in it without a receipt
   * address are plain messages.
   */
  foreign?: { plain(delivery: Delivery): Promise<PlainEnd>; close(): void };
}

/** The rows of messages in this node's store. */
export interface OwnRows {
  /** The store's; undefined until it has answered. */
  readonly id: string | undefined;
  /** Receipts `handled` into the rows. Returns the ids that have none. */
  handled(group: string, items: ReceiptItem[]): Promise<Set<string>>;
}

export interface ConsumerParts {
  courier: Courier;
  /** Undefined = messages are not signed. */
  signatures?: Signatures | undefined;
  /** Undefined on a node without a store. */
  inbox: InboxStore | undefined;
  rows?: OwnRows | undefined;
  /** Only on a node without a store. */
  announcedHistory?: AnnouncedHistory | undefined;
  queues: Queues;
  metrics: Metrics;
  /** Undefined = no OpenTelemetry. */
  spans?: MessageSpans | undefined;
  logger: Logger;
  warnings: Warnings;
  events: Events;
  clock: Clock;
  nodeID: string;
  namespace: string;
}

/** Pause before repeating what the broker or the store did not take. */
export const RETRY = { initialMs: 200, maxMs: 10_000, jitter: "half" } as const;
