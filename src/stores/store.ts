import type { ReliableError } from "../errors";
import type { Failure, Message, MessageHead, Note } from "../message/message";
import type { AuditEnd, AuditRecord, Discarded, ListedParked, Parked, Pause, Subscription } from "../message/records";
import type { BulkMessageStore, BulkStore } from "./bulk-store";
import type { HistoryStore } from "./history-store";
import type { LaneStore } from "./lane-store";
import type {
  Causes,
  ClaimQuery,
  DeadGroups,
  DeadMessage,
  DisplacedRecord,
  Dropped,
  DropsDone,
  Due,
  DueQuery,
  ExcusedRecord,
  FailedRecord,
  HandledRecord,
  HandledResult,
  Happened,
  InboxOutcome,
  InsertOutcome,
  Keyed,
  Listed,
  ListedMessages,
  ListQuery,
  NamingRecord,
  Oldest,
  PublishedRecord,
  RecipientsRecord,
  Released,
  ReleaseScope,
  RescheduleRecord,
  RowStatus,
  StoreStats,
  Timing
} from "./store-records";

/**
 * The store: one verb per transition. Every write that changes a status is one conditional write that repeats the
 * expected state in its filter, so that a lost race is a return value and repeating any call is harmless.
 *
 * All methods reject with a RELIABLE_UNAVAILABLE error (retryable) while the store cannot be reached, or when the
 * outcome of a write is unknown; doing the same again is then safe. There is no timeout-less call.
 *
 * A change of one message that the store refuses for what it is takes along no other of its batch: it is made in a short
 * form; if that is refused too the message becomes `dead`; see `onRefused`. Only an operator's act on a message that is
 * not open rejects (RELIABLE_STORE_REFUSED).
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
   * One that the store refuses for what it is takes along no other: its result is the error (RELIABLE_STORE_REFUSED, or
   * RELIABLE_UNREADABLE_ROW for the existing row).
   */
  insert(messages: Message[]): Promise<(InsertOutcome | ReliableError)[]>;
  /**
   * Inserts inside the caller's MongoDB transaction. RELIABLE_BAD_SESSION when the session is not of this store's
   * client. `before`: what is to be done before the insert, in the transaction that is open at the call all the same.
   */
  insertIn(session: unknown, message: Message, before?: Promise<unknown>): Promise<InsertOutcome>;
  /** Calls back once the caller's session has ended. Its transaction is committed or aborted then; `find` tells which. */
  onSessionEnd(session: unknown, listener: () => void): void;
  /** pending → published. Returns how many were still pending. */
  published(records: PublishedRecord[]): Promise<number>;
  /** A first publish failed in a way that uses up no attempt: still pending and unclaimed → due at `dueAt`. */
  postponed(ids: string[], dueAt: Date): Promise<number>;
  /**
   * Receipts: the group has handled the message. It leaves `waiting`/`failed`; the last group makes the message
   * `consumed` from pending, published or dead (`resolved`, if a human has resolved a group of it), and the last one
   * that had failed makes a dead one open again. Returns the ids that are not in the store and the number of duplicate
   * receipts.
   */
  handled(records: HandledRecord[]): Promise<HandledResult>;
  /**
   * A group has answered for a message that waited for ANY_GROUP. These groups replace ANY_GROUP, except those that
   * have answered; if none is left the message is `consumed`.
   */
  resolveRecipients(records: RecipientsRecord[]): Promise<Pick<HandledResult, "consumed">>;
  /**
   * An attempt failed. A group without attempts left makes the message `dead`; it stays due while other groups are
   * waited for. Returns how many records changed something, and which groups have failed for good by them.
   */
  failed(records: FailedRecord[]): Promise<{ applied: number; dead: DeadMessage[] }>;
  /**
   * Attempts that reached no consumer are taken back: the same ones are due again at `nextAt`. Only if the group has
   * not answered and no later attempt was made; repeated, it changes nothing more but the story.
   */
  displaced(records: DisplacedRecord[]): Promise<void>;
  /**
   * Attempts failed and do not count. `all`: nor do this one, if told as counting before, and all before it; a group
   * that has failed for good by it is waited for again. Repeated, it changes nothing.
   */
  excused(records: ExcusedRecord[]): Promise<void>;
  /**
   * Groups have announced themselves: what was unroutable for want of them is due at `at`. Returns how many messages
   * that are; some of them may be for others.
   */
  routable(subscriptions: Pick<Subscription, "group" | "pattern">[], at: Date): Promise<number>;
  /**
   * Inserts rows of messages of strategy `callback` that are first known from receipts, with these receipts. Returns the
   * ids that had no row, but for what the store refuses. Existing rows, and what an operator has discarded, stay so.
   */
  insertFromReceipts(rows: Message[]): Promise<Set<string>>;
  /**
   * Rows of messages that their emit did not store (strategy `callback`). A missing row is inserted; one known from
   * receipts only is completed; one of an earlier, withdrawn emission of the id is replaced; an intent whose message
   * was sent becomes pending. A message that an operator has discarded gets no row. Returns the rows as they were
   * found, or the new ones. Rejects with RELIABLE_STORE_REFUSED if the store refuses one, when it has the others.
   */
  upsertFromChecks(rows: Message[]): Promise<Message[]>;
  /** What most checks need to know: of those of these ids that are in the store. */
  statuses(ids: string[]): Promise<RowStatus[]>;
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
   * scheduled → pending, before anything is published: from then on it cannot be cancelled. Only while the claim is
   * valid. Returns the ids that are pending.
   */
  begun(ids: string[], claim: string): Promise<Set<string>>;
  /**
   * Called before anything is published to the new names: an earlier receipt would not find its group in `waiting`.
   * Only while the claim is valid and `waiting` is as given. Returns the ids that have the new names.
   */
  named(records: NamingRecord[]): Promise<Set<string>>;
  /** Only while the claim is valid. Returns how many were changed. `late`: most of them are handled, probably. */
  rescheduled(records: RescheduleRecord[], late?: boolean): Promise<number>;
  find(ids: string[]): Promise<Message[]>;
  /** The same without their payloads, which may be many and large. */
  heads(ids: string[]): Promise<MessageHead[]>;
  /** Newest first, those of one instant by id; from `query.cursor` on. `countAll`: the total as `stats` counts. */
  list(query: ListQuery, limit: number, countAll?: boolean): Promise<ListedMessages>;
  /** Of what the newest `most` dead messages died (with a key, request or type: of these), the most frequent first. */
  causes(query: ListQuery, most: number): Promise<Causes>;
  /** What is not final is counted up to 100,000, what is final up to 10,000; each only up to `most`, if given. */
  stats(most?: number): Promise<StoreStats>;
  /** Of the newest `limit` dead messages: how many each group has failed. */
  deadGroups(limit: number): Promise<DeadGroups>;
  /** The oldest `at` of these statuses: one row each, by index. */
  oldest(): Promise<Oldest>;
  /** Of the messages that are consumed: when they were emitted, and when the last receipt came. */
  timings(ids: string[]): Promise<Timing[]>;
}

