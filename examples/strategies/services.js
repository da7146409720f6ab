"use strict";

const { ReliableEmit } = require("moleculer-reliable-emit");

// The same services for both strategies: the only difference is the option `strategy` in what `orders` is given.

const orders = options => ({
  name: "orders",
  mixins: [ReliableEmit(options)],
  actions: {
    create: {
      params: { id: "string" },
      handler(ctx) {
        return this.reliableEmit("order.created", ctx.params, { ctx, id: ctx.params.id });
      }
    }
  }
});

const stock = (options, reserved) => ({
  name: "stock",
  mixins: [ReliableEmit(options)],
  events: {
    "order.created": {
      reliable: true,
      handler(ctx) {
        reserved.push(ctx.params.id);
      }
    }
  }
});

/** Its first mail fails. Nothing here deals with that. */
const mail = (options, sent) => {
  let failures = 1;
  return {
    name: "mail",
    mixins: [ReliableEmit(options)],
    events: {
      "order.created": {
        reliable: true,
        handler(ctx) {
          if (failures-- > 0) throw new Error("the mail server is down");
          sent.push(ctx.params.id);
        }
      }
    }
  };
};

module.exports = { orders, stock, mail };
