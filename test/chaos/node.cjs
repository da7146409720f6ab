// One node of the cluster under fault: a producer, a consumer, a sweeper or a callback node. What it does it writes
// into its journal at once and synchronously, so that a SIGKILL cannot take it back. JavaScript over the built package,
// for a quick start: each fault starts many of these. See `journal.ts` for the lines.
const { openSync, writeSync } = require("node:fs");

const { nodeID, namespace, role, journal, line, options, ports, rate, poisonEvery, padBytes, clockMs, cap, ...more } =
  JSON.parse(process.env.CHAOS_NODE);
const { laterMs, orderKeys } = more;

// Before anything else is loaded: what reads the clock reads this one.
if (clockMs) {
  const Real = Date;
  globalThis.Date = class Shifted extends Real {
    constructor(...args) {
      if (args.length) super(...args);
      else super(Real.now() + clockMs);
    }
    static now() {
      return Real.now() + clockMs;
    }
  };
}

const { Redis } = require("ioredis");
const { ServiceBroker } = require("moleculer");
const { MongoClient } = require("mongodb");
const { ReliableEmit, ReliableService } = require("../../dist/src");
const { DocumentInbox } = require("../../dist/src/stores/documents/inbox");
const { Receipts } = require("../../dist/src/tracker/receipts");

// Sentinels are known to a client that is handed in.
if (options.redis?.sentinels) options.redis = new Redis({ ...options.redis, maxRetriesPerRequest: 1 });

const file = openSync(journal, "a");
/** Of all processes of this machine the same clock, whatever became of `Date`. */
const now = () => process.hrtime.bigint() / 1000n;
const note = (...words) => writeSync(file, `${words.join(" ")}\n`);

process.on("unhandledRejection", error => {
  note("X", JSON.stringify(String(error?.stack ?? error)));
  console.error("unhandled rejection", error);
});
process.on("uncaughtException", error => {
  note("X", JSON.stringify(String(error?.stack ?? error)));
  console.error("uncaught exception", error);
  process.exit(70);
});

const urls = Object.entries(ports)
  .filter(([id]) => id !== nodeID)
  .map(([id, port]) => `127.0.0.1:${port}/${id}`);
const broker = new ServiceBroker({
  namespace,
  nodeID,
  // Not over one of the servers that are broken on purpose.
  transporter: { type: "TCP", options: { udpDiscovery: false, port: ports[nodeID], urls, gossipPeriod: 1 } },
  heartbeatInterval: 1,
  heartbeatTimeout: 4,
  logger: { type: "Console", options: { level: "info", colors: false, formatter: "short" } },
  // Moleculer ends the process on SIGTERM when this has been said.
  stopped: () => note("E")
});

// ------------------------------------------------------------------------------------------------------------------
// producer

/**
 * Which event a number stands for: alone for a group of each kind of inbox, or shared by two. What is in order has
 * several of a key one after the other.
 */
function eventOf(n) {
  const at = (orderKeys ? n + Math.floor(n / orderKeys) : n) % 20;
  return at < 9 ? "order.plain" : at < 17 ? "order.kept" : at < 19 ? "order.shared" : "order.ledger";
}

function producer() {
  let n = 0;
  let inFlight = 0;
  let open = true;
  let shop;
  /** A part of what the store keeps is to be sent later. */
  const delayOf = (mine, strategy) =>
    laterMs && strategy === "outbox" && mine % 3 ? 1 + ((mine * 7919) % laterMs) : 0;
  /** … and of that a part is called off, at about the instant of its sending. */
  const callOff = async (mine, id, delayMs) => {
    await new Promise(resolve => setTimeout(resolve, delayMs + (mine % 7) * 50));
    await shop.reliableCancel(id).then(
      () => note("C", id, now()),
      error => note("R", id, error.type)
    );
  };
  const pad = "x".repeat(padBytes);
  const emit = async mine => {
    const id = `${line}-${mine}`;
    const orderKey = orderKeys && `key-${mine % orderKeys}`;
    const strategy = mine % 2 && !orderKey ? "callback" : "outbox";
    const poison = mine % poisonEvery === poisonEvery - 7;
    note("A", id, now(), eventOf(mine), strategy, poison ? 1 : 0, ...(orderKey ? [orderKey] : []));
    for (;;) {
      try {
        const delayMs = delayOf(mine, strategy);
        const later = delayMs && { delayMs };
        const how = { id, strategy, maxAttempts: 3, ...later, ...(orderKey && { orderKey }) };
        await shop.reliableEmit(eventOf(mine), { id, poison, pad }, how);
        note("P", id, now());
        return delayMs && mine % 4 === 0 ? callOff(mine, id, delayMs) : undefined;
      } catch (error) {
        const unknown = error.type === "RELIABLE_OUTCOME_UNKNOWN";
        note(unknown ? "U" : "N", id, error.type);
        // What is not known is emitted again with its id, as the README says.
        if (!unknown || !open) return;
      }
    }
  };
  let last = 0;
  let wanted = 0;
  let ticks = 0;
  const tick = () => {
    if (!open) return;
    const at = performance.now();
    // At the pace wanted, without making up for a time in which nothing could be emitted.
    wanted = Math.min(wanted + ((at - last) / 1000) * rate, 100);
    last = at;
    for (; wanted >= 1 && inFlight < 300 && n < cap; wanted--) {
      inFlight++;
      void emit(n++).finally(() => inFlight--);
    }
    if (ticks++ % 25 === 0) process.send({ name: "emitting", data: n });
    setTimeout(tick, 10);
  };
  process.on("message", async ({ name }) => {
    if (name === "load" && !last) {
      last = performance.now();
      tick();
    }
    if (name !== "enough") return;
    open = false;
    while (inFlight) await new Promise(resolve => setTimeout(resolve, 20));
    process.send({ name: "emitted", data: n });
  });
  shop = broker.createService({ name: "shop", mixins: [ReliableEmit(options)] });
}

