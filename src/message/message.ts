import { isUnsent, type Status } from "./lifecycle";
import type { Order } from "./order";

/**
 * Stands for every group that the exchange routes to. It is in `waiting` of a message for which no group was known when
 * it was emitted. The first receipt, or the first sweep that knows groups, replaces it by real groups.
 */
export const ANY_GROUP = "*";

/**
 * The largest `maxPayloadBytes`. A failed receipt can bring it back in base64 (RabbitMQ: 16 MiB), and a document has
 * room for it (MongoDB: 16 MiB).
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
  /** The broker returned it: no queue for this event or group, for longer than `unroutableMs`. */
  | "unroutable"
  /** The broker refused it for what it is: too large, no right to send it; or it cannot be encoded. */
  | "refused"
  /**
   * Not in the group's queue any more, or never was: a policy of RabbitMQ took it out, there is no queue at the moment,
   * or no such group is known yet. Costs no attempt.
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
  /** How often the handler ran in this attempt, if more than once: its transaction had lost conflicts. */
  runs?: number;
  /** It does not count: the group's breaker was open, or the message was held by its `patienceMs`. */
  excused?: true;
  nodeID?: string;
  error: FailureError;
}

export interface Receipt {
  at: Date;
  nodeID: string;
  durationMs: number;
  attempt: number;
  /** As in a failure. */
  runs?: number;
}

/** How a group has failed for good. Masked and bounded, without stack and data. */
export type GroupError = Pick<Failure, "cause"> & Omit<FailureError, "stack" | "data">;

/**
 * How a group of a dead message has failed, as operators search for it: `type` is that of the error, or its code, or its
 * name; `text` has no numbers and ids, so that it is the same in many messages.
 */
export interface LastError {
  group: string;
  at: Date;
  cause: FailureCause;
  name: string;
  type: string;
  text: string;
  /** Where it failed, if a node has reported it. */
  nodeID?: string;
}

/** In a note: no person and no node, but what the rules say. */
export const LIBRARY = "reliable-emit";

/** What befell a message outside of its normal course: an operator's acts, and what the library found out. */
export interface Note {
  at: Date;
  /** An operator, or a node. */
  by: string;
  act:
    | "retry"
    | "resolve"
    | "discard"
    | "forget"
    | "erase"
    | "replay"
    | "withdraw"
    | "cancel"
    | "skip"
    /** A group has failed for good. */
    | "dead"
    /** What a group has failed does not count: its breaker opened. */
    | "excused"
    /** It is known now which groups are meant. */
    | "recipients"
    /** What the producer said of an intent: its business write has happened; or nothing clear. */
    | "happened"
    | "asked";
  note?: string;
  /** Id of the bulk act that it was part of. */
  bulk?: string;
  /** With `forget`: whom; without a pattern all of the group. */
  group?: string;
  pattern?: string;
  /** Those that this act is about, as they stood in the message: the first GROUPS_NOTED. */
  groups?: string[];
  /** How many more there are. */
  moreGroups?: number;
  /** With `recipients`: the names that they have replaced. */
  replaced?: string[];
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
  /** W3C Trace Context. */
  traceparent?: string;
  tracestate?: string;
}

/** Where to ask for the payload of an intended or callback message: an action and its params. */
export interface Source {
  action: string;
  params: unknown;
}

