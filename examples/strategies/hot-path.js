"use strict";

// Counts what an emit costs where the library meets its servers: at the courier and at the store's collections, the
// same on both backends. That reaches into its insides, which are no API: for this example only.
const { AsyncLocalStorage } = require("node:async_hooks");
const { AmqpCourier } = require("../../dist/src/couriers/amqp/courier");
const { MemoryCourier } = require("../../dist/src/couriers/memory/courier");
const { EmbeddedCollection } = require("../../dist/src/stores/embedded/collection");
const { MongoCollection } = require("../../dist/src/stores/mongo/collection");

const current = new AsyncLocalStorage();

function count({ prototype }, methods, what) {
  for (const method of methods) {
    const original = prototype[method];
    prototype[method] = async function (...args) {
      const result = await original.apply(this, args);
      const cost = current.getStore();
      if (cost) {
        cost[what].inAll++;
        if (cost.ms === undefined) cost[what].before++;
      }
      return result;
    };
  }
}

// What the other methods that write call.
count(EmbeddedCollection, ["insert", "update", "bulk"], "writes");
count(MongoCollection, ["insertEach", "update", "attempt"], "writes");
for (const Courier of [AmqpCourier, MemoryCourier]) {
  count(Courier, ["publish"], "publishes");
  // What a delivery sets off is not the emit's doing, also where it comes from the same process.
  const { consume } = Courier.prototype;
  Courier.prototype.consume = function (spec) {
    return consume.call(this, { ...spec, onDelivery: delivery => current.exit(() => spec.onDelivery(delivery)) });
  };
}

/** Counts what `work` does: before it resolves, and in all until `settled` does. */
async function measure(work, settled) {
  const cost = { writes: { before: 0, inAll: 0 }, publishes: { before: 0, inAll: 0 }, ms: undefined };
  const started = performance.now();
  await current.run(cost, work);
  cost.ms = performance.now() - started;
  await settled();
  return structuredClone(cost);
}

module.exports = { measure };
