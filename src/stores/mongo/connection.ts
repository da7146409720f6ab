import type {
  Db,
  Document,
  MongoClient,
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
import { INDEXES } from "../documents/indexes";
import type { StoreFeatures } from "../store";
import { type MongoAddress, openClient, openDatabase } from "./client";
import { answerWithin, MongoCollection } from "./collection";
import { isBadAddress, mongoError, unavailable } from "./errors";

const RECONNECT = { initialMs: 500, maxMs: 15_000, jitter: "half" } as const;

/** Due times and claims use the store's clock. Creation times, and so ages and pruning, use the nodes' clocks. */
const SKEW_MS = 2000;

/**
 * Majority and journal for every write. For inserts they are the promise itself. For the others they save duplicates
 * after a failover, and batches make them cheap. The wait is limited; after it the outcome is unknown.
 */
export const WRITE_CONCERN = { w: "majority", j: true, wtimeoutMS: 10_000 } as const;

/** InvalidNamespace; DatabaseDifferCase, since two databases may not differ in case only. */
const BAD_NAME_CODES = [73, 13297];

const WRITABLE = ["RSPrimary", "Standalone", "Mongos", "LoadBalancer"];

export interface MongoConnectionOptions extends MongoAddress {
  /** Moleculer namespace, may be "". */
  namespace: string;
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
  /** ms by which the server's clock is ahead of this node's. */
  #aheadMs = 0;
  #retry: Timer | undefined;
  #lastError: string | undefined;

  constructor(private readonly options: MongoConnectionOptions) {
    super(options.logger);
  }

  get client(): MongoClient | undefined {
    return this.#client;
  }

  get ready(): boolean {
    return this.#setUp && this.#writable && !this.#closed;
  }

  now(): Date {
    return new Date(this.options.clock.now() + this.#aheadMs);
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
      readPreference: "primary",
      ignoreUndefined: true,
      promoteBuffers: true
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
      for (const name of COLLECTION_NAMES) await this.#index(name);
    } catch (thrown) {
      throw isBadAddress(thrown)
        ? new ReliableError("RELIABLE_BAD_OPTION", `Option 'mongo': ${reasonOf(thrown)}`, { option: "mongo" }, thrown)
        : (tlsFailure("MongoDB", "mongo", client.options.hosts.join(), thrown) ?? mongoError("connect", thrown));
    }
    this.#become(() => {
      this.#setUp = true;
      this.#writable = true;
    });
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
    const replicated = Boolean(hello.setName) || hello.msg === "isdbgrid";
    this.features.transactions = replicated;
    if (!replicated) {
      logger.warn(
        "MongoDB is a standalone server, not a replica set: no transactions, and some versions lose confirmed writes in a crash. Start it with --replSet (one member will do) and run rs.initiate()."
      );
    }
    this.#setClock(hello);
    const skew = Math.abs(this.#aheadMs);
    if (skew > SKEW_MS)
      logger.warn(
        `The clocks of this node and of MongoDB differ by ${Math.round(skew)} ms. Due times go by MongoDB's; creation times, ages and what is pruned by this node's: check NTP.`
      );
  }

  async #index(name: CollectionName): Promise<void> {
    try {
      await this.collections[name].createIndexes(INDEXES[name]);
    } catch (thrown) {
      const { type, retryable } = thrown as ReliableError;
      const code = (thrown as { cause?: { code?: number } }).cause?.code ?? 0;
      if (BAD_NAME_CODES.includes(code))
        throw new ReliableError(
          "RELIABLE_BAD_OPTION",
          `Option 'database': MongoDB refuses the name (is there one that differs in case only?): ${reasonOf(thrown)}`,
          { option: "database" },
          thrown
        );
      const conflict = [85, 86].includes(code);
      if (!conflict && (retryable || type === "RELIABLE_ACCESS_REFUSED")) throw thrown;
      this.options.logger.warn(`${reasonOf(thrown)}. The store works without that index, slower.`);
    }
  }

  /**
   * Every answer carries the server's time. It is late by the way back and by this process's own delay, never early.
   */
  #setClock({ localTime }: Document): void {
    if (localTime instanceof Date) this.#aheadMs = localTime.getTime() - this.options.clock.now();
  }

  readonly #onHeartbeat = ({ reply }: ServerHeartbeatSucceededEvent): void => {
    if (reply.isWritablePrimary === true) this.#setClock(reply);
  };

  readonly #onTopology = (event: TopologyDescriptionChangedEvent): void => {
    const writable = [...event.newDescription.servers.values()].some(server => WRITABLE.includes(server.type));
    this.#become(() => (this.#writable = writable));
  };

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
