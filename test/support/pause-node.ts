import { type BrokerOptions, type Context, ServiceBroker, type ServiceSchema } from "moleculer";
import { ReliableEmit, type ReliableOptions } from "../../src";
import { onTold, tell } from "./parent";

interface PauseNode {
  namespace: string;
  nodeID: string;
  options: ReliableOptions;
  group: string;
}

/**
 * Consumes `order.created` and nothing else; with `slow` in its payload until it is told "finish". Tells "started",
 * "begun" and "ended" with the payload's number.
 */
async function main(): Promise<void> {
  const { namespace, nodeID, options, group } = JSON.parse(process.env["NODE"] ?? "{}") as PauseNode;
  const logger = { type: "Console", options: { level: "info" } };
  const broker = new ServiceBroker({ namespace, nodeID, logger } as BrokerOptions);
  let finish: (() => void)[] = [];
  onTold("finish", () => {
    for (const end of finish) end();
    finish = [];
  });
  const handler = async (ctx: Context<{ n: number; slow?: boolean }>) => {
    const { n, slow } = ctx.params;
    await tell("begun", n);
    if (slow) await new Promise<void>(resolve => finish.push(resolve));
    await tell("ended", n);
  };
  broker.createService({
    name: group,
    mixins: [ReliableEmit(options)],
    events: { "order.created": { reliable: true, handler } }
  } as unknown as ServiceSchema);
  await broker.start();
  await tell("started");
}

void main();
