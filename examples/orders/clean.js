"use strict";

const fs = require("node:fs");
const amqp = require("amqplib");
const { Redis } = require("ioredis");
const { MongoClient } = require("mongodb");

/** Removes what a finished demo has made; its names all begin with the demo's namespace. */
async function clean({ namespace, folder, options }, queues) {
	fs.rmSync(folder, { recursive: true, force: true });
	if (!options.amqp) return;
	const prefix = `${namespace}.reliable`;

	const connection = await amqp.connect(options.amqp, { noDelay: true });
	const channel = await connection.createChannel();
	for (const queue of [...queues, `${prefix}.receipts.outbox`, `${prefix}.announcements`, `${prefix}.parked`]) await channel.deleteQueue(queue);
	await channel.deleteExchange(`${prefix}.events`);
	await connection.close();

	const mongo = await new MongoClient(options.mongo).connect();
	const db = mongo.db(options.database);
	for (const { name } of await db.listCollections({}, { nameOnly: true }).toArray()) if (name.startsWith(`${prefix}.`)) await db.dropCollection(name);
	await mongo.close();

	const redis = new Redis(options.redis);
	for await (const keys of redis.scanStream({ match: `*${prefix}:*`, count: 500 })) if (keys.length) await redis.del(keys);
	await redis.quit();
}

module.exports = { clean };
