import type { Status } from "./lifecycle";

/**
 * Stands for every group that the exchange routes to. It is in `waiting` of a message for which no group was known when
 * it was emitted. The first receipt, or the first sweep that knows groups, replaces it by real groups.
 */
export const ANY_GROUP = "*";

/**
 * The largest `maxPayloadBytes`. The row of a message has room for failures beside it (MongoDB: 16 MiB), and a failed
 * receipt can bring it back in base64 (RabbitMQ: 16 MiB).
 */
export const MAX_PAYLOAD_BYTES = 8 * 1024 * 1024;

/** Why an attempt failed. Only these use up attempts; broker trouble, a backlog and an offline group do not. */
export type FailureCause =
  /** The handler threw, rejected or ran into `handlerTimeoutMs`. */
  | "handler"
  /** The handler was not reached: params validation or a middleware refused the event. Never retried. */
  | "rejected"
  /** Published, taken by the queue, no longer waiting there, and without a receipt. */
  | "silence"
  /** The broker returned it: no queue for this event or group. */
  | "unroutable"
  /** The broker refused it for what it is: too large, no right to send it; or it cannot be encoded. */
  | "refused"
  /**
   * Not in the group's queue any more, or never was: a policy of RabbitMQ took it out, or there is no queue at the
   * moment. Costs no attempt.
   */
  | "displaced"
  /** The broker stopped redelivering it (`x-delivery-limit`): its consumers die while they handle it. */
  | "crash-loop"
  /** The producer's `source` could not be asked or did not answer properly (strategy `callback`, intents). */
  | "source";

export interface FailureError {
  name: string;
  message: string;
  code?: number | string;
  type?: string;
  stack?: string;
  data?: string;
}

export interface Failure {
  at: Date;
  cause: FailureCause;
  group?: string;
  attempt?: number;
  nodeID?: string;
  error: FailureError;
}

export interface Receipt {
  at: Date;
  nodeID: string;
  durationMs: number;
  attempt: number;
}

/** What an operator or the library did to a message outside of its normal course. */
export interface Note {
  at: Date;
  by: string;
  act: "retry" | "resolve" | "discard" | "forget" | "withdraw";
  note?: string;
  /** With `forget`: whom; without a pattern all of the group. */
  group?: string;
  pattern?: string;
}

export const JITTERS = ["none", "half", "full"] as const;

/** Backoff between attempts: doubles from `initialMs` up to `maxMs`, see `backoff.ts`. */
export interface Backoff {
  initialMs: number;
  maxMs: number;
  /** `none` exact · `half` between half and all of the delay · `full` between 0 and the delay. */
  jitter: (typeof JITTERS)[number];
}

/** The promise of each strategy: `src/emit/strategy.ts`. */
export const STRATEGIES = ["outbox", "callback"] as const;

/**
 * How it is found out whether the business write of an intent happened: from `source`, or from the barrier row of its
 * business transaction.
 */
export const QUESTIONS = ["source", "barrier"] as const;
export type Question = (typeof QUESTIONS)[number];

/** The data from which the handler's context is rebuilt. */
export interface Origin {
  requestID?: string;
  parentID?: string;
  level?: number;
  tracing?: boolean;
  caller?: string;
  /** Node that emitted; `ctx.nodeID` in the handlers. */
  nodeID?: string;
  traceparent?: string;
}

/** Where to ask for the payload of an intended or callback message: an action and its params. */
export interface Source {
  action: string;
  params: unknown;
}

/** One emitted event. Instants are Dates; maps are keyed by group. `body` has the exact bytes that are sent. */
export interface Message {
  /** UUIDv7, or the caller's `id`: messageId on the wire, dedupe key everywhere. */
  _id: string;
  v: typeof ROW_VERSION;
  event: string;
  body: Buffer;
  meta: Record<string, unknown>;
  headers: Record<string, unknown>;
  origin: Origin;
  strategy: (typeof STRATEGIES)[number];
  /** Full name of the emitting service. */
  producer: string;
  /** The emit's `groups` option: sent and resent to these queues only. Absent = every subscribed group. */
  groups?: string[];
  status: Status;
  /**
   * When the sweeper must look at it next: schedule and claim lease in one field. Only on open messages, so the index on
   * it stays flat.
   */
  dueAt?: Date;
  /** Id of the sweep pass that holds it until `dueAt`. */
  claim?: string;
  /** 0..63, from the id: which sweeper partition it belongs to. */
  bucket: number;
  /** Groups that still owe a receipt and have attempts left. */
  waiting: string[];
  /**
   * Groups that still owe a receipt and have used up their attempts. If only such groups are left, the message is
   * `dead`.
   */
  failed: string[];
  receipts: Record<string, Receipt>;
  /** Attempts made (confirmed publishes) per group; counts from 1. Absent = 1 once `publishedAt` is set. */
  attempts: Record<string, number>;
  /** Number of the last attempt that failed, per group. */
  spent: Record<string, number>;
  /** `spent` at the operator's last retry, per group: attempts count from here. */
  base: Record<string, number>;
  /**
   * When a group's next step is due (backoff after a failure, or silence), per group. Absent = `publishedAt` +
   * receiptTimeoutMs.
   */
  next: Record<string, Date>;
  maxAttempts: number;
  backoff: Backoff;
  receiptTimeoutMs: number;
  /** The last FAILURES_KEPT failures. */
  failures: Failure[];
  /** Why it is `dead`: cause, group and the last error in one line. */
  reason?: string;
  source?: Source;
  /** How the sweeper asks about it while it is an intent. */
  intent?: Question;
  /**
   * Its producer cannot be asked, since it is no Moleculer service. The callback service sends the message again
   * itself, from the copy that came with the check.
   */
  resend?: "copy";
  /** Questions about an intent that were answered with "unknown" or an error. */
  asks?: number;
  /** Strategy `callback` and intents: delays in ms of the checks, and the number of the last one sent, from 1. */
  delays?: number[];
  round?: number;
  /** Known from receipts only. Event and payload come with the check. */
  partial?: true;
  /** Since this time no instance of the producer has answered. */
  unreachableSince?: Date;
  createdAt: Date;
  publishedAt?: Date;
  /**
   * The instant that lists, ages and retention go by: of its emit while it is open, of its death while it is `dead`, of
   * its end when it is final.
   */
  at: Date;
  /** Of an operator's last retry. */
  retriedAt?: Date;
  notes: Note[];
}

/** A message without its payload. */
export type MessageHead = Omit<Message, "body">;

/** `bytes`: the payload's length. `unreadable`: why the row cannot be read; then the rest is what can be. */
export type ListedMessage = MessageHead & { bytes: number; unreadable?: string };

/** Of the rows that this version of the library writes. Rows of another one are not touched. */
export const ROW_VERSION = 2;

/** Failures kept on a message: enough to see a pattern, and limited so that a row cannot grow without end. */
export const FAILURES_KEPT = 20;

/**
 * The number of buckets. Sweeper partitions divide them. It is fixed, so that the number of partitions can change at
 * any time.
 */
export const BUCKETS = 64;

/** FNV-1a over the id: stable in every version and language, and evenly spread. */
export function bucketOf(id: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < id.length; i++) hash = Math.imul(hash ^ id.charCodeAt(i), 0x01000193);
  return (hash >>> 0) % BUCKETS;
}
