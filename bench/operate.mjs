// What an operator asks, beside many finished messages and beside few, of one MongoDB in one run.
//   MONGO_URL=mongodb://127.0.0.1:27017/?replicaSet=rs0 npm run bench:operate
//   npm run bench:operate -- --rows 500000 --small 50000 --repeat 21 --only causes,stats --dry
// `--dry` leaves bench/results.md as it is. 5,000,000 rows (the default) take some minutes and about 4 GB of disk.

import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { lastErrorOf } from "../dist/src/message/last-error.js";
import { ongoingBulks } from "../dist/src/operator/bulk/bulk-ongoing.js";
import { Operations } from "../dist/src/operator/operations.js";
import { systemClock } from "../dist/src/platform/clock.js";
import { encodeMessage } from "../dist/src/stores/documents/codec.js";
import { COLLECTION_NAMES } from "../dist/src/stores/documents/collection.js";
import { MongoStore } from "../dist/src/stores/mongo/store.js";
import { storeBed, table, writeSection } from "./lib/results.mjs";
import { DATABASE, mongo, newNamespace, urls } from "./lib/world.mjs";
import { messageOf } from "./sides/document.mjs";

const { values } = parseArgs({
  options: {
    rows: { type: "string", default: "5000000" },
    small: { type: "string", default: "50000" },
    repeat: { type: "string", default: "31" },
    settle: { type: "string", default: "90000" },
    only: { type: "string" },
    dry: { type: "boolean", default: false }
  }
});
const [ROWS, SMALL, REPEAT, SETTLE] = ["rows", "small", "repeat", "settle"].map(name => Number(values[name]));
const PENDING = 200;
const DEAD = 1000;
const CAUSES = 12;
const BATCH = 5000;
/** Messages of one request, and with one key. */
const PER_REQUEST = 5;
const BAR = { growth: 1.5, findOnes: 20 };

const START = Date.UTC(2026, 0, 1);
const silent = { error: console.error, warn: console.warn, info: () => undefined, debug: () => undefined };
const number = n => n.toLocaleString("en");

/** The n-th message: emitted in a request, with keys, and finished; ids are made in the order of time. */
function finished(n) {
  const group = Math.floor(n / PER_REQUEST);
  const at = new Date(START + n);
  return messageOf({ n }, [], {
    status: "consumed",
    dueAt: undefined,
    createdAt: at,
    at,
    origin: { requestID: `request-${group}`, nodeID: "bench" },
    keys: [`order=${n}`, `customer=c-${group}`],
    receipts: { "group-1": { at, nodeID: "bench", durationMs: 1, attempt: 1 } }
  });
}

function dead(n) {
  const at = new Date(START + n);
  const error = { name: "MailError", message: `535 authentication of order ${n} failed`, type: `E_${n % CAUSES}` };
  const failure = { at, cause: "handler", group: "group-1", attempt: 3, nodeID: `node-${n % 4}`, error };
  return messageOf({ n }, [], {
    ...{
      status: "dead",
      dueAt: undefined,
      createdAt: at,
      at,
      failed: ["group-1"],
      failures: [failure, failure, failure]
    },
    ...{ deadAt: { "group-1": at }, lastErrors: [lastErrorOf("group-1", failure, at)], reason: error.message }
  });
}

async function filled(client, rows) {
  const namespace = newNamespace();
  const store = new MongoStore({ url: urls.mongo, database: DATABASE, namespace, logger: silent, clock: systemClock });
  await store.start();
  const messages = client.db(DATABASE).collection(`${namespace}.reliable.messages`);
  const put = async (count, of) => {
    for (let from = 0; from < count; from += BATCH) {
      const docs = Array.from({ length: Math.min(BATCH, count - from) }, (_, i) => encodeMessage(of(from + i)));
      await messages.insertMany(docs, { ordered: false, writeConcern: { w: 1 } });
      if (from && from % 500_000 === 0) console.log(`  ${number(from)} …`);
    }
  };
  const began = performance.now();
  await put(rows, finished);
  await put(DEAD, dead);
  await put(PENDING, n => messageOf({ n }, ["group-1"], {}));
  console.log(`${number(rows)} finished rows in ${Math.round((performance.now() - began) / 1000)} s`);
  const operations = new Operations({ store, clock: systemClock });
  const middle = await messages.findOne({ keys: `order=${Math.floor(rows / 2)}` });
  return { namespace, store, operations, messages, rows, id: middle._id };
}

