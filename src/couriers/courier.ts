import type { Queues } from "../wire/names";

/**
 * The courier carries envelopes. It publishes with a definite outcome, consumes with explicit acks, and knows nothing
 * of a message's status. It never hides an outcome: only the compensation mechanism retries. It repeats a publish in one
 * case: the broker has closed its channel because of another one.
 */
export interface CourierFeatures {
  /** A confirmed message survives the end of this process. */
  durable: boolean;
  /** Reaches other processes. */
  shared: boolean;
}

/**
 * `confirmed` the broker has it and at least one queue took it · `returned` confirmed, but no queue took it · `nacked`
 * the broker does not take it now (a full queue) · `refused` the broker does not take it for what it is (too large, no
 * right to send it), or it cannot be encoded; the same publish again ends the same · `unknown` no answer: not connected,
 * connection lost, blocked or confirm timeout; it may have arrived.
 */
export type Outcome = "confirmed" | "returned" | "nacked" | "refused" | "unknown";

export interface PublishResult {
  outcome: Outcome;
  /** For every outcome but `confirmed`: what happened, without payloads or credentials. */
  reason?: string;
  /** Of a `returned` publish: the exchange or queue it was sent to led to no queue. */
  code?: "NO_ROUTE";
  /** It is certain that nothing has left this process. */
  sent?: false;
}

/** How often a message may be redelivered when its consumers die on it, if the queue does not say otherwise. */
export const DEFAULT_DELIVERY_LIMIT = 20;

/**
 * Without the argument the limit is 20 from RabbitMQ 4.0 on. -1 (unlimited) drops at the first reject before 4.0. So
 * this is the largest limit that every version understands.
 */
export const NO_DELIVERY_LIMIT = 2_147_483_647;

/** Limit of an AMQP frame of headers. */
export const MAX_FRAME_BYTES = 64 * 1024;

export function notSent(why: string): PublishResult {
  return { outcome: "unknown", reason: `not sent: ${why}`, sent: false };
}

/**
 * To the events exchange under the event's name; or directly to one queue, at once or after a delay (a queue with a
 * TTL); or to those who listen for this key at the moment (`Control.listen`), for news that may get lost:
 * `returned` = nobody does.
 */
export type Address = { event: string } | { queue: string; delayMs?: number } | { control: string };

export interface Publication {
  to: Address;
  messageId: string;
  /** AMQP `type`: the event, or the kind of a message of this library. */
  type: string;
  body: Buffer;
  headers: Record<string, unknown>;
  appId?: string;
  contentType?: string;
}

/** Adds a signature, last: every publish of a courier goes through it. */
export type Sign = (publication: Publication) => Publication;

export interface Delivery {
  queue: string;
  messageId: string | undefined;
  type: string | undefined;
  contentType: string | undefined;
  timestamp: number | undefined;
  appId: string | undefined;
  headers: Record<string, unknown>;
  body: Buffer;
  /** A hint only: false proves that the message was never delivered from this queue before. */
  redelivered: boolean;
  /** Grows by one per delivery of one epoch, from 1. */
  tag: number;
  /** Changes whenever the consumer's channel is replaced; tags of different epochs cannot be compared. */
  epoch: number;
  /** The channel it came from still exists, so an answer reaches the broker. */
  readonly live: boolean;
  /**
   * The message as the client library gave it, for handlers written for that library; the in-process courier has none.
   */
  readonly original?: unknown;
  /** False when the channel it came from is gone; the broker will deliver it again. Never throws. */
  ack(): boolean;
  /** Acks every unacked delivery of the epoch up to and including this one. */
  ackUpTo(): boolean;
  /** Back into its queue, or without `requeue` to the queue's dead-letter target. Returns false like `ack`. */
  nack(requeue: boolean): boolean;
}

/** What came to one who listens. */
export type Heard = Pick<Delivery, "queue" | "messageId" | "type" | "appId" | "headers" | "body">;

export type Listener = (heard?: Heard) => void;

/** Event bindings on the events exchange, as AMQP topic keys. Declared again after every reconnect. */
export interface QueueSpec {
  name: string;
  bindings?: string[];
  /**
   * `x-delivery-limit`, a limit against messages that kill their consumers. Above it a message goes to `deadLetterTo`.
   */
  deliveryLimit?: number;
  /** Queue for messages above the delivery limit (at-least-once dead-lettering). */
  deadLetterTo?: string;
  /** Delays with which messages will be sent to it: those queues are made too, in the background. */
  delaysMs?: number[];
  /**
   * The queue does not belong to this library and keeps its arguments. If it does not exist, a durable one of the
   * broker's default type is declared.
   */
  foreign?: boolean;
}

/**
 * One of the namespace's own queues. Whatever RabbitMQ takes out of it, by a policy of its operator or at its delivery
 * limit, goes to the tracker by another one: nothing is dropped.
 */
export function systemQueue(name: string, { parked, displaced }: Pick<Queues, "parked" | "displaced">): QueueSpec {
  return { name, deliveryLimit: NO_DELIVERY_LIMIT, deadLetterTo: name === parked ? displaced : parked };
}

export interface ConsumeSpec {
  queue: QueueSpec;
  prefetch: number;
  /** See `Consumption.limit`; from the beginning. */
  limit?: number;
  /** Looked for each time before it begins to take: while one of these marks is set it is suspended. */
  marks?: readonly string[];
  /** Must not throw. Deliveries come one after the other, synchronously. */
  onDelivery(delivery: Delivery): void;
}

