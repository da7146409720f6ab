// @moleculer/channels with its AMQP adapter: as durable as it can be told to be (quorum queue, persistent; it does
// not confirm).
import Module, { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { closedLoop } from "../lib/load.mjs";
import { EVENT, groupName, payloadOf, urls } from "../lib/world.mjs";

const require = createRequire(import.meta.url);

// The adapter reads the client's package.json for a version check (0.8 or 0.9, else a warning), which amqplib 2 does
// not export.
const MANIFEST = fileURLToPath(new URL("../../node_modules/amqplib/package.json", import.meta.url));
const resolve = Module._resolveFilename;
Module._resolveFilename = (request, ...rest) =>
  request === "amqplib/package.json" ? MANIFEST : resolve(request, ...rest);

async function node(namespace, maxInFlight, handler) {
  const { ServiceBroker } = require("moleculer");
  const { Middleware } = require("@moleculer/channels");
  const amqp = {
    url: urls.amqp,
    messageOptions: { persistent: true },
    queueOptions: { durable: true, arguments: { "x-queue-type": "quorum" } }
  };
  const adapter = { type: "AMQP", options: { prefix: namespace, maxInFlight, amqp } };
  const broker = new ServiceBroker({
    nodeID: "bench",
    namespace,
    logger: false,
    middlewares: [Middleware({ adapter })]
  });
  broker.createService({ name: "consumer", channels: { [EVENT]: { group: groupName(1), maxInFlight, handler } } });
  await broker.start();
  return broker;
}

/** As many messages on their way, from send to handler, as may be in flight. */
async function throughput({ namespace, bytes, inFlight, warmMs, ms }) {
  const waiting = [];
  const broker = await node(namespace, inFlight, async () => waiting.shift()?.());
  const payload = payloadOf(bytes);
  const op = async () => {
    const came = new Promise(resolve => waiting.push(resolve));
    await broker.sendToChannel(EVENT, payload);
    await came;
  };
  const result = await closedLoop({ concurrency: inFlight, warmMs, ms, op });
  await broker.stop();
  return result;
}

export default { throughput };
