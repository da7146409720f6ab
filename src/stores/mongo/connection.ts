import type {
  Db,
  Document,
  MongoClient,
  ReadConcern,
  ServerHeartbeatSucceededEvent,
  TopologyDescriptionChangedEvent
} from "mongodb";
import { CLOSE_MS, withTimeout } from "../../async/deadline";
import { TypedEmitter } from "../../async/typed-emitter";
import { ReliableError, reasonOf } from "../../errors";
import { backoffMs } from "../../message/backoff";
import type { Clock, Timer } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import { tlsFailure } from "../../platform/tls";
import { prefixOf } from "../../wire/names";
import { COLLECTION_NAMES, type CollectionName, type Database, type Doc } from "../documents/collection";
import type { StoreFeatures } from "../store";
import { type MongoAddress, openClient, openDatabase } from "./client";
import { answerWithin, MongoCollection } from "./collection";
import { isBadAddress, mongoError, unavailable } from "./errors";
import { IndexMaker } from "./index-maker";
import { ServerClock } from "./server-clock";
import { checkShardKeys } from "./shard-keys";

const RECONNECT = { initialMs: 500, maxMs: 15_000, jitter: "half" } as const;

/**
 * Majority and journal for every write. For inserts they are the promise itself. For the others they save duplicates
 * after a failover, and batches make them cheap. The wait is limited; after it the outcome is unknown.
 */
export const WRITE_CONCERN = { w: "majority", j: true, wtimeoutMS: 10_000 } as const;

/**
 * What is told on the strength of a read (handled before, committed, consumed) may not be taken back by an election.
 * Our own writes are majority, so such a read sees each of them.
 */
const READ_CONCERN = { level: "majority" } as ReadConcern;

/** Where no heartbeats tell the servers' time (behind a load balancer) they are asked. */
const CLOCK_MS = 10_000;

/** What mongos calls itself in `hello`. */
const MONGOS = "isdbgrid";

const WRITABLE = ["RSPrimary", "Standalone", "Mongos", "LoadBalancer"];

export interface MongoConnectionOptions extends MongoAddress {
  /** Moleculer namespace, may be "". */
  namespace: string;
  /** Make the indexes that are not there. @default true */
  indexes?: boolean;
  logger: Logger;
  clock: Clock;
}

type MongoCollections = Record<CollectionName, MongoCollection>;

/**
 * One client, whether the server takes writes, and the server's clock. `ready` and `down` are emitted at each change.
 * `down` is also emitted when the first try failed with an error that may pass; then it keeps trying.
 */
export class MongoConnection extends TypedEmitter<{ ready: []; down: [error: Error] }> implements Database {
  /** `transactions` is corrected once the server has said what it is. */
  readonly features: StoreFeatures = { durable: true, shared: true, transactions: true };
  readonly #end = new AbortController();
  #client: MongoClient | undefined;
  #db: Db | undefined;
  #collections: MongoCollections | undefined;
  #setUp = false;
  #writable = false;
  readonly #time: ServerClock;
  #asking: Timer | undefined;
  #indexes: IndexMaker | undefined;
  #retry: Timer | undefined;
  #lastError: string | undefined;

  constructor(private readonly options: MongoConnectionOptions) {
    super(options.logger);
    this.#time = new ServerClock(options.clock, options.logger);
  }

  get clock(): Clock {
    return this.options.clock;
  }

  get client(): MongoClient | undefined {
    return this.#client;
  }

  get ready(): boolean {
    return this.#setUp && this.#writable && !this.#closed;
  }

  now(): Date {
    return this.#time.now();
  }

