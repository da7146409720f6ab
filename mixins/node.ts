import type { Service } from "moleculer";
import { printableLogger } from "../src/platform/logger";
import { printable } from "../src/platform/printable";
import { sameVersion, VERSION } from "../src/platform/process-shared";
import { Runtime } from "../src/runtime/runtime";
import type { Broker } from "./broker";
import { forwardLifecycle } from "./lifecycle-events";
import { connectMetrics } from "./metrics";
import { checkMoleculer } from "./moleculer-version";
import { nodesOf, servicesOf } from "./registry";

interface Node {
  /** Of the copy of this package that made it. */
  version: string;
  runtime: Runtime;
  /** The service `reliable` that the mixin created by itself. */
  automatic?: Service;
}

/** Kept on the broker under a registered symbol, so that all copies of this package in the process find it. */
const NODE = Symbol.for("moleculer-reliable-emit.node");

/** One per Moleculer broker. Throws RELIABLE_WRONG_VERSION. */
export function nodeOf(broker: Broker): Node {
  const holder = broker as unknown as { [NODE]?: Node };
  if (!holder[NODE]) {
    checkMoleculer(broker.MOLECULER_VERSION);
    Object.defineProperty(broker, NODE, { value: { version: VERSION, runtime: newRuntime(broker) } satisfies Node });
  }
  const node = holder[NODE] as Node;
  sameVersion(node.version, `The Moleculer broker of node '${broker.nodeID}'`);
  return node;
}

function newRuntime(broker: Broker): Runtime {
  const runtime = new Runtime({
    nodeID: printable(broker.nodeID),
    namespace: broker.namespace ?? "",
    logger: printableLogger(broker.getLogger("reliable")),
    services: () => servicesOf(broker),
    nodes: () => nodesOf(broker),
    call: (action, params, options) => broker.call(action, params as object, options) as Promise<unknown>
  });
  connectMetrics(broker, runtime);
  const { localBus } = broker as unknown as { localBus: { on(event: string, listener: () => void): void } };
  localBus.on("$services.changed", () => runtime.running && runtime.traps.changed());
  forwardLifecycle(broker, runtime);
  return runtime;
}
