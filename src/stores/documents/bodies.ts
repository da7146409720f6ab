import type { ReliableError } from "../../errors";
import { newId } from "../../platform/ids";
import {
  type Attempted,
  type Change,
  type Collection,
  type Count,
  type Database,
  type Doc,
  EPOCH,
  type Filter,
  type Operation,
  type Page,
  withMessages
} from "./collection";

/**
 * A server reads a row as a whole, whatever is asked of it. Of 500 rows with bodies of 32 KiB a list took 1.3 times as
 * long as of small ones, with 64 KiB 1.6 times, with 250 KiB 3.5 times. A body of its own costs one more write.
 */
export const MAX_BODY_IN_ROW = 32 * 1024;

/**
 * A body that no row names is looked for so much later than `retainMs`: its row may be on its way, and that of nearly
 * every message is final and pruned by then, with its body.
 */
const UNUSED_MS = 86_400_000;

/** Bodies that are looked at in one step: a server reads each as a whole, and it has up to 8 MiB. */
const UNUSED_PAGE = 50;

/** A row, and its body if that stands apart. */
export interface Split {
  row: Doc;
  body?: Doc;
}

function isLarge(body: unknown): body is Buffer {
  return Buffer.isBuffer(body) && body.length > MAX_BODY_IN_ROW;
}

/**
 * Each try has a body of its own: one of the same id, emitted again or at the same time, never changes what the row
 * that is there names, and deleting a message's body takes away nobody else's. The bytes stand in front: a database on
 * PostgreSQL looks at the beginning to see that it cannot be compressed; behind two ids, inserts took twice as long.
 */
function bodyOf(of: unknown, body: Buffer, at: Date): Doc {
  return { _id: newId(), body, of: String(of), at };
}

export function splitRow(row: Doc, at: Date): Split {
  if (!isLarge(row.body)) return { row };
  const { body: bytes, ...rest } = row;
  const body = bodyOf(row._id, bytes as Buffer, at);
  return { row: { ...rest, bodyId: body._id } as Doc, body };
}

/** Undefined = it has its body, or what cannot be read. A body in the row is the newer one. */
export function bodyIdOf({ body, bodyId }: Doc): string | undefined {
  return body === undefined && typeof bodyId === "string" ? bodyId : undefined;
}

/** After the rows: a body is there as long as its row. */
export async function removeBodies(bodies: Collection, rows: Doc[]): Promise<void> {
  const ids = rows.map(({ bodyId }) => bodyId).filter(bodyId => typeof bodyId === "string");
  if (ids.length) await bodies.remove({ _id: { $in: ids } });
}

/**
 * Deletes those of a page of old bodies that no row names: a process has died between the two writes, or the row got
 * another body. Those in use are not looked at again for as long. True = the page was full.
 */
export async function pruneUnused(db: Database, before: Date, most: number): Promise<boolean> {
  const limit = Math.min(most, UNUSED_PAGE);
  const { bodies, messages } = db.collections;
  const old = { at: { $gte: EPOCH, $lt: new Date(before.getTime() - UNUSED_MS) } };
  const page = await bodies.find(old, { limit, fields: ["of"] });
  if (!page.length) return false;
  const rows = await messages.find({ _id: { $in: page.map(({ of }) => of) } }, { fields: ["bodyId"] });
  const named = new Set(rows.map(({ bodyId }) => bodyId));
  const [used, unused] = [true, false].map(is => page.map(({ _id }) => _id).filter(id => named.has(id) === is));
  if (unused?.length) await bodies.remove({ ...old, _id: { $in: unused } });
  if (used?.length) await bodies.update({ _id: { $in: used } }, { $set: { at: db.now() } });
  return page.length >= limit;
}

/**
 * The collection of messages as if each row had its body: a large one is written to `bodies` before its row, and read
 * with it where it is asked for. Of messages without a large body no command differs.
 */
class MessagesWithBodies implements Collection {
  constructor(private readonly db: Database) {}

