import type { HandlerView, ServiceView } from "../src/runtime/traps";
import { RESEND_ACTION } from "../src/wire/resend";
import type { Broker } from "./broker";

type Listed = { name?: unknown; fullName?: unknown; events?: unknown; actions?: unknown };

/** The services that this node knows, its own and the others'. What other nodes publish may be anything. */
export function servicesOf(broker: Broker): ServiceView[] {
  const { registry } = broker as unknown as { registry: { getServiceList(options: object): Listed[] } };
  return registry
    .getServiceList({ withEvents: true, withActions: true, skipInternal: true })
    .flatMap(({ name, fullName, events, actions }) => {
      if (typeof name !== "string" || typeof fullName !== "string") return [];
      // The mixin gives each service the action by which it is asked.
      const mixed = Object.keys(actions ?? {}).some(action => action.endsWith(`.${RESEND_ACTION}`));
      const handlers = Object.entries((events ?? {}) as Record<string, unknown>).flatMap(([key, event]) =>
        typeof event === "object" && event !== null ? [handlerOf(key, event, name)] : []
      );
      return [{ name, fullName, mixed, handlers }];
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
