import { type BrokerOptions, type Context, ServiceBroker, type ServiceSchema } from "moleculer";
import { ReliableEmit, type ReliableError, type ReliableOptions } from "../../src";
import { tell } from "./parent";

interface BusyNode {
  namespace: string;
  options: ReliableOptions;
}

/**
 * Emits some 2,000 a second, and handles them, until it is told to stop. Tells "starting", "started", "promised" and
 * "handled" with the number, "refused" with the type.
 */
async function main(): Promise<void> {
  const { namespace, options } = JSON.parse(process.env["NODE"] ?? "{}") as BusyNode;
  const broker = new ServiceBroker({
    namespace,
    nodeID: "busy",
    logger: { type: "Console", options: { level: "warn" } }
  } as BrokerOptions);
  process.on("unhandledRejection", error => {
    console.error("unhandled rejection", error);
    process.exitCode = 99;
  });
  const handler = async (ctx: Context<{ n: number }>) => {
    await new Promise(resolve => setTimeout(resolve, 5));
    await tell("handled", ctx.params.n);
  };
  broker.createService({
    name: "stock",
    mixins: [ReliableEmit(options)],
    events: { "order.created": { reliable: { maxInFlight: 100 }, handler } }
  } as unknown as ServiceSchema);
  const orders = broker.createService({ name: "orders", mixins: [ReliableEmit(options)] } as unknown as ServiceSchema);
  await tell("starting");
  await broker.start();
  let n = 0;
  let open = true;
  const emit = async () => {
    while (open) {
      const mine = n++;
      try {
        await orders.reliableEmit("order.created", { n: mine });
        await tell("promised", mine);
        // Else it promises 50,000 in the seconds that a dead RabbitMQ leaves it, and its heir works at them for a minute.
        await new Promise(resolve => setTimeout(resolve, 20));
      } catch (error) {
        open = false;
        await tell("refused", (error as ReliableError).type);
      }
    }
  };
  for (let i = 0; i < 50; i++) void emit();
  await tell("started");
}

void main();
