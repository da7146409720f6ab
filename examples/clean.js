"use strict";

const fs = require("node:fs");
const amqp = require("amqplib");
const { Redis } = require("ioredis");
const { MongoClient } = require("mongodb");

/** Removes what a finished example has made; its names all begin with the example's namespace. */
async function clean({ namespace, folder, options }, queues) {
  if (folder) fs.rmSync(folder, { recursive: true, force: true });
  if (!options.amqp) return;
  const prefix = `${namespace}.reliable`;
  const delays = (options.checkDelaysMs ?? []).map(ms => `checks.delay.${ms}`);

  const connection = await amqp.connect(options.amqp, { noDelay: true });
  const channel = await connection.createChannel();
  const own = [...delays, "checks", "receipts.outbox", "receipts.callback", "announcements", "parked"].map(
    name => `${prefix}.${name}`
  );
  for (const queue of [...queues, ...own]) await channel.deleteQueue(queue);
  for (const exchange of ["events", "control"]) await channel.deleteExchange(`${prefix}.${exchange}`);
  await connection.close();

  const mongo = await new MongoClient(options.mongo).connect();
  const db = mongo.db(options.database);
  for (const { name } of await db.listCollections({}, { nameOnly: true }).toArray())
    if (name.startsWith(`${prefix}.`)) await db.dropCollection(name);
  await mongo.close();

  const redis = new Redis(options.redis);
  for await (const keys of redis.scanStream({ match: `*${prefix}:*`, count: 500 }))
    if (keys.length) await redis.del(keys);
  await redis.quit();
}

module.exports = { clean };
