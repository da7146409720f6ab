// Preload (`--require`) that lets a process die between two steps of an emit: it counts the driver's and the client
// library's calls and their answers, and sends this process CRASH_SIGNAL at the CRASH_AT-th of them, or at the first of
// that name. Without CRASH_AT it only counts. With CRASH_POINTS=all what reads, acks and calls is counted too, and
// CRASH_SKIP passes over so many of the name.
const path = require("node:path");
const { ConfirmChannel } = require(path.join(path.dirname(require.resolve("amqplib")), "lib/channel_model"));
const { ClientSession, Collection } = require("mongodb");

/** The number of a point, or its name. */
const at = process.env.CRASH_AT;
const signal = process.env.CRASH_SIGNAL ?? "SIGKILL";
const all = process.env.CRASH_POINTS === "all";
let skip = Number(process.env.CRASH_SKIP ?? 0);
const seen = new Set();
const points = [];
let armed = false;

process.on("crash:arm", () => (armed = true));
process.on("crash:points", take => take(points));

function point(name) {
  // The counts of a minute are written when it is over: no step of an emit, and in one run of it alone.
  if (!armed || (!all && name.endsWith(" of history"))) return;
  // Under load they would be without number.
  if (!all || !seen.has(name)) points.push(name);
  const first = !seen.has(name);
  seen.add(name);
  if (all ? name !== at || skip-- > 0 : String(points.length) !== at && (name !== at || !first)) return;
  process.kill(process.pid, signal);
  // Not one line further, should the signal take its time.
  if (signal === "SIGKILL") Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

/** The call has not been made yet; its answer has come, and nobody has seen it. */
function wrap(prototype, name, what) {
  const original = prototype[name];
  prototype[name] = function (...args) {
    const label = what(this);
    point(`before ${label}`);
    return original.apply(this, args).then(value => {
      point(`after ${label}`);
      return value;
    });
  };
}

// The driver's `insertMany` is a `bulkWrite`.
for (const name of ["insertOne", "bulkWrite", "updateMany"])
  wrap(Collection.prototype, name, collection => `${name} of ${collection.collectionName.split(".").at(-1)}`);
wrap(ClientSession.prototype, "commitTransaction", () => "commitTransaction");

const { publish } = ConfirmChannel.prototype;
ConfirmChannel.prototype.publish = function (exchange, routingKey, content, options, confirmed) {
  const label = `publish to ${exchange ? "the groups" : routingKey.includes(".delay") ? "the checks" : routingKey}`;
  point(`before ${label}`);
  return publish.call(this, exchange, routingKey, content, options, (...answer) => {
    point(`after ${label}`);
    confirmed(...answer);
  });
};

if (all) {
  const { FindCursor } = require("mongodb");
  const { Channel } = require(path.join(path.dirname(require.resolve("amqplib")), "lib/channel_model"));
  const { Redis } = require("ioredis");
  const { ServiceBroker } = require("moleculer");
  for (const name of ["updateOne", "deleteOne", "deleteMany", "replaceOne", "findOneAndUpdate", "countDocuments"])
    wrap(Collection.prototype, name, collection => `${name} of ${collection.collectionName.split(".").at(-1)}`);
  wrap(FindCursor.prototype, "toArray", cursor => `find in ${cursor.namespace.collection.split(".").at(-1)}`);
  wrap(ServiceBroker.prototype, "call", () => "call");
  wrap(Redis.prototype, "sendCommand", () => "a command to Redis");
  const { ack } = Channel.prototype;
  for (const channel of [Channel.prototype, ConfirmChannel.prototype]) {
    channel.ack = function (...args) {
      point("before ack");
      ack.apply(this, args);
      point("after ack");
    };
  }
}