/** Each gets the world; what it asks for is there. */
const QUESTIONS = {
  list: ({ operations }) => operations.list({}),
  "list, finished ones": ({ operations }) => operations.list({ status: "consumed" }),
  "list, its second page": async ({ operations, cursor }) => operations.list({ status: "consumed", cursor }),
  "list by id prefix": ({ operations, id }) => operations.list({ idPrefix: id.slice(0, -2) }),
  "list by requestID": ({ operations, rows }) => operations.list({ requestID: `request-${Math.floor(rows / 20)}` }),
  "list by key": ({ operations, rows }) => operations.list({ key: `customer=c-${Math.floor(rows / 30)}` }),
  "list by error type": ({ operations }) => operations.list({ errorType: "E_3" }),
  "list by time of death": ({ operations }) => operations.list({ deadFromAt: START + 100, deadToAt: START + 200 }),
  causes: ({ operations }) => operations.causes({}),
  // What else it says comes from memory, RabbitMQ and the other nodes.
  "overview, all it reads in the store": ({ store }) => {
    const [from, to] = [new Date(Date.now() - 300_000), new Date()];
    return Promise.all([
      store.messages.stats(10_000),
      store.messages.deadGroups(1000),
      store.history.between("minute", from, to, 2000),
      ongoingBulks(store)
    ]);
  },
  stats: ({ store }) => store.messages.stats()
};

const timed = async work => {
  const from = performance.now();
  const answer = await work();
  const ms = performance.now() - from;
  if (answer === null || answer?.rows?.length === 0) throw new Error(`Nothing found: ${work}`);
  return ms;
};

const median = list => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];

const client = await mongo();
const worlds = [];
try {
  for (const rows of [SMALL, ROWS]) {
    const world = await filled(client, rows);
    worlds.push(world);
    world.cursor = (await world.operations.list({ status: "consumed" })).nextCursor;
  }
  const [small, big] = worlds;
  // A server on PostgreSQL plans by statistics that it makes once a minute; until then a count reads all.
  await delay(SETTLE);
  const asked = Object.entries(QUESTIONS).filter(([name]) => !values.only || values.only.split(",").includes(name));
  const ones = [];
  const lines = [];
  for (const [name, ask] of asked) {
    const times = new Map(worlds.map(world => [world, []]));
    for (let n = -3; n < REPEAT; n++) {
      const one = await timed(() => big.messages.findOne({ _id: big.id }));
      if (n >= 0) ones.push(one);
      for (const world of n % 2 ? worlds : worlds.toReversed()) {
        const ms = await timed(() => ask(world));
        if (n >= 0) times.get(world).push(ms);
      }
    }
    lines.push({ name, small: median(times.get(small)), big: median(times.get(big)) });
  }
  const one = median(ones);
  const ms = value => `${value.toFixed(2)} ms`;
  const rows = lines.map(({ name, small, big }) => {
    const [growth, findOnes] = [big / small, big / one];
    const kept = growth <= BAR.growth && findOnes <= BAR.findOnes;
    return [name, ms(small), ms(big), `**${growth.toFixed(2)}**`, `**${findOnes.toFixed(1)}**`, kept ? "yes" : "no"];
  });
  const head = ["asked", number(SMALL), number(ROWS), `÷, ≤ ${BAR.growth}`, `÷ findOne, ≤ ${BAR.findOnes}`, "reached"];
  const text = table(head, rows);
  console.log(`\nfindOne by _id: ${ms(one)}\n\n${text}`);
  if (!values.dry)
    writeSection(
      "## Operating",
      [
        `What an operator asks beside ${number(SMALL)} and beside ${number(ROWS)} finished messages (each with a requestID and two keys), ${number(DEAD)} dead ones of ${CAUSES} causes and ${PENDING} pending ones; the median of ${REPEAT}, in turn. One \`findOne\` by \`_id\` of the driver, in between: ${ms(one)}.`,
        text,
        `\`npm run bench:operate -- --rows ${ROWS}\`, ${new Date().toISOString().slice(0, 10)}: ${await storeBed()}.`
      ].join("\n\n")
    );
} finally {
  for (const { store, namespace } of worlds) {
    await store.close();
    for (const name of COLLECTION_NAMES) await client.db(DATABASE).dropCollection(`${namespace}.reliable.${name}`);
  }
  await client.close();
}
