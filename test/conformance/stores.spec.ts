import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MongoClient } from "mongodb";
import { uuidv7 } from "uuidv7";
import { describe } from "vitest";
import { EmbeddedStore } from "../../src/stores/embedded/store";
import { MongoStore } from "../../src/stores/mongo/store";
import { silent } from "../support/messages";
import { urls } from "../support/servers";
import { type StoreKind, transitions } from "./store";
import { operations } from "./store-operator";
import { overtaken } from "./store-overtaken";

const database = `reliable_test_${uuidv7()}`;
const folder = mkdtempSync(join(tmpdir(), "reliable-store-"));

const KINDS: StoreKind[] = [
  {
    name: "MongoDB",
    features: { durable: true, shared: true, transactions: true },
    create: namespace => new MongoStore({ url: urls().mongo, database, namespace, logger: silent }),
    async drop() {
      const client = new MongoClient(urls().mongo);
      await client.db(database).dropDatabase();
      await client.close();
    }
  },
  {
    name: "embedded, in memory",
    features: { durable: false, shared: false, transactions: false },
    create: namespace => new EmbeddedStore({ namespace, logger: silent }),
    drop: async () => undefined
  },
  {
    name: "embedded, in files",
    features: { durable: true, shared: false, transactions: false },
    create: namespace => new EmbeddedStore({ path: folder, namespace, logger: silent }),
    drop: async () => rmSync(folder, { recursive: true })
  }
];

describe.each(KINDS)("$name", kind => {
  transitions(kind);
  operations(kind);
  overtaken(kind);
});
