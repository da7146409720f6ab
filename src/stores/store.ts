import type { Status } from "../message/lifecycle";
import type { Failure, Message, Note, Receipt } from "../message/message";
import type { AuditRecord, Parked, Subscription } from "../message/records";

/**
 * The store: one verb per transition. Every write that changes a status is one conditional write that repeats the
 * expected state in its filter, so that a lost race is a return value and repeating any call is harmless.
 *
 * All methods reject with a RELIABLE_UNAVAILABLE error (retryable) while the store cannot be reached, or when the
 * outcome of a write is unknown; doing the same again is then safe. There is no timeout-less call.
 */
export interface StoreFeatures {
  /** Survives the end of the process (embedded: only with a path, and then not a power loss). */
  durable: boolean;
  /** Seen by other processes. */
  shared: boolean;
  /** Takes part in the caller's `session` and in `inbox: "transaction"`. */
  transactions: boolean;
}

export type InsertOutcome = { stored: true } | { stored: false; existing: Message };

/** The broker has confirmed and routed it. */
export interface PublishedRecord {
  id: string;
  at: Date;
  /** createdAt-independent: when silence becomes the sweeper's business. */
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
  /**
   * The attempt that failed; a record whose attempt is not above the stored `spent` is a duplicate and changes nothing.
   */
  attempt: number;
  failure: Failure;
  /** When the next attempt is due; null = the group's budget is spent. */
  nextAt: Date | null;
  /** Text for `reason`, should this make the message `dead`. */
  reason: string;
}

/** It became dead in this call. */
export interface DeadMessage {
  id: string;
  reason: string;
}

export interface HandledResult {
  /** Ids that are not in the store. */
  unknown: string[];
  /** Receipts that were there already. */
  duplicates: number;
  /** Those of the given ids that are consumed now. */
  consumed: string[];
  /** The last group with budget left has answered, and others have none. */
  dead: DeadMessage[];
  /** Those that wait for ANY_GROUP still: who that is must be said with `whoever`. */
  unresolved: string[];
}

/** Who ANY_GROUP turned out to be. */
export interface RecipientsRecord {
  id: string;
  groups: string[];
}

/** Groups that take the place of ANY_GROUP, or of a name that stands for them, in `waiting`. */
export interface NamingRecord {
  id: string;
  claim: string;
  /** As the sweep saw it, and as it shall be. */
  from: string[];
  to: string[];
}

/** What a sweep decided for a message it had claimed. Applied only while the claim still holds. */
export interface RescheduleRecord {
  id: string;
  claim: string;
  /** `published`: resent and confirmed; `pending`: not known to be with the broker; undefined: unchanged. */
  status?: "published" | "pending";
  dueAt: Date;
  /** Per group: attempts made and when its next step is due. */
  attempts?: Record<string, number>;
  next?: Record<string, Date>;
  /**
   * Which attempt the sweep had before it, per group. A failure of it that came in meanwhile has scheduled the next
   * one: then that counts, and not `next` and `dueAt`.
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
  /** Matches groups that wait, failed or have handled. */
  group?: string;
  producer?: string;
  /** Bounds on createdAt. */
  createdBefore?: Date;
  createdAfter?: Date;
  ids?: string[];
}

export interface StoreStats {
  byStatus: Record<Status, number>;
  parked: number;
  /** Oldest createdAt of a `pending` message, of a `published` one, of a `dead` one. */
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
  /** Buckets of the partitions held; undefined = all. */
  buckets?: number[];
}

export interface ClaimQuery {
  ids: string[];
  now: Date;
  /** End of the claim: becomes `dueAt`, so that an unfinished pass gives the message back by itself. */
  until: Date;
  claim: string;
  /** Due or not, unless a claim on them still runs: their checks have come. */
  checked?: boolean;
}

