"use strict";

const { ReliableEmit } = require("moleculer-reliable-emit");

/**
 * The Node side: what it emits is handled in Python, what it handles was emitted in Python. Nothing in it knows that.
 */
module.exports = options => ({
  name: "orders",
  mixins: [ReliableEmit(options)],
  actions: {
    create(ctx) {
      const { id, strategy, ...order } = ctx.params;
      return this.reliableEmit("order.created", order, { ctx, id, strategy });
    }
  },
  events: {
    "invoice.paid": {
      reliable: true,
      params: { order: "number" },
      handler(ctx) {
        console.log(`  orders: order ${ctx.params.order} is paid (attempt ${ctx.locals.reliable.attempt})`);
      }
    }
  }
});
