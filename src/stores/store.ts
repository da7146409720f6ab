import type { Failure, ListedMessage, Message, MessageHead, Note } from "../message/message";
import type { AuditRecord, Parked, Subscription } from "../message/records";
import type {
  ClaimQuery,
  DeadMessage,
  DisplacedRecord,
  Due,
  DueQuery,
  FailedRecord,
  HandledRecord,
  HandledResult,
  InboxOutcome,
  InsertOutcome,
  ListQuery,
  NamingRecord,
  PublishedRecord,
  RecipientsRecord,
  Released,
  ReleaseScope,
  RescheduleRecord,
  StoreStats,
  Timing
} from "./store-records";

/**
 * The store: one verb per transition. Every write that changes a status is one conditional write that repeats the
 * expected state in its filter, so that a lost race is a return value and repeating any call is harmless.
 *
 * All methods reject with a RELIABLE_UNAVAILABLE error (retryable) while the store cannot be reached, or when the
 * outcome of a write is unknown; doing the same again is then safe. There is no timeout-less call.
 */
export interface StoreFeatures {
  /** Data survives the end of the process, and a power loss (embedded: only with a path). */
  durable: boolean;
  /** Other processes see the data. */
  shared: boolean;
  /** Can join the caller's `session`; `inbox: "transaction"` is possible. */
  transactions: boolean;
}

/** Emitted messages: one verb per transition. */
export interface MessageStore {
  /**
   * Inserts. An existing `_id` is no error; the result is `stored: false` with the existing row. Durable when resolved.
   */
  insert(messages: Message[]): Promise<InsertOutcome[]>;
  /**
   * Inserts inside the caller's MongoDB transaction. RELIABLE_BAD_SESSION when the session is not of this store's
   * client.
   */
  insertIn(session: unknown, message: Message): Promise<InsertOutcome>;
  /**
   * Calls back once the caller's session has ended. Its transaction is then committed or aborted; `find` tells which.
   */
  onSessionEnd(session: unknown, listener: () => void): void;
  /** pending → published. Returns how many were still pending. */
  published(records: PublishedRecord[]): Promise<number>;
  /** A first publish failed in a way that uses up no attempt: still pending and unclaimed → due at `dueAt`. */
  postponed(ids: string[], dueAt: Date): Promise<number>;
  /**
   * Receipts: the group has handled the message. It leaves `waiting`/`failed`; the last group makes the message
   * `consumed` from pending, published or dead. Returns the ids that are not in the store and the number of duplicate
   * receipts.
   */
  handled(records: HandledRecord[]): Promise<HandledResult>;
  /**
   * A group has answered for a message that waited for ANY_GROUP. These groups replace ANY_GROUP, except those that
   * have answered; if none is left the message is `consumed`.
   */
  resolveRecipients(records: RecipientsRecord[]): Promise<Pick<HandledResult, "consumed" | "dead">>;
  /** An attempt failed. Returns how many records changed something and which messages became dead. */
  failed(records: FailedRecord[]): Promise<{ applied: number; dead: DeadMessage[] }>;
  /**
   * Attempts that reached no consumer are taken back: the same ones are due again at `nextAt`. Only if the group has
   * not answered and no later attempt was made; repeated, it changes nothing more but the story.
   */
  displaced(records: DisplacedRecord[]): Promise<void>;
  /**
   * Inserts rows of messages of strategy `callback` that are first known from receipts, with these receipts: one write
   * instead of two. Returns the ids that had no row. Existing rows, and messages that an operator has discarded, are
   * not changed.
   */
  insertFromReceipts(rows: Message[]): Promise<Set<string>>;
  /**
   * Rows of messages that their emit did not store (strategy `callback`). A missing row is inserted; one known from
   * receipts only is completed; one of an earlier, withdrawn emission of the id is replaced; an intent whose message
   * was sent becomes pending. A message that an operator has discarded gets no row. Returns the rows as they were
   * found, or the new ones.
   */
  upsertFromChecks(rows: Message[]): Promise<Message[]>;
  /**
   * Messages that are due, oldest first, to be claimed. The query is expensive where a server sorts all that is
   * due, so it reads ahead for many pages at once.
   */
  due(query: DueQuery): Promise<Due[]>;
  /**
   * Claims those of the given messages that are (still) due. Two callers never get the same message for the same due
   * instant.
   */
  claim(query: ClaimQuery): Promise<Message[]>;
  /**
   * Called before anything is published to the new names: an earlier receipt would not find its group in `waiting`.
   * Only while the claim is valid and `waiting` is as given. Returns the ids that have the new names.
   */
  named(records: NamingRecord[]): Promise<Set<string>>;
  /** Only while the claim is valid. Returns how many were changed. */
  rescheduled(records: RescheduleRecord[]): Promise<number>;
  find(ids: string[]): Promise<Message[]>;
  /** Newest first. */
  list(query: ListQuery, offset: number, limit: number): Promise<{ rows: ListedMessage[]; total: number }>;
  stats(): Promise<StoreStats>;
  /** When the oldest `pending` and the oldest `published` message were emitted: one row each, by index. */
  oldest(): Promise<{ pending?: Date; published?: Date }>;
  /** Of the messages that are consumed: when they were emitted, and when the last receipt came. */
  timings(ids: string[]): Promise<Timing[]>;
}

