"use strict";

// A consumer and a producer in Python beside a Moleculer service: node examples/python/run.js Needs AMQP_URL, MONGO_URL
// and REDIS_URL, and Python with pika (Debian: apt-get install -y python3-pika); PYTHON names another interpreter.
const { execFileSync, spawn } = require("node:child_process");
const { story } = require("../orders/report");
const { groupsKnown, node, options, run, until } = require("../world");
const orders = require("./node");

const DELAYS_MS = [1000, 2000, 4000];
const queues = [];

/** Debian's own interpreter first: another one in the PATH does not see Debian's packages. */
function python() {
  const candidates = process.env.PYTHON ? [process.env.PYTHON] : ["/usr/bin/python3", "python3"];
  for (const file of candidates) {
    try {
      execFileSync(file, ["-c", "import pika"], { stdio: "ignore" });
      return file;
    } catch {
      // The next one, or the message below.
    }
  }
  throw new Error(
    `no Python with pika (looked at ${candidates.join(", ")}); on Debian: apt-get install -y python3-pika`
  );
}

/** A Python process; what it prints is kept and shown. */
function start(namespace, name, args, quiet) {
  const env = { ...process.env, NAMESPACE: namespace, CHECK_DELAYS_MS: DELAYS_MS.join(), PYTHONDONTWRITEBYTECODE: "1" };
  const child = spawn(python(), args, { cwd: __dirname, env, stdio: ["ignore", "pipe", quiet ? "ignore" : "inherit"] });
  process.once("exit", () => child.kill("SIGKILL"));
  const started = {
    child,
    output: "",
    async end() {
      await until(() => child.exitCode !== null || child.signalCode !== null);
      return child.signalCode ?? child.exitCode;
    }
  };
  child.stdout.setEncoding("utf8").on("data", text => {
    started.output += text;
    for (const line of text.trimEnd().split("\n")) console.log(`  ${name}: ${line}`);
  });
  return started;
}

// producer.py, killed when it has sent the check and not yet the message.
const DIES = `
import os, signal, producer
half = producer.Producer(os.environ["AMQP_URL"])
publish = half.publish
half.publish = lambda exchange, *rest: os.kill(os.getpid(), signal.SIGKILL) if exchange else publish(exchange, *rest)
half.emit("invoice.paid", {"order": 2}, "payment-2")`;

async function main(namespace) {
  queues.push(...DELAYS_MS.map(ms => `${namespace}.reliable.checks.delay.${ms}`));
  const broker = await node(namespace, "node-1", [orders({ ...options, checkDelaysMs: DELAYS_MS })]);
  const get = id => broker.call("reliable.get", { id }).catch(() => undefined);
  const is = (id, status) => until(async () => (await get(id))?.status === status);
  const create = order => broker.call("orders.create", order);

  console.log("A consumer in Python announces itself.");
  const first = start(namespace, "consumer.py", ["consumer.py"]);
  await groupsKnown(broker, 2);

  console.log(
    "\nOrders from Node, with both strategies. The second one fails at first; the third one can never be invoiced."
  );
  await create({ id: "order-1", order: 1, strategy: "outbox" });
  await create({ id: "order-2", order: 2, fails: 1, strategy: "callback" });
  await create({ id: "order-3", nothing: true, strategy: "outbox" });
  await is("order-1", "consumed");
  await is("order-2", "consumed");
  await is("order-3", "dead");

  console.log("\nThe consumer is killed while it prints an invoice; another one takes over.");
  await create({ id: "order-4", order: 4, takesMs: 600, strategy: "callback" });
  await until(() => first.output.includes("printing the invoice of order 4"));
  first.child.kill("SIGKILL");
  await first.end();
  const second = start(namespace, "consumer.py", ["consumer.py"]);
  await is("order-4", "consumed");

  console.log("\nA producer in Python; and one that is killed between its check and its message.");
  const producer = start(namespace, "producer.py", ["producer.py", "invoice.paid", '{"order": 1}', "payment-1"]);
  if ((await producer.end()) !== 0) throw new Error("producer.py failed");
  await is("payment-1", "consumed");
  console.log(`  the other one ended with ${await start(namespace, "producer.py", ["-c", DIES]).end()}`);
  await is("payment-2", "consumed");

  console.log("\nSIGTERM: the consumer finishes what it has begun.");
  await create({ id: "order-5", order: 5, takesMs: 800, strategy: "outbox" });
  await until(() => second.output.includes("printing the invoice of order 5"));
  second.child.kill("SIGTERM");
  console.log(`  consumer.py ended with ${await second.end()}`);
  await is("order-5", "consumed");

  for (const id of ["order-2", "order-3", "order-4", "payment-1", "payment-2"]) {
    const { status, producer: by, ...told } = await get(id);
    console.log(`\n${id}, from ${by}: ${status}`);
    story(told);
  }
  console.log("\nNothing was lost.");
  return [broker];
}

run("python", main, { servers: true, queues });
