import type {
  AnyBulkWriteOperation,
  ClientSession,
  Collection as DriverCollection,
  IndexDescription,
  UpdateFilter
} from "mongodb";
import { TIMED_OUT, withTimeout } from "../../async/deadline";
import type { ReliableError } from "../../errors";
import type { Clock } from "../../platform/clock";
import type { Attempted, Change, Collection, Count, Doc, Filter, Operation, Page } from "../documents/collection";
import type { Index } from "../documents/indexes";
import {
  DUPLICATE_KEY,
  errorOfRecord,
  isDuplicate,
  isDuplicateId,
  isOfOneRecord,
  mongoError,
  type RecordAnswer,
  unavailable
} from "./errors";

/**
 * No command may hang for ever, whatever timeouts a client of the user's has. It is longer than server selection (5 s)
 * plus a write concern's wait (10 s), so that the driver's own and clearer error comes first.
 */
const DEADLINE_MS = 20_000;

/** A read that its caller has given up ends at the server too, before DEADLINE_MS. */
const MAX_TIME_MS = 15_000;

/** A count that takes longer is of no use to the operator who waits for it. */
const COUNT_MS = 2000;

/** Of one answer, where nothing else limits it; 16 MiB do. */
const BATCH_ROWS = 10_000;

/** MaxTimeMSExpired. */
const TOO_LONG = 50;

/** BadValue, which is said of an index in a hint that is not there, too: it is still being made, or was taken away. */
const BAD_VALUE = 2;
/** IndexNotFound, NoQueryExecutionPlans: the operator has one of his own in its place, or beside it. */
const OTHER_INDEX = [27, 291];

function isWithoutIndex(thrown: unknown): boolean {
  const { code, message } = thrown as { code?: unknown; message?: unknown };
  return OTHER_INDEX.includes(code as number) || (code === BAD_VALUE && String(message).includes("hint"));
}

/** A later answer is ignored: the outcome is unknown, and every command of this library may be repeated. */
export async function answerWithin<T>(what: string, command: Promise<T>, clock: Clock): Promise<T> {
  const answer = await withTimeout(command, DEADLINE_MS, clock);
  if (answer === TIMED_OUT) throw unavailable(what, new Error(`no answer within ${DEADLINE_MS} ms`));
  return answer;
}

/** The same, with this library's errors instead of the driver's. */
export async function answerOf<T>(what: string, command: Promise<T>, clock: Clock): Promise<T> {
  try {
    return await answerWithin(what, command, clock);
  } catch (thrown) {
    throw mongoError(what, thrown);
  }
}

interface BulkError {
  writeErrors?: RecordAnswer | RecordAnswer[];
  result?: { matchedCount?: number; upsertedCount?: number; getWriteConcernError?(): unknown };
}

/** What the server says to each record that it has not written; undefined = its answer is not of single records. */
function answersOf(thrown: unknown): RecordAnswer[] | undefined {
  if (isOfOneRecord(thrown)) return [thrown];
  const { writeErrors = [], result } = thrown as BulkError;
  const answers = [writeErrors].flat();
  // Without the write concern a failover could lose what was promised as stored.
  return answers.length && !result?.getWriteConcernError?.() ? answers : undefined;
}

/** Of a bulk the driver wraps what is about the connection, or the transaction, as if it were about a record. */
function unwrapped(thrown: unknown): unknown {
  const { errorResponse, writeErrors } = thrown as { errorResponse?: unknown; writeErrors?: unknown };
  return errorResponse instanceof Error && ![writeErrors ?? []].flat().length ? errorResponse : thrown;
}

function isRefusal(error: unknown): error is ReliableError {
  return (error as { type?: unknown }).type === "RELIABLE_STORE_REFUSED";
}

function refused(error: unknown): ReliableError {
  if (isRefusal(error)) return error;
  throw error;
}

function modelOf({ filter, change, many, upsert }: Operation): AnyBulkWriteOperation<Doc> {
  const update = change as UpdateFilter<Doc>;
  return many ? { updateMany: { filter, update } } : { updateOne: { filter, update, ...(upsert && { upsert }) } };
}

