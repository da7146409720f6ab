import { mkdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { ReliableError, ReliableRetryableError, reasonOf } from "../../errors";
import type { Clock } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import { processShared, sameVersion, VERSION } from "../../platform/process-shared";
import { fileNameFault, fileNameOf } from "../../wire/names";
import { COLLECTION_NAMES, type CollectionName, type Collections, type Database } from "../documents/collection";
import { Documents } from "../documents/documents";
import { INDEXES } from "../documents/indexes";
import type { Store, StoreFeatures } from "../store";
import { EmbeddedCollection } from "./collection";
import { FileLock } from "./file-lock";
import { NO_TRANSACTIONS } from "./no-transactions";

export interface EmbeddedStoreOptions {
  /** Folder, created if missing. Without it: memory. */
  path?: string;
  /** Moleculer namespace, may be "". */
  namespace: string;
  logger: Logger;
  clock: Clock;
}

type Data = Record<CollectionName, EmbeddedCollection>;

/** All Moleculer brokers of this process that name the same place share the data. The last one to leave closes it. */
interface Shared {
  /** Version of the package copy that opened it. */
  version: string;
  users: number;
  data: Promise<Data>;
  lock?: FileLock;
}

const places = processShared<Shared>("embedded-stores");
const closing = processShared<Promise<void>>("embedded-stores-closing");

/** The collections while the store is open. */
class EmbeddedDatabase implements Database {
  data: Collections | undefined;

  constructor(private readonly clock: Clock) {}

  get collections(): Collections {
    if (this.data) return this.data;
    throw new ReliableRetryableError("RELIABLE_UNAVAILABLE", "The embedded store is not open.", { store: "embedded" });
  }

  now(): Date {
    return new Date(this.clock.now());
  }
}

/**
 * NeDB in memory, and with a path also in files: for development, tests and single processes. All data is in memory; a
 * confirmed write has reached the operating system, so it survives the process but not a power loss. One process at a
 * time has a path.
 */
export class EmbeddedStore extends Documents implements Store {
  readonly name = "embedded";
  readonly features: StoreFeatures;
  readonly #listeners = new Set<() => void>();
  readonly #options: EmbeddedStoreOptions;
  readonly #database: EmbeddedDatabase;
  readonly #place: string;
  #shared: Shared | undefined;

  constructor(options: EmbeddedStoreOptions) {
    const database = new EmbeddedDatabase(options.clock);
    super(database, NO_TRANSACTIONS);
    const { path, namespace } = options;
    this.#options = options;
    this.#database = database;
    this.features = { durable: path !== undefined, shared: false, transactions: false };
    this.#place = JSON.stringify([path === undefined ? null : resolve(path), namespace]);
  }

  get ready(): boolean {
    return this.#database.data !== undefined;
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
      const opened: Shared = {
        version: VERSION,
        users: 0,
        data: this.#open().then(({ data, lock }) => {
          opened.lock = lock;
          return data;
        })
      };
      places.set(this.#place, (place = opened));
    }
    this.#shared = place;
    place.users++;
    try {
      this.#database.data = await place.data;
    } catch (thrown) {
      this.#shared = undefined;
      if (places.get(this.#place) === place) places.delete(this.#place);
      throw thrown;
    }
    for (const listener of [...this.#listeners]) listener();
  }

  async close(): Promise<void> {
    const place = this.#shared;
    if (!place) return;
    this.#shared = undefined;
    this.#database.data = undefined;
    this.#listeners.clear();
    if (--place.users > 0) return;
    places.delete(this.#place);
    const end = place.data.then(async data => {
      for (const name of COLLECTION_NAMES) await data[name].close();
      await place.lock?.release();
    });
    closing.set(this.#place, end);
    await end.finally(() => closing.delete(this.#place));
  }

  onReady(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** There is no round trip: the data is in this process. */
  onUnavailable(): void {}

  async #open(): Promise<{ data: Data; lock?: FileLock }> {
    const { path, namespace, logger, clock } = this.#options;
    const base = path === undefined ? undefined : join(resolve(path), fileNameOf(namespace));
    const fault = path === undefined ? undefined : fileNameFault(namespace);
    if (fault)
      throw new ReliableError("RELIABLE_BAD_OPTION", `Moleculer's option 'namespace' ${fault}.`, {
        option: "namespace"
      });
    let lock: FileLock | undefined;
    try {
      if (path !== undefined) await mkdir(path, { recursive: true });
      lock = base === undefined ? undefined : await FileLock.acquire(`${base}.lock`, clock);
      const data = {} as Data;
      for (const name of COLLECTION_NAMES) {
        data[name] = new EmbeddedCollection(base && `${base}.${name}.db`);
        const kept = await data[name].open(INDEXES[name]);
        if (kept)
          logger.warn(
            `${base}.${name}.db ended in half a line, left by a crash in mid-write; the file as it was is kept as ${kept}.`
          );
      }
      return { data, lock };
    } catch (thrown) {
      await lock?.release();
      if (thrown instanceof ReliableError) throw thrown;
      throw new ReliableError(
        "RELIABLE_BAD_OPTION",
        `Option 'path': the embedded store cannot use ${path}: ${reasonOf(thrown)}`,
        { option: "path", path },
        thrown
      );
    }
  }
}
