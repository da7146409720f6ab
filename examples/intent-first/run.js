"use strict";

// Intent first, with crashes in the middle: node examples/intent-first/run.js [outbox|callback]
// AMQP_URL, MONGO_URL and REDIS_URL set: on these servers. None set: on the embedded default. See the README.
const { fork } = require("node:child_process");
const { randomBytes } = require("node:crypto");
const os = require("node:os");
const path = require("node:path");
const { clean } = require("../clean");
const { Journal } = require("../orders/journal");
const { print } = require("../orders/report");
const { optionsOf } = require("./options");

const CRASHES = {
  before: "dies right before its business write",
  after: "dies right after its business write, before the message",
  late: "is so slow with its business write that the intent is asked about first"
};

/** Runs the shop as a process of its own and returns how it ended, and what it told. */
function shop(world, task) {
  const child = fork(path.join(__dirname, "shop.js"), [JSON.stringify({ ...world, ...task })]);
  console.log(`  process ${child.pid} starts`);
  return new Promise(resolve => {
    let told;
    child.once("message", message => (told = message));
    child.once("exit", (code, signal) => {
      console.log(`  process ${child.pid} ended (${signal ?? code})`);
      resolve({ code, signal, told });
    });
  });
}

/**
 * One order: a process takes it in and comes to grief, another comes up and finds what is left. Returns what there is
 * to hold against each other.
 */
async function story(world, proof, crash) {
  const order = `order-${proof}-${crash}`;
  console.log(
    `\n${order}: the shop ${CRASHES[crash]}. What tells afterwards: ${proof === "source" ? "the action `orders.find`" : "the barrier row"}.`
  );
  const taken = await shop(world, { task: "take", order, proof, crash });
  if (crash === "late" ? taken.code !== 0 : taken.signal !== "SIGKILL")
    throw new Error(`the shop did not end as it should with ${order}`);
  const { told, code } = await shop(world, { task: "settle", order, proof });
  if (code !== 0 || !told) throw new Error(`it was not settled what happened to ${order}`);
  return { order, ...told };
}

async function main() {
  const [strategy = "outbox"] = process.argv.slice(2);
  const { AMQP_URL: amqp, MONGO_URL: mongo, REDIS_URL: redis } = process.env;
  const real = Boolean(amqp || mongo || redis);
  if (real && !(amqp && mongo && redis)) throw new Error("set all of AMQP_URL, MONGO_URL and REDIS_URL, or none");
  if (!["outbox", "callback"].includes(strategy))
    throw new Error(`there is no strategy '${strategy}', only outbox and callback`);
  // Its checks are in the broker, and the embedded one ends with its process.
  if (!real && strategy === "callback")
    throw new Error("strategy callback survives a crash with RabbitMQ only: set AMQP_URL, MONGO_URL and REDIS_URL");

  const namespace = `intent-first-${randomBytes(3).toString("hex")}`;
  const folder = path.join(os.tmpdir(), "moleculer-reliable-emit", namespace);
  const world = { namespace, folder, strategy };
  console.log(
    `Strategy ${strategy}, ${real ? "on RabbitMQ, MongoDB and Redis" : "on the embedded default, whose store is in a folder"}.`
  );
  if (!real) console.log("With `source` only: the barrier row needs MongoDB (set AMQP_URL, MONGO_URL and REDIS_URL).");

  const stories = [];
  for (const proof of real ? ["source", "barrier"] : ["source"]) {
    for (const crash of Object.keys(CRASHES)) {
      // Without a barrier nothing keeps a late write from being done after the "no": see the README.
      if (crash !== "late" || proof === "barrier") stories.push(await story(world, proof, crash));
    }
  }
  // At the end, when nothing is under way any more: what was announced too late, or twice, shows as well.
  const mails = new Journal(folder, "mail").lines();
  const rows = stories.map(({ order, written, status }) => {
    const announced = mails.filter(id => id === order).length;
    return {
      order,
      written,
      announced,
      status,
      right: written ? announced > 0 && status === "consumed" : announced === 0 && status === "withdrawn"
    };
  });
  console.log();
  print([
    ["order", "business write", "announced", "status"],
    ...rows.map(({ order, written, announced, status }) => [order, written ? "committed" : "none", announced, status])
  ]);
  await clean({ namespace, folder, options: optionsOf(world) }, [`${namespace}.reliable.on.mail/order.created`]);
  if (!rows.every(({ right }) => right)) throw new Error("what was announced is not what was committed");
  console.log("Every committed order was announced, and no other.");
}

main().catch(error => {
  console.error(`\nThe example failed: ${error.message}`);
  process.exit(1);
});
