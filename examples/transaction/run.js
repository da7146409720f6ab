"use strict";

// Order and message in one MongoDB transaction, and on the other side the handler's writes with the inbox row: node
// examples/transaction/run.js
const { MongoClient } = require("mongodb");
const { ReliableEmit } = require("moleculer-reliable-emit");
const { print } = require("../orders/report");
const { groupsKnown, node, options, run, until } = require("../world");

// The client is yours; the library uses it and never closes it.
const client = new MongoClient(process.env.MONGO_URL || "mongodb://none");
const mongo = { ...options, mongo: client };

const shop = orders => ({
  name: "shop",
  mixins: [ReliableEmit(mongo)],
  actions: {
    order(ctx) {
      return client.withSession(session =>
        session.withTransaction(async () => {
          await orders.insertOne({ _id: ctx.params.id, pieces: ctx.params.pieces }, { session });
          await this.reliableEmit("order.created", ctx.params, { ctx, session });
          if (ctx.params.pieces > 100) throw new Error("too many pieces");
        })
      );
    }
  }
});

const stock = taken => ({
  name: "stock",
  mixins: [ReliableEmit(mongo)],
  events: {
    "order.created": {
      reliable: { inbox: "transaction" },
      async handler(ctx) {
        const { attempt, session } = ctx.locals.reliable;
        await taken.insertOne({ order: ctx.params.id, pieces: ctx.params.pieces }, { session });
        // What this attempt has written is rolled back with it.
        if (attempt === 1) throw new Error("the process stumbles after its write");
      }
    }
  }
});

run(
  "transaction",
  async namespace => {
    await client.connect();
    // Named like the library's own collections, so that they are cleaned up with them.
    const orders = client.db(options.database).collection(`${namespace}.reliable.example.orders`);
    const taken = client.db(options.database).collection(`${namespace}.reliable.example.taken`);
    for (const collection of [orders, taken])
      await client.db(options.database).createCollection(collection.collectionName);
    const broker = await node(namespace, "node-1", [shop(orders), stock(taken)]);
    await groupsKnown(broker, 1);

    await broker.call("shop.order", { id: "order-1", pieces: 3 });
    const refused = await broker.call("shop.order", { id: "order-2", pieces: 1000 }).catch(error => error);
    console.log(`order-2 is refused in its transaction, after the emit: ${refused.message}`);
    await until(async () => (await broker.call("reliable.list", { status: "consumed" })).total === 1);

    const { rows } = await broker.call("reliable.list", {});
    const stories = await Promise.all(rows.map(({ id }) => broker.call("reliable.get", { id })));
    const table = [["", "orders", "messages", "pieces taken from stock"]];
    for (const id of ["order-1", "order-2"]) {
      const pieces = (await taken.find({ order: id }).toArray()).map(entry => entry.pieces);
      table.push([
        id,
        await orders.countDocuments({ _id: id }),
        stories.filter(({ payload }) => payload.id === id).length,
        pieces.join(" + ") || "none"
      ]);
    }
    print(table);
    console.log(`Attempts that stock needed for order-1: ${rows[0].attempts}; each wrote, one counts.`);
    broker.localBus.once("$broker.stopped", () => setImmediate(() => client.close()));
    return [broker];
  },
  { servers: true }
);
