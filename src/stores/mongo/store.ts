import type {
  ClientSession,
  Db,
  Document,
  MongoClient,
  MongoClientOptions,
  ServerHeartbeatSucceededEvent,
  TopologyDescriptionChangedEvent
} from "mongodb";
import { CLOSE_MS, withTimeout } from "../../async/deadline";
import { ReliableError, reasonOf, redact } from "../../errors";
import { backoffMs } from "../../message/backoff";
import type { Message } from "../../message/message";
import type { Logger } from "../../platform/logger";
import { tlsFailure } from "../../platform/tls";
import { prefixOf } from "../../wire/names";
import { decodeMessage, encodeMessage } from "../documents/codec";
import { COLLECTION_NAMES, type CollectionName, type Doc } from "../documents/collection";
import { INDEXES } from "../documents/indexes";
import { BARRIER, barrierRow } from "../documents/intents";
import { DocumentStore } from "../documents/messages";
import { inboxRow } from "../documents/records";
import type { InsertOutcome, Store, StoreFeatures } from "../store";
import { deadline, inTime, MongoCollection } from "./collection";
import { isBadAddress, isDuplicate, isForeignSession, isTransient, mongoError, unavailable } from "./errors";

const RECONNECT = { initialMs: 500, maxMs: 15_000, jitter: "half" } as const;

/** Due times and claims go by the store's clock; creation times, and so ages and what is pruned, by the nodes'. */
const SKEW_MS = 2000;

/** Of the client made here; one that is handed in keeps its own. */
const CLIENT_OPTIONS: MongoClientOptions = {
  appName: "moleculer-reliable-emit",
  // Long enough to sit out an election (mostly 2..4 s), short enough for an emit that waits.
  serverSelectionTimeoutMS: 5000,
  connectTimeoutMS: 5000,
  socketTimeoutMS: 20_000,
  waitQueueTimeoutMS: 5000,
  // A server that is gone, or back, is noticed within this: `ready` may be as late.
  heartbeatFrequencyMS: 2000,
  retryWrites: true
};

/**
 * Majority and journal for every write: for inserts it is the promise itself; for the others it spares duplicates after
 * a failover, and batches make it cheap. The wait is bounded; when it runs out the outcome is unknown.
 */
const WRITE_CONCERN = { w: "majority", j: true, wtimeoutMS: 10_000 } as const;

const WRITABLE = ["RSPrimary", "Standalone", "Mongos", "LoadBalancer"];

export interface MongoStoreOptions {
  url?: string;
  /** Of Node.js' `tls.connect`, `ca` above all; turns TLS on. */
  tls?: Record<string, unknown>;
  /** A live MongoClient of the user's, perhaps of another driver version: used as it is and never closed. */
  client?: unknown;
  /** Default: the one in the URL, else `reliable`; of a client handed in, its own default. */
  database?: string;
  /** Moleculer namespace, may be "". */
  namespace: string;
  logger: Logger;
}

type MongoCollections = Record<CollectionName, MongoCollection>;

class AlreadyHandled extends Error {}

export class MongoStore extends DocumentStore implements Store {
  readonly name = "mongodb";
  /** `transactions` is set right once the server has said what it is. */
  readonly features: StoreFeatures = { durable: true, shared: true, transactions: true };
  readonly #listeners = new Set<() => void>();
  readonly #onDown = new Set<(error: Error) => void>();
  #client: MongoClient | undefined;
  #db: Db | undefined;
  #collections: MongoCollections | undefined;
  #setUp = false;
  #writable = false;
  /** What the server's clock is ahead of this node's. */
  #aheadMs = 0;
  #closed = false;
  #retry: NodeJS.Timeout | undefined;
  #lastError: string | undefined;

  constructor(private readonly options: MongoStoreOptions) {
    super();
  }

  get ready(): boolean {
    return this.#setUp && this.#writable && !this.#closed;
  }

