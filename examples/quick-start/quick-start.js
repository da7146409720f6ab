const { ServiceBroker } = require("moleculer");
const { ReliableEmit } = require("moleculer-reliable-emit");

const broker = new ServiceBroker({ nodeID: "node-1", logger: false });

broker.createService({
  name: "orders",
  mixins: [ReliableEmit()],
  actions: {
    async create(ctx) {
      // Store the order here, then tell the others. This resolves when the message is stored …
      // or, with waitFor, when every group has handled it.
      return this.reliableEmit("order.created", ctx.params, { ctx, waitFor: "consumed" });
    }
  }
});

let tries = 0;

broker.createService({
  name: "mail",
  mixins: [ReliableEmit()],
  events: {
    "order.created": {
      reliable: true,
      params: { order: "number" },
      async handler(ctx) {
        if (++tries === 1) throw new Error("the mail server is down");
        console.log(`mail for order ${ctx.params.order} sent`);
      }
    }
  }
});

async function main() {
  await broker.start();
  const { id, status } = await broker.call("orders.create", { order: 42 });
  console.log(`message ${id} is ${status}`);
  const { timeline } = await broker.call("reliable.get", { id });
  for (const { at, what } of timeline) console.log(at, what);
  await broker.stop();
}

main();
