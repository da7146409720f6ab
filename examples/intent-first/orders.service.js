"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { setTimeout: delay } = require("node:timers/promises");
const { ReliableEmit } = require("moleculer-reliable-emit");

const say = text => console.log(`    ${text}`);

/** The power fails. */
function crash(where) {
  say(`SIGKILL ${where}`);
  process.kill(process.pid, "SIGKILL");
}

/** Takes orders in. They are business data: in a file, or in MongoDB where the proof is the barrier row. */
module.exports = ({ options, client, folder, namespace }) => ({
  name: "orders",
  mixins: [ReliableEmit({ ...options, sources: ["orders.find"] })],

  actions: {
    /** The business write may be anything here: what tells afterwards is `find`. */
    takeWithSource(ctx) {
      const order = { id: ctx.params.order };
      return this.reliableEmit("order.created", order, {
        ctx,
        id: order.id,
        commit: async () => {
          say("the intent is durable");
          if (ctx.params.crash === "before") crash("before the business write");
          this.write([...this.read(), order]);
          say("the order is written to the file");
          if (ctx.params.crash === "after") crash("after the business write");
        },
        source: { action: "orders.find", params: { id: order.id } }
      });
    },

    /** The business write is a MongoDB transaction, and the barrier row part of it. */
    takeWithBarrier(ctx) {
      const order = { id: ctx.params.order };
      return this.reliableEmit("order.created", order, {
        ctx,
        id: order.id,
        barrier: true,
        commit: async message => {
          say("the intent is durable");
          if (ctx.params.crash === "before") crash("before the business write");
          if (ctx.params.crash === "late") await this.dawdle(order.id);
          await client.withSession(session =>
            session.withTransaction(async () => {
              await this.collection().insertOne({ _id: order.id }, { session });
              await message.barrier(session);
            })
          );
          say("the order and the barrier row are committed to MongoDB");
          if (ctx.params.crash === "after") crash("after the business write");
        }
      });
    },

    /** The source: the payload, or null for "it did not happen". */
    find(ctx) {
      const order = this.read().find(({ id }) => id === ctx.params.id) ?? null;
      say(`orders.find is asked for ${ctx.params.id}: ${order ? "here it is" : "null, there is none"}`);
      return order;
    },

    /** For the example's account. */
    async written(ctx) {
      return (
        this.read().some(({ id }) => id === ctx.params.id) ||
        Boolean(await this.collection()?.findOne({ _id: ctx.params.id }))
      );
    }
  },

  methods: {
    read() {
      return fs.existsSync(this.file) ? JSON.parse(fs.readFileSync(this.file, "utf8")) : [];
    },

    /** All or nothing: a crash leaves the old file or the new one. */
    write(orders) {
      fs.mkdirSync(folder, { recursive: true });
      fs.writeFileSync(`${this.file}.new`, JSON.stringify(orders));
      fs.renameSync(`${this.file}.new`, this.file);
    },

    collection() {
      return client?.db(options.database).collection(`${namespace}.reliable.shop`);
    },

    /** Until the intent has been asked about, and withdrawn. */
    async dawdle(id) {
      const status = () =>
        this.broker.call("reliable.get", { id }).then(
          row => row.status,
          () => "unknown"
        );
      while ((await status()) !== "withdrawn") await delay(100);
      say("the intent was withdrawn meanwhile; now the business write");
    }
  },

  created() {
    this.file = path.join(folder, "orders.json");
  }
});