/** Messages whose business write is not yet known to have happened. */
export interface IntentStore {
  /**
   * intended → pending: the business write has happened. `body` if only the source had it. False = it is no longer
   * intended.
   */
  happened(id: string, dueAt: Date, body?: Buffer): Promise<boolean>;
  /**
   * intended → withdrawn: the business write has not happened and will not. `createdAt`: changes this emission only,
   * since the id may have been emitted again.
   */
  withdraw(id: string, note: Note, createdAt?: Date): Promise<boolean>;
  /** intended → dead: asked too often without a clear answer. */
  expire(id: string, failure: Failure, reason: string): Promise<boolean>;
  /**
   * Writes the barrier row of a business transaction. RELIABLE_WITHDRAWN when the intent was withdrawn in the meantime;
   * RELIABLE_BAD_SESSION.
   */
  barrier(session: unknown, id: string): Promise<void>;
  /** Whether the business transaction has written its barrier row. If not, none can write it after this call. */
  fence(id: string): Promise<"committed" | "fenced">;
  /**
   * Whether the business transaction that has written this barrier row has ended without a commit. Leaves the id
   * unused.
   */
  rolledBack(id: string): Promise<boolean>;
}

/** An operator's acts, each with its record. */
export interface OperationStore {
  /** dead → pending with new attempts, for the groups that failed. False = the message is no longer as given. */
  retry(message: MessageHead, at: Date, note: Note): Promise<boolean>;
  /** dead → resolved. */
  resolve(message: MessageHead, note: Note): Promise<boolean>;
  /** dead → deleted; the audit record is written first. */
  discard(message: MessageHead, audit: AuditRecord): Promise<boolean>;
  /**
   * Deletes the group's subscriptions and returns their number. Before `release`, so that no new message waits for the
   * group while the old ones are freed.
   */
  forget(subscriptions: Pick<Subscription, "group" | "pattern">[], note: Note): Promise<number>;
  /**
   * Frees a page of the messages that wait for a forgotten group: → consumed if others have handled it, dead if only
   * failed groups are left, resolved if none is. Undefined = no message waits for it any more. A message that lost its
   * race against a receipt comes again with the next page.
   */
  release(scope: ReleaseScope, note: Note): Promise<Released | undefined>;
  /** The last `forget` of each of these groups that was forgotten. */
  forgotten(groups: string[]): Promise<Map<string, Note>>;
  audits(messageId?: string): Promise<AuditRecord[]>;
}

/** Which groups exist, and their queues. */
export interface SubscriptionStore {
  announce(subscriptions: Subscription[]): Promise<void>;
  list(): Promise<Subscription[]>;
}

/** What could not be read, with its raw bytes. */
export interface ParkedStore {
  /** Per record: false = its `_id` is there already. Repeating it is harmless. */
  add(records: Parked[]): Promise<boolean[]>;
  /** Newest first. */
  list(offset: number, limit: number): Promise<{ rows: Parked[]; total: number }>;
  /** Those of these ids that are in the store. */
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
   * Runs `work(session)` once, in a transaction of this store's client that writes the inbox row first. "handled": both
   * are committed. "duplicate": the id was there already and `work` was not run. A conflict: nothing is written, and it
   * may be run again. Rejects with the error of `work`, and then nothing is written either; with RELIABLE_UNAVAILABLE
   * when it is not known whether the commit has happened. Only with features.transactions.
   */
  transaction(group: string, id: string, at: Date, work: (session: unknown) => Promise<void>): Promise<InboxOutcome>;
  /** After this time the server ends a transaction; undefined = it does not say. Rejects if it cannot be asked. */
  lifetimeMs(): Promise<number | undefined>;
}

export interface Store {
  readonly name: "mongodb" | "embedded";
  readonly features: StoreFeatures;
  /** True while the store answers. */
  readonly ready: boolean;
  /** What is not as it should be, and does no harm yet; for `health`. */
  readonly degraded: string[];
  readonly messages: MessageStore;
  readonly intents: IntentStore;
  readonly operations: OperationStore;
  readonly subscriptions: SubscriptionStore;
  readonly parked: ParkedStore;
  readonly inbox: InboxStore;
  /** The clock for due times and claims. It is one for all nodes, even if their own clocks are wrong. */
  now(): Date;

  /**
   * Starts connecting. Resolves when connected, or when the first try failed with an error that may pass (then it keeps
   * trying, with jittered backoff). Rejects with RELIABLE_ACCESS_REFUSED or RELIABLE_BAD_OPTION on a wrong password or
   * address.
   */
  start(): Promise<void>;
  close(withinMs?: number): Promise<void>;
  /** Writes one row, the same one each time. Returns the ms until the store has it; rejects when it takes no writes. */
  probe(): Promise<number>;
  /** Called each time the store becomes reachable. Returns the unsubscribe function. */
  onReady(listener: () => void): () => void;
  /**
   * Called when the store stops being reachable, or could not be reached at first; and when it takes no writes, or is
   * degraded.
   */
  onUnavailable(listener: (error: Error) => void): void;
  /**
   * Deletes a page of `limit` each of final messages (never `dead`), inbox rows and barrier rows that are older than
   * `before`. Parked messages stay until an operator discards them. `messages`: number of deleted messages; `more`: one
   * of the pages was full.
   */
  prune(before: Date, limit: number): Promise<{ messages: number; more: boolean }>;
}
