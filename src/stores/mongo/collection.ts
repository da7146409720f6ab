import type { AnyBulkWriteOperation, ClientSession, Collection as DriverCollection, UpdateFilter } from "mongodb";
import { TIMED_OUT, withTimeout } from "../../async/deadline";
import type { Clock } from "../../platform/clock";
import type { Change, Collection, Doc, Filter, Operation, Page } from "../documents/collection";
import type { Index } from "../documents/indexes";
import { DUPLICATE_KEY, isDuplicate, mongoError, unavailable } from "./errors";

/**
 * No command may hang for ever, whatever timeouts a client of the user's has. It is longer than server selection (5 s)
 * plus a write concern's wait (10 s), so that the driver's own and clearer error comes first.
 */
const DEADLINE_MS = 20_000;

/** A read that its caller has given up ends at the server too, before DEADLINE_MS. */
const MAX_TIME_MS = 15_000;

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

interface WriteErrors {
  writeErrors?: { index: number; code: number } | { index: number; code: number }[];
  result?: { getWriteConcernError?(): unknown };
}

function projectionOf(fields?: string[], without?: string[]): Record<string, 0 | 1> | undefined {
  if (fields) return Object.fromEntries(fields.map(field => [field, 1]));
  return without && Object.fromEntries(without.map(field => [field, 0]));
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
    const wanted = indexes.map(({ key, sparse }) => ({ key, ...(sparse && { sparse }) }));
    if (wanted.length) await this.#answer(this.#what("createIndexes"), this.driver.createIndexes(wanted));
  }

  async insert(docs: Doc[]): Promise<boolean[]> {
    const stored = docs.map(() => true);
    const [doc] = docs;
    if (!doc) return stored;
    const what = this.#what("insert");
    if (docs.length === 1) return [await this.#answer(what, this.#insertOne(doc))];
    await this.#answer(
      what,
      this.driver.insertMany(docs, { ordered: false }).catch((thrown: unknown) => {
        const { writeErrors, result } = thrown as WriteErrors;
        const errors = [writeErrors ?? []].flat();
        // Without the write concern a failover could lose what was promised as stored.
        if (!errors.length || errors.some(({ code }) => code !== DUPLICATE_KEY) || result?.getWriteConcernError?.())
          throw thrown;
        for (const { index } of errors) stored[index] = false;
      })
    );
    return stored;
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
  async insertIn(session: ClientSession, doc: Doc): Promise<void> {
    await answerWithin(this.#what("insert"), this.driver.insertOne(doc, { session }), this.clock);
  }

  findIn(session: ClientSession, id: string): Promise<Doc | null> {
    return answerWithin(
      this.#what("find"),
      this.driver.findOne({ _id: id }, { session, maxTimeMS: MAX_TIME_MS }),
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
    if (!operations.length) return 0;
    const models = operations.map(({ filter, change, many, upsert }): AnyBulkWriteOperation<Doc> => {
      const update = change as UpdateFilter<Doc>;
      return many ? { updateMany: { filter, update } } : { updateOne: { filter, update, ...(upsert && { upsert }) } };
    });
    const write = () => this.#write(models);
    // Two upserts of one new `_id` at once: the later one finds the document when it is repeated.
    const raced = (thrown: unknown) =>
      operations.some(({ upsert }) => upsert) && (thrown as { code?: number }).code === DUPLICATE_KEY
        ? write()
        : Promise.reject(thrown);
    const result = await this.#answer(this.#what("update"), write().catch(raced));
    return result.matchedCount + result.upsertedCount;
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

  async find(filter: Filter, { sort, skip, limit, fields, without }: Page = {}): Promise<Doc[]> {
    // For MongoDB a limit of 0 means no limit.
    if (limit === 0) return [];
    const projection = projectionOf(fields, without);
    return this.#answer(
      this.#what("find"),
      this.driver.find(filter, { sort, skip, limit, projection, maxTimeMS: MAX_TIME_MS }).toArray()
    ) as Promise<Doc[]>;
  }

  count(filter: Filter): Promise<number> {
    return this.#answer(this.#what("count"), this.driver.countDocuments(filter, { maxTimeMS: MAX_TIME_MS }));
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
