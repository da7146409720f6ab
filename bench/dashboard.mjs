// What each page of the dashboard asks, beside many dead and finished messages and beside a hundredth of them, of one
// cluster in one run.
//   AMQP_URL=… MONGO_URL=… REDIS_URL=… npm run bench:dashboard
//   npm run bench:dashboard -- --dead 100000 --finished 500000 --repeat 31 --only "Dead: causes" --dry
// `--dry` leaves bench/results.md as it is; `--keep` leaves the rows, and prints how the next run takes them.

import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { lastErrorOf } from "../dist/src/message/last-error.js";
import { encodeMessage } from "../dist/src/stores/documents/codec.js";
import { bed, table, writeSection } from "./lib/results.mjs";
import {
  clean,
  consumerService,
  DATABASE,
  EVENT,
  emitterService,
  groupName,
  mongo,
  newNamespace,
  reliableNode,
  runtimeOf,
  subscribed
} from "./lib/world.mjs";
import { messageOf } from "./sides/document.mjs";

const { values } = parseArgs({
  options: {
    dead: { type: "string", default: "100000" },
    finished: { type: "string", default: "500000" },
    repeat: { type: "string", default: "31" },
    settle: { type: "string", default: "90000" },
    only: { type: "string" },
    reuse: { type: "string" },
    keep: { type: "boolean", default: false },
    dry: { type: "boolean", default: false }
  }
});
const [DEAD, FINISHED, REPEAT, SETTLE] = ["dead", "finished", "repeat", "settle"].map(name => Number(values[name]));
const SHARE = 100;
const BAR = 1.5;
/** The same in both: what goes on now. */
const PENDING = 50;
const GROUPS = 5;
const EVENTS = [EVENT, "order.created", "order.paid", "mail.sent", "stock.low"];
const CAUSES = 12;
const BATCH = 5000;
const HOUR = 3_600_000;
/** They have died within the last hour, as in an outage, and finished within a day. */
const DIED_MS = 0.9 * HOUR;
const FINISHED_MS = 24 * HOUR;
/** Messages of one request, and of one customer. */
const PER_REQUEST = 5;
const PAGE = { pageSize: 50 };

const number = n => n.toLocaleString("en");
const groupOf = n => groupName(1 + (n % GROUPS));
/** No group has all its messages of one event. */
const eventOf = n => EVENTS[Math.floor(n / GROUPS) % EVENTS.length];

function named(n) {
  const request = Math.floor(n / PER_REQUEST);
  return {
    event: eventOf(n),
    origin: { requestID: `request-${request}`, nodeID: "bench" },
    // One key in ten is of one great customer.
    keys: [`order=${n}`, n % 10 ? `customer=c-${request}` : "customer=great"]
  };
}

/** The n-th of `count`, which are `ms` old at most. */
const instantOf = (n, count, ms) => new Date(Date.now() - ms + Math.floor((n * ms) / count));

function finished(n, count) {
  const at = instantOf(n, count, FINISHED_MS);
  return messageOf({ n }, [], {
    ...named(n),
    status: "consumed",
    dueAt: undefined,
    createdAt: at,
    at,
    receipts: { [groupOf(n)]: { at, nodeID: "bench", durationMs: 1, attempt: 1 } }
  });
}

function dead(n, count) {
  const at = instantOf(n, count, DIED_MS);
  // Half of them of one cause, as when the mail server is down; the others of all groups, events and errors.
  const isOutage = n % 2 === 1;
  const group = isOutage ? groupName(1) : groupOf(n / 2);
  const event = isOutage ? "order.created" : eventOf(n / 2);
  const type = `E_${isOutage ? 0 : 1 + ((n / 2) % (CAUSES - 1))}`;
  const error = { name: "MailError", message: `535 authentication of order ${n} failed`, type };
  const failure = { at, cause: "handler", group, attempt: 3, nodeID: `node-${n % 4}`, error };
  return messageOf({ n }, [], {
    ...{ ...named(n), event },
    ...{ status: "dead", dueAt: undefined, createdAt: at, at, failed: [group], reason: error.message },
    ...{ failures: [failure, failure, failure], deadAt: { [group]: at } },
    lastErrors: [lastErrorOf(group, failure, at)]
  });
}

const audit = n => ({
  ...{ _id: `audit-${n}`, at: new Date(Date.now() - n * 1000), act: "retry", by: "ops", state: "done" },
  ...{ note: "the mail server is back", id: `m-${n}`, counts: { matched: 1, done: 1, lost: 0 } }
});

const bulk = n => ({
  ...{ _id: `bulk-${n}`, key: `retry-${n}`, act: "retry", filter: { errorType: `E_${n}` }, state: "done", by: "ops" },
  ...{ at: new Date(Date.now() - 2 * HOUR - n * 1000), endedAt: new Date(Date.now() - HOUR - n * 1000) },
  ...{ perSecond: 100, matched: 100, pages: 1, done: 100, lost: 0, refused: 0, changes: [], note: "once more" }
});

