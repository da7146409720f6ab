import { type BrokerOptions, ServiceBroker } from "moleculer";
import { type ReliableOptions, ReliableService } from "../../src";
import { onTold, tell } from "./parent";

/** What the parent wants of this node. */
export interface ObserverNode {
  namespace: string;
  nodeID: string;
  options: ReliableOptions;
}

/** An observer without a transporter. Tells "started"; takes "bulk" with the params, and tells "begun". */
async function main(): Promise<void> {
  const { namespace, nodeID, options } = JSON.parse(process.env["NODE"] ?? "{}") as ObserverNode;
  const broker = new ServiceBroker({ namespace, nodeID, logger: false } as BrokerOptions);
  broker.createService(ReliableService({ ...options, observer: true }));
  onTold("bulk", params => {
    void broker.call("reliable.bulk", params as object).then(begun => tell("begun", begun));
  });
  await broker.start();
  await tell("started");
}

void main();
