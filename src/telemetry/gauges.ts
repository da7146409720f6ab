import type { Courier } from "../couriers/courier";
import { reasonOf } from "../errors";
import { pausedName } from "../message/paused";
import type { Clock, Timer } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { PauseKey, Store } from "../stores/store";
import type { Metrics } from "./metrics";

export interface GaugesParts {
  metrics: Metrics;
  admission: { readonly waiting: number; readonly closed: object | undefined };
  courier: Courier;
  /** For the ages of the oldest messages. A node without a store does not report them. */
  store: Store | undefined;
  subscriptions: { readonly paused: readonly PauseKey[] } | undefined;
  logger: Logger;
  /** Only the node that sweeps now reports the ages. */
  sweeper: { readonly sweeping: boolean; readonly leases: { readonly changes: number } | undefined } | undefined;
  consumers: Iterable<{ readonly inFlight: number }>;
  clock: Clock;
}

/** Up to so many. */
const KEYS_COUNTED = 10_000;

/**
 * Values that are a state, not an event. They are read at the interval of the broker's metrics, and only if metrics are
 * enabled. It costs the sweeping node three indexed reads of one row each, and two counts by an index, per interval; the rest is in
 * memory.
 */
export class Gauges {
  #timer: Timer | undefined;
  #running: Promise<void> | undefined;
  /** Groups whose gauge is 1: one that is resumed must be set back. */
  #paused = new Set<string>();
  readonly #told = { reconnects: 0, "blocked.seconds": 0, "lease.changes": 0 };

  constructor(readonly parts: GaugesParts) {}

  start(): void {
    const { sink } = this.parts.metrics;
    if (!sink) return;
    this.#timer = this.parts.clock.every(sink.everyMs, () => {
      this.#running ??= this.sample().finally(() => (this.#running = undefined));
    });
  }

  /** Reads once more, so that the counts are complete. A stopped node holds and reports nothing. */
  async stop(): Promise<void> {
    this.#timer?.stop();
    await this.#running;
    const { metrics } = this.parts;
    if (!metrics.sink) return;
    this.#count();
    for (const name of [
      "publish.inflight",
      "emit.waiting",
      "overloaded",
      "handler.inflight",
      "oldest.pending.seconds",
      "oldest.unconsumed.seconds",
      "oldest.dead.seconds",
      "keys.held",
      "keys.behind"
    ] as const)
      metrics.set(name, 0);
    this.#setPaused(new Set());
  }

  async sample(): Promise<void> {
    const { metrics, admission, courier, consumers } = this.parts;
    this.#count();
    metrics.set("publish.inflight", courier.status().inFlight);
    metrics.set("emit.waiting", admission.waiting);
    metrics.set("overloaded", Number(admission.closed !== undefined));
    metrics.set(
      "handler.inflight",
      [...consumers].reduce((sum, { inFlight }) => sum + inFlight, 0)
    );
    const { subscriptions, sweeper } = this.parts;
    this.#setPaused(new Set(sweeper?.sweeping ? subscriptions?.paused.map(pausedName) : []));
    await this.#ages();
  }

  #setPaused(paused: Set<string>): void {
    for (const group of new Set([...this.#paused, ...paused]))
      this.parts.metrics.set("paused", Number(paused.has(group)), { group });
    this.#paused = paused;
  }

  #count(): void {
    const { courier, sweeper, metrics } = this.parts;
    const { reconnects, blockedMs } = courier.status();
    const now = { reconnects, "blocked.seconds": blockedMs / 1000, "lease.changes": sweeper?.leases?.changes ?? 0 };
    for (const name of Object.keys(now) as (keyof typeof now)[]) {
      metrics.count(name, now[name] - this.#told[name]);
      this.#told[name] = now[name];
    }
  }

  async #ages(): Promise<void> {
    const { store, sweeper, metrics, logger, clock } = this.parts;
    const seconds = (at: Date | undefined) => (at ? Math.max(0, (clock.now() - at.getTime()) / 1000) : 0);
    try {
      // While the store does not answer, the last known value stays.
      if (sweeper?.sweeping && !store?.ready) return;
      const read = sweeper?.sweeping ? store : undefined;
      const { pending, published, dead } = read ? await read.messages.oldest() : {};
      const keys = await read?.lanes.counts(KEYS_COUNTED);
      metrics.set("oldest.pending.seconds", seconds(pending));
      metrics.set("oldest.unconsumed.seconds", seconds(published));
      metrics.set("oldest.dead.seconds", seconds(dead));
      metrics.set("keys.held", keys?.held.counted ?? 0);
      metrics.set("keys.behind", keys?.behind.counted ?? 0);
    } catch (error) {
      logger.debug(`Reliable: the ages of the oldest messages could not be read: ${reasonOf(error)}`);
    }
  }
}