const parked = n => ({
  ...{ _id: `parked-${n}`, at: new Date(Date.now() - n * 1000), queue: "q", reason: "no JSON", nodeID: "bench" },
  ...{ body: Buffer.from(`{"n":${n}`), properties: {}, headers: {} }
});

/** What two nodes have counted in a day, by minute: as much in both, since a minute has one size. */
function minutes() {
  const last = Math.floor(Date.now() / 60_000) * 60_000;
  return Array.from({ length: 2 * 24 * 60 }, (_, i) => {
    const at = new Date(last - (i >> 1) * 60_000);
    const nodeID = `node-${i & 1}`;
    const rows = EVENTS.map((event, n) => ({ event, group: groupName(1 + n), handled: 60, failed: 3, dead: 1 }));
    return { _id: `${at.toISOString()}|${nodeID}`, unit: "minute", at, nodeID, rows };
  });
}

async function fill(client, namespace, share) {
  const collection = name => client.db(DATABASE).collection(`${namespace}.reliable.${name}`);
  const put = async (name, count, of) => {
    for (let from = 0; from < count; from += BATCH) {
      const docs = Array.from({ length: Math.min(BATCH, count - from) }, (_, i) => of(from + i, count));
      await collection(name).insertMany(docs, { ordered: false, writeConcern: { w: 1 } });
    }
  };
  const rows = of => (n, count) => encodeMessage(of(n, count));
  const began = performance.now();
  await put("messages", FINISHED / share, rows(finished));
  await put("messages", DEAD / share, rows(dead));
  await put(
    "messages",
    PENDING,
    rows(() => messageOf({}, [groupName(1)], {}))
  );
  await put("audit", 10_000 / share, audit);
  await put("bulks", 1000 / share, bulk);
  await put("parked", 10_000 / share, parked);
  await collection("history").insertMany(minutes());
  const seconds = Math.round((performance.now() - began) / 1000);
  console.log(`${number(DEAD / share)} dead and ${number(FINISHED / share)} finished rows in ${seconds} s`);
}

/** A node beside these rows, with a reader of the overview that keeps no answer: each one is read for real. */
async function worldOf(client, namespace) {
  const groups = Array.from({ length: GROUPS }, (_, i) => i + 1);
  const broker = await reliableNode({
    namespace,
    services: mixin => [emitterService(mixin), ...groups.map(n => consumerService(mixin, n, () => undefined))]
  });
  await subscribed(broker, GROUPS);
  const { overview } = runtimeOf(broker).storage;
  let elapsed = 0;
  const clock = { ...overview.parts.clock, monotonic: () => (elapsed += HOUR) };
  const reader = new overview.constructor({ ...overview.parts, clock });
  const messages = client.db(DATABASE).collection(`${namespace}.reliable.messages`);
  const [last] = await messages.find({ status: "dead" }).sort({ at: -1 }).limit(1).toArray();
  const ask = async (name, params = {}) => broker.call(`reliable.${name}`, params);
  const [cause] = (await ask("causes")).rows;
  return { namespace, broker, reader, ask, cause, dead: last, since: new Date(last.at.getTime() - HOUR).toISOString() };
}

/** Not from before 24 h on, which is rounded down to a step: that is kept by the hour. */
function history(ask, ms) {
  const stepMs = Math.max(60_000, ms / 60);
  return ask("history", { fromAt: new Date(Date.now() - ms + stepMs).toISOString(), stepMs });
}

/** What the first row of the causes links to. */
const ofCause = ({ event, group, cause, errorType, errorText }) => ({
  ...{ status: "dead", event, group, cause, errorType, errorText }
});