/** Messages whose business write is not yet known to have happened. */
export interface IntentStore {
  /**
   * intended → pending: the business write has happened. False = it is no longer intended.
   */
  happened(id: string, dueAt: Date, known?: Happened): Promise<boolean>;
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

/** What an operator does with messages and groups. Its audit record is `AuditStore`'s. */
export interface OperationStore {
  /**
   * dead → pending with new attempts, for the groups that failed; the others go on. False = the message is no longer as
   * given.
   */
  retry(message: MessageHead, at: Date, note: Note): Promise<boolean>;
  /** dead → resolved; pending or published, while other groups are waited for. */
  resolve(message: MessageHead, note: Note): Promise<boolean>;
  /** scheduled → cancelled. False = it is not scheduled any more. */
  cancel(message: MessageHead, note: Note): Promise<boolean>;
  /** dead, and no group is waited for → deleted; the record is written first. */
  discard(message: MessageHead, record: Discarded): Promise<boolean>;
  /**
   * Deletes the group's subscriptions and returns their number. Before `release`, so that no new message waits for the
   * group while the old ones are freed.
   */
  forget(subscriptions: Pick<Subscription, "group" | "pattern">[]): Promise<number>;
  /**
   * Frees a page of the messages that wait for a forgotten group: → consumed if others have handled it, resolved if no
   * group is left; a dead one is open again if no other group has failed. Undefined = no message waits for it any more.
   * A message that lost its race against a receipt comes again with the next page.
   */
  release(scope: ReleaseScope, note: Note): Promise<Released | undefined>;
  /**
   * Final, with this key → without payload, meta, headers, the source's params and the texts of errors; a page of
   * `limit`. Returns of how many: 0 = of all that the store lets be changed. Repeating it is harmless.
   */
  erase(key: string, note: Note, limit: number): Promise<number>;
  /** What there is with this key; each number is counted up to `limit`. */
  keyed(key: string, limit: number): Promise<Keyed>;
}

/** Who did what, when and why. One record per act; what a discard has deleted is kept beside it, one record each. */
export interface AuditStore {
  /** Before the act does anything. Repeating it is harmless. */
  begin(record: AuditRecord): Promise<void>;
  /**
   * The same for a `forget`. One of the same group and pattern that came to no end since `since` goes on under its own
   * record: that names who does it now, and who began it. Returns the record's id.
   */
  beginForget(record: AuditRecord, since: Date): Promise<string>;
  /** The act has ended. False = it has ended before, and that stays. */
  end(id: string, end: AuditEnd): Promise<boolean>;
  /** Newest first, without their `ids`. */
  list(offset: number, limit: number): Promise<Listed<AuditRecord>>;
  /** With its `ids`. */
  find(id: string): Promise<AuditRecord | undefined>;
  /** What was discarded under these ids, newest first: an id may be emitted and discarded again. */
  discarded(ids: string[]): Promise<Discarded[]>;
  /** The last `forget` of each of these groups that was forgotten. */
  forgotten(groups: string[]): Promise<Map<string, Note>>;
}

/** Which groups exist, and their queues. */
export interface SubscriptionStore {
  announce(subscriptions: Subscription[]): Promise<void>;
  /** Rows that name no group or queue are left out, and told. */
  list(unreadable?: (error: Error) => void): Promise<Subscription[]>;
  /** The same with the pauses of groups, in one read. */
  known(unreadable?: (error: Error) => void): Promise<{ subscriptions: Subscription[]; pauses: Pause[] }>;
}

/** What names a pause: a group, or one of its patterns. */
export type PauseKey = Pick<Pause, "group" | "pattern">;

/** Which groups take nothing, because a human says so; those that were resumed a while ago, too. */
export interface PauseStore {
  /** → paused, if it is not. False = it is paused already. Repeating it with the same pause is harmless, and true. */
  pause(pause: Pause): Promise<boolean>;
  /** paused → resumed; its marker is still there. False = it is not paused. */
  resume(pause: PauseKey, resumed: NonNullable<Pause["resumed"]>): Promise<boolean>;
  /** The marker of one that was resumed at that time is gone. False = it was paused again meanwhile. */
  unmarked(pause: PauseKey, resumedAt: Date): Promise<boolean>;
  /** As it is now. */
  find(pause: PauseKey): Promise<Pause | undefined>;
  list(): Promise<Pause[]>;
  /** Deletes those whose marker is gone and that were resumed before then. */
  prune(before: Date): Promise<number>;
}

/** What could not be read, with its raw bytes. */
export interface ParkedStore {
  /**
   * Per record: false = its `_id` is there already. Repeating it is harmless. Rejects if the store refuses one, when it
   * has the others.
   */
  add(records: Parked[]): Promise<boolean[]>;
  /** Newest first, without their bodies. */
  list(offset: number, limit: number): Promise<Listed<ListedParked>>;
  /** Those of these ids that are in the store. */
  find(ids: string[]): Promise<Parked[]>;
  /** → deleted; the record is written first. Repeating it with the same record is harmless. */
  discard(parked: Pick<Parked, "_id" | "at">, record: Discarded): Promise<void>;
}

/** Ids that a group has handled. */
export interface InboxStore {
  /** Which of these ids the group has handled already, by a row here or by its receipt in the message's row. */
  handled(group: string, ids: string[]): Promise<Set<string>>;
  /** Per id: why the store refuses its row; undefined = it has it. */
  add(group: string, ids: string[], at: Date): Promise<(ReliableError | undefined)[]>;
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
  readonly audits: AuditStore;
  readonly bulks: BulkStore;
  readonly bulkMessages: BulkMessageStore;
  readonly subscriptions: SubscriptionStore;
  readonly pauses: PauseStore;
  readonly parked: ParkedStore;
  readonly inbox: InboxStore;
  readonly history: HistoryStore;
  readonly lanes: LaneStore;
  /** The clock for due times and claims. It is one for all nodes, even if their own clocks are wrong. */
  now(): Date;

