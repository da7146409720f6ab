import type { Runtime } from "../src/runtime";
import type { Broker } from "./node";

const PREFIX = "moleculer.reliable.";

/** Label names by metric; a metric's labels are fixed when it is registered. */
const COUNTERS: Record<string, { labels: string[]; description: string }> = {
	emitted: { labels: ["event"], description: "Emits that resolved" },
	stored: { labels: ["event"], description: "Messages stored" },
	confirmed: { labels: ["event"], description: "Publishes confirmed and routed" },
	returned: { labels: ["event"], description: "Publishes that no queue took" },
	nacked: { labels: ["event"], description: "Publishes the broker refused" },
	unknown: { labels: ["event"], description: "Publishes without an answer" },
	handled: { labels: ["event", "group"], description: "Events handled" },
	failed: { labels: ["event", "group"], description: "Events whose handler failed" },
	duplicates: { labels: ["event", "group"], description: "Duplicates answered by the inbox" },
	consumed: { labels: [], description: "Messages every expected group has handled" },
	dead: { labels: [], description: "Messages that became dead" },
	parked: { labels: ["queue"], description: "Messages that could not be read and were parked" },
	sweeps: { labels: [], description: "Sweeps" },
	pruned: { labels: [], description: "Final messages pruned" }
};

/** Hands our counts to the broker's metric registry, where metrics are enabled. */
export function connectMetrics(broker: Broker, runtime: Runtime): void {
	if (!broker.isMetricsEnabled()) return;
	const { metrics } = broker;
	// `register` would replace a metric that is there, and its values.
	const register = (type: string, name: string, rest: object) => {
		if (!metrics.hasMetric(PREFIX + name)) metrics.register({ type, name: PREFIX + name, ...rest } as Parameters<typeof metrics.register>[0]);
	};
	for (const [name, { labels, description }] of Object.entries(COUNTERS)) register("counter", name, { labelNames: labels, rate: true, description });
	register("histogram", "emit.time", { labelNames: ["event"], quantiles: true, unit: "millisecond", description: "Time of reliableEmit" });
	runtime.metrics.sink = (name, value, labels) => {
		if (name in COUNTERS) metrics.increment(PREFIX + name, labels, value);
	};
	runtime.metrics.timeSink = (name, ms, labels) => {
		if (name === "emit") metrics.observe(`${PREFIX}emit.time`, ms, labels);
	};
}