/** Emitted messages: one verb per transition. */
export interface MessageStore {
  /**
   * Inserts; an `_id` that is there already is not an error but `stored: false` with the row as it is. Durable when
   * resolved.
   */
  insert(messages: Message[]): Promise<InsertOutcome[]>;
  /**
   * The same inside the caller's MongoDB transaction. RELIABLE_BAD_SESSION when the session is not of this store's
   * client.
   */
  insertIn(session: unknown, message: Message): Promise<InsertOutcome>;
  /** Calls back once the caller's session has ended; its transaction is then committed or not, which `find` tells. */
  onSessionEnd(session: unknown, listener: () => void): void;
  /** pending → published. Returns how many were still pending. */
  published(records: PublishedRecord[]): Promise<number>;
  /** A first publish failed in a way that burns no attempt: still pending, unclaimed → due at `dueAt`. */
  postponed(ids: string[], dueAt: Date): Promise<number>;
  /**
   * Receipts: the group has handled it. Leaves `waiting`/`failed`; the last one makes it `consumed` from pending,
   * published or dead. Returns the ids that are not in the store and how many receipts were there already.
   */
  handled(records: HandledRecord[]): Promise<HandledResult>;
  /**
   * Somebody has answered for a message that waited for ANY_GROUP: these groups take its place, but for those that have
   * answered; with none left it is `consumed`.
   */
  resolveRecipients(records: RecipientsRecord[]): Promise<Pick<HandledResult, "consumed" | "dead">>;
  /** An attempt failed. Returns how many records changed something and which messages became dead. */
  failed(records: FailedRecord[]): Promise<{ applied: number; dead: DeadMessage[] }>;
  /**
   * Inserts rows of messages of strategy `callback` that are known from receipts, with what these say: one write where
   * the way by `adopt` and `handled` takes two. Returns the ids of those that had none yet; the others are left as they
   * are, and so is what a human has discarded.
   */
  insertFromReceipts(rows: Message[]): Promise<Set<string>>;
  /**
   * Rows of messages that were not stored by their emit (strategy `callback`): inserted where absent; one that was
   * known from receipts only is completed; one of an earlier emission of the id that was withdrawn is replaced; an
   * intent that is given as sent has happened. What a human has discarded is not taken up again. Returns the rows as
   * they were found, or as they are now where they are new.
   */
  upsertFromChecks(rows: Message[]): Promise<Message[]>;
  /**
   * Ids of messages that are due, oldest first: whom to claim. To look is dear where a server sorts all that is due, so
   * it is done for many pages at once.
   */
  due(query: DueQuery): Promise<string[]>;
  /**
   * Takes those of the given messages that are (still) due under a claim. Two callers never get the same message for
   * the same due instant.
   */
  claim(query: ClaimQuery): Promise<Message[]>;
  /**
   * Before anything is published to the new names: a receipt that came first would find nobody else in `waiting`. Only
   * where the claim holds and `waiting` is as given. Returns the ids that have the new names.
   */
  named(records: NamingRecord[]): Promise<Set<string>>;
  /** Only where the claim still holds. Returns how many did. */
  rescheduled(records: RescheduleRecord[]): Promise<number>;
  find(ids: string[]): Promise<Message[]>;
  /** Newest first. */
  list(query: ListQuery, offset: number, limit: number): Promise<{ rows: Message[]; total: number }>;
  stats(): Promise<StoreStats>;
  /** When the oldest `pending` and the oldest `published` message were emitted: one row each, by index. */
  oldest(): Promise<{ pending?: Date; published?: Date }>;
  /** Of those that are consumed: when they were emitted, and when the last receipt came. */
  timings(ids: string[]): Promise<Timing[]>;
}

/** Messages before their business write is known to have happened. */
export interface IntentStore {
  /**
   * intended → pending: the business write has happened. `body` where only the source had it. False = it was not (any
   * more) intended.
   */
  happened(id: string, dueAt: Date, body?: Buffer): Promise<boolean>;
  /**
   * intended → withdrawn: the business write has not happened and will not. `createdAt`: of this emission only, the id
   * may have been emitted again.
   */
  withdraw(id: string, note: Note, createdAt?: Date): Promise<boolean>;
  /** intended → dead: asked too often without a clear answer. */
  expire(id: string, failure: Failure, reason: string): Promise<boolean>;
  /**
   * Writes the barrier row of a business transaction. RELIABLE_WITHDRAWN when the intent was withdrawn meanwhile;
   * RELIABLE_BAD_SESSION.
   */
  barrier(session: unknown, id: string): Promise<void>;
  /** Whether the business transaction has written its barrier row; if not, none can any more after this. */
  fence(id: string): Promise<"committed" | "fenced">;
  /**
   * Whether the business transaction that has written this barrier row has ended without a commit. Leaves the id free.
   */
  rolledBack(id: string): Promise<boolean>;
}