function projectionOf(fields?: string[], without?: string[]): Record<string, 0 | 1> | undefined {
  if (fields) return Object.fromEntries(fields.map(field => [field, 1]));
  return without && Object.fromEntries(without.map(field => [field, 0]));
}

/** Partial, not sparse: that is of no stable API version, and at some servers costs a closing update a fifth. */
export function specOf({ key, onlyWith }: Index): IndexDescription {
  return { key, ...(onlyWith !== undefined && { partialFilterExpression: { [onlyWith]: { $exists: true } } }) };
}

export class MongoCollection implements Collection {
  constructor(
    private readonly driver: DriverCollection<Doc>,
    private readonly clock: Clock
  ) {}

  get name(): string {
    return this.driver.collectionName;
  }

  async createIndexes(indexes: Index[]): Promise<void> {
    const wanted = indexes.map(specOf);
    if (wanted.length) await this.#answer(this.#what("createIndexes"), this.driver.createIndexes(wanted));
  }

  async insert(docs: Doc[]): Promise<boolean[]> {
    const stored = await this.insertEach(docs);
    for (const each of stored) if (typeof each !== "boolean") throw each;
    return stored as boolean[];
  }

  async insertEach(docs: Doc[]): Promise<(boolean | ReliableError)[]> {
    const [doc] = docs;
    if (!doc) return [];
    const what = this.#what("insert");
    if (docs.length === 1) return [await this.#answer(what, this.#insertOne(doc)).catch(refused)];
    const stored: (boolean | ReliableError)[] = docs.map(() => true);
    try {
      await answerWithin(what, this.driver.insertMany(docs, { ordered: false }), this.clock);
    } catch (thrown) {
      const answers = answersOf(thrown);
      if (!answers)
        return this.#oneByOne(docs, each => this.insertEach(each).then(([one]) => [one as boolean]), thrown);
      for (const answer of answers)
        stored[answer.index] = isDuplicateId(answer) ? false : refused(errorOfRecord(what, answer));
    }
    return stored;
  }

  /** What is refused as a whole, before any of it is done, is refused for one of its parts. */
  async #oneByOne<T, R>(items: T[], work: (items: [T]) => Promise<R[]>, thrown: unknown): Promise<R[]> {
    const what = this.#what("write");
    const error = mongoError(what, thrown);
    if (!isRefusal(error)) throw error;
    const results: R[] = [];
    for (const item of items) results.push(...(await work([item])));
    return results;
  }

