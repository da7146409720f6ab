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
import { bodies } from "./store-bodies";
import { bulks } from "./store-bulk";
import { drops } from "./store-drops";
import { excused } from "./store-excused";
import { finding } from "./store-find";
import { history } from "./store-history";
import { lanes } from "./store-lanes";
import { later } from "./store-later";
import { operations } from "./store-operator";
import { overtaken } from "./store-overtaken";
import { pauses } from "./store-pauses";
import { replays } from "./store-replay";
import { unreadable } from "./store-unreadable";
import { unroutable } from "./store-unroutable";

const database = `reliable_test_${uuidv7()}`;
const folder = mkdtempSync(join(tmpdir(), "reliable-store-"));

const REAL: StoreKind[] = [
  {
    name: "MongoDB",
    features: { durable: true, shared: true, transactions: true },
    create: namespace => new MongoStore({ url: urls().mongo, database, namespace, logger: silent, clock: systemClock }),
    async drop() {
      const client = new MongoClient(urls().mongo);
      // One by one: a namespace for each test has more tables and indexes than the gateway's PostgreSQL can lock at once.
      for (const { name } of await client.db(database).listCollections({}, { nameOnly: true }).toArray())
        await client.db(database).dropCollection(name);
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
  unroutable(kind);
  bodies(kind);
  finding(kind);
  bulks(kind);
  pauses(kind);
  replays(kind);
  excused(kind);
  drops(kind);
  later(kind);
  lanes(kind);
  history(kind);
});
