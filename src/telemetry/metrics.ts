import { OTHER } from "../message/history";
import type { ResendResult } from "../wire/resend";
import { HistoryCounter } from "./history";

interface MetricSpec {
  type: "counter" | "gauge" | "histogram";
  labels: readonly string[];
  unit?: string;
  description: string;
}

const counter = (description: string, ...labels: string[]): MetricSpec => ({ type: "counter", labels, description });
const gauge = (description: string, unit?: string, ...labels: string[]): MetricSpec => ({
  type: "gauge",
  labels,
  ...(unit && { unit }),
  description
});
const time = (description: string): MetricSpec => ({
  type: "histogram",
  labels: ["event"],
  unit: "millisecond",
  description
});

/**
 * Every metric, without its prefix. `docs/reference/metrics.md` is made from this, and the Grafana dashboard is tested
 * against it.
 */
export const METRICS = {
  emitted: counter("emits that resolved", "event"),
  stored: counter("messages stored by an emit", "event"),
  confirmed: counter("publishes of messages confirmed and routed, first ones and resends", "event"),
  returned: counter("publishes that no queue took", "event"),
  nacked: counter("publishes the broker did not take now (a full queue)", "event"),
  refused: counter("publishes the broker refused for what they are: too large, or no right to send them", "event"),
  unknown: counter("publishes without the broker's answer", "event"),
  handled: counter("deliveries whose handler succeeded", "event", "group"),
  failed: counter("deliveries whose handler failed", "event", "group"),
  duplicates: counter("deliveries answered by the inbox, without the handler", "event", "group"),
  runs: counter(
    'runs of handlers with `inbox: "transaction"`; more than `handled` and `failed` together: repeats after conflicts',
    "event",
    "group"
  ),
  consumed: counter("messages that every expected group has handled"),
  dead: counter("groups that have failed for good, by message: each needs a human"),
  "bulk.stopped": counter("bulk acts that have stopped themselves, or failed: each needs a human", "act"),
  parked: counter("deliveries that could not be read and were parked", "queue"),
  unsigned: counter("messages of ours that came without a signature that fits; only with `signingKey`", "queue"),
  "emit.refused": counter(
    "emits refused because this node is overloaded, or too many wait; nothing of them was stored"
  ),
  "emit.unheld": counter("emits of reliable handlers and with `session`, which are never held, while others were held"),
  sweeps: counter("sweeps"),
  pruned: counter("final messages pruned"),
  dropped: counter("final messages whose payload was dropped, by `retainBodiesMs`"),
  "lease.changes": counter("times this node won or lost a lease, or Redis went or came back"),
  reconnects: counter("RabbitMQ connections that had to be made again"),
  "blocked.seconds": counter("seconds in which RabbitMQ blocked publishers"),
  "publish.inflight": gauge("publishes that wait for the broker's confirm"),
  "emit.waiting": gauge("emits that wait for their turn, since this node is overloaded"),
  overloaded: gauge("1 while this node is overloaded and lets in only as many emits as it finishes"),
  "handler.inflight": gauge("deliveries in the hands of handlers"),
  "oldest.pending.seconds": gauge("age of the oldest pending message; 0 on nodes that do not sweep", "second"),
  "oldest.unconsumed.seconds": gauge("age of the oldest published message; 0 on nodes that do not sweep", "second"),
  paused: gauge(
    "1 while the group, or the pattern of it that is named, is paused; 0 after that, and on nodes that do not sweep",
    undefined,
    "group"
  ),
  "breaker.open": gauge(
    "1 while the breaker of a group on this node is not closed: one message at a time is tried, and failures cost no attempt",
    undefined,
    "event",
    "group"
  ),
  "oldest.dead.seconds": gauge("time since the oldest death; 0: nothing is dead, or the node does not sweep", "second"),
  "keys.held": gauge(
    "messages that hold their order key: they are dead, and those behind them wait; up to 10,000, and 0 on nodes that do not sweep"
  ),
  "keys.behind": gauge(
    "messages that wait for their turn behind others of their order key; up to 10,000, and 0 on nodes that do not sweep"
  ),
  "emit.time": time("from the call of reliableEmit until it resolves"),
  "confirm.time": time("from a publish to the broker's confirm"),
  "end.to.end.time": time("from the emit to the last receipt; by the producer's clock and the store's")
} as const satisfies Record<string, MetricSpec>;

