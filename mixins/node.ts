import type { Service, ServiceBroker } from "moleculer";
import { Runtime } from "../src/runtime";
import { connectMetrics } from "./metrics";

/** Whatever of a Moleculer broker's parts may differ between 0.14 and 0.15 is named here once. */
export interface Broker extends ServiceBroker {
	nodeID: string;
	namespace: string;
}

interface Node {
	runtime: Runtime;
	/** The service `reliable` that the mixin created by itself. */
	automatic?: Service;
}

/** One runtime per Moleculer broker. Weak: a broker that is gone takes its runtime with it. */
const nodes = new WeakMap<object, Node>();

export function nodeOf(broker: Broker): Node {
	let node = nodes.get(broker);
	if (!node) nodes.set(broker, (node = { runtime: newRuntime(broker) }));
	return node;
}

function newRuntime(broker: Broker): Runtime {
	const runtime = new Runtime({ nodeID: broker.nodeID, namespace: broker.namespace ?? "", logger: broker.getLogger("reliable"), call: (action, params, options) => broker.call(action, params as object, options) as Promise<unknown> });
	connectMetrics(broker, runtime);
	runtime.listen({
		consumed: ids => void broker.broadcastLocal("$reliable.consumed", { ids }),
		dead: messages => {
			for (const message of messages) void broker.broadcastLocal("$reliable.dead", message);
		},
		// The shape of Moleculer's own $broker.error events, so that a listener on "$**.error" sees them all.
		error: (error, module) => void broker.broadcastLocal("$reliable.error", { error, module, type: "reliable" })
	});
	return runtime;
}
