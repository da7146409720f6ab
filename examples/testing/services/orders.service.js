const { ReliableEmit } = require("moleculer-reliable-emit");
const options = require("./reliable.options");

const DAY = 86_400_000;

/** Announces each order, and reminds of it in two weeks, unless it is paid by then. */
module.exports = {
  name: "orders",
  mixins: [ReliableEmit(options)],
  actions: {
    create: {
      params: { id: "string", mail: "email" },
      async handler(ctx) {
        const { id, mail } = ctx.params;
        await this.reliableEmit("order.created", { id, mail }, { ctx, keys: { order: id } });
        await this.reliableEmit("order.unpaid", { id, mail }, { ctx, id: `unpaid-${id}`, delayMs: 14 * DAY });
        return id;
      }
    },
    pay: {
      params: { id: "string" },
      handler(ctx) {
        return this.reliableCancel(`unpaid-${ctx.params.id}`, { ctx, note: "paid" });
      }
    }
  }
};
