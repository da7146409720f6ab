"use strict";

// A process that does nothing but sweep and track, as on a machine of its own.
const { ServiceBroker } = require("moleculer");
const { ReliableService } = require("moleculer-reliable-emit");
const { options } = require("../world");

const [namespace, nodeID] = process.argv.slice(2);
const broker = new ServiceBroker({ nodeID, namespace, logger: false });
broker.createService(ReliableService(options));
process.on("message", async ask => process.send({ ask, answer: await broker.call(ask) }));
broker.start().then(() => process.send({ ask: "start" }));
