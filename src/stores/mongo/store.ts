import { Documents } from "../documents/documents";
import type { Store } from "../store";
import { MongoConnection, type MongoConnectionOptions } from "./connection";
import { MongoTransactions } from "./transactions";

export type MongoStoreOptions = MongoConnectionOptions;

/** The store in MongoDB: the documents of any store, over collections of this database. */
export class MongoStore extends Documents implements Store {
  readonly name = "mongodb";
  readonly #connection: MongoConnection;

  constructor(options: MongoStoreOptions) {
    const connection = new MongoConnection(options);
    super(connection, new MongoTransactions(connection));
    this.#connection = connection;
  }

  get features() {
    return this.#connection.features;
  }

  get ready(): boolean {
    return this.#connection.ready;
  }

  now(): Date {
    return this.#connection.now();
  }

  start(): Promise<void> {
    return this.#connection.start();
  }

  close(withinMs?: number): Promise<void> {
    return this.#connection.close(withinMs);
  }

  onReady(listener: () => void): () => void {
    return this.#connection.on("ready", listener);
  }

  onUnavailable(listener: (error: Error) => void): void {
    this.#connection.on("down", listener);
  }
}
