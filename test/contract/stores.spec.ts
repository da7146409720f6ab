import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MongoClient } from "mongodb";
import { uuidv7 } from "uuidv7";
import { describe } from "vitest";
import { systemClock } from "../../src/platform/clock";
import { EmbeddedStore } from "../../src/stores/embedded/store";
import { MongoStore } from "../../src/stores/mongo/store";
import { backend } from "../support/brokers";
import { silent } from "../support/messages";
import { urls } from "../support/servers";
import { type StoreKind, transitions } from "./store";
import { operations } from "./store-operator";
import { overtaken } from "./store-overtaken";
import { unreadable } from "./store-unreadable";

const database = `reliable_test_${uuidv7()}`;
const folder = mkdtempSync(join(tmpdir(), "reliable-store-"));

const REAL: StoreKind[] = [
  {
    name: "MongoDB",
    features: { durable: true, shared: true, transactions: true },
    create: namespace => new MongoStore({ url: urls().mongo, database, namespace, logger: silent, clock: systemClock }),
    async drop() {
      const client = new MongoClient(urls().mongo);
      await client.db(database).dropDatabase();
      await client.close();
    }
  }
];

const EMBEDDED: StoreKind[] = [
  {
    name: "embedded, in memory",
    features: { durable: false, shared: false, transactions: false },
    create: namespace => new EmbeddedStore({ namespace, logger: silent, clock: systemClock }),
    drop: async () => undefined
  },
  {
    name: "embedded, in files",
    features: { durable: true, shared: false, transactions: false },
    create: namespace => new EmbeddedStore({ path: folder, namespace, logger: silent, clock: systemClock }),
    drop: async () => rmSync(folder, { recursive: true })
  }
];

describe.each(backend === "real" ? REAL : EMBEDDED)("$name", kind => {
  transitions(kind);
  operations(kind);
  overtaken(kind);
  unreadable(kind);
});
