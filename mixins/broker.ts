import type { ServiceBroker } from "moleculer";

/** What differs between the brokers of 0.14 and 0.15, named once. */
export interface Broker extends ServiceBroker {
  nodeID: string;
  namespace: string;
}