  /** A single insert avoids the driver's bulk code, which takes a quarter of an insert's time. False = it exists. */
  #insertOne(doc: Doc): Promise<boolean> {
    // If the write concern failed too, the driver puts that error first.
    return this.driver.insertOne(doc).then(
      () => true,
      thrown => (isDuplicate(thrown) ? false : Promise.reject(thrown))
    );
  }

  /** Inside a transaction the driver's errors must reach the driver unchanged. */
  async insertIn(session: ClientSession, docs: Doc[]): Promise<void> {
    const [doc] = docs;
    if (!doc) return;
    const inserting: Promise<unknown> =
      docs.length === 1
        ? this.driver.insertOne(doc, { session })
        : this.driver.insertMany(docs, { session }).catch(thrown => Promise.reject(unwrapped(thrown)));
    await answerWithin(this.#what("insert"), inserting, this.clock);
  }

  findIn(session: ClientSession, ids: string[]): Promise<Doc[]> {
    const limits = { limit: ids.length, batchSize: ids.length, maxTimeMS: MAX_TIME_MS };
    return answerWithin(
      this.#what("find"),
      this.driver.find({ _id: { $in: ids } }, { session, ...limits }).toArray(),
      this.clock
    );
  }

  async update(filter: Filter, change: Change): Promise<number> {
    const result = await this.#answer(
      this.#what("update"),
      this.driver.updateMany(filter, change as UpdateFilter<Doc>)
    );
    return result.matchedCount;
  }

  async bulk(operations: Operation[]): Promise<number> {
    const { matched, refused } = await this.attempt(operations);
    for (const { error } of refused) throw error;
    return matched;
  }

  async attempt(operations: Operation[]): Promise<Attempted> {
    const done = await this.#attempt(operations);
    // Two upserts of one new `_id` at once: the later one finds the document when it is repeated.
    const raced = done.refused.filter(
      ({ operation, error }) => operation.upsert && (error.cause as { code?: unknown }).code === DUPLICATE_KEY
    );
    if (!raced.length) return done;
    const again = await this.#attempt(raced.map(({ operation }) => operation));
    return {
      matched: done.matched + again.matched,
      refused: [...done.refused.filter(each => !raced.includes(each)), ...again.refused]
    };
  }

  async #attempt(operations: Operation[]): Promise<Attempted> {
    if (!operations.length) return { matched: 0, refused: [] };
    const what = this.#what("update");
    try {
      const result = await answerWithin(what, this.#write(operations.map(modelOf)), this.clock);
      return { matched: result.matchedCount + result.upsertedCount, refused: [] };
    } catch (thrown) {
      const { matchedCount = 0, upsertedCount = 0 } = (thrown as BulkError).result ?? {};
      const answers = answersOf(thrown);
      if (answers)
        return {
          matched: matchedCount + upsertedCount,
          refused: answers.map(answer => ({
            operation: operations[answer.index] as Operation,
            error: refused(errorOfRecord(what, answer))
          }))
        };
      const [operation] = operations as [Operation];
      const error = mongoError(what, thrown);
      if (operations.length === 1 && isRefusal(error)) return { matched: 0, refused: [{ operation, error }] };
      const all = await this.#oneByOne(operations, each => this.#attempt(each).then(one => [one]), thrown);
      return {
        matched: all.reduce((sum, { matched }) => sum + matched, 0),
        refused: all.flatMap(({ refused }) => refused)
      };
    }
  }

  /** A single change avoids the driver's bulk code, as for an insert. */
  #write(models: AnyBulkWriteOperation<Doc>[]): Promise<{ matchedCount: number; upsertedCount: number }> {
    const [model] = models as [AnyBulkWriteOperation<Doc>];
    if (models.length === 1 && "updateMany" in model)
      return this.driver.updateMany(model.updateMany.filter, model.updateMany.update);
    if (models.length === 1 && "updateOne" in model)
      return this.driver.updateOne(model.updateOne.filter, model.updateOne.update, {
        upsert: model.updateOne.upsert ?? false
      });
    return this.driver.bulkWrite(models, { ordered: false });
  }

  async find(filter: Filter, { sort, skip, limit, fields, without, by }: Page = {}): Promise<Doc[]> {
    // For MongoDB a limit of 0 means no limit.
    if (limit === 0) return [];
    const projection = projectionOf(fields, without);
    // In one answer, if it has room: the server's first one has 101 rows only.
    const page = { batchSize: limit ?? BATCH_ROWS, ...(limit !== undefined && { limit }) };
    const options = { sort, skip, ...page, projection, maxTimeMS: MAX_TIME_MS };
    const found = (hint = {}) => this.driver.find(filter, { ...options, ...hint }).toArray();
    const docs = by
      ? found({ hint: by }).catch(thrown => (isWithoutIndex(thrown) ? found() : Promise.reject(thrown)))
      : found();
    return this.#answer(this.#what("find"), docs) as Promise<Doc[]>;
  }

  async count(filter: Filter, limit: number): Promise<Count> {
    try {
      const counted = await answerWithin(
        this.#what("count"),
        this.driver.countDocuments(filter, { limit: limit + 1, maxTimeMS: COUNT_MS }),
        this.clock
      );
      return { counted: Math.min(counted, limit), more: counted > limit };
    } catch (thrown) {
      if ((thrown as { code?: unknown }).code === TOO_LONG) return { counted: 0, more: true };
      throw mongoError(this.#what("count"), thrown);
    }
  }

  estimate(): Promise<number> {
    return this.#answer(this.#what("count"), this.driver.estimatedDocumentCount({ maxTimeMS: COUNT_MS }));
  }

  async remove(filter: Filter): Promise<number> {
    const result = await this.#answer(this.#what("delete"), this.driver.deleteMany(filter));
    return result.deletedCount;
  }

  #answer<T>(what: string, command: Promise<T>): Promise<T> {
    return answerOf(what, command, this.clock);
  }

  #what(verb: string): string {
    return `${verb} in ${this.driver.collectionName}`;
  }
}
