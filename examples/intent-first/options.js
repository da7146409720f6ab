"use strict";

const path = require("node:path");

const { AMQP_URL: amqp, MONGO_URL: mongo, REDIS_URL: redis } = process.env;

/** Of the shop's node. Without servers the store is in a folder: in memory it would end with its process. */
function optionsOf({ folder, strategy }) {
  return {
    ...(amqp ? { amqp, mongo, redis, database: "reliable_demo" } : { path: path.join(folder, "store") }),
    // Much shorter than the defaults, so that it does not take minutes. The lease of a killed process ends with
    // `leaseMs`.
    ...{
      strategy,
      checkDelaysMs: [1000, 2000],
      backoff: { initialMs: 500 },
      sweepEveryMs: 200,
      refreshMs: 200,
      leaseMs: 1000
    }
  };
}

module.exports = { optionsOf };
