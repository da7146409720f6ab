import type { Db, DbOptions, MongoClient, MongoClientOptions } from "mongodb";
import { ReliableError, reasonOf, redact } from "../../errors";
import { databaseFault } from "../../options/addresses";
import { collectionNameFault } from "../../wire/names";

/** Options of a client made here; a client that is handed in keeps its own. */
const CLIENT_OPTIONS: MongoClientOptions = {
  appName: "moleculer-reliable-emit",
  // Long enough for an election (mostly 2..4 s), short enough for an emit that waits.
  serverSelectionTimeoutMS: 5000,
  connectTimeoutMS: 5000,
  socketTimeoutMS: 20_000,
  waitQueueTimeoutMS: 5000,
  // A server that is gone or back is noticed within this time, so `ready` may be as late.
  heartbeatFrequencyMS: 2000,
  retryWrites: true
};

/** We read from the primary alone. With another one in the URL the driver would wait for a secondary to connect. */
const READ_PREFERENCE = "primary";

export interface MongoAddress {
  url?: string;
  /** Of Node.js' `tls.connect`, `ca` above all; turns TLS on. */
  tls?: Record<string, unknown>;
  /** The user's own MongoClient, perhaps of another driver version. It is used as it is and never closed. */
  client?: unknown;
  /** Default: the one in the URL, else `reliable`; of a client handed in, its own default. */
  database?: string;
}

/** Does not connect. Rejects with RELIABLE_BAD_OPTION. */
export async function openClient({ url, tls, client }: MongoAddress): Promise<MongoClient> {
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
  // What the URL says takes precedence.
  const defaults = Object.entries(CLIENT_OPTIONS).filter(
    ([option]) => !address.toLowerCase().includes(`${option.toLowerCase()}=`)
  );
  try {
    return new MongoClient(address, {
      ...Object.fromEntries(defaults),
      readPreference: READ_PREFERENCE,
      ...(tls && { tls: true, ...tls })
    });
  } catch (thrown) {
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `Option 'mongo' (${redact(address)}): ${reasonOf(thrown)}`,
      { option: "mongo" },
      thrown
    );
  }
}

/** Not the driver's own default, `test`. */
export function databaseOf({ url, client, database }: MongoAddress): string | undefined {
  if (database ?? client) return database;
  // As the driver does, which has read the URL before.
  return decodeURIComponent(/^mongodb(?:\+srv)?:\/\/[^/]+\/([^?]+)/.exec(url ?? "")?.[1] ?? "reliable");
}

/** The database of the store. Throws RELIABLE_BAD_OPTION for one that the server refuses, or keeps for itself. */
export function openDatabase(client: MongoClient, address: MongoAddress, namespace: string, options: DbOptions): Db {
  const refuse = (option: string, text: string) => {
    throw new ReliableError("RELIABLE_BAD_OPTION", text, { option });
  };
  const checkDatabase = (name: string) => {
    const fault = databaseFault(name);
    if (fault) refuse("database", `Option 'database', or the database in the URL of 'mongo': '${name}' ${fault}.`);
  };
  const given = databaseOf(address);
  // Before the driver, whose versions refuse some of them in other words.
  if (given !== undefined) checkDatabase(given);
  const db = client.db(given, options);
  checkDatabase(db.databaseName);
  const fault = collectionNameFault(namespace, db.databaseName);
  if (fault) refuse("namespace", `Moleculer's option 'namespace' ${fault}.`);
  return db;
}