/** What a human does, each act with its record. */
export interface OperationStore {
  /** dead → pending with a fresh budget, for the groups that failed. False = it was not (any more) as given. */
  retry(message: Message, at: Date, note: Note): Promise<boolean>;
  /** dead → resolved. */
  resolve(message: Message, note: Note): Promise<boolean>;
  /** dead → deleted; the audit record is written first. */
  discard(message: Message, audit: AuditRecord): Promise<boolean>;
  /**
   * Deletes the group's subscriptions and frees what waits for it: → consumed if others have handled it, else resolved.
   * Returns how many messages were freed.
   */
  forget(group: string, note: Note): Promise<{ subscriptions: number; messages: number }>;
  audits(messageId?: string): Promise<AuditRecord[]>;
}

/** Which groups exist, and their queues. */
export interface SubscriptionStore {
  announce(subscriptions: Subscription[]): Promise<void>;
  list(): Promise<Subscription[]>;
}

/** What could not be read, with its raw bytes. */
export interface ParkedStore {
  /** Repeating it with the same `_id` is harmless. */
  add(records: Parked[]): Promise<void>;
  /** Newest first. */
  list(offset: number, limit: number): Promise<{ rows: Parked[]; total: number }>;
  /** Those of these ids that are there. */
  find(ids: string[]): Promise<Parked[]>;
  /** → deleted; the audit record is written first. Repeating it with the same record is harmless. */
  discard(parked: Parked, audit: AuditRecord): Promise<void>;
}

/** Ids that a group has handled. */
export interface InboxStore {
  /** Which of these ids the group has handled already. */
  handled(group: string, ids: string[]): Promise<Set<string>>;
  add(group: string, ids: string[], at: Date): Promise<void>;
  /**
   * Runs `work(session)` in a transaction of this store's client in which the inbox row is written first: "handled"
   * commits both; an id that is there already returns "duplicate" and `work` is not run. Rejects with work's own error,
   * nothing written. Only with features.transactions.
   */
  transaction(
    group: string,
    id: string,
    at: Date,
    work: (session: unknown) => Promise<void>
  ): Promise<"handled" | "duplicate">;
}

export interface Store {
  readonly name: "mongodb" | "embedded";
  readonly features: StoreFeatures;
  /** True while it answers. */
  readonly ready: boolean;
  readonly messages: MessageStore;
  readonly intents: IntentStore;
  readonly operations: OperationStore;
  readonly subscriptions: SubscriptionStore;
  readonly parked: ParkedStore;
  readonly inbox: InboxStore;
  /**
   * The time by which due times and claims are written and read: one clock for all nodes, however wrong their own are.
   */
  now(): Date;

  /**
   * Starts connecting. Resolves when connected, or when the first try failed in a way that may pass (it goes on trying,
   * with jittered backoff). Rejects with RELIABLE_ACCESS_REFUSED / RELIABLE_BAD_OPTION on a wrong password or address.
   */
  start(): Promise<void>;
  close(withinMs?: number): Promise<void>;
  /** Round trip in ms; rejects when down. */
  ping(): Promise<number>;
  /** Called each time it becomes reachable; returns the unsubscribe function. */
  onReady(listener: () => void): () => void;
  /** Called when it stops being reachable, or could not be reached at first. */
  onUnavailable(listener: (error: Error) => void): void;
  /**
   * Deletes final messages (never `dead`), and inbox and barrier rows, that are older than `before`: a page of `limit`
   * of each. Parked ones stay until a human discards them. `messages`: how many of the first; `more`: one of the pages
   * was full.
   */
  prune(before: Date, limit: number): Promise<{ messages: number; more: boolean }>;
}