/** By page, as it asks. */
const QUESTIONS = {
  "Overview: with the charts of an hour and a day": async ({ reader, ask }) => {
    const [now] = await Promise.all([reader.read(), history(ask, HOUR), history(ask, 24 * HOUR)]);
    return { rows: now.messages?.byStatus.dead ? now.groups : [] };
  },
  "Dead: causes of the last hour": ({ ask, since }) => ask("causes", { deadFromAt: since }),
  "Dead: causes": ({ ask }) => ask("causes"),
  "Dead: causes in a group": ({ ask }) => ask("causes", { group: "group-2" }),
  "Dead: causes of an event": ({ ask }) => ask("causes", { event: "order.paid" }),
  "Messages: without a filter": ({ ask }) => ask("list", PAGE),
  "Messages: dead": ({ ask }) => ask("list", { status: "dead", ...PAGE }),
  "Messages: dead, by error type": ({ ask }) => ask("list", { errorType: "E_3", ...PAGE }),
  "Messages: dead, of one cause": ({ ask, cause }) => ask("list", { ...ofCause(cause), ...PAGE }),
  "Messages: dead, by group": ({ ask }) => ask("list", { status: "dead", group: "group-2", ...PAGE }),
  "Messages: finished": ({ ask }) => ask("list", { status: "consumed", ...PAGE }),
  "Messages: by event": ({ ask }) => ask("list", { event: "order.paid", ...PAGE }),
  "Messages: by group": ({ ask }) => ask("list", { group: "group-2", ...PAGE }),
  "Messages: by key": ({ ask, dead }) => ask("list", { key: dead.keys[0], ...PAGE }),
  "Messages: by a key of many": ({ ask }) => ask("list", { key: "customer=great", ...PAGE }),
  "Messages: by id prefix": ({ ask, dead }) => ask("list", { idPrefix: dead._id.slice(0, -2), ...PAGE }),
  "Messages: by requestID": ({ ask, dead }) => ask("list", { requestID: dead.origin.requestID, ...PAGE }),
  Message: async ({ ask, dead }) => [await ask("get", { id: dead._id })],
  Groups: ({ ask }) => ask("subscriptions"),
  "Groups and Servers: overview alone": async ({ reader }) => ({ rows: (await reader.read()).groups }),
  Parked: ({ ask }) => ask("parked", PAGE),
  "Acts: bulks and audits": async ({ ask }) => (await Promise.all([ask("bulks"), ask("audits", PAGE)]))[1]
};

const timed = async work => {
  const from = performance.now();
  const answer = await work();
  const ms = performance.now() - from;
  if (!(answer.rows ?? answer).length) throw new Error(`Nothing found: ${work}`);
  return ms;
};

const median = list => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];

const client = await mongo();
const namespaces = values.reuse?.split(",") ?? [newNamespace(), newNamespace()];
const isKept = values.keep || values.reuse !== undefined;
if (isKept) console.log(`Again: npm run bench:dashboard -- --reuse ${namespaces.join(",")}`);
const worlds = [];
try {
  if (!values.reuse) {
    // Its indexes are made by a node.
    for (const [i, namespace] of namespaces.entries()) {
      await (await reliableNode({ namespace, services: mixin => [emitterService(mixin)] })).stop();
      await fill(client, namespace, i ? 1 : SHARE);
    }
  }
  for (const namespace of namespaces) worlds.push(await worldOf(client, namespace));
  const [small, big] = worlds;
  // A server on PostgreSQL plans by statistics that it makes once a minute; until then a count reads all.
  if (!values.reuse) await delay(SETTLE);
  const asked = Object.entries(QUESTIONS).filter(([name]) => !values.only || name.includes(values.only));
  const lines = [];
  for (const [name, ask] of asked) {
    const times = new Map(worlds.map(world => [world, []]));
    for (let n = -3; n < REPEAT; n++)
      for (const world of n % 2 ? worlds : worlds.toReversed()) {
        const ms = await timed(() => ask(world));
        if (n >= 0) times.get(world).push(ms);
      }
    const ratios = times.get(big).map((ms, n) => ms / times.get(small)[n]);
    const line = { name, ratio: median(ratios), small: median(times.get(small)), big: median(times.get(big)) };
    lines.push(line);
    console.log(`${line.ratio.toFixed(2)}  ${line.small.toFixed(1)} → ${line.big.toFixed(1)} ms  ${name}`);
  }
  const ms = value => `${value.toFixed(1)} ms`;
  const head = ["page", number(DEAD / SHARE + FINISHED / SHARE), number(DEAD + FINISHED), `÷, ≤ ${BAR}`, "reached"];
  const rows = lines.map(({ name, ratio, small, big }) => [
    ...[name, ms(small), ms(big), `**${ratio.toFixed(2)}**`, ratio <= BAR ? "yes" : "no"]
  ]);
  const text = table(head, rows);
  console.log(`\n${text}`);
  if (!values.dry)
    writeSection(
      "## Dashboard",
      [
        `What the pages of the dashboard ask, by the actions of a running node, beside ${number(DEAD)} dead and ${number(FINISHED)} finished messages (of ${EVENTS.length} events, ${GROUPS} groups, ${CAUSES} causes) and beside a hundredth of them, in turn: the median of ${REPEAT} rounds' ratios, and the median times. No answer is kept from round to round. The dead ones have died within the last hour, half of them of one cause. A filter that no index serves (event, group, error) is one that a twentieth of the rows and more match: of a seldom one, rows are read until a page is full.`,
        text,
        `\`npm run bench:dashboard\`, ${new Date().toISOString().slice(0, 10)}: ${await bed()}.`
      ].join("\n\n")
    );
} finally {
  for (const { broker } of worlds) await broker.stop();
  if (!isKept) for (const namespace of namespaces) await clean(namespace);
  await client.close();
}
