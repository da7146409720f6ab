import { type BrokerOptions, ServiceBroker, type ServiceSchema } from "moleculer";
import { ReliableEmit, type ReliableOptions } from "../../src";
import { onTold, tell } from "./parent";

/** What the parent wants of this node. */
export interface BulkNode {
  namespace: string;
  nodeID: string;
  options: ReliableOptions;
  /** So that the other nodes can be told of what it works at. */
  transporter?: string;
}

/**
 * A node that sweeps (tells "started" then), to be killed while it works at a bulk act. Takes "begin" or "replay" with the params, tells "begun";
 * takes "look", looks for bulk acts, and tells "looked".
 */
async function main(): Promise<void> {
  const { namespace, nodeID, options, transporter } = JSON.parse(process.env["NODE"] ?? "{}") as BulkNode;
  const broker = new ServiceBroker({ namespace, nodeID, transporter, logger: false } as BrokerOptions);
  broker.createService({ name: "desk", mixins: [ReliableEmit(options)] } as unknown as ServiceSchema);
  onTold("begin", params => {
    void broker.call("reliable.bulk", params as object).then(begun => tell("begun", begun));
  });
  onTold("replay", params => {
    void broker.call("reliable.replay", params as object).then(begun => tell("begun", begun));
  });
  onTold("look", () => {
    void broker.call("reliable.bulkLook").then(() => tell("looked"));
  });
  await broker.start();
  // One that does not sweep works too, if it cannot tell the one that does.
  for (let sweeping = ""; sweeping !== "held"; await new Promise(resolve => setTimeout(resolve, 20)))
    ({ sweeping } = (await broker.call("reliable.health")) as { sweeping: string });
  await tell("started");
}

void main();
