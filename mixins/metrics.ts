import { BUCKETS_MS } from "../src/message/history";
import type { Runtime } from "../src/runtime/runtime";
import { METRICS, type MetricName } from "../src/telemetry/metrics";
import type { Broker } from "./broker";

const PREFIX = "moleculer.reliable.";

/** However short the registry's own interval is: a refresh reads the store. */
const MIN_REFRESH_MS = 1000;

type Definition = Parameters<Broker["metrics"]["register"]>[0];

/** Hands our counts to the broker's metric registry, where metrics are enabled. */
export function connectMetrics(broker: Broker, runtime: Runtime): void {
  if (!broker.isMetricsEnabled()) return;
  const { metrics } = broker;
  const ours = new Set<MetricName>();
  for (const [name, { type, labels, description, ...rest }] of Object.entries(METRICS)) {
    // `register` would replace a metric that is there, and its values.
    if (!metrics.hasMetric(PREFIX + name))
      metrics.register({
        type,
        name: PREFIX + name,
        labelNames: [...labels],
        description,
        ...rest,
        // No quantiles: those keep every value for a minute.
        ...(type === "histogram" && { buckets: BUCKETS_MS })
      } as Definition);
    if (metrics.getMetric(PREFIX + name)?.type === type) ours.add(name as MetricName);
    else
      broker
        .getLogger("reliable")
        .warn(`Reliable: the metric ${PREFIX}${name} is registered with another type already; it is not reported.`);
  }
  let failed = false;
  const safely = (name: MetricName, feed: (full: string) => unknown) => {
    if (!ours.has(name)) return;
    try {
      feed(PREFIX + name);
    } catch (error) {
      // A reporter of the user's that throws must not come between a handler and its receipt.
      if (!failed)
        broker.getLogger("reliable").warn("Reliable: the metric registry threw; this value is not counted.", error);
      failed = true;
    }
  };
  const { collectInterval = 5 } = (metrics as unknown as { opts: { collectInterval?: number } }).opts;
  runtime.metrics.sink = {
    everyMs: Math.max(MIN_REFRESH_MS, collectInterval * 1000),
    add: (name, value, labels) => safely(name, full => metrics.increment(full, labels, value)),
    set: (name, value, labels) => safely(name, full => metrics.set(full, value, labels)),
    observe: (name, ms, labels) => safely(name, full => metrics.observe(full, ms, labels))
  };
  // What has no labels is there from the start, so that a rate over its first change is not lost.
  for (const [name, { type, labels }] of Object.entries(METRICS)) {
    if (type !== "histogram" && !labels.length) safely(name as MetricName, full => metrics.set(full, 0));
  }
}
