"use strict";

// 200 orders, three Moleculer nodes, a mail server that is out of service for a while, and one order whose mail
// cannot be delivered. AMQP_URL, MONGO_URL and REDIS_URL set: three processes on these servers. None set: all in this
// process. With --dashboard the operators' page is served, and the last step is yours. See the README.
const { fork } = require("node:child_process");
const { randomBytes } = require("node:crypto");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const { setTimeout: delay } = require("node:timers/promises");
const { ServiceBroker } = require("moleculer");
const { ReliableService } = require("moleculer-reliable-emit");
const { clean } = require("../clean");
const { dashboardOf, interrupted } = require("./dashboard");
const { Journal } = require("./journal");
const { MailServer } = require("./mail-server");
const { startNode } = require("./node");
const { FILE } = require("./orders.service");
const report = require("./report");

const NODES = ["stock", "mail", "orders"];
const OUTAGE_MS = 3000;
const DEADLINE_MS = 5 * 60_000;

const { AMQP_URL: amqp, MONGO_URL: mongo, REDIS_URL: redis } = process.env;
const real = Boolean(amqp || mongo || redis);
const namespace = process.env.DEMO_NAMESPACE || `demo-${randomBytes(3).toString("hex")}`;
const folder = path.join(os.tmpdir(), "moleculer-reliable-emit", namespace);
const ordered = fs
  .readFileSync(FILE, "utf8")
  .trim()
  .split("\n")
  .map(line => JSON.parse(line).id);
const dashboard = dashboardOf(process.argv.slice(2));
const progress = new report.Progress();
const children = new Map();

// Much shorter than the defaults, so that a demo does not take minutes.
const options = {
  ...(real ? { amqp, mongo, redis, database: "reliable_demo" } : { path: path.join(folder, "store") }),
  ...{
    maxAttempts: 5,
    backoff: { initialMs: 500, maxMs: 8000 },
    receiptTimeoutMs: 5000,
    confirmTimeoutMs: 5000,
    sweepEveryMs: 300,
    refreshMs: 500,
    leaseMs: 3000
  }
};
const mailServer = new MailServer(folder);
const emitted = new Journal(folder, "emitted");
const reserved = new Journal(folder, "stock");

/** Whatever is in this process: with the page, Ctrl-C is ours. */
const ownSignals = { skipProcessEventRegistration: Boolean(dashboard) };

/** A node as a process of its own, started again whenever it ends. */
function startChild(name, world) {
  // In a group of its own, so that a terminal's Ctrl-C ends it after the others, and by us.
  const child = fork(path.join(__dirname, "node.js"), { detached: Boolean(dashboard) });
  child.send({ name, world });
  children.set(name, child);
  progress.say(`node ${name}: process ${child.pid}`);
  child.once("exit", async (code, signal) => {
    if (!children.has(name)) return;
    progress.say(`node ${name}: process ${child.pid} ended (${signal ?? code}), starting it again`);
    await delay(500);
    if (children.has(name)) startChild(name, world);
  });
}

/** A dead message has a group that needs a human; its other groups may still be waited for. */
async function allAnswered(desk) {
  const { rows } = await desk.call("reliable.list", { status: "dead", pageSize: 500 });
  return rows.every(({ waiting }) => waiting === "");
}

/** Watches until every order is emitted and no message is on its way; the mail server comes back meanwhile. */
async function settled(desk) {
  const from = Date.now();
  let firstAt;
  for (;;) {
    const stats = await desk.call("reliable.stats").catch(() => undefined);
    const done = {
      emitted: new Set(emitted.lines()).size,
      stock: new Set(reserved.lines()).size,
      mail: new Set(mailServer.sent.lines()).size
    };
    if (done.emitted) firstAt ??= Date.now();
    if (!mailServer.up && firstAt && Date.now() - firstAt > OUTAGE_MS) {
      mailServer.up = true;
      progress.say("the mail server is back in service");
    }
    if (stats) {
      progress.show(
        `emitted ${done.emitted}/${ordered.length} · pending ${stats.pending} · published ${stats.published} · consumed ${stats.consumed} · dead ${stats.dead} · reserved ${done.stock} · mailed ${done.mail}`
      );
      const open = stats.pending + stats.published > 0 || !(await allAnswered(desk));
      if (mailServer.up && done.emitted === ordered.length && !open) return stats;
    } else progress.show("the store does not answer");
    if (Date.now() - from > DEADLINE_MS) throw new Error(`not finished after ${DEADLINE_MS / 1000} s`);
    await delay(200);
  }
}

