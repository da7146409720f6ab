"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { setTimeout: delay } = require("node:timers/promises");
const { ReliableEmit } = require("moleculer-reliable-emit");
const { Journal } = require("./journal");

const FILE = path.join(__dirname, "orders.jsonl");
const PAUSE_MS = 20;

/** Takes orders in and tells the others by a reliable event. */
module.exports = ({ options, folder }) => ({
  name: "orders",
  mixins: [ReliableEmit(options)],

  actions: {
    create: {
      params: { id: "string", customer: "string", email: "email", items: { type: "array", min: 1 }, total: "number" },
      async handler(ctx) {
        // The order's number is the message's id: an order that is taken in again after a crash is not emitted twice.
        await this.reliableEmit("order.created", ctx.params, { ctx, id: ctx.params.id });
        this.emitted.add(ctx.params.id);
      }
    },

    /** Creates an order for each line of the file; goes on where a killed process has left off. */
    import: {
      timeout: 0,
      async handler(ctx) {
        const done = new Set(this.emitted.lines());
        for (const line of fs.readFileSync(FILE, "utf8").trim().split("\n")) {
          const order = JSON.parse(line);
          if (done.has(order.id)) continue;
          await this.insist(() => ctx.call("orders.create", order));
          await delay(PAUSE_MS);
        }
      }
    }
  },

  methods: {
    /** An emit that was rejected as retryable may be repeated safely, since it has the same id. */
    async insist(work) {
      for (;;) {
        try {
          return await work();
        } catch (error) {
          if (!error.retryable) throw error;
          await delay(500);
        }
      }
    }
  },

  created() {
    this.emitted = new Journal(folder, "emitted");
  }
});

module.exports.FILE = FILE;