/** Of a message that a replay has made. */
export interface Replay {
  /** Id of the bulk act. */
  bulk: string;
  /** Id of the original. */
  of: string;
  /** The group handles it although it has handled the original. */
  again?: true;
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
  /** The emit's `keys`, as `name=value`, by which operators find it. */
  keys?: string[];
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
  /** Groups that have used up their attempts. While there is one, the message is `dead`. */
  failed: string[];
  /** Groups that had failed, and that a human has resolved while others were still waited for. */
  resolved: string[];
  /** When and how a group has failed for good; it stays when the group is resolved. */
  deadAt: Record<string, Date>;
  errors: Record<string, GroupError>;
  /** Of each group in `failed`, the last LAST_ERRORS_KEPT of them; only while the message is `dead`. */
  lastErrors?: LastError[];
  receipts: Record<string, Receipt>;
  /** Attempts made (confirmed publishes) per group; counts from 1. Absent = 1 once `publishedAt` is set. */
  attempts: Record<string, number>;
  /** Number of the last attempt that failed, per group. */
  spent: Record<string, number>;
  /**
   * How many of `spent` do not count, per group: those up to an operator's last retry, and those that were excused since.
   */
  base: Record<string, number>;
  /**
   * When a group's next step is due (backoff after a failure, or silence), per group. Absent = `publishedAt` +
   * receiptTimeoutMs.
   */
  next: Record<string, Date>;
  /** Since when no queue takes it, per group that is not known (yet); ANY_GROUP: no group at all is. */
  unroutable: Record<string, Date>;
  /** How long that costs no attempt. */
  unroutableMs: number;
  maxAttempts: number;
  backoff: Backoff;
  receiptTimeoutMs: number;
  /** The last FAILURES_KEPT failures. */
  failures: Failure[];
  /** Why it is `dead`: cause, group and the last error in one line; of several groups the last one's. */
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
  /** When it is to be sent, by the emit's `sendAt` or `delayMs`. Absent = at once. */
  sendAt?: Date;
  publishedAt?: Date;
  /** It is in order with others of its key. */
  order?: Order;
  /** Where it stands among them, until it is final: see `order.ts`. */
  place?: string;
  /** Of a dead one that holds its key: the key. */
  holds?: string;
  /**
   * The instant that lists, ages and retention go by: of its emit while it is open (of its sending, if it was scheduled),
   * of its death while it is `dead`, of its end when it is final.
   */
  at: Date;
  /** Of an operator's last retry. */
  retriedAt?: Date;
  /** Id of the last bulk act that retried it, or of the replay that made it. */
  bulk?: string;
  /** Which replay has made it, and of what. */
  replay?: Replay;
  /** `body` is what the producer's hook `encode` has made of the payload. */
  encoded?: true;
  /** Of a final message: when its payload, meta, headers, source and the texts of its errors were dropped. */
  droppedAt?: Date;
  /** Length of the payload that was dropped. */
  droppedBytes?: number;
  notes: Note[];
}

/** The groups that are to handle it, or have done so, as far as they are known. */
export function groupsOf({ waiting, failed, receipts }: MessageHead): string[] {
  const answered = Object.keys(receipts);
  // Of every new message they are what it waits for.
  const known = answered.length || failed.length ? [...new Set([...answered, ...waiting, ...failed])] : waiting;
  return known.filter(group => group !== ANY_GROUP);
}

/** `at` of an open message. */
export function openAtOf({ sendAt, createdAt }: { sendAt?: Date; createdAt: Date }): Date {
  return sendAt ?? createdAt;
}

/** Since when it is on its way: of one that is scheduled, or was called off, since its emit. */
export function bornAt(message: { status: Status; sendAt?: Date; createdAt: Date }): Date {
  return isUnsent(message.status) ? message.createdAt : openAtOf(message);
}

/** A message without its payload. */
export type MessageHead = Omit<Message, "body">;

/** `bytes`: the payload's length. `unreadable`: why the row cannot be read; then the rest is what can be. */
export type ListedMessage = MessageHead & { bytes: number; unreadable?: string };

/** Of the rows that this version of the library writes. Rows of another one are not touched. */
export const ROW_VERSION = 2;

/** What `unroutableMs` is in rows and plans that do not say it, for ever: not the option's default, which may change. */
export const UNROUTABLE_MS = 3_600_000;

/** Failures kept on a message: enough to see a pattern, and limited so that a row cannot grow without end. */
export const FAILURES_KEPT = 20;

/** Of a row with more failed groups than that somebody looks at all of them. */
export const LAST_ERRORS_KEPT = 100;

/** Of what humans have done with a message: the last ones. */
export const NOTES_KEPT = 100;

/** Groups that a note names. */
export const GROUPS_NOTED = 20;

/** Characters of a node's id in a row. The one in a receipt is a stranger's. */
export const MAX_NODE_ID = 255;

/** What a new message has none of: shared by all of them, and never changed in place. */
export const NONE: never[] = Object.freeze([]) as unknown as never[];

export const EMPTY: Record<string, never> = Object.freeze({});

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