async function main() {
  if (real && !(amqp && mongo && redis)) throw new Error("set all of AMQP_URL, MONGO_URL and REDIS_URL, or none");
  const masked = url => url.replace(/\/\/[^/@]*@/, "//***@");
  console.log(
    real
      ? `Servers: RabbitMQ ${masked(amqp)}, MongoDB ${masked(mongo)}, Redis ${masked(redis)}`
      : `Servers: none. In-process courier and embedded store (${options.path})`
  );
  console.log(
    `Namespace ${namespace}. Should this be interrupted: DEMO_NAMESPACE=${namespace} npm run demo goes on with it.\n`
  );

  // The operator's node: it sweeps, and shows what there is.
  const desk = new ServiceBroker({
    ...ownSignals,
    nodeID: "desk",
    namespace,
    logger: process.env.DEMO_LOG ? { type: "Console", options: { level: process.env.DEMO_LOG } } : false
  });
  desk.createService(ReliableService(options));
  if (dashboard) desk.createService(dashboard.service);
  await desk.start();
  if (dashboard) console.log(`The operators' page: ${dashboard.address} (until Ctrl-C)\n`);
  await mailServer.listen();
  // An interrupted run has had its outage.
  mailServer.up = emitted.lines().length > 0;
  progress.say(`the mail server is ${mailServer.up ? "in" : "out of"} service`);
  const world = { namespace, folder, options, mailServer: mailServer.url };
  const nodes = [];
  for (const name of NODES) {
    if (real) startChild(name, world);
    else nodes.push(await startNode(name, world, ownSignals));
  }
  const complete = dashboard ? await Promise.race([play(desk).then(stayUp), interrupted()]) : await play(desk);
  const queues = (await desk.call("reliable.subscriptions")).map(({ queue }) => queue);

  const running = [...children.values()];
  children.clear();
  await Promise.all(running.map(child => new Promise(resolve => child.once("exit", resolve).disconnect())));
  await Promise.all([desk, ...nodes].map(broker => broker.stop()));
  mailServer.close();
  if (!complete) throw new Error("orders are missing");
  await clean(world, queues);
  // What was interrupted may still wait for something.
  if (dashboard) process.exit(0);
  console.log(`Every order is accounted for, after ${((Date.now() - progress.started) / 1000).toFixed(0)} s.`);
}

/** From the first order to the account. True = every order is accounted for. */
async function play(desk) {
  report.states(await settled(desk));
  const { rows: dead } = await desk.call("reliable.list", { status: "dead", pageSize: 500 });
  if (dead.length) {
    console.log("Dead, for a human to deal with (in the Moleculer REPL: reliable list --status dead):");
    report.dead(dead);
    report.story(await desk.call("reliable.get", { id: dead[0].id }));
    mailServer.domains.add("exmaple.test");
    console.log("\nThe cause is put right: exmaple.test is a mail domain now.");
    if (dashboard) await yourTurn(desk, dead[0].id);
    else {
      console.log(`Then, as in the REPL: call reliable.retry --id ${dead[0].id}`);
      for (const { id } of dead) await desk.call("reliable.retry", { id, by: "demo", note: "mail domain added" });
    }
    report.states(await settled(desk));
  }
  report.attempts((await desk.call("reliable.list", { pageSize: 500 })).rows);
  return report.account(ordered, {
    emitted: emitted.lines(),
    "reserved by stock": reserved.lines(),
    "mailed by mail": mailServer.sent.lines()
  });
}

/** Waits until nothing is dead any more: somebody has retried it on the page, or has dealt with it in another way. */
async function yourTurn(desk, id) {
  console.log(`Your turn: ${dashboard.address}#/dead shows ${id}, and why it is dead. Retry it there.\n`);
  for (let dead = 1; dead; await delay(300)) dead = (await desk.call("reliable.stats").catch(() => ({ dead }))).dead;
}

/** Until Ctrl-C. */
function stayUp(complete) {
  console.log(
    complete
      ? "Every order is accounted for. The page stays until Ctrl-C."
      : "Not every order was mailed, by your leave. The page stays until Ctrl-C."
  );
  return new Promise(() => undefined);
}

main().catch(error => {
  console.error(`\nThe demo failed: ${error.message}`);
  process.exit(1);
});
