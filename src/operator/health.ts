import { TIMED_OUT, withTimeout } from "../async/deadline";
import type { ConnectionStatus, Courier, CourierStatus, QueueDepth } from "../couriers/courier";
import { reasonOf } from "../errors";
import type { Clock } from "../platform/clock";
import type { Store } from "../stores/store";
import type { Metrics } from "../telemetry/metrics";

/** What `reliable.health` returns. */
export interface Health {
  /** Promises can be kept, and messages handled: RabbitMQ takes publishes and delivers, the store takes writes. */
  ok: boolean;
  /** Why it is not ok. */
  failing: string[];
  /** What is not as it should be, and does no harm by itself. */
  degraded: string[];
  nodeID: string;
  publish: string;
  consume: string;
  blocked: string;
  store: string;
  redis: string;
  /** `off`, or what is done with unsigned messages, and when the last one came to this node. */
  signing: string;
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

/** The part of a consumer that health shows. */
interface Consuming {
  readonly inFlight: number;
  readonly consuming: boolean;
  readonly spec: { queue: string };
}

export interface NodeHealthParts {
  nodeID: string;
  courier: Courier;
  signatures: { readonly text: string } | undefined;
  store: Store;
  /** Address of Redis, if one is configured. */
  redis: string | undefined;
  sweeper: SweeperView;
  /** Whether this node sweeps at all. */
  sweeps: boolean;
  consumers: Iterable<Consuming>;
  metrics: Metrics;
  clock: Clock;
}

/** The state of a node, of its servers, and of the messages of the whole namespace. */
export class NodeHealth {
  readonly #startedAt: number;

  constructor(private readonly parts: NodeHealthParts) {
    this.#startedAt = parts.clock.now();
  }

  /** Answers within 2 s, whatever the servers do. */
  async health(): Promise<Health> {
    const { nodeID, store, signatures, sweeper, sweeps, consumers, redis, clock } = this.parts;
    const courier = this.parts.courier.status();
    const all = [...consumers];
    const inTime = async <T>(asked: Promise<T>): Promise<T> => {
      const answer = await withTimeout(asked, ANSWER_MS, clock);
      if (answer === TIMED_OUT) throw new NoAnswer(`no answer within ${ANSWER_MS} ms`);
      return answer;
    };
    const [written, oldest, holders] = await Promise.all([
      probeOf(store, inTime),
      inTime(store.messages.oldest()).catch(() => undefined),
      sweeper.leases && holdersOf(sweeper.leases, inTime)
    ]);
    const pass = sweeper.lastPass;
    const failing = [
      ...publishFaults(courier, this.parts.courier.ready),
      ...consumeFaults(courier, all),
      ...(written.up ? [] : [`store: ${written.text}`]),
      ...deniedIn(courier, false),
      ...courier.unmended.filter(({ times }) => times > 1).map(({ text }) => `RabbitMQ: ${text}`)
    ];
    const { blocked } = courier;
    return {
      ok: !failing.length,
      failing,
      degraded: [
        ...(holders && !holders.up ? [`Redis: ${holders.text}; sweeping goes on without a lease`] : []),
        ...deniedIn(courier, true),
        ...store.degraded.map(text => `store: ${text}`),
        ...courier.unmended.filter(({ times }) => times === 1).map(({ text }) => `RabbitMQ: ${text}`)
      ],
      nodeID,
      publish: connectionText(courier.publish),
      consume: connectionText(courier.consume),
      blocked: blocked
        ? `yes: ${courier.blockedReason ?? ""}`
        : `no (${Math.round((courier.blockedMs ?? 0) / 1000)} s since start)`,
      store: written.text,
      redis: holders ? (holders.up ? `up (${redis})` : "down") : "not configured",
      signing: signatures?.text ?? "off",
      sweeping: sweeps ? sweeper.mode : "off",
      leaseHolders: holders?.text ?? "no lease",
      lastSweep: pass
        ? `${pass.at.toISOString()}: ${pass.counts.claimed} claimed in ${pass.ms} ms`
        : "none on this node",
      oldestPendingMs: this.#ageOf(oldest?.pending),
      oldestUnconsumedMs: this.#ageOf(oldest?.published),
      inFlightPublishes: courier.inFlight,
      inFlightHandlers: all.reduce((sum, consumer) => sum + consumer.inFlight, 0),
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

/** Half of what the action promises, so that its caller's time limit is not reached. */
const ANSWER_MS = 1000;

/** A healthy broker confirms in milliseconds, one under load in a second or two. */
const UNCONFIRMED_MS = 10_000;

class NoAnswer extends Error {}

interface Answer {
  up: boolean;
  text: string;
}

type InTime = <T>(asked: Promise<T>) => Promise<T>;

function probeOf(store: Store, inTime: InTime): Promise<Answer> {
  return inTime(store.probe()).then(
    ms => ({ up: true, text: `up (${store.name}, takes a write in ${ms.toFixed(1)} ms)` }),
    error => ({
      up: false,
      text: `${isAway(error, store) ? "down" : "takes no writes"} (${store.name}): ${reasonOf(error)}`
    })
  );
}

/** It cannot be reached or does not answer; else it refuses the write. */
function isAway(error: unknown, store: Store): boolean {
  const unavailable = (error as { type?: unknown }).type === "RELIABLE_UNAVAILABLE";
  return error instanceof NoAnswer || (unavailable && (store.name !== "embedded" || !store.ready));
}

function holdersOf(leases: NonNullable<SweeperView["leases"]>, inTime: InTime): Promise<Answer> {
  return inTime(leases.holders()).then(
    found => ({ up: true, text: found.map((holder, partition) => `${partition}: ${holder ?? "nobody"}`).join(", ") }),
    error => ({ up: false, text: `unknown: ${reasonOf(error)}` })
  );
}

function publishFaults({ publish, blocked, blockedReason, unconfirmedMs }: CourierStatus, ready: boolean): string[] {
  if (!publish.connected) return [`publishing: ${connectionText(publish)}`];
  if (blocked) return [`publishing: RabbitMQ blocks it (${blockedReason ?? "no reason given"})`];
  if (!ready) return ["publishing: connected, but there is no channel for it yet"];
  return unconfirmedMs > UNCONFIRMED_MS
    ? [`publishing: connected, but no confirms for ${Math.round(unconfirmedMs / 1000)} s`]
    : [];
}

/** A right to one topic is missing for some events only. */
function deniedIn({ denied }: CourierStatus, topic: boolean): string[] {
  return denied !== undefined && denied.includes("access to topic") === topic
    ? [`publishing: RabbitMQ refuses it: ${denied}`]
    : [];
}

function consumeFaults({ consume, idle }: CourierStatus, consumers: Consuming[]): string[] {
  if (!consume.connected) return [`consuming: ${connectionText(consume)}`];
  const waiting = consumers.filter(({ consuming }) => !consuming).map(({ spec }) => spec.queue);
  return [...new Set([...idle, ...waiting])].map(queue => `consuming: connected, but not from ${queue}`);
}

function connectionText({ connected, address, lastError }: ConnectionStatus): string {
  return connected ? `up${address ? ` (${address})` : ""}` : `down${lastError ? `: ${lastError}` : ""}`;
}