  get collections(): MongoCollections {
    if (!this.#collections || this.#closed)
      throw unavailable("a command", this.#closed ? new Error("the store is closed") : undefined);
    return this.#collections;
  }

  get #closed(): boolean {
    return this.#end.signal.aborted;
  }

  async start(): Promise<void> {
    const client = await openClient(this.options);
    // A client that has never connected holds nothing.
    if (this.#closed) return;
    const { namespace } = this.options;
    this.#db = openDatabase(client, this.options, namespace, {
      writeConcern: WRITE_CONCERN,
      readConcern: READ_CONCERN,
      readPreference: "primary",
      ignoreUndefined: true,
      // Whatever a client that was handed in does for its owner's own rows: ours would be taken for unreadable. (Not each
      // version of the driver connects with `raw`.)
      raw: false,
      fieldsAsRaw: {},
      promoteValues: true,
      promoteLongs: true,
      promoteBuffers: true,
      useBigInt64: false
    });
    this.#client = client;
    const prefix = prefixOf(namespace);
    const entries = COLLECTION_NAMES.map(name => [
      name,
      new MongoCollection((this.#db as Db).collection<Doc>(`${prefix}.${name}`), this.options.clock)
    ]);
    this.#collections = Object.fromEntries(entries) as MongoCollections;
    client.on("topologyDescriptionChanged", this.#onTopology);
    client.on("serverHeartbeatSucceeded", this.#onHeartbeat);
    try {
      await this.#connect(client, this.#db);
    } catch (thrown) {
      if (!(thrown instanceof ReliableError)) return this.#connectLater(1, thrown);
      await this.close();
      throw thrown;
    }
  }

  async close(withinMs = CLOSE_MS): Promise<void> {
    if (this.#closed) return;
    this.#end.abort();
    this.#retry?.stop();
    this.#indexes?.stop();
    this.#asking?.stop();
    this.#client?.off("topologyDescriptionChanged", this.#onTopology);
    this.#client?.off("serverHeartbeatSucceeded", this.#onHeartbeat);
    if (this.options.client || !this.#client) return;
    const closing = this.#client.close().catch(() => undefined);
    await withTimeout(closing, withinMs, this.options.clock);
  }

  async #connect(client: MongoClient, db: Db): Promise<void> {
    const { clock } = this.options;
    try {
      await answerWithin("connect", client.connect(), clock);
      const hello = await answerWithin("hello", db.command({ hello: 1 }), clock);
      this.#examine(hello);
      if (hello.msg === MONGOS) await this.#checkShardKeys(client, db);
      this.#writable = true;
      if (this.options.indexes ?? true) {
        this.#indexes ??= new IndexMaker({ ...this.options, collections: this.collections });
        await this.#indexes.start();
      }
    } catch (thrown) {
      throw isBadAddress(thrown)
        ? new ReliableError("RELIABLE_BAD_OPTION", `Option 'mongo': ${reasonOf(thrown)}`, { option: "mongo" }, thrown)
        : (tlsFailure("MongoDB", "mongo", client.options.hosts.join(), thrown) ?? mongoError("connect", thrown));
    }
    this.#become(() => (this.#setUp = true));
    this.#asking?.stop();
    this.#askTime(db);
    // The primary has stepped down since. The driver looks for the next one, and tells.
    if (!this.ready) this.#tellDown(unavailable("connect", new Error("no writable primary")));
  }

  #checkShardKeys(client: MongoClient, db: Db): Promise<void> {
    const names = Object.values(this.collections).map(({ name }) => name);
    return checkShardKeys(client, db.databaseName, names, this.options);
  }

  #connectLater(attempt: number, thrown: unknown): void {
    if (this.#closed) return;
    const text = reasonOf(thrown);
    // The same failure is logged once, not at every try.
    if (text !== this.#lastError) {
      this.options.logger.warn(`${text}. Trying again in the background.`);
      this.#tellDown(thrown as Error);
    }
    this.#lastError = text;
    const again = () =>
      this.#connect(this.#client as MongoClient, this.#db as Db).catch((later: unknown) =>
        this.#connectLater(attempt + 1, later)
      );
    this.#retry = this.options.clock.after(backoffMs(RECONNECT, attempt), () => void again());
  }

  #examine(hello: Document): void {
    const { logger } = this.options;
    if (hello.isWritablePrimary !== true) throw unavailable("connect", new Error("no writable primary"));
    const replicated = Boolean(hello.setName) || hello.msg === MONGOS;
    this.features.transactions = replicated;
    if (!replicated) {
      logger.warn(
        "MongoDB is a standalone server, not a replica set: no transactions, and some versions lose confirmed writes in a crash. Start it with --replSet (one member will do) and run rs.initiate()."
      );
    }
    this.#time.heard(hello.localTime);
  }

  readonly #onHeartbeat = ({ reply, connectionId }: ServerHeartbeatSucceededEvent): void => {
    if (reply.isWritablePrimary === true) this.#time.heard(reply.localTime, connectionId);
  };

  readonly #onTopology = (event: TopologyDescriptionChangedEvent): void => {
    const servers = [...event.newDescription.servers.values()].filter(({ type }) => WRITABLE.includes(type));
    this.#time.keep(new Set(servers.map(({ address }) => address)));
    this.#become(() => (this.#writable = servers.length > 0));
  };

  #askTime(db: Db): void {
    if (this.#closed) return;
    const { clock } = this.options;
    this.#asking = clock.after(CLOCK_MS, async () => {
      if (this.#time.silentMs >= CLOCK_MS) {
        const hello = await answerWithin("hello", db.command({ hello: 1 }), clock).catch(() => undefined);
        if (hello?.isWritablePrimary === true) this.#time.heard(hello.localTime);
      }
      this.#askTime(db);
    });
  }

  #tellDown(error: Error): void {
    if (!this.#closed) this.emit("down", error);
  }

  #become(change: () => void): void {
    const before = this.ready;
    change();
    if (before === this.ready) return;
    const { logger } = this.options;
    if (!this.ready) {
      logger.warn("MongoDB is out of reach.");
      this.#tellDown(unavailable("monitor", new Error("no writable server answers")));
      return;
    }
    this.#lastError = undefined;
    logger.info("MongoDB is ready.");
    this.emit("ready");
  }
}
