"use strict";

const { ReliableEmit } = require("moleculer-reliable-emit");
const { Journal } = require("./journal");

/** Reserves what was ordered. */
module.exports = ({ options, folder }) => ({
  name: "stock",
  mixins: [ReliableEmit(options)],

  events: {
    "order.created": {
      reliable: true,
      params: { id: "string", items: "array" },
      handler(ctx) {
        this.reserved.add(ctx.params.id);
      }
    }
  },

  created() {
    this.reserved = new Journal(folder, "stock");
  }
});