export interface Consumption {
  /**
   * Resolves when no further delivery will come. Held deliveries can still be acked, unless the broker did not answer
   * within `withinMs`. Idempotent.
   */
  cancel(withinMs?: number): Promise<void>;
  /**
   * Cancels and returns unacked deliveries to the queue; waits up to `withinMs` for the broker's answer. Idempotent.
   */
  close(withinMs?: number): Promise<void>;
  /**
   * Takes nothing until `resume`. Held deliveries can still be acked; what is on its way is given back. Resolves when no
   * further delivery will come. A new connection looks at the marks, and goes by them alone. Idempotent.
   */
  suspend(): Promise<void>;
  resume(): Promise<void>;
  readonly suspended: boolean;
  /**
   * Holds at most so many deliveries of those that come from now on, and never more than its prefetch; 0 = takes none
   * until another limit is set. What is on its way when it becomes smaller is given back, what was delivered stays. It
   * holds over reconnects.
   */
  limit(deliveries: number): void;
  /** It takes deliveries, or would if its limit were not 0. False while it is suspended. */
  readonly active: boolean;
}

export interface QueueDepth {
  /** Messages ready and not yet delivered. Unacked ones are not counted. */
  ready: number;
  consumers: number;
}

export interface ConnectionStatus {
  connected: boolean;
  /** Host and port, no credentials. */
  address?: string;
  since?: Date;
  lastError?: string;
}

export interface CourierStatus {
  publish: ConnectionStatus;
  consume: ConnectionStatus;
  blocked: boolean;
  blockedReason?: string;
  blockedMs: number;
  inFlight: number;
  /** For how long publishes have been sent and none was confirmed; 0 = the last one was, or none was sent since. */
  unconfirmedMs: number;
  /** For how long it has not answered whether it takes a change; 0 = it has, or nothing is asked. */
  unansweredMs: number;
  /** Queues that are to be consumed and are not, at the moment; not those of which a consumer is suspended. */
  idle: string[];
  /** Queues, or the exchange, that the periodic repair could not declare: why, and how often in a row. */
  unmended: { text: string; times: number }[];
  /** Rights for publishes that the broker denies, in its words. */
  denied?: string | undefined;
  reconnects: number;
}

/** What all nodes of the namespace can see, or are told, without a store. */
export interface Control {
  /**
   * A mark is there or not, for all who have the broker, until somebody takes it away: it survives restarts where the
   * courier is durable. Repeating is harmless. All three reject when the broker cannot be asked.
   */
  mark(name: string): Promise<void>;
  unmark(name: string): Promise<void>;
  marked(name: string): Promise<boolean>;
  /**
   * Hears what is published to `{ control: key }` from now on. Called with nothing whenever it begins to hear, at first
   * and after each loss: what was said before that was missed. Returns the unsubscribe function.
   */
  listen(key: string, listener: Listener): () => void;
}

export type CourierEvents = { ready: []; down: []; error: [error: Error] };

export interface Courier {
  readonly features: CourierFeatures;
  /** Connected, topology declared, not blocked: a publish is likely to succeed. */
  readonly ready: boolean;
  /** Waiting and in-flight publishes are below the limit. If false, leave the message to the sweeper. */
  readonly writable: boolean;

  /**
   * Starts connecting. Resolves when connected, or when the first try failed with an error that may pass (then it keeps
   * trying, with jittered backoff). Rejects with RELIABLE_ACCESS_REFUSED or RELIABLE_BAD_OPTION on a wrong password,
   * vhost or address.
   */
  start(): Promise<void>;
  /**
   * Waits up to `drainTimeoutMs` for publishes in flight, then closes; the rest ends as `unknown`. All of it takes at
   * most `withinMs`. Idempotent.
   */
  close(drainTimeoutMs: number, withinMs?: number): Promise<void>;
  /**
   * `ready` after each (re)connect or unblock, `down` when the courier is not ready any more, `error` for background
   * failures.
   */
  on(event: "ready" | "down", listener: () => void): () => void;
  on(event: "error", listener: (error: Error) => void): () => void;

  /**
   * Remembers the queue, declares it now if connected, and again after each reconnect. False = the broker does not let
   * it be declared at the moment (a limit, its node is down), which is told. Rejects with RELIABLE_QUEUE_MISMATCH when
   * it exists with other arguments (the error names the queue and how to migrate), RELIABLE_ACCESS_REFUSED.
   */
  declare(queue: QueueSpec): Promise<boolean>;
  /** Deletes the queue and its messages, and forgets it. */
  remove(queue: string): Promise<void>;
  /** The events exchange sends it nothing any more under this key. One that is not bound, or does not exist, is fine. */
  unbind(queue: string, key: string): Promise<void>;
  /** Trouble at the broker is an outcome, not a rejection. Rejects only with RELIABLE_HEADERS_TOO_LARGE. */
  publish(publication: Publication): Promise<PublishResult>;
  /**
   * Declares the queue, then consumes on a channel of its own. Consumes again after reconnects, cancellations and
   * channel loss.
   */
  consume(spec: ConsumeSpec): Promise<Consumption>;
  /** undefined = there is no such queue. Rejects when the broker cannot be asked. */
  depth(queue: string): Promise<QueueDepth | undefined>;
  readonly control: Control;
  status(): CourierStatus;
}