// ------------------------------------------------------------------------------------------------------------------
// consumer

/** What all handlers depend on. */
let dependencyDown = Boolean(process.env.DEPENDENCY_DOWN);

/** Instant at which the inbox was last asked for an id. */
const looked = new Map();

/** Three groups, one for each kind of inbox. */
function consumer() {
  const client = new MongoClient(options.mongo, { socketTimeoutMS: 8000, serverSelectionTimeoutMS: 5000 });
  const effects = client.db(options.database).collection(`${namespace}.effects`);
  const handle = group => async ctx => {
    const { id, poison } = ctx.params;
    const key = `${group} ${id}`;
    const since = looked.get(key) ?? now();
    looked.delete(key);
    if (dependencyDown) throw new Error("away");
    if (poison) throw new Error("poison");
    const { session } = ctx.locals.reliable;
    // In the inbox's own transaction: what is counted is what stays.
    if (session) await effects.insertOne({ id }, { session });
    else await new Promise(resolve => setImmediate(resolve));
    note("H", id, group, since, now());
  };
  const group = (name, inbox, ...events) => {
    const handlers = Object.fromEntries(
      events.map(event => [
        event,
        { reliable: { inbox, maxInFlight: inbox === "transaction" ? 20 : 100 }, handler: handle(name) }
      ])
    );
    broker.createService({ name, mixins: [ReliableEmit({ ...options, mongo: client })], events: handlers });
  };
  group("off", false, "order.plain", "order.shared");
  group("on", true, "order.kept", "order.shared");
  group("tx", "transaction", "order.ledger");
}

/**
 * Notes when it is asked what was handled, and when that is written, as an inbox row or as the receipt in the message's
 * row: what is handled twice may only be so before its record.
 */
function watchInbox() {
  const { handled, add, transaction } = DocumentInbox.prototype;
  DocumentInbox.prototype.handled = function (group, ids) {
    const at = now();
    for (const id of ids) {
      looked.set(`${group} ${id}`, at);
      note("L", id, group);
    }
    return handled.call(this, group, ids);
  };
  DocumentInbox.prototype.add = async function (group, ids, at) {
    const written = await add.call(this, group, ids, at);
    for (const id of ids) note("I", id, group, now());
    return written;
  };
  const { handled: received } = Receipts.prototype;
  Receipts.prototype.handled = async function (group, items) {
    const unknown = await received.call(this, group, items);
    for (const { id } of items) if (!unknown.has(id)) note("I", id, group, now());
    return unknown;
  };
  DocumentInbox.prototype.transaction = function (group, id, ...rest) {
    note("L", id, group);
    return transaction.call(this, group, id, ...rest);
  };
}

// ----------------------------------------------------------------------------------------------------------------------
// node

async function main() {
  if (role === "producer") producer();
  else if (role === "consumer") {
    watchInbox();
    consumer();
  } else broker.createService({ name: "reliable", mixins: [ReliableService(options)] });
  process.on("message", ({ name, data }) => {
    if (name === "call")
      void broker.call(data.action, data.params).then(
        answer => process.send({ name: data.id, data: { answer } }),
        error => process.send({ name: data.id, data: { error: error.message } })
      );
    if (name === "heap") {
      globalThis.gc();
      process.send({ name, data: process.memoryUsage().heapUsed / 2 ** 20 });
    }
    if (name === "dependency") dependencyDown = data.down;
    if (name === "points") process.emit("crash:points", points => process.send({ name: "points", data: points }));
  });
  // Without its parent it would go on for ever.
  process.on("disconnect", () => process.exit(0));
  await broker.start();
  process.emit("crash:arm");
  process.send({ name: "started" });
}

void main();
