import type { QueueDepth } from "../couriers/courier";
import { reasonOf } from "../errors";
import type { Runtime } from "../runtime/runtime";

/** What `reliable.health` tells. `ok` = every configured server answers and the broker is not blocked. */
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
  /** Per partition who holds the lease. */
  leaseHolders: string;
  lastSweep: string;
  oldestPendingMs: number | null;
  oldestUnconsumedMs: number | null;
  inFlightPublishes: number;
  inFlightHandlers: number;
  reconnects: number;
}

const ageOf = (at: Date | undefined): number | null => (at ? Date.now() - at.getTime() : null);

export async function health(runtime: Runtime): Promise<Health> {
  const { store, sweeper } = runtime.needStorage();
  const courier = runtime.courier?.status();
  const describe = (connection: { connected: boolean; address?: string; lastError?: string } | undefined) =>
    connection?.connected
      ? `up${connection.address ? ` (${connection.address})` : ""}`
      : `down${connection?.lastError ? `: ${connection.lastError}` : ""}`;
  const [ping, oldest, holders] = await Promise.all([
    store.ping().then(
      ms => ({ up: true, text: `up (${store.name}, ${ms.toFixed(1)} ms)` }),
      error => ({ up: false, text: `down (${store.name}): ${reasonOf(error)}` })
    ),
    store.oldest().catch(() => undefined),
    sweeper.leases?.holders().then(
      found => ({ up: true, text: found.map((holder, partition) => `${partition}: ${holder ?? "nobody"}`).join(", ") }),
      error => ({ up: false, text: `unknown: ${reasonOf(error)}` })
    )
  ]);
  const pass = sweeper.lastPass;
  const blocked = courier?.blocked ?? false;
  return {
    ok:
      Boolean(courier?.publish.connected && courier.consume.connected) && ping.up && !blocked && (holders?.up ?? true),
    nodeID: runtime.identity.nodeID,
    publish: describe(courier?.publish),
    consume: describe(courier?.consume),
    blocked: blocked
      ? `yes: ${courier?.blockedReason ?? ""}`
      : `no (${Math.round((courier?.blockedMs ?? 0) / 1000)} s since start)`,
    store: ping.text,
    redis: holders ? (holders.up ? `up (${runtime.redis?.address})` : "down") : "not configured",
    sweeping: runtime.options.sweeper ? sweeper.mode : "off",
    leaseHolders: holders?.text ?? "no lease",
    lastSweep: pass ? `${pass.at.toISOString()}: ${pass.counts.claimed} claimed in ${pass.ms} ms` : "none on this node",
    oldestPendingMs: ageOf(oldest?.pending),
    oldestUnconsumedMs: ageOf(oldest?.published),
    inFlightPublishes: courier?.inFlight ?? 0,
    inFlightHandlers: [...runtime.consumers].reduce((sum, consumer) => sum + consumer.inFlight, 0),
    reconnects: courier?.reconnects ?? 0
  };
}

/** Messages by status in the whole namespace; counts of this node since its start. */
export async function stats(runtime: Runtime): Promise<Record<string, unknown>> {
  const { store } = runtime.needStorage();
  const { byStatus, parked, oldestPendingAt, oldestPublishedAt, oldestDeadAt } = await store.stats();
  return {
    ...byStatus,
    parkedMessages: parked,
    oldestPendingMs: ageOf(oldestPendingAt),
    oldestUnconsumedMs: ageOf(oldestPublishedAt),
    oldestDeadMs: ageOf(oldestDeadAt),
    nodeID: runtime.identity.nodeID,
    upMs: Date.now() - runtime.startedAt,
    node: { ...runtime.metrics.totals }
  };
}

export interface SubscriptionRow {
  group: string;
  pattern: string;
  queue: string;
  /** Of the queue now; null = no such queue, or the broker does not answer. */
  ready: number | null;
  consumers: number | null;
  service: string;
  lastNode: string;
  firstSeenAt: string;
  seenAt: string;
}

export async function subscriptions(runtime: Runtime): Promise<SubscriptionRow[]> {
  const { store } = runtime.needStorage();
  return Promise.all(
    (await store.subscriptions()).map(async ({ group, pattern, queue, service, nodeID, firstSeenAt, seenAt }) => {
      const depth: QueueDepth | undefined = await runtime.courier?.depth(queue).catch(() => undefined);
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
    })
  );
}
