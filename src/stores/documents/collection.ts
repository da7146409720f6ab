import type { ReliableError } from "../../errors";

/**
 * What the store needs of a database: the part of MongoDB's language that NeDB speaks too, so that both stores run
 * literally the same filters and changes. Both agree on everything used here; where they do not, it is not used:
 * - `$ne` and `$nin` on arrays mean "no element" in MongoDB and "some element differs" in NeDB;
 * - NeDB knows no `$eq`, `$setOnInsert`, `$all` nor aggregation; `$min`/`$max` on a missing field set it in both;
 * - a date bounded above only would walk every document without that field in NeDB: dates are bounded from EPOCH on;
 * - a missing nested field is `{ $exists: false }` in both.
 */
export interface Doc {
  _id: string;
  [field: string]: unknown;
}

export type Filter = Record<string, unknown>;

export interface Change {
  $set?: Record<string, unknown>;
  $unset?: Record<string, true>;
  $min?: Record<string, Date>;
  $max?: Record<string, Date | number>;
  $inc?: Record<string, number>;
  $push?: Record<string, unknown>;
  /** Values of a list; or its entries that are about these groups. */
  $pull?: Record<string, { $in: string[] } | { group: { $in: string[] } }>;
  $addToSet?: Record<string, string | { $each: string[] }>;
}

export interface Operation {
  filter: Filter;
  change: Change;
  /** Every match, not only the document named by the filter's `_id`. */
  many?: boolean;
  /** Only with a filter on `_id` alone. */
  upsert?: boolean;
}

/** What came of several changes. `refused`: those that the database refuses for what they are; the others are made. */
export interface Attempted {
  matched: number;
  refused: { operation: Operation; error: ReliableError }[];
}

/** `more`: there are more than were counted. */
export interface Count {
  counted: number;
  more: boolean;
}

export interface Page {
  sort?: Record<string, 1 | -1>;
  skip?: number;
  limit?: number;
  fields?: string[];
  /** Instead of `fields`: all but these. */
  without?: string[];
  /** The index that serves it, where a database may take another for better. Without that index it finds the same. */
  by?: Record<string, 1>;
}

/**
 * Rejects with RELIABLE_UNAVAILABLE when the database cannot answer in time; then a write may or may not have happened.
 */
export interface Collection {
  /** Per document: false = its `_id` exists already. Rejects with the first refusal, when the others are inserted. */
  insert(docs: Doc[]): Promise<boolean[]>;
  /** The same; what the database refuses for what it is, is answered with the error. */
  insertEach(docs: Doc[]): Promise<(boolean | ReliableError)[]>;
  /** Changes every match; returns how many matched. */
  update(filter: Filter, change: Change): Promise<number>;
  /**
   * Several changes in one round trip, each atomic per document; returns how many matched in all. Rejects with the first
   * refusal, when the others are made.
   */
  bulk(operations: Operation[]): Promise<number>;
  attempt(operations: Operation[]): Promise<Attempted>;
  find(filter: Filter, page?: Page): Promise<Doc[]>;
  /** Counts up to `limit`, and for a second or two. */
  count(filter: Filter, limit: number): Promise<Count>;
  /** How many documents there are, as the database keeps it: after a crash it may be wrong. */
  estimate(): Promise<number>;
  remove(filter: Filter): Promise<number>;
}

export const COLLECTION_NAMES = [
  "messages",
  "bodies",
  "subscriptions",
  "parked",
  "inbox",
  "audit",
  "bulks",
  "discarded",
  "barriers",
  "history",
  "lanes"
] as const;

export type CollectionName = (typeof COLLECTION_NAMES)[number];

export type Collections = Record<CollectionName, Collection>;

/** The collections of a store, and its clock. */
export interface Database {
  /** Throws RELIABLE_UNAVAILABLE before the store is open and after it is closed. */
  readonly collections: Collections;
  /** See `Store.now`. */
  now(): Date;
}

export const EPOCH = new Date(0);

/** The same database, with another collection in place of its messages. */
export function withMessages(db: Database, messages: Collection): Database {
  return {
    get collections() {
      return { ...db.collections, messages };
    },
    now: () => db.now()
  };
}
