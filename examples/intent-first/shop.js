"use strict";

// The shop as a process, started by run.js: takes one order in, or comes up after a crash and waits for what becomes of
// one.
const { setTimeout: delay } = require("node:timers/promises");
const { ServiceBroker } = require("moleculer");
const { MongoClient } = require("mongodb");
const { ReliableEmit } = require("moleculer-reliable-emit");
const { Journal } = require("../orders/journal");
const { story } = require("../orders/report");
const { optionsOf } = require("./options");
const orders = require("./orders.service");

const DEADLINE_MS = 30_000;
const world = JSON.parse(process.argv[2]);
const options = optionsOf(world);
// The barrier row joins a transaction of the business, so both use one client.
const client = options.mongo && new MongoClient(options.mongo);
if (client) options.mongo = client;

const mails = new Journal(world.folder, "mail");
const mail = {
  name: "mail",
  mixins: [ReliableEmit(options)],
  events: {
    "order.created": {
      reliable: true,
      handler(ctx) {
        mails.add(ctx.params.id);
        console.log(`    mail for ${ctx.params.id} sent`);
      }
    }
  }
};

async function take(broker, { order, proof, crash }) {
  while (!(await broker.call("reliable.subscriptions")).length) await delay(50);
  try {
    await broker.call(
      proof === "barrier" ? "orders.takeWithBarrier" : "orders.takeWithSource",
      { order, crash },
      { timeout: 0 }
    );
  } catch (error) {
    console.log(`    ${order} is refused: ${error.type}: ${error.message}`);
  }
}

/** Nothing but being there: the sweeper or the callback service asks by itself. */
async function settle(broker, { order: id }) {
  for (const started = Date.now(); ; await delay(50)) {
    const message = await broker.call("reliable.get", { id }).catch(() => undefined);
    if (["consumed", "withdrawn", "dead"].includes(message?.status)) {
      story(message);
      return { status: message.status, written: await broker.call("orders.written", { id }) };
    }
    if (Date.now() - started > DEADLINE_MS)
      throw new Error(`${id} is still ${message?.status ?? "unknown"} after ${DEADLINE_MS / 1000} s`);
  }
}

async function main() {
  const broker = new ServiceBroker({
    nodeID: "shop",
    namespace: world.namespace,
    logger: process.env.DEMO_LOG ? { type: "Console", options: { level: process.env.DEMO_LOG } } : false
  });
  broker.createService(orders({ ...world, options, client }));
  broker.createService(mail);
  await broker.start();
  const told = await (world.task === "take" ? take : settle)(broker, world);
  await broker.stop();
  await client?.close();
  if (told) process.send(told);
  process.disconnect();
}

main().catch(error => {
  console.error(`    ${error.message}`);
  process.exit(1);
});
