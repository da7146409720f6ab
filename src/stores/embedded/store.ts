import { mkdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { withTimeout } from "../../async/deadline";
import { ReliableError, ReliableRetryableError, reasonOf } from "../../errors";
import type { Clock } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import { processShared, sameVersion, VERSION } from "../../platform/process-shared";
import { fileNameFault, fileNameOf } from "../../wire/names";
import { COLLECTION_NAMES, type CollectionName, type Database } from "../documents/collection";
import { Documents } from "../documents/documents";
import { INDEXES } from "../documents/indexes";
import type { Transactions } from "../documents/transactions";
import type { Store, StoreFeatures } from "../store";
import { EmbeddedCollection } from "./collection";
import { syncFolder } from "./data-file";
import { Faults } from "./faults";
import { FileLock } from "./file-lock";
import { NO_TRANSACTIONS } from "./no-transactions";

export interface EmbeddedStoreOptions {
  /** Folder, created if missing. Without it: memory. */
  path?: string;
  /** Moleculer namespace, may be "". */
  namespace: string;
  logger: Logger;
  clock: Clock;
  /** What it has no transactions of its own for. @default all that needs one is refused */
  transactions?: Transactions | undefined;
}

type Data = Record<CollectionName, EmbeddedCollection>;

/** All Moleculer brokers of this process that name the same place share the data. The last one to leave closes it. */
interface Shared {
  /** Version of the package copy that opened it. */
  version: string;
  users: number;
  faults: Faults;
  opened: Promise<Opened>;
}

interface Opened {
  data: Data;
  lock?: FileLock;
}

/** For a folder that is made; one that was there is the user's. */
const FOLDER_MODE = 0o700;

const places = processShared<Shared>("embedded-stores");
const closing = processShared<Promise<void>>("embedded-stores-closing");

/** A power loss must not take a folder that was made, with all that is in it. */
async function makeFolder(path: string): Promise<void> {
  const first = await mkdir(path, { recursive: true, mode: FOLDER_MODE });
  for (let made = path; first && made.length >= first.length; made = dirname(made)) await syncFolder(dirname(made));
}

/** The collections while the store is open. */
class EmbeddedDatabase implements Database {
  data: Data | undefined;

  constructor(private readonly clock: Clock) {}

  get collections(): Data {
    if (this.data) return this.data;
    throw new ReliableRetryableError("RELIABLE_UNAVAILABLE", "The embedded store is not open.", { store: "embedded" });
  }

  now(): Date {
    return new Date(this.clock.now());
  }
}

/**
 * NeDB in memory, and with a path also in files: for development, tests and single processes. All data is in memory; a
 * confirmed write is on the disk (fsync). One process at a time has a path.
 */
export class EmbeddedStore extends Documents implements Store {
  readonly name = "embedded";
  readonly features: StoreFeatures;
  readonly #ready = new Set<() => void>();
  readonly #unavailable = new Set<(error: Error) => void>();
  #unsubscribe: (() => void)[] = [];
  readonly #options: EmbeddedStoreOptions;
  readonly #database: EmbeddedDatabase;
  readonly #place: string;
  #shared: Shared | undefined;

  constructor(options: EmbeddedStoreOptions) {
    const database = new EmbeddedDatabase(options.clock);
    super(database, options.transactions ?? NO_TRANSACTIONS);
    const { path, namespace, transactions } = options;
    this.#options = options;
    this.#database = database;
    this.features = { durable: path !== undefined, shared: false, transactions: transactions !== undefined };
    this.#place = JSON.stringify([path === undefined ? null : resolve(path), namespace]);
  }

  /** As they are in this process's memory. Throws RELIABLE_UNAVAILABLE while it is not open. */
  get collections(): Readonly<Data> {
    return this.#database.collections;
  }

  get ready(): boolean {
    return this.#database.data !== undefined;
  }

  override get degraded(): string[] {
    return this.#shared?.faults.degraded ?? [];
  }

  now(): Date {
    return this.#database.now();
  }

  async start(): Promise<void> {
    if (this.#shared) return;
    // A store that is still closing holds the files and the lock.
    await closing.get(this.#place);
    let place = places.get(this.#place);
    if (place) sameVersion(place.version, "The embedded store");
    else {
      const faults = new Faults(this.#options.logger);
      places.set(this.#place, (place = { version: VERSION, users: 0, faults, opened: this.#open(faults) }));
    }
    this.#shared = place;
    place.users++;
    let opened: Opened;
    try {
      opened = await place.opened;
    } catch (thrown) {
      this.#shared = undefined;
      if (places.get(this.#place) === place) places.delete(this.#place);
      throw thrown;
    }
    // Closed in the meantime.
    if (this.#shared !== place) return;
    this.#database.data = opened.data;
    this.#unsubscribe = [
      place.faults.on("mended", () => this.#tell(this.#ready)),
      place.faults.on("failing", error => this.#tell(this.#unavailable, error))
    ];
    this.#tell(this.#ready);
  }

  /** Never rejects, and gives the folder back in any case: what is still being written then is rejected. */
  async close(withinMs?: number): Promise<void> {
    const place = this.#shared;
    if (!place) return;
    this.#shared = undefined;
    this.#database.data = undefined;
    for (const unsubscribe of this.#unsubscribe.splice(0)) unsubscribe();
    this.#ready.clear();
    this.#unavailable.clear();
    if (--place.users > 0) return;
    if (places.get(this.#place) === place) places.delete(this.#place);
    // One that could not be opened holds nothing.
    const end = place.opened.then(opened => this.#release(opened, withinMs)).catch(() => undefined);
    closing.set(this.#place, end);
    await end;
    if (closing.get(this.#place) === end) closing.delete(this.#place);
  }

  /** Also finds out whether files that took no writes take them again. */
  override async probe(): Promise<number> {
    const opened = await this.#shared?.opened;
    for (const name of opened ? COLLECTION_NAMES : []) await opened?.data[name].tryAgain();
    return super.probe();
  }

  onReady(listener: () => void): () => void {
    this.#ready.add(listener);
    return () => void this.#ready.delete(listener);
  }

  /** Files that take no writes, or grow, or were lost: the data can still be read. */
  onUnavailable(listener: (error: Error) => void): void {
    this.#unavailable.add(listener);
  }

  #tell<Args extends unknown[]>(listeners: Set<(...args: Args) => void>, ...args: Args): void {
    for (const listener of [...listeners]) listener(...args);
  }

  async #release({ data, lock }: Opened, withinMs?: number): Promise<void> {
    const { logger, clock } = this.#options;
    // Each on its own: what one of them says must not keep the others open.
    const closes = Object.values(data).map(collection =>
      collection.close().catch(thrown => logger.error(`Reliable: the embedded store closes: ${reasonOf(thrown)}`))
    );
    const closed = Promise.all(closes).then(() => undefined);
    await (withinMs === undefined ? closed : withTimeout(closed, withinMs, clock));
    await lock?.release();
  }

  async #open(faults: Faults): Promise<Opened> {
    const { path, namespace, logger, clock } = this.#options;
    const base = path === undefined ? undefined : join(resolve(path), fileNameOf(namespace));
    const fault = path === undefined ? undefined : fileNameFault(namespace);
    if (fault)
      throw new ReliableError("RELIABLE_BAD_OPTION", `Moleculer's option 'namespace' ${fault}.`, {
        option: "namespace"
      });
    const opened = { data: {} as Data, lock: undefined as FileLock | undefined };
    try {
      if (path !== undefined) await makeFolder(resolve(path));
      if (base !== undefined)
        opened.lock = await FileLock.acquire(`${base}.lock`, {
          clock,
          logger,
          onLost: error => faults.folderLost(error)
        });
      const owner = opened.lock;
      for (const name of COLLECTION_NAMES) {
        const file = base && `${base}.${name}.db`;
        const place = file && owner ? { path: file, owner, faults, clock } : undefined;
        opened.data[name] = new EmbeddedCollection(place);
        // Most lanes have no date: NeDB has them all under one key, and goes through that for each change of one.
        const { torn } = await opened.data[name].open(name === "lanes" ? [] : INDEXES[name]);
        if (file && torn) this.#warnOfTorn(file, torn);
      }
      return opened;
    } catch (thrown) {
      await this.#release(opened);
      if (thrown instanceof ReliableError) throw thrown;
      throw new ReliableError(
        "RELIABLE_BAD_OPTION",
        `Option 'path': the embedded store cannot use ${path}: ${reasonOf(thrown)}`,
        { option: "path", path },
        thrown
      );
    }
  }

  #warnOfTorn(file: string, { kept, reason }: { kept?: string; reason?: string }): void {
    const where = kept ? `that part is kept as ${kept}` : `that part could not be kept (${reason})`;
    this.#options.logger.warn(
      `Reliable: ${file} ended in a write that a crash had interrupted. It was never confirmed; ${where}.`
    );
  }
}
