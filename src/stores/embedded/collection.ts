import Datastore from "@seald-io/nedb";
import { Batcher } from "../../async/batcher";
import { ReliableError, ReliableRetryableError, reasonOf } from "../../errors";
import type { Clock } from "../../platform/clock";
import type { Attempted, Change, Collection, Count, Doc, Filter, Operation, Page } from "../documents/collection";
import type { Index } from "../documents/indexes";
import { DataFile, type OpenedFile, type Ownership } from "./data-file";
import type { Faults } from "./faults";
import { Journal } from "./journal";

/**
 * Every change is appended to the file. It is written anew when most of it is history, which keeps the cost per write
 * constant.
 */
const COMPACT_AT_LEAST = 5000;

/** After a failure. Each try writes up to a whole copy. */
const COMPACT_AGAIN_MS = 30_000;

/** Changes that share one write and one fsync. */
const MAX_COMMIT = 500;

/** Fields that hold instants; see `open`. */
const DATES = ["dueAt", "at"];

/** NeDB has no type for bytes, so every collection with a `body` holds it as base64. */
function toStored<T extends Record<string, unknown>>(doc: T): T {
  return Buffer.isBuffer(doc.body) ? { ...doc, body: doc.body.toString("base64") } : doc;
}

function fromStored(doc: Doc): Doc {
  return typeof doc.body === "string" ? { ...doc, body: Buffer.from(doc.body, "base64") } : doc;
}

/** Where a collection is kept, and who is told what fails there. */
export interface Place {
  path: string;
  owner: Ownership;
  faults: Faults;
  clock: Clock;
}

/** A read may be repeated, and is when the changes beside it had to be taken back. */
interface Step {
  reads: boolean;
  run(journal: Journal | undefined): Promise<unknown>;
}

type Outcome = { value: unknown } | { thrown: unknown };

/**
 * Rows in NeDB's memory, and with a place also in a file. Steps are taken in turn: a group of them changes memory, then
 * the file gets what has changed, then all are answered. So an answer, also of a read, tells of nothing that a crash
 * could take back. If the file takes nothing, memory is put back.
 */
export class EmbeddedCollection implements Collection {
  readonly #db = new Datastore<Doc>({ inMemoryOnly: true });
  readonly #steps = new Batcher<Step, Outcome>({ maxItems: MAX_COMMIT, write: steps => this.#commit(steps) });
  #file: DataFile | undefined;
  #appended = 0;
  #compactAgainAt = 0;

  constructor(private readonly place?: Place) {}

  async open(indexes: Index[]): Promise<Pick<OpenedFile, "torn">> {
    // Neither partial nor sparse: NeDB leaves dates out of its sparse indexes. A compound query uses one field anyway.
    for (const { key } of indexes) {
      const [fieldName] = Object.keys(key) as [string];
      // Texts are not indexed: NeDB would prefer such an index even to a query's `_id`.
      if (DATES.includes(fieldName)) await this.#db.ensureIndexAsync({ fieldName });
    }
    if (!this.place) return {};
    const { path, owner, faults } = this.place;
    const { file, rows, torn, notRewritten } = await DataFile.open(path, owner);
    this.#file = file;
    await this.#db.insertAsync([...rows.values()]);
    if (notRewritten) faults.notCompacted(path, notRewritten);
    return { torn };
  }

  /** Waits for writes under way. */
  async close(): Promise<void> {
    await this.#steps.idle();
    await this.#file?.close();
  }

