import type { KnownNode } from "../src/operator/cluster-nodes";
import type { HandlerView, ServiceView } from "../src/runtime/traps";
import { DEAD_ACTION } from "../src/wire/dead";
import { RESEND_ACTION } from "../src/wire/resend";
import type { Broker } from "./broker";

/** In the metadata of a service `reliable` that answers its own node alone. */
export const OBSERVER = "observer";

type ListedNode = { id?: unknown; available?: unknown; services?: (ListedService | null)[] };
type ListedService = { name?: unknown; metadata?: { [OBSERVER]?: unknown } | null };
type Listed = { name?: unknown; fullName?: unknown; events?: unknown; actions?: unknown };

/** The services that this node knows, its own and the others'. What other nodes publish may be anything. */
export function servicesOf(broker: Broker): ServiceView[] {
  const { registry } = broker as unknown as { registry: { getServiceList(options: object): Listed[] } };
  return registry
    .getServiceList({ withEvents: true, withActions: true, skipInternal: true })
    .flatMap(({ name, fullName, events, actions }) => {
      if (typeof name !== "string" || typeof fullName !== "string") return [];
      // The mixin gives each service the action by which it is asked.
      const has = (name: string) => Object.keys(actions ?? {}).some(action => action.endsWith(`.${name}`));
      const handlers = Object.entries((events ?? {}) as Record<string, unknown>).flatMap(([key, event]) =>
        typeof event === "object" && event !== null ? [handlerOf(key, event, name)] : []
      );
      return [{ name, fullName, mixed: has(RESEND_ACTION), onDead: has(DEAD_ACTION), handlers }];
    });
}

/** Those with the service `reliable` that are no observers. One that stopped has taken its services back, one that was killed has not. */
export function nodesOf(broker: Broker): KnownNode[] {
  const { registry } = broker as unknown as { registry: { getNodeList(options: object): ListedNode[] } };
  return registry.getNodeList({ onlyAvailable: false, withServices: true }).flatMap(({ id, available, services }) => {
    const reliable =
      Array.isArray(services) &&
      services.some(service => service?.name === "reliable" && service.metadata?.[OBSERVER] !== true);
    return reliable && typeof id === "string" ? [{ nodeID: id, available: available === true }] : [];
  });
}

function handlerOf(
  key: string,
  event: { name?: unknown; group?: unknown; reliable?: unknown },
  service: string
): HandlerView {
  const { name, group, reliable } = event;
  return {
    pattern: typeof name === "string" ? name : key,
    group: typeof group === "string" ? group : service,
    reliable: reliable !== undefined && reliable !== false
  };
}
