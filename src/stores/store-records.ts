import type { Status } from "../message/lifecycle";
import type { Failure, Message, Receipt } from "../message/message";

/* What the verbs of a store are told, and what they answer. */

export type InsertOutcome = { stored: true } | { stored: false; existing: Message };

/** How one run of a handler in the inbox's transaction has ended. `conflict`: the error; nothing is written. */
export type InboxOutcome = "handled" | "duplicate" | { conflict: unknown };

/** The broker has confirmed and routed it. */
export interface PublishedRecord {
  id: string;
  at: Date;
  /** When the message comes due for the sweeper if no receipt comes. */
  dueAt: Date;
}

export interface HandledRecord {
  id: string;
  group: string;
  receipt: Receipt;
}

export interface FailedRecord {
  id: string;
  group: string;
  /** The attempt that failed. If it is not above the stored `spent`, the record is a duplicate and changes nothing. */
  attempt: number;
  failure: Failure;
  /** When the next attempt is due; null = the group has no attempts left. */
  nextAt: Date | null;
  /** Text for `reason`, if this makes the message `dead`. */
  reason: string;
}

/** An attempt that reached no consumer, and does not count. */
export interface DisplacedRecord {
  id: string;
  group: string;
  attempt: number;
  /** For the message's story. */
  failure: Failure;
  /** When the same attempt is made again. */
  nextAt: Date;
}

/** The message became dead in this call. */
export interface DeadMessage {
  id: string;
  reason: string;
}

/** Messages that wait for a group. */
export interface ReleaseScope {
  group: string;
  /** Only of this event. */
  event?: string;
  /** Only under this very name, not under those of its wildcard handlers. */
  exactly?: boolean;
  /** Only messages that were emitted by then. */
  emittedBy?: Date;
}

/** A page of messages that waited for a forgotten group. */
export interface Released {
  /** How many do not wait for it any more, because of this call. */
  freed: number;
  /** Those of them that nothing else is waited for, by the status that they have now. */
  consumed: string[];
  resolved: string[];
  dead: DeadMessage[];
}

export interface HandledResult {
  /** Ids that are not in the store. */
  unknown: string[];
  /** Receipts that were in the store already. */
  duplicates: number;
  /** The given ids that are consumed now. */
  consumed: string[];
  /** The last group with attempts left has answered, and others have none. */
  dead: DeadMessage[];
  /** Messages that still wait for ANY_GROUP: the caller must name the groups with `resolveRecipients`. */
  unresolved: string[];
}

/** The real groups behind ANY_GROUP. */
export interface RecipientsRecord {
  id: string;
  groups: string[];
}

/** Groups that replace ANY_GROUP, or a name that includes them, in `waiting`. */
export interface NamingRecord {
  id: string;
  claim: string;
  /** As the sweep has read it, and as it shall become. */
  from: string[];
  to: string[];
}

/** What a sweep decided for a message it had claimed. Applied only while the claim is still valid. */
export interface RescheduleRecord {
  id: string;
  claim: string;
  /**
   * `published`: sent again and confirmed; `pending`: it is not known whether the broker has it; undefined: unchanged.
   */
  status?: "published" | "pending";
  dueAt: Date;
  /** Per group: attempts made and when its next step is due. */
  attempts?: Record<string, number>;
  next?: Record<string, Date>;
  /**
   * The attempt that the sweep has seen, per group. A failure of it that came in the meantime has scheduled the next
   * attempt; then that counts, and not `next` and `dueAt`.
   */
  about?: Record<string, number>;
  publishedAt?: Date;
  /** Number of the last check sent. */
  round?: number;
  asks?: number;
  /** null: the producer answers again. */
  unreachableSince?: Date | null;
}

export interface ListQuery {
  status?: Status | Status[];
  event?: string;
  /** Matches groups that wait, have failed or have handled. */
  group?: string;
  producer?: string;
  /** Bounds on `at`. */
  before?: Date;
  after?: Date;
  ids?: string[];
}

export interface StoreStats {
  byStatus: Record<Status, number>;
  parked: number;
  /** The oldest `at` of a `pending` message, of a `published` one, of a `dead` one. */
  oldestPendingAt?: Date;
  oldestPublishedAt?: Date;
  oldestDeadAt?: Date;
}

export interface Timing {
  id: string;
  event: string;
  createdAt: Date;
  consumedAt: Date;
}

export interface DueQuery {
  now: Date;
  limit: number;
  /** Buckets of the partitions this node holds; undefined = all. */
  buckets?: number[];
}

/** `bytes`: of its payload. */
export interface Due {
  id: string;
  bytes: number;
}

export interface ClaimQuery {
  ids: string[];
  now: Date;
  /** End of the claim. It becomes `dueAt`, so that the message of an unfinished pass comes due again. */
  until: Date;
  claim: string;
  /** Due or not, unless another claim is still valid: their checks have come. */
  checked?: boolean;
  /** Told of each row that cannot be read (RELIABLE_UNREADABLE_ROW). It is not due any more. */
  unreadable?: (error: Error) => void;
}
