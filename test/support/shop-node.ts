import { type BrokerOptions, ServiceBroker } from "moleculer";
import { tell } from "./parent";
import { type ShopNode, shop } from "./shop";

/**
 * A producer that dies somewhere in its one emit; see `crash-preload.cjs`. Tells "promised" or "refused", and "points".
 */
async function main(): Promise<void> {
  const node = JSON.parse(process.env["SHOP"] as string) as ShopNode;
  const broker = new ServiceBroker({
    namespace: node.namespace,
    nodeID: `shop-${node.id}`,
    logger: { type: "Console", options: { level: "warn" } }
  } as BrokerOptions);
  broker.createService(shop(node).schema);
  await broker.start();
  (process.emit as (name: string) => boolean)("crash:arm");
  await broker.call("shop.place", { id: node.id, bond: node.bond }).then(
    () => tell("promised"),
    (error: Error & { type?: string }) => tell("refused", error.type ?? error.message)
  );
  await broker.stop();
  (process.emit as (name: string, take: (points: string[]) => void) => boolean)(
    "crash:points",
    points => void tell("points", points)
  );
  process.disconnect();
}

void main();
