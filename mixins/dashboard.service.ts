import { type Service, ServiceBroker, type ServiceSchema } from "moleculer";
import { type OwnPortDashboardOptions, ownPortOptions } from "../src/dashboard/options";
import { DashboardServer } from "../src/dashboard/server";
import { printableLogger } from "../src/platform/logger";
import { printable } from "../src/platform/printable";
import type { Broker } from "./broker";
import { checkMoleculer } from "./moleculer-version";

/** Of one service: the schema is cloned, and told to other nodes. */
const SERVERS = new WeakMap<Service, DashboardServer>();

/**
 * The operators' page on a port of its own, for who has no gateway. Throws RELIABLE_BAD_OPTION; a start rejects with it
 * if the port cannot be had.
 */
export function ReliableDashboardService<User = unknown, Payload = unknown>(
  given: OwnPortDashboardOptions<User, Payload> = {}
): ServiceSchema {
  const options = given as OwnPortDashboardOptions;
  checkMoleculer(ServiceBroker.MOLECULER_VERSION);
  // A bad option is the caller's mistake where it is written.
  ownPortOptions(options);
  return {
    name: "reliable-dashboard",
    metadata: {
      $category: "reliable",
      $description: "Guaranteed events: the operators' page",
      $package: { name: "moleculer-reliable-emit" }
    },

    async started(this: Service): Promise<void> {
      const broker = this.broker as Broker;
      const server = new DashboardServer(options);
      const logger = printableLogger(this.logger);
      const address = await server.start({
        namespace: broker.namespace ?? "",
        nodeID: printable(broker.nodeID),
        logger,
        askAs: user => (action, params, call) =>
          broker.call(action, params, { ...call, meta: user ? { user } : {} }) as Promise<unknown>
      });
      SERVERS.set(this, server);
      logger.info(`Reliable: the dashboard is at ${address}`);
    },

    async stopped(this: Service): Promise<void> {
      await SERVERS.get(this)?.stop();
    }
  } as unknown as ServiceSchema;
}
