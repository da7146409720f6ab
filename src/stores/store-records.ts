import type { Status } from "../message/lifecycle";
import type { Failure, FailureCause, ListedMessage, Message, Note, Receipt } from "../message/message";

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
  /** As its consumer says. Nothing is done by it but to look whose turn it is. */
  orderKey?: string;
}

/** What is known of an intent whose business write has happened. */
export interface Happened {
  /** If only the source had it; and whether the producer has encoded it. */
  body?: Buffer;
  encoded?: boolean;
  /** For the message's story. */
  note?: Note;
}

export interface FailedRecord {
  id: string;
  /** For those who are told of a death. */
  event?: string;
  group: string;
  /** The attempt that failed. If it is not above the stored `spent`, the record is a duplicate and changes nothing. */
  attempt: number;
  failure: Failure;
  /** When the next attempt is due; null = the group has no attempts left. */
  nextAt: Date | null;
  /** Text for `reason`, if the group has failed for good. */
  reason: string;
  /** As in `AttemptFailure`. */
  holds?: string;
  leaves?: string;
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
  /** Its group is not known (yet), and no queue has taken the message since. */
  unroutable?: { event: string; since: Date };
}

/** An attempt of the handler that failed, and does not count. */
export interface ExcusedRecord {
  id: string;
  group: string;
  attempt: number;
  /** For the message's story. */
  failure: Failure;
  /** When the next attempt is due. */
  nextAt: Date;
  /** It may have been told as counting before: nothing that the group has failed up to it counts. */
  all: boolean;
}

/** A group has failed for good in this call. */
export interface DeadMessage {
  id: string;
  /** As the record of its failure had it. */
  event?: string;
  reason: string;
  /** undefined: no group is known, or it is about all. */
  group?: string;
  cause: FailureCause;
}

/** Which groups have failed for good, most first. `more`: there are more dead messages than were looked at. */
export interface DeadGroups {
  groups: { group: string; count: number }[];
  more: boolean;
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
  /** Lines of the group in which they stood, if they did. */
  left?: { key: string; group: string }[];
}

export interface HandledResult {
  /** Ids that are not in the store. */
  unknown: string[];
  /** Receipts that were in the store already. */
  duplicates: number;
  /** The given ids that are consumed now. */
  consumed: string[];
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
  /** New names to which nothing was sent yet, whenever the message was published to others. */
  unsent?: string[];
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
  /** Groups that were unroutable: a queue has taken it now. */
  routed?: string[];
  /** Number of the last check sent. */
  round?: number;
  asks?: number;
  /** null: the producer answers again. */
  unreachableSince?: Date | null;
  /** For the message's story. */
  note?: Note;
  /** As the sweep has read it: a human's retry in the meantime makes the message due at once. */
  retriedAt?: Date;
}

/** How a group stands to a message. */
export type GroupList = "waiting" | "failed" | "handled";

export interface ListQuery {
  status?: Status | Status[];
  event?: string;
  /** Matches groups that wait, have failed or have handled: `groupIn` tells which of them. */
  group?: string;
  /** @default all */
  groupIn?: GroupList[];
  producer?: string;
  /** Bounds on `at`. */
  before?: Date;
  after?: Date;
  ids?: string[];
  /** How the id begins. Then the list is in the order of the ids, the greatest first. */
  idPrefix?: string;
  requestID?: string;
  /** Message keys, `name=value`: those that have all of them. */
  keys?: string[];
  /** Of one and the same error in `lastErrors`: only dead messages have any, and no others are looked at. */
  errorType?: string;
  cause?: string;
  errorText?: string;
  /** The rows after this one. */
  cursor?: Position;
}

/** Where a row stands in a list. */
export interface Position {
  at: Date;
  id: string;
}

/** A page of a list. `capped`: there are more than `total`, or counting took too long; history has no end. */
export interface Listed<T> {
  rows: T[];
  total: number;
  capped: boolean;
}

/** `estimated`: the database's own number of its rows has been asked. `next`: there are rows after this one. */
export interface ListedMessages extends Listed<ListedMessage> {
  estimated?: true;
  next?: Position;
}

/** One way in which messages have died: of a group, for an event, with an error. */
export interface Cause {
  group: string;
  event: string;
  cause: FailureCause;
  errorName: string;
  errorType: string;
  text: string;
  count: number;
  firstAt: Date;
  lastAt: Date;
  /** Where, as far as it is known: the first ones. */
  nodes: string[];
  moreNodes: number;
  /** The last one that died of it. */
  sampleId: string;
}

/** `read`: so many dead messages are of the query; `more`: there are older ones that were not looked at. */
export interface Causes {
  causes: Cause[];
  read: number;
  more: boolean;
}

/** How far the payloads of each final status are dropped: those that became final by then. */
export type DropsDone = Partial<Record<Status, Date>>;

/** `messages`: whose payload was dropped; `more`: a page was full, and where the next ones begin. */
export interface Dropped {
  messages: number;
  more?: DropsDone;
}

/**
 * Messages with one key: finished ones with and without their payload, and the others by status. `capped`: there are more,
 * or counting took too long.
 */
export interface Keyed {
  kept: number;
  dropped: number;
  open: Partial<Record<Status, number>>;
  capped?: true;
}

/** When the oldest `pending` and the oldest `published` message were emitted, and when the oldest `dead` one died. */
export interface Oldest {
  pending?: Date | undefined;
  published?: Date | undefined;
  dead?: Date | undefined;
}

export interface StoreStats {
  byStatus: Record<Status, number>;
  parked: number;
  /** Of which there are more. */
  capped: (Status | "parked")[];
  /** Not counted to the end, but reckoned from the database's own number of its rows. */
  estimated: Status[];
  /** The oldest `at` of a `pending` message, of a `published` one, of a `dead` one. */
  oldestPendingAt?: Date;
  oldestPublishedAt?: Date;
  oldestDeadAt?: Date;
}

export interface Timing {
  id: string;
  event: string;
  /** Or sent, if it was scheduled. */
  emittedAt: Date;
  consumedAt: Date;
}

export interface DueQuery {
  /** Of a search that goes on: a server may keep what has left its index for a while, and would go through it anew. */
  from?: Date;
  now: Date;
  limit: number;
  /** Buckets of the partitions this node holds; undefined = all. */
  buckets?: number[];
}

/** `bytes`: of its payload. */
export interface Due {
  id: string;
  bytes: number;
  dueAt: Date;
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

/** Of a row, what tells whether something is to be done about its message. */
export interface RowStatus {
  id: string;
  event: string;
  status: Status;
  /** Nothing but receipts is known of it. */
  partial: boolean;
}
