import { type Service, ServiceBroker, type ServiceSchema } from "moleculer";
import type { ReliableOptions } from "../src/options/options";
import { readOptions } from "../src/options/resolve";
import type { Broker } from "./broker";
import { checkMoleculer } from "./moleculer-version";
import { nodeOf } from "./node";
import { OBSERVER } from "./registry";
import { reliableActions } from "./reliable.actions";

/** Name of the service; the same on every node, so that any of them answers. */
export const SERVICE_NAME = "reliable";

/**
 * The service `reliable`: tracker, sweeper and the operators' actions. The mixin creates it once per node where a store
 * is configured (switch off with `service: false`); create it yourself on dedicated nodes. Same options and errors as
 * the mixin.
 */
export function ReliableService(options: ReliableOptions = {}): ServiceSchema {
  checkMoleculer(ServiceBroker.MOLECULER_VERSION);
  readOptions({ ...options }, {}, {});
  return {
    name: SERVICE_NAME,
    settings: { $secureSettings: ["reliable"] },
    metadata: {
      $category: "reliable",
      $description: "Guaranteed events: tracker, sweeper and manual compensation",
      $package: { name: "moleculer-reliable-emit" }
    },
    actions: reliableActions,

    merged(this: Service, schema: Merged): void {
      const node = nodeOf(this.broker as Broker);
      node.runtime.configure(readOptions({ ...options }, schema.settings?.reliable), SERVICE_NAME);
      if (node.runtime.options.observer) hide(schema);
      // Made by hand after a mixin had made its own: this one counts.
      if (node.automatic) void this.broker.destroyService(node.automatic);
      node.automatic = undefined;
    },

    async started(this: Service): Promise<void> {
      const { runtime } = nodeOf(this.broker as Broker);
      if (!(await runtime.acquire(this))) return;
      runtime.needStorage();
      await runtime.track();
    },

    async stopped(this: Service): Promise<void> {
      await nodeOf(this.broker as Broker).runtime.release(this);
    }
  } as unknown as ServiceSchema;
}

type Merged = Pick<ServiceSchema, "actions" | "metadata"> & { settings?: { reliable?: Record<string, unknown> } };

/** An observer answers its own node alone: what the others ask for, one of them has to do. */
function hide(schema: Merged): void {
  schema.metadata = { ...(schema.metadata as object), [OBSERVER]: true };
  const actions = Object.entries(schema.actions ?? {}) as [string, object][];
  schema.actions = Object.fromEntries(actions.map(([name, action]) => [name, { ...action, visibility: "protected" }]));
}

/**
 * One microtask later, when all services created in the same turn have given their options, and still before
 * `broker.start()` goes on to start services. A service of a later turn (moleculer-runner-esm imports them) may still
 * say that there shall be none.
 */
export function ensureReliableService(broker: Broker): void {
  queueMicrotask(() => {
    const node = nodeOf(broker);
    const wanted = node.runtime.options.service && node.runtime.backends.store !== "none";
    if (wanted && !node.automatic && !broker.getLocalService(SERVICE_NAME))
      node.automatic = broker.createService(ReliableService());
    if (!wanted && node.automatic) {
      void broker.destroyService(node.automatic);
      node.automatic = undefined;
    }
  });
}
