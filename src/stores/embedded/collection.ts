import { appendFile, copyFile, readFile, truncate } from "node:fs/promises";
import Datastore from "@seald-io/nedb";
import { ReliableRetryableError, reasonOf } from "../../errors";
import type { Change, Collection, Doc, Filter, Operation, Page } from "../documents/collection";
import type { Index } from "../documents/indexes";

/**
 * NeDB appends every change to its file. The file is rewritten when most of it is history, which keeps the cost per
 * write constant.
 */
const COMPACT_AT_LEAST = 5000;

/** Fields that hold instants; see `open`. */
const DATES = ["dueAt", "at"];

/** NeDB has no type for bytes, so every collection with a `body` holds it as base64. */
function toStored<T extends Record<string, unknown>>(doc: T): T {
  return Buffer.isBuffer(doc.body) ? { ...doc, body: doc.body.toString("base64") } : doc;
}

function storable(change: Change): Change {
  return change.$set ? { ...change, $set: toStored(change.$set) } : change;
}

function fromStored(doc: Doc): Doc {
  return typeof doc.body === "string" ? { ...doc, body: Buffer.from(doc.body, "base64") } : doc;
}

export class EmbeddedCollection implements Collection {
  readonly #db: Datastore<Doc>;
  #written = 0;
  /** A write to the file has failed: memory and file may differ until the file is rewritten. */
  #torn = false;

  constructor(private readonly file?: string) {
    // One unreadable line must stop the start. NeDB would drop up to a tenth of the lines silently.
    this.#db = new Datastore<Doc>(file ? { filename: file, corruptAlertThreshold: 0 } : { inMemoryOnly: true });
  }

  /** Returns where a torn last line was kept, if there was one. */
  async open(indexes: Index[]): Promise<string | undefined> {
    const kept = this.file && (await repairTail(this.file));
    await this.#db.loadDatabaseAsync();
    // Neither partial nor sparse: NeDB leaves dates out of its sparse indexes. A compound query uses one field anyway.
    for (const { key } of indexes) {
      const [fieldName] = Object.keys(key) as [string];
      // Texts are not indexed: NeDB would prefer such an index even to a query's `_id`.
      if (DATES.includes(fieldName)) await this.#db.ensureIndexAsync({ fieldName });
    }
    return kept;
  }

  /** Waits for writes under way. */
  async close(): Promise<void> {
    if (this.file && this.#torn) await this.#db.compactDatafileAsync();
    await this.#db.countAsync({});
  }

  async insert(docs: Doc[]): Promise<boolean[]> {
    const rows = docs.map(toStored);
    if (await this.#inserted(rows)) return docs.map(() => true);
    const stored: boolean[] = [];
    for (const row of rows) stored.push(await this.#inserted([row]));
    return stored;
  }

  async update(filter: Filter, change: Change): Promise<number> {
    return this.#update(filter, storable(change), false);
  }

  async bulk(operations: Operation[]): Promise<number> {
    const matched = await Promise.all(
      operations.map(({ filter, change, upsert }) => this.#update(filter, storable(change), upsert === true))
    );
    return matched.reduce((sum, n) => sum + n, 0);
  }

  async find(filter: Filter, { sort, skip, limit, fields, without = [] }: Page = {}): Promise<Doc[]> {
    if (limit === 0) return [];
    // NeDB treats a projection on `_id` alone as none.
    const projection =
      fields && fields.join() !== "_id"
        ? Object.fromEntries(fields.map(field => [field, 1]))
        : Object.fromEntries(without.map(field => [field, 0]));
    const cursor = this.#db.findAsync<Doc>(filter, projection).sort(sort);
    if (skip) cursor.skip(skip);
    if (limit) cursor.limit(limit);
    return ((await cursor.execAsync()) as unknown as Doc[]).map(fromStored);
  }

  async count(filter: Filter): Promise<number> {
    return this.#db.countAsync(filter);
  }

  async remove(filter: Filter): Promise<number> {
    return this.#write(
      () => this.#db.removeAsync(filter, { multi: true }),
      removed => removed
    );
  }

  async #inserted(rows: Doc[]): Promise<boolean> {
    try {
      await this.#write(
        () => this.#db.insertAsync(rows),
        () => rows.length
      );
      return true;
    } catch (thrown) {
      if ((thrown as { errorType?: string }).errorType === "uniqueViolated") return false;
      throw thrown;
    }
  }

  async #update(filter: Filter, change: Change, upsert: boolean): Promise<number> {
    // NeDB keeps the objects of a change themselves, in every document that it changes.
    const own = structuredClone(change);
    // MongoDB pulls nothing out of a list that is not there; NeDB throws.
    for (const list of Object.keys(own.$pull ?? {}))
      await this.#db.updateAsync(
        { $and: [filter, { [list]: { $exists: false } }] },
        { $set: { [list]: [] } },
        { multi: true }
      );
    return this.#write(
      async () => (await this.#db.updateAsync(filter, own, { multi: true, upsert })).numAffected,
      matched => matched
    );
  }

  async #write<T>(write: () => Promise<T>, lines: (result: T) => number): Promise<T> {
    try {
      if (this.#torn) await this.#rewrite();
      const result = await write();
      this.#written += lines(result);
      if (this.file && this.#written > COMPACT_AT_LEAST && this.#written > 2 * this.#db.getAllData().length)
        await this.#rewrite();
      return result;
    } catch (thrown) {
      const { code } = thrown as NodeJS.ErrnoException;
      if (!this.file || typeof code !== "string") throw thrown;
      this.#torn = true;
      throw new ReliableRetryableError(
        "RELIABLE_UNAVAILABLE",
        `The embedded store cannot write ${this.file}: ${reasonOf(thrown)}`,
        { file: this.file },
        thrown
      );
    }
  }

  async #rewrite(): Promise<void> {
    this.#written = 0;
    await this.#db.compactDatafileAsync();
    this.#torn = false;
  }
}

/**
 * A process killed while it writes leaves half a line at the end. That write was never confirmed, so the half line is
 * moved into another file. Damage anywhere else makes loading fail.
 */
async function repairTail(file: string): Promise<string | undefined> {
  const bytes = await readFile(file).catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code === "ENOENT") return Buffer.alloc(0);
    throw thrown;
  });
  const end = bytes.lastIndexOf("\n") + 1;
  if (end === bytes.length) return undefined;
  try {
    JSON.parse(bytes.subarray(end).toString());
    await appendFile(file, "\n");
    return undefined;
  } catch (thrown) {
    if (!(thrown instanceof SyntaxError)) throw thrown;
  }
  const kept = `${file}.torn`;
  await copyFile(file, kept);
  await truncate(file, end);
  return kept;
}
