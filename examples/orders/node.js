"use strict";

const { ServiceBroker } = require("moleculer");

const SERVICES = {
  orders: require("./orders.service"),
  stock: require("./stock.service"),
  mail: require("./mail.service")
};

/**
 * A Moleculer node with one service. The nodes have no Moleculer transporter: all they have in common is RabbitMQ,
 * MongoDB and Redis, or, without servers, the process.
 */
async function startNode(name, world, more = {}) {
  const broker = new ServiceBroker({
    ...more,
    nodeID: name,
    namespace: world.namespace,
    logger: process.env.DEMO_LOG ? { type: "Console", options: { level: process.env.DEMO_LOG } } : false
  });
  broker.createService(SERVICES[name](world));
  await broker.start();
  if (name !== "orders") return broker;

  // An emit waits only for groups that are known.
  await broker.waitForServices("reliable");
  while ((await broker.call("reliable.subscriptions")).length < 2)
    await new Promise(resolve => setTimeout(resolve, 200));
  await new Promise(resolve => setTimeout(resolve, 2 * world.options.refreshMs));
  broker.call("orders.import").catch(error => console.error(`\norders.import: ${error.message}`));
  return broker;
}

module.exports = { startNode };

// As a process of its own, started by demo.js.
if (require.main === module) {
  process.once("disconnect", () => process.exit(1));
  process.once("message", ({ name, world }) => {
    startNode(name, world).catch(error => {
      console.error(`\n${name}: ${error.message}`);
      process.exit(1);
    });
  });
}
