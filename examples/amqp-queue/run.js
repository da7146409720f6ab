"use strict";

// A service of moleculer-amqp-queue, node by node: node examples/amqp-queue/run.js
// Needs AMQP_URL, MONGO_URL and REDIS_URL.
const { randomBytes } = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");
const { story } = require("../orders/report");
const { node, options, run, until } = require("../world");

// Before the services are loaded, which read it. moleculer-amqp-queue's amqplib needs larger frames than it asks for.
process.env.MAIL_QUEUE = `mail.send.${randomBytes(3).toString("hex")}`;
if (process.env.AMQP_URL) process.env.AMQP_URL += `${process.env.AMQP_URL.includes("?") ? "&" : "?"}frameMax=8192`;
Object.assign(process.env, {
  RELIABLE_DATABASE: options.database,
  RELIABLE_SWEEP_EVERY_MS: "200",
  RELIABLE_REFRESH_MS: "200"
});
const { MAIL_QUEUE: queue } = process.env;

function diff() {
  const [before, after] = ["before", "after"].map(name =>
    fs.readFileSync(path.join(__dirname, name, "mail.service.js"), "utf8").split("\n")
  );
  for (const line of before) if (!after.includes(line)) console.log(`- ${line.trim()}`);
  for (const line of after) if (!before.includes(line)) console.log(`+ ${line.trim()}`);
}

async function main(namespace) {
  const before = require("./before/mail.service");
  const after = require("./after/mail.service");
  const { ReliableAmqpQueue } = require("moleculer-reliable-emit");
  const { delivered, server } = require("./mail-server");
  const has = to => until(() => delivered.some(mail => mail.to === to));

  console.log("What changes in the service:");
  diff();

  console.log("\nFirst one node has changed, the other one has not; both consume the same queue.");
  const old = await node(namespace, "old", [before]);
  const changed = await node(namespace, "changed", [after]);
  await changed.waitForServices("reliable");
  const ids = [];
  for (let n = 1; n <= 6; n++)
    ids.push((await changed.call("mail.send", { to: `customer-${n}` }, { nodeID: "changed" })).id);
  await changed.call("mail.send", { to: "sent-by-the-old-one" }, { nodeID: "old" });
  await has("sent-by-the-old-one");
  for (let n = 1; n <= 6; n++) await has(`customer-${n}`);
  for (const nodeID of ["old", "changed"])
    console.log(`node ${nodeID} has delivered ${delivered.filter(mail => mail.nodeID === nodeID).length} mails`);
  await until(async () => (await changed.call("reliable.get", { id: ids[0] })).status === "consumed");
  const first = await changed.call("reliable.get", { id: ids[0] });
  console.log(`settled by: ${first.settle}`);
  story(first);
  // Its package closes nothing.
  await old.getLocalService("mail").AMQPConn.close();
  await old.stop();
  await changed.stop();

  console.log(
    '\nThen all have changed, and the service says so: queues: { …: { settle: "receipt" } }. The mail server is down for a while.'
  );
  server.up = false;
  const answering = { mixins: [after, ReliableAmqpQueue({ queues: { [queue]: { settle: "receipt" } } })] };
  const [one, two] = await Promise.all(
    ["one", "two"].map(nodeID => node(namespace, nodeID, [{ ...answering, name: "mail" }]))
  );
  const { id } = await one.call("mail.send", { to: "patient-customer" });
  await until(async () =>
    (await one.call("reliable.get", { id })).timeline.some(({ what }) => what.includes("failed"))
  );
  server.up = true;
  await has("patient-customer");
  await until(async () => (await one.call("reliable.get", { id })).status === "consumed");
  const last = await one.call("reliable.get", { id });
  console.log(`settled by: ${last.settle}`);
  story(last);
  await two.stop();

  const twice = delivered.length - new Set(delivered.map(({ to }) => to)).size;
  if (twice) throw new Error(`${twice} mails were delivered twice`);
  console.log("\nEvery mail was delivered once.");
  return [one];
}

run("amqp-queue", main, { servers: true, queues: [queue] });