  /**
   * Starts connecting. Resolves when connected, or when the first try failed with an error that may pass (then it keeps
   * trying, with jittered backoff). Rejects with RELIABLE_ACCESS_REFUSED or RELIABLE_BAD_OPTION on a wrong password or
   * address.
   */
  start(): Promise<void>;
  close(withinMs?: number): Promise<void>;
  /** An id that no other store has, and that stays. Rejects while the store does not answer. */
  identify(): Promise<string>;
  /** Writes one row, the same one each time. Returns the ms until the store has it; rejects when it takes no writes. */
  probe(): Promise<number>;
  /** Called each time the store becomes reachable. Returns the unsubscribe function. */
  onReady(listener: () => void): () => void;
  /** Called when the store is not reachable, at first or any more; when it takes no writes; and when it is degraded. */
  onUnavailable(listener: (error: Error) => void): void;
  /**
   * Called once for each message about which the store takes no record as it is (RELIABLE_STORE_REFUSED; it does not
   * fit, a validator or a unique index refuses it). `dead`: the message became dead by it.
   */
  onRefused(listener: (error: ReliableError, dead?: DeadMessage) => void): void;
  /**
   * Deletes a page of `limit` each of final messages (never `dead`), inbox rows and barrier rows that are older than
   * `before`, and of what a crash has left of large bodies. Parked messages stay until an operator discards them.
   * `messages`: number of deleted messages; `more`: one of the pages was full.
   */
  prune(before: Date, limit: number): Promise<{ messages: number; more: boolean }>;
  /**
   * Takes what `erase` takes out of a page of `limit` each of the final messages that ended before `before`, oldest
   * first. `since`: `more` of the page before. What was done is remembered: the cost is that of what is new.
   */
  dropPayloads(before: Date, limit: number, since?: DropsDone): Promise<Dropped>;
}
