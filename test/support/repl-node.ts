import { type BrokerOptions, type Context, ServiceBroker } from "moleculer";
import { ReliableEmit, reliableReplCommands } from "../../src";
import { onTold, tell } from "./parent";

interface Order {
  id: string;
  email: string;
}

/**
 * A Moleculer node with a REPL as a user would start it; addresses come from RELIABLE_…. Mail cannot be sent until
 * "fix" is told.
 */
async function main(): Promise<void> {
  let broken = true;
  onTold("fix", () => {
    broken = false;
    void tell("fixed");
  });
  const options = {
    nodeID: "desk",
    namespace: process.env["NAMESPACE"],
    logger: false,
    replCommands: reliableReplCommands,
    replOptions: { customCommands: reliableReplCommands }
  };
  const broker = new ServiceBroker(options as unknown as BrokerOptions);
  const mixins = [
    ReliableEmit({ maxAttempts: 2, sweepEveryMs: 100, refreshMs: 100, backoff: { initialMs: 20, maxMs: 40 } })
  ];
  broker.createService({
    name: "orders",
    mixins,
    actions: {
      create(this: { reliableEmit(event: string, payload: unknown, options: object): unknown }, ctx: Context<Order>) {
        return this.reliableEmit("order.created", ctx.params, { ctx, id: ctx.params.id });
      }
    },
    events: {
      "$reliable.dead": (ctx: Context<{ id: string }>) => void tell("dead", ctx.params.id),
      "$reliable.consumed": (ctx: Context<{ ids: string[] }>) => void tell("consumed", ctx.params.ids)
    }
  });
  broker.createService({
    name: "mail",
    mixins,
    events: {
      "order.created": {
        reliable: true,
        handler(ctx: Context<Order>) {
          if (broken) throw new Error(`550 no such mailbox: ${ctx.params.email}`);
        }
      }
    }
  });
  await broker.start();
  while ((await broker.call<unknown[]>("reliable.subscriptions")).length === 0)
    await new Promise(resolve => setTimeout(resolve, 50));
  broker.repl();
  await tell("ready");
}

void main();
