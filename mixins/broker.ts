import type { ServiceBroker } from "moleculer";

/** Whatever of a Moleculer broker's parts may differ between 0.14 and 0.15 is named here once. */
export interface Broker extends ServiceBroker {
  nodeID: string;
  namespace: string;
}