  get #rows(): Collection {
    return this.db.collections.messages;
  }

  get #bodies(): Collection {
    return this.db.collections.bodies;
  }

  async insert(docs: Doc[]): Promise<boolean[]> {
    const stored = await this.insertEach(docs);
    for (const each of stored) if (typeof each !== "boolean") throw each;
    return stored as boolean[];
  }

  async insertEach(docs: Doc[]): Promise<(boolean | ReliableError)[]> {
    if (!docs.some(({ body }) => isLarge(body))) return this.#rows.insertEach(docs);
    const split = docs.map(doc => splitRow(doc, this.db.now()));
    const refused = await this.#insertBodies(split.flatMap(({ body }) => body ?? []));
    const errorOf = ({ body }: Split) => body && refused.get(body._id);
    const taken = split.filter(each => !errorOf(each));
    const stored = await this.#rows.insertEach(taken.map(({ row }) => row));
    await this.#removeUnused(taken, stored);
    let next = 0;
    return split.map(each => errorOf(each) ?? (stored[next++] as boolean | ReliableError));
  }

  async find(filter: Filter, page?: Page): Promise<Doc[]> {
    const docs = await this.#rows.find(filter, page);
    const asked = page?.fields ? page.fields.includes("body") : !page?.without?.includes("body");
    const ids = asked ? docs.flatMap(doc => bodyIdOf(doc) ?? []) : [];
    if (!ids.length) return docs;
    const found = await this.#bodies.find({ _id: { $in: ids } }, { limit: ids.length, fields: ["body"] });
    const bodies = new Map<unknown, unknown>(found.map(({ _id, body }) => [_id, body]));
    return docs.map(doc => (bodyIdOf(doc) ? { ...doc, body: bodies.get(doc.bodyId) } : doc));
  }

  count(filter: Filter, limit: number): Promise<Count> {
    return this.#rows.count(filter, limit);
  }

  estimate(): Promise<number> {
    return this.#rows.estimate();
  }

  /** Without their bodies: who deletes messages has read what their rows name. */
  remove(filter: Filter): Promise<number> {
    return this.#rows.remove(filter);
  }

  update(filter: Filter, change: Change): Promise<number> {
    return this.bulk([{ filter, change, many: true }]);
  }

  async bulk(operations: Operation[]): Promise<number> {
    const { matched, refused } = await this.attempt(operations);
    for (const { error } of refused) throw error;
    return matched;
  }

  async attempt(operations: Operation[]): Promise<Attempted> {
    if (!operations.some(({ change }) => isLarge(change.$set?.body))) return this.#rows.attempt(operations);
    const given = new Map<Operation, Operation>();
    const refusals: Attempted["refused"] = [];
    const split = operations.map(operation => this.#splitChange(operation));
    const errors = await this.#insertBodies(split.flatMap(({ body }) => body ?? []));
    for (const [i, { operation, body }] of split.entries()) {
      const error = body && errors.get(body._id);
      if (error) refusals.push({ operation: operations[i] as Operation, error });
      else given.set(operation, operations[i] as Operation);
    }
    const { matched, refused } = await this.#rows.attempt([...given.keys()]);
    const asGiven = refused.map(each => ({ ...each, operation: given.get(each.operation) as Operation }));
    return { matched, refused: [...refusals, ...asGiven] };
  }

  #splitChange(operation: Operation): { operation: Operation; body?: Doc } {
    const { filter, change } = operation;
    const { body: bytes, ...rest } = change.$set ?? {};
    if (!isLarge(bytes)) return { operation };
    const body = bodyOf(filter._id, bytes, this.db.now());
    const $set = { ...rest, bodyId: body._id };
    return { body, operation: { ...operation, change: { ...change, $set, $unset: { ...change.$unset, body: true } } } };
  }

  /** Why the database refuses some of them. One that is there already was written by the driver's first try. */
  async #insertBodies(bodies: Doc[]): Promise<Map<string, ReliableError>> {
    const stored = await this.#bodies.insertEach(bodies);
    return new Map(
      bodies.flatMap(({ _id }, i) => (typeof stored[i] === "boolean" ? [] : [[_id, stored[i] as ReliableError]]))
    );
  }

  /**
   * Of rows that were refused, or whose id is there. What says that an id is there may be the row of the driver's first
   * try, so only a row that names another body tells.
   */
  async #removeUnused(split: Split[], stored: (boolean | ReliableError)[]): Promise<void> {
    const large = split.flatMap(({ row, body }, i) => (body && stored[i] !== true ? [{ row, there: !stored[i] }] : []));
    if (!large.length) return;
    try {
      const rows = await this.#rows.find({ _id: { $in: large.map(({ row }) => row._id) } }, { fields: ["bodyId"] });
      const named = new Map(rows.map(({ _id, bodyId }) => [_id, bodyId]));
      const unused = large.filter(({ row, there }) =>
        named.has(row._id) ? named.get(row._id) !== row.bodyId : !there
      );
      await removeBodies(
        this.#bodies,
        unused.map(({ row }) => row)
      );
    } catch {
      // They are pruned; the answer about the rows is known and must not wait for that.
    }
  }
}

/** The database, with large bodies of messages apart. */
export function keepingBodies(db: Database): Database {
  return withMessages(db, new MessagesWithBodies(db));
}
