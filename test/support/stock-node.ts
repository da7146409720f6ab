import { type BrokerOptions, type Context, ServiceBroker, type ServiceSchema } from "moleculer";
import type { ReliableLocals } from "../../mixins/reliable-context";
import { ReliableEmit, type ReliableOptions } from "../../src";
import { tell } from "./parent";
import { runtimeOf } from "./runtime";

/** What the parent wants of this node. */
export interface StockNode {
  namespace: string;
  nodeID: string;
  options: ReliableOptions;
  /** None without it. */
  transporter?: string;
  /** Handle this event; without it the node only tracks and sweeps. */
  event?: string;
  /** Acks never leave: what a crash between the receipt and the ack looks like. */
  holdAcks?: boolean;
}

/** A Moleculer node to be killed. Tells "started", and "handled" with the id. */
async function main(): Promise<void> {
  const { namespace, nodeID, options, transporter, event, holdAcks } = JSON.parse(
    process.env["NODE"] ?? "{}"
  ) as StockNode;
  const broker = new ServiceBroker({
    namespace,
    nodeID,
    ...(transporter !== undefined && { transporter }),
    logger: { type: "Console", options: { level: "info" } }
  } as BrokerOptions);
  const handler = (ctx: Context<unknown>) => tell("handled", (ctx.locals as { reliable: ReliableLocals }).reliable.id);
  broker.createService({
    name: "stock",
    mixins: [ReliableEmit(options)],
    events: event ? { [event]: { reliable: true, handler } } : {}
  } as unknown as ServiceSchema);
  await broker.start();
  // For a test that lets it die at a step: test/support/crash-preload.cjs.
  process.emit("crash:arm" as never);
  if (holdAcks) for (const { receipts } of runtimeOf(broker).consumers) receipts.ack = () => undefined;
  await tell("started");
}

void main();