  /** Rejects while the last failure would come again. */
  async tryAgain(): Promise<void> {
    if (!this.#file || !this.place?.faults.stops(this.place.path)) return;
    const file = this.#file;
    await this.#step(false, () => this.#written(() => file.tryAgain(() => this.rows())));
  }

  async insert(docs: Doc[]): Promise<boolean[]> {
    const rows = docs.map(toStored);
    return this.#step(false, async journal => {
      if (await this.#inserted(rows, journal)) return docs.map(() => true);
      const stored: boolean[] = [];
      for (const row of rows) stored.push(await this.#inserted([row], journal));
      return stored;
    });
  }

  insertEach(docs: Doc[]): Promise<boolean[]> {
    return this.insert(docs);
  }

  async update(filter: Filter, change: Change): Promise<number> {
    return this.bulk([{ filter, change }]);
  }

  async bulk(operations: Operation[]): Promise<number> {
    return this.#step(false, async journal => {
      let matched = 0;
      for (const operation of operations) matched += await this.#updated(operation, journal);
      return matched;
    });
  }

  /** NeDB refuses nothing for what it is. */
  async attempt(operations: Operation[]): Promise<Attempted> {
    return { matched: await this.bulk(operations), refused: [] };
  }

  async find(filter: Filter, { sort, skip, limit, fields, without = [] }: Page = {}): Promise<Doc[]> {
    if (limit === 0) return [];
    // NeDB treats a projection on `_id` alone as none.
    const projection =
      fields && fields.join() !== "_id"
        ? Object.fromEntries(fields.map(field => [field, 1]))
        : Object.fromEntries(without.map(field => [field, 0]));
    return this.#step(true, async () => {
      const cursor = this.#db.findAsync<Doc>(filter, projection).sort(sort);
      if (skip) cursor.skip(skip);
      if (limit) cursor.limit(limit);
      return ((await cursor.execAsync()) as unknown as Doc[]).map(fromStored);
    });
  }

  async count(filter: Filter, limit: number): Promise<Count> {
    const all = await this.#step(true, () => this.#db.countAsync(filter).execAsync() as Promise<unknown>);
    return { counted: Math.min(all as number, limit), more: (all as number) > limit };
  }

  estimate(): Promise<number> {
    return this.#step(true, () => Promise.resolve(this.rows().length));
  }

  async remove(filter: Filter): Promise<number> {
    return this.#step(false, async journal => {
      for (const row of journal ? await this.#matching(filter) : []) journal?.removed(row);
      return this.#db.removeAsync(filter, { multi: true });
    });
  }

  async #step<T>(reads: boolean, run: (journal: Journal | undefined) => Promise<T>): Promise<T> {
    const outcome = await this.#steps.add({ reads, run });
    if ("thrown" in outcome) throw outcome.thrown;
    return outcome.value as T;
  }

  async #commit(steps: Step[]): Promise<Outcome[]> {
    const file = this.#file;
    const journal = file && new Journal();
    const outcomes: Outcome[] = [];
    for (const step of steps) outcomes.push(await outcomeOf(step, journal));
    if (!file || !journal?.size) return outcomes;
    try {
      await this.#written(() => file.write(journal.lines, () => this.rows()));
    } catch (thrown) {
      await this.#restore(journal);
      const again: Outcome[] = [];
      for (const step of steps) again.push(step.reads ? await outcomeOf(step, undefined) : { thrown });
      return again;
    }
    this.#appended += journal.size;
    await this.#compact(file);
    return outcomes;
  }

  async #restore({ before }: Journal): Promise<void> {
    await this.#db.removeAsync({ _id: { $in: [...before.keys()] } }, { multi: true });
    await this.#db.insertAsync([...before.values()].filter(row => row !== undefined));
  }

  async #written(write: () => Promise<void>): Promise<void> {
    const { path, faults } = this.place as Place;
    try {
      await write();
      faults.written(path);
    } catch (thrown) {
      if (thrown instanceof ReliableError) throw thrown;
      const text = `The embedded store cannot write ${path}: ${reasonOf(thrown)}`;
      const error = new ReliableRetryableError("RELIABLE_UNAVAILABLE", text, { file: path }, thrown);
      faults.notWritten(path, error);
      throw error;
    }
  }

  /** History that stays costs room; a write that fails for it would cost a message. */
  async #compact(file: DataFile): Promise<void> {
    if (this.#appended <= COMPACT_AT_LEAST || this.#appended <= 2 * this.#db.getAllData().length) return;
    const { path, faults, clock } = this.place as Place;
    if (clock.monotonic() < this.#compactAgainAt) return;
    try {
      await file.rewrite(this.rows());
      this.#appended = 0;
      faults.compacted(path);
    } catch (thrown) {
      // The lock has told it, and every write will.
      if (thrown instanceof ReliableError) return;
      this.#compactAgainAt = clock.monotonic() + COMPACT_AGAIN_MS;
      faults.notCompacted(path, thrown);
    }
  }

  async #inserted(rows: Doc[], journal: Journal | undefined): Promise<boolean> {
    try {
      await this.#db.insertAsync(rows);
      for (const row of rows) journal?.wrote(row, undefined);
      return true;
    } catch (thrown) {
      if ((thrown as { errorType?: string }).errorType === "uniqueViolated") return false;
      throw thrown;
    }
  }

  async #updated({ filter, change, upsert = false }: Operation, journal: Journal | undefined): Promise<number> {
    // NeDB keeps the objects of a change themselves, in every document that it changes.
    const own = copied(change.$set ? { ...change, $set: toStored(change.$set) } : change);
    const before = new Map(journal && (await this.#matching(filter)).map(row => [row._id, row]));
    // MongoDB pulls nothing out of a list that is not there; NeDB throws.
    for (const list of Object.keys(own.$pull ?? {}))
      await this.#db.updateAsync(
        { $and: [filter, { [list]: { $exists: false } }] },
        { $set: { [list]: [] } },
        { multi: true }
      );
    const { numAffected, affectedDocuments } = await this.#db.updateAsync<Doc, Datastore.UpdateOptions>(filter, own, {
      multi: true,
      upsert,
      returnUpdatedDocs: journal !== undefined
    });
    // What was inserted comes alone, what was changed as a list.
    for (const row of [(affectedDocuments as Doc | Doc[] | null) ?? []].flat())
      journal?.wrote(row, before.get(row._id));
    return numAffected;
  }

  /** All of them as they are now, those too whose change is not written yet. Not to be changed. */
  rows(): Doc[] {
    return this.#db.getAllData<Doc>() as Doc[];
  }

  async #matching(filter: Filter): Promise<Doc[]> {
    return (await this.#db.findAsync<Doc>(filter).execAsync()) as unknown as Doc[];
  }
}

async function outcomeOf(step: Step, journal: Journal | undefined): Promise<Outcome> {
  try {
    return { value: await step.run(journal) };
  } catch (thrown) {
    return { thrown };
  }
}

/** `structuredClone` makes dates of another realm where a test framework has one for each test file (Jest). */
function copied<T>(value: T): T {
  if (typeof value !== "object" || value === null || ArrayBuffer.isView(value)) return value;
  if (value instanceof Date) return new Date(value) as T;
  if (Array.isArray(value)) return value.map(copied) as T;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, copied(part)])) as T;
}
