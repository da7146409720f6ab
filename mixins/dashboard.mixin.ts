import { type Service, ServiceBroker, type ServiceSchema } from "moleculer";
import { addDashboard, type Gateway } from "../src/dashboard/gateway";
import type { Dashboard } from "../src/dashboard/handler";
import { type GatewayDashboardOptions, gatewayOptions } from "../src/dashboard/options";
import { printableLogger } from "../src/platform/logger";
import { printable } from "../src/platform/printable";
import type { Broker } from "./broker";
import { checkMoleculer } from "./moleculer-version";
import { hooks } from "./service-state";

type Hooks = Parameters<typeof hooks>[0];

/** Of one service: the schema is cloned, and told to other nodes. */
const DASHBOARDS = new WeakMap<Service, Dashboard[]>();

/**
 * The operators' page as a route of moleculer-web (0.10, 0.11): `mixins: [ApiGateway, ReliableDashboard({ … })]`. Throws
 * RELIABLE_BAD_OPTION, also when the service is created: a named method that does not exist, a path that is taken.
 */
export function ReliableDashboard<User = unknown, Payload = unknown>(
  given: GatewayDashboardOptions<User, Payload> = {}
): Partial<ServiceSchema> {
  const options = given as GatewayDashboardOptions;
  checkMoleculer(ServiceBroker.MOLECULER_VERSION);
  const resolved = gatewayOptions(options);

  function addRoute(this: Service): void {
    const { nodeID, namespace = "" } = this.broker as Broker;
    const node = { nodeID: printable(nodeID), namespace, logger: printableLogger(this.logger) };
    const made = addDashboard(this as unknown as Gateway, options, resolved, node);
    DASHBOARDS.set(this, [...(DASHBOARDS.get(this) ?? []), made]);
  }

  return {
    /** The gateway's own `created` first, which makes its routes, in whichever order the mixins are named. */
    merged(this: Service, schema: { created?: Hooks }): void {
      schema.created = [...hooks(schema.created), addRoute];
    },

    stopped(this: Service): void {
      for (const dashboard of DASHBOARDS.get(this) ?? []) dashboard.stop();
    }
  } as unknown as Partial<ServiceSchema>;
}
