import type { Bulk, BulkAct, BulkChange, BulkCursor, BulkEnd, BulkPage, BulkProgress } from "../message/bulk";
import type { ListedMessage, Note } from "../message/message";
import type { Discarded } from "../message/records";
import type { Kept } from "../message/replay";
import type { Listed, ListQuery, Position } from "./store-records";

/** What a bulk act is about. */
export interface BulkScope {
  bulk: string;
  act: BulkAct;
  /** Messages that are dead; `before`: its start, at the latest. */
  query: ListQuery;
}

/** Of a replay. `next`: there may be more behind it. */
export interface KeptPage {
  rows: Kept[];
  next?: Position;
}

/** What became of those that a bulk act has retried. `capped`: there are more. */
export interface BulkTally {
  handled: number;
  failedAgain: number;
  capped: boolean;
}

export interface BulkClaims {
  claimed: Bulk[];
  /** When the first claim of another node ends; not there if there is none. */
  nextAt?: Date;
}

/** Bulk acts: one document each, and one verb per transition. All may be repeated. */
export interface BulkStore {
  /**
   * → running. Undefined = it is; else the one of the same key that is under way (or is being started), and nothing is
   * written.
   */
  begin(bulk: Bulk): Promise<Pick<Bulk, "_id" | "by" | "at"> | undefined>;
  /** Claims those that are running or stopping and that nobody has, `most` of them. Two callers never get the same. */
  claim(query: { claim: string; now: Date; until: Date; most: number }): Promise<BulkClaims>;
  /**
   * The page that is acted on next. Only while the claim holds, it is running and its rate is as known. False = look
   * again.
   */
  planned(bulk: Bulk, page: BulkPage, until: Date): Promise<boolean>;
  /** The page is done, or all is. Only while the claim holds. */
  progressed(bulk: Bulk, progress: BulkProgress, until: Date): Promise<boolean>;
  /** Gives the claim back. */
  released(bulk: Pick<Bulk, "_id" | "claim">): Promise<void>;
  /** → done, stopped, failed. Only while the claim holds. */
  ended(bulk: Pick<Bulk, "_id" | "claim">, end: BulkEnd): Promise<boolean>;
  /** running → paused, paused → running, running or paused → stopping. False = it is in another state. */
  pause(id: string, change: BulkChange): Promise<boolean>;
  resume(id: string, change: BulkChange): Promise<boolean>;
  stop(id: string, change: BulkChange): Promise<boolean>;
  /** While it is under way. One of this rate stays as it is: true. */
  pace(id: string, perSecond: number, change: BulkChange): Promise<boolean>;
  find(id: string): Promise<Bulk | undefined>;
  /** Newest first, without their page and cursor. */
  list(offset: number, limit: number): Promise<Listed<Bulk>>;
  /** Acts and filters of the newest `limit` replays. */
  replays(limit: number): Promise<Pick<Bulk, "_id" | "filter">[]>;
  /** Those that are running, paused or stopping. */
  underWay(): Promise<Bulk[]>;
}

/** The messages of a bulk act, many at once; each is still changed by a conditional write of its own. */
export interface BulkMessageStore {
  /** How many match: up to a bound, and for a second or two. */
  count(scope: BulkScope): Promise<{ counted: number; more: boolean }>;
  /** A page of what is left, oldest death first, without bodies. */
  select(scope: BulkScope, cursor: BulkCursor | undefined, limit: number): Promise<ListedMessage[]>;
  /**
   * Which of these the bulk act has done, in whatever process. What a process that died between record and deletion has
   * told as discarded, and is there, is not told any more.
   */
  done(scope: BulkScope, ids: string[]): Promise<Set<string>>;
  /**
   * As `OperationStore.retry`, `resolve` and `discard`, of messages that still match. Return the ids that are done.
   * What the store refuses of one takes along no other; it is not done.
   */
  retry(scope: BulkScope, messages: ListedMessage[], note: Note): Promise<Set<string>>;
  resolve(scope: BulkScope, messages: ListedMessage[], note: Note): Promise<Set<string>>;
  discard(scope: BulkScope, messages: ListedMessage[], records: Discarded[]): Promise<Set<string>>;
  /**
   * What was emitted and is kept, in whatever status, whose instant (`Message.at`) is not before `from`: oldest first, after
   * a position, without bodies. Instants only move forward, but for a human's retry: what moves is met again.
   */
  kept(from: Date, limit: number, after?: Position): Promise<KeptPage>;
  /** Of those that were retried, or made by a replay: which have ended since, and which are dead. Two counts, by index alone. */
  tally(bulk: string): Promise<BulkTally>;
  /**
   * Of the last `limit` that have an outcome: how many, how many of them are dead, and when the first of them had it;
   * the next call need not look further back.
   */
  outcomes(bulk: string, limit: number, since?: Date): Promise<{ seen: number; dead: number; since: Date }>;
}
