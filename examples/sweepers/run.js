"use strict";

// Application nodes that neither track nor sweep, and two processes that do; the one that sweeps is killed: node
// examples/sweepers/run.js
const { fork } = require("node:child_process");
const { once } = require("node:events");
const path = require("node:path");
const { setTimeout: delay } = require("node:timers/promises");
const { ReliableEmit, ReliableService } = require("moleculer-reliable-emit");
const { node, options, run, until } = require("../world");

const app = { ...options, service: false };
let failures = 3;

const shop = { name: "shop", mixins: [ReliableEmit({ ...app, maxAttempts: 10 })] };
const mail = {
  name: "mail",
  mixins: [ReliableEmit(app)],
  events: {
    "order.created": {
      reliable: true,
      handler() {
        if (failures-- > 0) throw new Error("the mail server is down");
      }
    }
  }
};

async function sweeper(namespace, nodeID) {
  const child = fork(path.join(__dirname, "node.js"), [namespace, nodeID]);
  await once(child, "message");
  return child;
}

async function ask(child, action) {
  child.send(action);
  const [{ answer }] = await once(child, "message");
  return answer;
}

run(
  "sweepers",
  async namespace => {
    const sweepers = await Promise.all(["reliable-1", "reliable-2"].map(nodeID => sweeper(namespace, nodeID)));
    const broker = await node(namespace, "app-1", [shop, mail]);
    await until(async () => (await ask(sweepers[0], "reliable.subscriptions")).length === 1);
    await delay(2 * options.refreshMs);

    // app-1 has no service `reliable`; the node that holds the lease sweeps.
    console.log(
      `Services on app-1: ${broker.services
        .map(({ name }) => name)
        .filter(name => !name.startsWith("$"))
        .join(", ")}.`
    );
    const { leaseHolders } = await ask(sweepers[0], "reliable.health");
    const holder = leaseHolders.includes("reliable-1") ? 0 : 1;
    const [gone, left] = [sweepers[holder], sweepers[1 - holder]];
    await broker.getLocalService("shop").reliableEmit("order.created", {}, { id: "order-1" });
    gone.kill("SIGKILL");
    console.log(
      `The lease: ${leaseHolders.replace(/#.*/, "")}. This process is killed, while a mail that fails three times is under way.`
    );
    await until(async () => (await ask(left, "reliable.stats")).consumed === 1);
    const health = await ask(left, "reliable.health");
    console.log(
      `The lease: ${health.leaseHolders.replace(/#.*/, "")}. Consumed: ${(await ask(left, "reliable.stats")).consumed}, dead: ${(await ask(left, "reliable.stats")).dead}.`
    );
    left.kill("SIGTERM");
    await once(left, "exit");
    // To clean up after them.
    const desk = await node(namespace, "desk", [ReliableService(options)]);
    return [desk, broker];
  },
  { servers: true }
);