export type MetricName = keyof typeof METRICS;

const OUTCOMES = ["confirmed", "returned", "nacked", "refused", "unknown"] as const;
const DELIVERIES = ["handled", "failed", "duplicates"] as const;

/**
 * Event names come from the user or from other programs. Above this number they are counted together as `other`: a
 * registry keeps every label.
 */
export const MAX_EVENT_LABELS = 500;

/** The Moleculer broker's registry, if metrics are enabled. */
export interface MetricSink {
  /** How often gauges are refreshed. */
  everyMs: number;
  add(name: MetricName, value: number, labels: Record<string, string>): void;
  set(name: MetricName, value: number, labels?: Record<string, string>): void;
  observe(name: MetricName, ms: number, labels: Record<string, string>): void;
}

/** What the parts count. It keeps totals for `stats`. The rest happens only if a sink is connected. */
export class Metrics {
  /** The same by minute. */
  readonly history = new HistoryCounter();
  readonly totals: Record<string, number> = {};
  readonly #events = new Set<string>();
  /** Series that exist. */
  readonly #begun = new Set<string>();
  /** The mixin connects it. */
  sink: MetricSink | undefined;

  count(name: MetricName, value = 1, labels: Record<string, string> = {}): void {
    if (!value) return;
    this.totals[name] = (this.totals[name] ?? 0) + value;
    this.sink?.add(name, value, this.#bounded(labels));
  }

  time(name: MetricName, ms: number, event: string): void {
    this.sink?.observe(name, Math.max(0, ms), this.#bounded({ event }));
  }

  set(name: MetricName, value: number, labels?: Record<string, string>): void {
    this.sink?.set(name, value, labels && this.#bounded(labels));
  }

  /** Creates series before they are needed: a rate misses the first count of a new series. */
  begin(names: readonly MetricName[], labels: Record<string, string>): void {
    if (!this.sink) return;
    const bounded = this.#bounded(labels);
    const key = JSON.stringify([names[0], bounded]);
    if (this.#begun.has(key)) return;
    this.#begun.add(key);
    for (const name of names) this.sink.add(name, 0, bounded);
  }

  #bounded(labels: Record<string, string>): Record<string, string> {
    const { event } = labels;
    if (event === undefined || this.#events.has(event)) return labels;
    if (this.#events.size >= MAX_EVENT_LABELS) return { ...labels, event: OTHER };
    this.#events.add(event);
    return labels;
  }

  emitted(event: string): void {
    this.history.current.count("emitted", event);
    this.#ofEvent("emitted", event);
  }

  stored(event: string): void {
    this.#ofEvent("stored", event);
  }

  outcome(event: string, outcome: ResendResult["outcome"]): void {
    if (outcome === "confirmed") this.history.current.count("confirmed", event);
    if (this.sink) this.begin(OUTCOMES, { event });
    this.#ofEvent(outcome, event);
  }

  /** Labels are made only if a sink reads them. */
  #ofEvent(name: MetricName, event: string): void {
    if (this.sink) this.count(name, 1, { event });
    else this.totals[name] = (this.totals[name] ?? 0) + 1;
  }

  /** `ms`: how long the handler took; likewise below. */
  handled(event: string, group: string, ms: number): void {
    this.history.current.time(ms, event, group);
    this.#delivery("handled", event, group);
  }

  failed(event: string, group: string, ms: number): void {
    this.history.current.time(ms, event, group);
    this.#delivery("failed", event, group);
  }

  run(event: string, group: string): void {
    this.begin(["runs"], { event, group });
    this.count("runs", 1, { event, group });
  }

  duplicate(event: string, group: string): void {
    this.#delivery("duplicates", event, group);
  }

  #delivery(name: (typeof DELIVERIES)[number], event: string, group: string): void {
    this.history.current.count(name, event, group);
    this.begin(DELIVERIES, { event, group });
    this.count(name, 1, { event, group });
  }

  dead(groups: readonly { event?: string; group?: string }[]): void {
    for (const { event = OTHER, group } of groups) this.history.current.count("dead", event, group);
    this.count("dead", groups.length);
  }

  parked(queue: string): void {
    this.count("parked", 1, { queue });
  }
}
