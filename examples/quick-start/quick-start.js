const { ServiceBroker } = require("moleculer");
const { ReliableEmit } = require("moleculer-reliable-emit");
const { ReliableDashboardService } = require("moleculer-reliable-emit/dashboard");

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

const page = process.argv.includes("--dashboard");
const port = Number(process.env.PORT ?? 3400);
if (page) broker.createService(ReliableDashboardService({ port, access: "anonymous" }));

async function main() {
  await broker.start();
  const { id, status } = await broker.call("orders.create", { order: 42 });
  console.log(`message ${id} is ${status}`);
  const { timeline } = await broker.call("reliable.get", { id });
  for (const { at, what } of timeline) console.log(at, what);
  if (page) console.log(`Look at it, until Ctrl-C: http://127.0.0.1:${port}/`);
  else await broker.stop();
}

main();