  override now(): Date {
    return new Date(Date.now() + this.#aheadMs);
  }

  protected get collections(): MongoCollections {
    if (!this.#collections || this.#closed)
      throw unavailable("a command", this.#closed ? new Error("the store is closed") : undefined);
    return this.#collections;
  }

  async start(): Promise<void> {
    const client = await openClient(this.options);
    // Before it had connected, a client holds nothing.
    if (this.#closed) return;
    this.#client = client;
    this.#db = client.db(databaseOf(this.options), {
      writeConcern: WRITE_CONCERN,
      readPreference: "primary",
      ignoreUndefined: true,
      promoteBuffers: true
    });
    const prefix = prefixOf(this.options.namespace).replace(/[$\0]/g, "_");
    const entries = COLLECTION_NAMES.map(name => [
      name,
      new MongoCollection((this.#db as Db).collection<Doc>(`${prefix}.${name}`))
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
    this.#closed = true;
    clearTimeout(this.#retry);
    this.#listeners.clear();
    this.#client?.off("topologyDescriptionChanged", this.#onTopology);
    this.#client?.off("serverHeartbeatSucceeded", this.#onHeartbeat);
    if (!this.options.client && this.#client) await withTimeout(this.#client.close(), withinMs);
  }

  async ping(): Promise<number> {
    if (!this.#db || this.#closed) throw unavailable("ping");
    const from = performance.now();
    await inTime("ping", this.#db.command({ ping: 1 }));
    return performance.now() - from;
  }

  onReady(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  onUnavailable(listener: (error: Error) => void): void {
    this.#onDown.add(listener);
  }

  /**
   * A write conflict is thrown as the driver threw it, because only then will the caller's `withTransaction` repeat.
   */
  async insertIn(session: unknown, message: Message): Promise<InsertOutcome> {
    const { messages } = this.collections;
    const theirs = this.#sessionOf(session);
    if (theirs.hasEnded) throw badSession("it has ended");
    if (!theirs.inTransaction())
      throw badSession("it has no transaction open; emit inside `session.withTransaction(…)`");
    try {
      // Looked up first: a duplicate key error would abort the caller's transaction.
      const existing = await messages.findIn(theirs, message._id);
      if (existing) return { stored: false, existing: decodeMessage(existing) };
      await messages.insertIn(theirs, encodeMessage(message));
      return { stored: true };
    } catch (thrown) {
      if (isTransient(thrown)) throw thrown;
      throw isForeignSession(thrown)
        ? badSession(reasonOf(thrown))
        : mongoError(`insert of ${message._id} in the given session`, thrown);
    }
  }

  onSessionEnd(session: unknown, listener: () => void): void {
    const theirs = this.#sessionOf(session);
    if (theirs.hasEnded) queueMicrotask(listener);
    else theirs.once("ended", () => listener());
  }

  /**
   * The driver runs `work` again when the transaction lost a write conflict: it must have no effect outside of the
   * session.
   */
  async barrier(session: unknown, id: string): Promise<void> {
    const theirs = this.#sessionOf(session);
    if (!theirs.inTransaction())
      throw badSession(
        "it has no transaction open; call `message.barrier(session)` inside the transaction of the business write"
      );
    try {
      await this.collections.barriers.insertIn(theirs, barrierRow(id, BARRIER.committed));
    } catch (thrown) {
      if (isDuplicate(thrown)) throw await this.#barred(id, thrown);
      if (isTransient(thrown)) throw thrown;
      throw isForeignSession(thrown) ? badSession(reasonOf(thrown)) : mongoError(`the barrier of ${id}`, thrown);
    }
  }

  async #barred(id: string, thrown: unknown): Promise<Error> {
    const [row] = await this.collections.barriers.find({ _id: id });
    if (!row) return badSession(`its transaction has written the barrier row of ${id} already`);
    return row.state === BARRIER.committed
      ? new ReliableError(
          "RELIABLE_DUPLICATE_ID",
          `The business write of message '${id}' was committed before; this transaction must not commit.`,
          { id },
          thrown
        )
      : new ReliableError(
          "RELIABLE_WITHDRAWN",
          `The message '${id}' was withdrawn before its business write was committed; the transaction must not commit.`,
          { id },
          thrown
        );
  }

  async fence(id: string): Promise<"committed" | "fenced"> {
    const { barriers } = this.collections;
    // A business transaction that has written its row and not yet ended holds this insert up until it has, so the
    // answer is definite.
    const [fenced] = await barriers.insert([barrierRow(id, BARRIER.withdrawn)]);
    if (fenced) return "fenced";
    const [row] = await barriers.find({ _id: id });
    return row?.state === BARRIER.committed ? "committed" : "fenced";
  }

  async rolledBack(id: string): Promise<boolean> {
    if ((await this.fence(id)) === "committed") return false;
    // It was needed to wait for the transaction's end only.
    await this.collections.barriers.remove({ _id: id, state: BARRIER.withdrawn });
    return true;
  }

  async inboxTransaction(
    group: string,
    id: string,
    at: Date,
    work: (session: unknown) => Promise<void>
  ): Promise<"handled" | "duplicate"> {
    const { inbox } = this.collections;
    const session = (this.#client as MongoClient).startSession();
    let own: { thrown: unknown } | undefined;
    const attempt = async (): Promise<void> => {
      own = undefined;
      await inbox.insertIn(session, inboxRow(group, id, at)).catch((thrown: unknown) => {
        throw isDuplicate(thrown) ? new AlreadyHandled() : thrown;
      });
      try {
        await work(session);
      } catch (thrown) {
        own = { thrown };
        throw thrown;
      }
    };
    try {
      await session.withTransaction(attempt, { readConcern: { level: "snapshot" }, writeConcern: WRITE_CONCERN });
      return "handled";
    } catch (thrown) {
      if (thrown instanceof AlreadyHandled) return "duplicate";
      throw own ? own.thrown : mongoError(`the transaction for ${id}`, thrown);
    } finally {
      await session.endSession();
    }
  }

  #sessionOf(session: unknown): ClientSession {
    const theirs = session as (ClientSession & { client?: unknown }) | undefined;
    if (typeof theirs?.inTransaction !== "function" || typeof theirs.once !== "function")
      throw badSession("it is no ClientSession of the MongoDB driver");
    if (theirs.client && theirs.client !== this.#client)
      throw badSession("it is of another MongoClient than the store's; pass your client as the option `mongo`");
    return theirs;
  }

  async #connect(client: MongoClient, db: Db): Promise<void> {
    try {
      await deadline("connect", client.connect());
      const hello = await deadline("hello", db.command({ hello: 1 }));
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
    // The same failure is told once, not at every try.
    if (text !== this.#lastError) {
      this.options.logger.warn(`${text}. Trying again in the background.`);
      this.#tellDown(thrown as Error);
    }
    this.#lastError = text;
    const again = () =>
      this.#connect(this.#client as MongoClient, this.#db as Db).catch((later: unknown) =>
        this.#connectLater(attempt + 1, later)
      );
    this.#retry = setTimeout(() => void again(), backoffMs(RECONNECT, attempt)).unref();
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
      const conflict = [85, 86].includes((thrown as { cause?: { code?: number } }).cause?.code ?? 0);
      if (!conflict && (retryable || type === "RELIABLE_ACCESS_REFUSED")) throw thrown;
      this.options.logger.warn(`${reasonOf(thrown)}. The store works without that index, slower.`);
    }
  }

  /** Every answer tells the time: late by the way back and by what this process was busy with, never early. */
  #setClock({ localTime }: Document): void {
    if (localTime instanceof Date) this.#aheadMs = localTime.getTime() - Date.now();
  }

  readonly #onHeartbeat = ({ reply }: ServerHeartbeatSucceededEvent): void => {
    if (reply.isWritablePrimary === true) this.#setClock(reply);
  };

  readonly #onTopology = (event: TopologyDescriptionChangedEvent): void => {
    const writable = [...event.newDescription.servers.values()].some(server => WRITABLE.includes(server.type));
    this.#become(() => (this.#writable = writable));
  };

  #tellDown(error: Error): void {
    if (!this.#closed) for (const listener of this.#onDown) listener(error);
  }

  #become(change: () => void): void {
    const before = this.ready;
    change();
    if (before === this.ready) return;
    const { logger } = this.options;
    if (!this.ready) {
      logger.warn("MongoDB is out of reach.");
      return this.#tellDown(unavailable("monitor", new Error("no writable server answers")));
    }
    this.#lastError = undefined;
    logger.info("MongoDB is ready.");
    for (const listener of [...this.#listeners]) listener();
  }
}

function badSession(why: string): ReliableError {
  return new ReliableError("RELIABLE_BAD_SESSION", `The given \`session\` cannot be used: ${why}.`, {});
}

async function openClient({ url, tls, client }: MongoStoreOptions): Promise<MongoClient> {
  if (client) {
    const given = client as MongoClient;
    if (typeof given.db === "function" && typeof given.startSession === "function" && typeof given.on === "function")
      return given;
    throw new ReliableError("RELIABLE_BAD_OPTION", "Option 'mongo' is neither a URL nor a MongoClient.", {
      option: "mongo"
    });
  }
  // Loaded here, so that a node without a store never loads the driver.
  const { MongoClient } = await import("mongodb");
  const address = url ?? "";
  // What the URL says counts.
  const defaults = Object.entries(CLIENT_OPTIONS).filter(
    ([option]) => !address.toLowerCase().includes(`${option.toLowerCase()}=`)
  );
  try {
    return new MongoClient(address, { ...Object.fromEntries(defaults), ...(tls && { tls: true, ...tls }) });
  } catch (thrown) {
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `Option 'mongo' (${redact(address)}): ${reasonOf(thrown)}`,
      { option: "mongo" },
      thrown
    );
  }
}

/** The driver's own default, `test`, is nobody's wish. */
function databaseOf({ url, client, database }: MongoStoreOptions): string | undefined {
  if (database ?? client) return database;
  return /^mongodb(?:\+srv)?:\/\/[^/]+\/([^?]+)/.exec(url ?? "")?.[1] ?? "reliable";
}
