import type { ConnectionStatus, Courier, QueueDepth } from "../couriers/courier";
import { reasonOf } from "../errors";
import type { Clock } from "../platform/clock";
import type { Store } from "../stores/store";
import type { Metrics } from "../telemetry/metrics";

/** What `reliable.health` returns. `ok`: every configured server answers and the broker is not blocked. */
export interface Health {
  ok: boolean;
  nodeID: string;
  publish: string;
  consume: string;
  blocked: string;
  store: string;
  redis: string;
  /** `held` this node sweeps · `standby` another does · `unlocked` without a lease. */
  sweeping: string;
  /** Who holds the lease of each partition. */
  leaseHolders: string;
  lastSweep: string;
  oldestPendingMs: number | null;
  oldestUnconsumedMs: number | null;
  inFlightPublishes: number;
  inFlightHandlers: number;
  reconnects: number;
}

export interface SubscriptionRow {
  group: string;
  pattern: string;
  queue: string;
  /** Messages ready in the queue now; null = there is no such queue, or the broker does not answer. */
  ready: number | null;
  consumers: number | null;
  service: string;
  lastNode: string;
  firstSeenAt: string;
  seenAt: string;
}

/** The part of the sweeper that health shows. */
export interface SweeperView {
  readonly mode: string;
  readonly leases: { holders(): Promise<(string | null)[]> } | undefined;
  readonly lastPass: { at: Date; ms: number; counts: { claimed: number } } | undefined;
}

export interface NodeHealthParts {
  nodeID: string;
  courier: Courier;
  store: Store;
  /** Address of Redis, if one is configured. */
  redis: string | undefined;
  sweeper: SweeperView;
  /** Whether this node sweeps at all. */
  sweeps: boolean;
  consumers: Iterable<{ readonly inFlight: number }>;
  metrics: Metrics;
  clock: Clock;
}

/** The state of a node, of its servers, and of the messages of the whole namespace. */
export class NodeHealth {
  readonly #startedAt: number;

  constructor(private readonly parts: NodeHealthParts) {
    this.#startedAt = parts.clock.now();
  }

  async health(): Promise<Health> {
    const { nodeID, store, sweeper, sweeps, consumers, redis } = this.parts;
    const courier = this.parts.courier.status();
    const [ping, oldest, holders] = await Promise.all([
      pingOf(store),
      store.messages.oldest().catch(() => undefined),
      sweeper.leases && holdersOf(sweeper.leases)
    ]);
    const pass = sweeper.lastPass;
    const { blocked } = courier;
    return {
      ok: courier.publish.connected && courier.consume.connected && ping.up && !blocked && (holders?.up ?? true),
      nodeID,
      publish: connectionText(courier.publish),
      consume: connectionText(courier.consume),
      blocked: blocked
        ? `yes: ${courier.blockedReason ?? ""}`
        : `no (${Math.round((courier.blockedMs ?? 0) / 1000)} s since start)`,
      store: ping.text,
      redis: holders ? (holders.up ? `up (${redis})` : "down") : "not configured",
      sweeping: sweeps ? sweeper.mode : "off",
      leaseHolders: holders?.text ?? "no lease",
      lastSweep: pass
        ? `${pass.at.toISOString()}: ${pass.counts.claimed} claimed in ${pass.ms} ms`
        : "none on this node",
      oldestPendingMs: this.#ageOf(oldest?.pending),
      oldestUnconsumedMs: this.#ageOf(oldest?.published),
      inFlightPublishes: courier.inFlight,
      inFlightHandlers: [...consumers].reduce((sum, consumer) => sum + consumer.inFlight, 0),
      reconnects: courier.reconnects
    };
  }

  /** Messages by status in the whole namespace; counts of this node since its start. */
  async stats(): Promise<Record<string, unknown>> {
    const { nodeID, store, metrics, clock } = this.parts;
    const { byStatus, parked, oldestPendingAt, oldestPublishedAt, oldestDeadAt } = await store.messages.stats();
    return {
      ...byStatus,
      parkedMessages: parked,
      oldestPendingMs: this.#ageOf(oldestPendingAt),
      oldestUnconsumedMs: this.#ageOf(oldestPublishedAt),
      oldestDeadMs: this.#ageOf(oldestDeadAt),
      nodeID,
      upMs: clock.now() - this.#startedAt,
      node: { ...metrics.totals }
    };
  }

  async subscriptions(): Promise<SubscriptionRow[]> {
    const { store, courier } = this.parts;
    return Promise.all(
      (await store.subscriptions.list()).map(
        async ({ group, pattern, queue, service, nodeID, firstSeenAt, seenAt }) => {
          const depth: QueueDepth | undefined = await courier.depth(queue).catch(() => undefined);
          return {
            group,
            pattern,
            queue,
            ready: depth?.ready ?? null,
            consumers: depth?.consumers ?? null,
            service,
            lastNode: nodeID,
            firstSeenAt: firstSeenAt.toISOString(),
            seenAt: seenAt.toISOString()
          };
        }
      )
    );
  }

  #ageOf(at: Date | undefined): number | null {
    return at ? this.parts.clock.now() - at.getTime() : null;
  }
}

interface Answer {
  up: boolean;
  text: string;
}

function pingOf(store: Store): Promise<Answer> {
  return store.ping().then(
    ms => ({ up: true, text: `up (${store.name}, ${ms.toFixed(1)} ms)` }),
    error => ({ up: false, text: `down (${store.name}): ${reasonOf(error)}` })
  );
}

function holdersOf(leases: NonNullable<SweeperView["leases"]>): Promise<Answer> {
  return leases.holders().then(
    found => ({ up: true, text: found.map((holder, partition) => `${partition}: ${holder ?? "nobody"}`).join(", ") }),
    error => ({ up: false, text: `unknown: ${reasonOf(error)}` })
  );
}

function connectionText({ connected, address, lastError }: ConnectionStatus): string {
  return connected ? `up${address ? ` (${address})` : ""}` : `down${lastError ? `: ${lastError}` : ""}`;
}
