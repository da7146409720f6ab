/**
 * The courier carries envelopes: publishes with a closed outcome, consumes with explicit acks, knows nothing of
 * messages' statuses. It never retries a publish and never hides an outcome: the compensation mechanism is the only
 * retry authority.
 */
export interface CourierFeatures {
  /** What it has confirmed survives the end of this process. */
  durable: boolean;
  /** Reaches other processes. */
  shared: boolean;
}

/**
 * `confirmed` the broker has it and at least one queue took it · `returned` confirmed, but no queue took it · `nacked`
 * the broker refused it · `unknown` no answer: not connected, connection lost, blocked or confirm timeout; it may have
 * arrived.
 */
export type Outcome = "confirmed" | "returned" | "nacked" | "unknown";

export interface PublishResult {
  outcome: Outcome;
  /** For every outcome but `confirmed`: what happened, without payloads or credentials. */
  reason?: string;
  /** Of a `returned` one: the exchange or queue it was sent to led nowhere. */
  code?: "NO_ROUTE";
  /** Certainly nothing has left this process. */
  sent?: false;
}

/** As often as a message may be given back when its consumers die on it, if the queue says nothing else. */
export const DEFAULT_DELIVERY_LIMIT = 20;

/** What fits into an AMQP frame of headers. */
export const MAX_FRAME_BYTES = 64 * 1024;

export function notSent(why: string): PublishResult {
  return { outcome: "unknown", reason: `not sent: ${why}`, sent: false };
}

/** To the events exchange under the event's name; or straight to one queue, at once or after a delay (a queue with a TTL). */
export type Address = { event: string } | { queue: string; delayMs?: number };

export interface Publication {
  to: Address;
  messageId: string;
  /** AMQP `type`: the event, or the kind of a message of our own. */
  type: string;
  body: Buffer;
  headers: Record<string, unknown>;
  appId?: string;
  contentType?: string;
}

export interface Delivery {
  queue: string;
  messageId: string | undefined;
  type: string | undefined;
  contentType: string | undefined;
  timestamp: number | undefined;
  appId: string | undefined;
  headers: Record<string, unknown>;
  body: Buffer;
  /** A hint only: false proves that it was never delivered from this queue before. */
  redelivered: boolean;
  /** Grows by one per delivery of one epoch, from 1. */
  tag: number;
  /** Changes whenever the consumer's channel is replaced; tags of different epochs cannot be compared. */
  epoch: number;
  /** The channel it came from is still there: an answer reaches the broker. */
  readonly live: boolean;
  /**
   * The message as the client library gave it, for handlers that were written for that library; the in-process courier
   * has none.
   */
  readonly original?: unknown;
  /** False when the channel it came from is gone; the broker will deliver it again. Never throws. */
  ack(): boolean;
  /** Acks every unacked delivery of the epoch up to and including this one. */
  ackUpTo(): boolean;
  /** Back into its queue, or (without `requeue`) to where the queue sends what was refused. False as for `ack`. */
  nack(requeue: boolean): boolean;
}

/** Event bindings on the events exchange, as AMQP topic keys. Re-asserted after every reconnect. */
export interface QueueSpec {
  name: string;
  bindings?: string[];
  /** `x-delivery-limit`, a fuse against messages that kill their consumers; what passes it goes to `deadLetterTo`. */
  deliveryLimit?: number;
  /** Queue that takes what the broker gives up on (at-least-once dead-lettering). */
  deadLetterTo?: string;
  /**
   * Somebody else's: it keeps the arguments it has; where there is none, a durable one of the broker's default type is
   * made.
   */
  foreign?: boolean;
}

export interface ConsumeSpec {
  queue: QueueSpec;
  prefetch: number;
  /** Must not throw. Deliveries come one after the other, synchronously. */
  onDelivery(delivery: Delivery): void;
}

export interface Consumption {
  /**
   * Resolves when no further delivery will come; those held may still be acked, unless the broker did not answer within
   * `withinMs`. Idempotent.
   */
  cancel(withinMs?: number): Promise<void>;
  /** Cancels and gives back what is unacked; waits for the broker's answer up to `withinMs`. Idempotent. */
  close(withinMs?: number): Promise<void>;
  readonly active: boolean;
}

export interface QueueDepth {
  /** Ready, not yet delivered. Messages held unacked by consumers are not counted. */
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
  reconnects: number;
}

export type CourierEvents = { ready: []; down: []; error: [error: Error] };

export interface Courier {
  readonly features: CourierFeatures;
  /** Connected, topology asserted, not blocked: a publish has a chance. */
  readonly ready: boolean;
  /** Waiting and in-flight publishes are below the bound; when false, leave the message to the sweeper. */
  readonly writable: boolean;

  /**
   * Starts connecting. Resolves when connected, or when the first try failed in a way that may pass (it goes on, with
   * jittered backoff). Rejects with RELIABLE_ACCESS_REFUSED or RELIABLE_BAD_OPTION on a wrong password, vhost or
   * address.
   */
  start(): Promise<void>;
  /**
   * Waits for publishes in flight up to `drainTimeoutMs`, then closes; what is left ends as `unknown`. In all it takes
   * `withinMs` at most. Idempotent.
   */
  close(drainTimeoutMs: number, withinMs?: number): Promise<void>;
  /** `ready` after each (re)connect or unblock, `down` when it stops being so, `error` for background failures. */
  on(event: "ready" | "down", listener: () => void): () => void;
  on(event: "error", listener: (error: Error) => void): () => void;

  /**
   * Remembers the queue and asserts it now if connected, and after each reconnect. Rejects with RELIABLE_QUEUE_MISMATCH
   * when it exists with other arguments, naming it and how to migrate.
   */
  declare(queue: QueueSpec): Promise<void>;
  /** Deletes it with what is in it, and forgets it. */
  remove(queue: string): Promise<void>;
  /**
   * Never rejects: broker trouble is an outcome. Rejects nothing, throws only RELIABLE_HEADERS_TOO_LARGE (synchronously
   * checked, as a rejection).
   */
  publish(publication: Publication): Promise<PublishResult>;
  /**
   * Declares the queue, then consumes on a channel of its own; re-consumes after reconnects, cancellations and channel
   * loss.
   */
  consume(spec: ConsumeSpec): Promise<Consumption>;
  /** undefined = there is no such queue. Rejects when it cannot look. */
  depth(queue: string): Promise<QueueDepth | undefined>;
  status(): CourierStatus;
}
