import { TIMED_OUT, withTimeout } from "../async/deadline";
import type { ConnectionStatus, Courier, CourierStatus } from "../couriers/courier";
import { reasonOf } from "../errors";
import { pauseText } from "../message/paused";
import type { Pause } from "../message/records";
import type { Clock } from "../platform/clock";
import type { Store } from "../stores/store";
import type { Metrics } from "../telemetry/metrics";
import { KEYS_COUNTED } from "./keys-now";
import { type OpenBreaker, openBreakers } from "./open-breakers";
import { pausedNames, pausedTextOf } from "./pause-views";
import type { QueueDepths } from "./queue-depths";
import { UNANSWERED_MS } from "./rabbitmq-now";
import { type Answer, type InTime, NoAnswer, StoreProbe } from "./store-probe";

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
  /** What is paused in the whole namespace, since when, by whom and why; and what takes nothing here though it is not. */
  paused: string[];
  /** Groups whose breaker is not closed on this node; `since` is an ISO text. */
  breakers: (Omit<OpenBreaker, "since"> & { since: string })[];
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
  /** Messages ready in the queue, at most 5 s ago; null = there is no such queue, or the broker does not answer. */
  ready: number | null;
  consumers: number | null;
  service: string;
  lastNode: string;
  firstSeenAt: string;
  seenAt: string;
  /** Since when, by whom and why it takes nothing. */
  paused?: string;
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
  readonly paused: boolean;
  readonly spec: { queue: string; group: string; pattern: string };
  readonly breaker: { readonly opened: { since: Date; error: string } | undefined } | undefined;
}

export interface NodeHealthParts {
  nodeID: string;
  courier: Courier;
  depths: QueueDepths;
  signatures: { readonly text: string } | undefined;
  store: Store;
  subscriptions: { readonly paused: readonly Pause[] };
  /** Address of Redis, if one is configured. */
  redis: string | undefined;
  sweeper: SweeperView;
  /** What is late on this node, while it lets in only as many emits as it finishes. */
  admission: { readonly closed: { stage: string; perSecond: number } | undefined; readonly waiting: number };
  /** Whether this node sweeps at all. */
  sweeps: boolean;
  consumers: Iterable<Consuming>;
  metrics: Metrics;
  clock: Clock;
}

/** The state of a node, of its servers, and of the messages of the whole namespace. */
export class NodeHealth {
  readonly #startedAt: number;
  readonly #probe: StoreProbe;

  constructor(private readonly parts: NodeHealthParts) {
    this.#probe = new StoreProbe(parts.store);
    this.#startedAt = parts.clock.now();
  }

  /** Answers within 2 s, whatever the servers do. */
  async health(): Promise<Health> {
    return (await this.read()).health;
  }

  /** The same, with what it was made from. `oldest`: if it is read already. */
  async read(oldestRead?: Promise<Oldest>): Promise<HealthRead> {
    const { nodeID, store, signatures, sweeper, sweeps, consumers, redis, clock } = this.parts;
    const courier = this.parts.courier.status();
    const all = [...consumers];
    const inTime = async <T>(asked: Promise<T>): Promise<T> => {
      const answer = await withTimeout(asked, ANSWER_MS, clock);
      if (answer === TIMED_OUT) throw new NoAnswer(`no answer within ${ANSWER_MS} ms`);
      return answer;
    };
    const [written, oldest, holders] = await Promise.all([
      this.#probe.ask(inTime),
      inTime(oldestRead ?? store.messages.oldest()).catch(() => undefined),
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
    const breakers = openBreakers(all).map(({ since, ...rest }) => ({ ...rest, since: since.toISOString() }));
    const health: Health = {
      ok: !failing.length,
      failing,
      degraded: [
        ...overloadText(this.parts.admission),
        ...breakers.map(
          ({ group, pattern, since, error }) =>
            `breaker open: group ${group} tries '${pattern}' one at a time since ${since}: ${error}`
        ),
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
      paused: [
        ...this.parts.subscriptions.paused.map(pauseText),
        ...unknownPauses(all, this.parts.subscriptions.paused)
      ],
      breakers,
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
    return { health, written, redis: holders, holders: holders?.holders };
  }

  /** Messages by status in the whole namespace; counts of this node since its start. */
  async stats(): Promise<Record<string, unknown>> {
    const { nodeID, store, metrics, clock } = this.parts;
    const [{ byStatus, parked, capped, estimated, ...oldest }, keys] = await Promise.all([
      store.messages.stats(),
      store.lanes.counts(KEYS_COUNTED)
    ]);
    const { oldestPendingAt, oldestPublishedAt, oldestDeadAt } = oldest;
    const more = [
      ...capped.map(name => (name === "parked" ? "parkedMessages" : name)),
      ...(keys.held.more ? ["heldKeys"] : []),
      ...(keys.behind.more ? ["waitForTurn"] : [])
    ];
    return {
      ...byStatus,
      parkedMessages: parked,
      heldKeys: keys.held.counted,
      waitForTurn: keys.behind.counted,
      paused: pausedNames(this.parts.subscriptions.paused).join(", "),
      ...(more.length && { capped: more }),
      ...(estimated.length && { estimated }),
      oldestPendingMs: this.#ageOf(oldestPendingAt),
      oldestUnconsumedMs: this.#ageOf(oldestPublishedAt),
      oldestDeadMs: this.#ageOf(oldestDeadAt),
      nodeID,
      upMs: clock.now() - this.#startedAt,
      node: { ...metrics.totals }
    };
  }

  async subscriptions(): Promise<SubscriptionRow[]> {
    const { store, depths } = this.parts;
    const { subscriptions, pauses } = await store.subscriptions.known();
    const now = pauses.filter(({ resumed }) => !resumed);
    return Promise.all(
      subscriptions.map(async ({ group, pattern, queue, service, nodeID, firstSeenAt, seenAt }) => {
        const depth = await depths.of(queue);
        return {
          group,
          pattern,
          queue,
          ready: depth?.ready ?? null,
          consumers: depth?.consumers ?? null,
          service,
          lastNode: nodeID,
          firstSeenAt: firstSeenAt.toISOString(),
          seenAt: seenAt.toISOString(),
          ...pausedOf(now, { group, pattern })
        };
      })
    );
  }

  #ageOf(at: Date | undefined): number | null {
    return at ? this.parts.clock.now() - at.getTime() : null;
  }
}

function pausedOf(
  paused: readonly Pause[],
  sub: Pick<SubscriptionRow, "group" | "pattern">
): Pick<SubscriptionRow, "paused"> {
  const text = pausedTextOf(paused, sub);
  return text === undefined ? {} : { paused: text };
}

/** The marker of a pause that the store does not know (any more), or that was resumed a moment ago. */
function unknownPauses(consumers: Consuming[], paused: readonly Pause[]): string[] {
  return consumers
    .filter(({ paused: marked, spec }) => marked && pausedTextOf(paused, spec) === undefined)
    .map(
      ({ spec }) => `${spec.group} '${spec.pattern}': by a marker at RabbitMQ alone; \`reliable resume\` takes it away`
    );
}

/** Half of what the action promises, so that its caller's time limit is not reached. */
const ANSWER_MS = 1000;

/** A healthy broker confirms in milliseconds, one under load in a second or two. */
const UNCONFIRMED_MS = 10_000;

/** With who sweeps which partition. */
interface RedisAnswer extends Answer {
  holders?: (string | null)[];
}

type Oldest = { pending?: Date | undefined; published?: Date | undefined };

export interface HealthRead {
  health: Health;
  /** Whether the store takes writes. */
  written: Answer;
  /** Undefined where none is configured. */
  redis: RedisAnswer | undefined;
  holders: (string | null)[] | undefined;
}

function holdersOf(leases: NonNullable<SweeperView["leases"]>, inTime: InTime): Promise<RedisAnswer> {
  return inTime(leases.holders()).then(
    found => ({
      up: true,
      text: found.map((holder, partition) => `${partition}: ${holder ?? "nobody"}`).join(", "),
      holders: found
    }),
    error => ({ up: false, text: `unknown: ${reasonOf(error)}` })
  );
}

function overloadText({ closed, waiting }: NodeHealthParts["admission"]): string[] {
  if (!closed) return [];
  const { stage, perSecond } = closed;
  return [
    `overloaded: late is the ${stage}; ${perSecond} emits per second are let in, ${waiting} wait, more are refused`
  ];
}

function publishFaults(
  { publish, blocked, blockedReason, unconfirmedMs, unansweredMs }: CourierStatus,
  ready: boolean
): string[] {
  if (!publish.connected) return [`publishing: ${connectionText(publish)}`];
  if (blocked) return [`publishing: RabbitMQ blocks it (${blockedReason ?? "no reason given"})`];
  if (!ready) return ["publishing: connected, but there is no channel for it yet"];
  const inSeconds = (ms: number) => `${Math.round(ms / 1000)} s`;
  return [
    ...(unconfirmedMs > UNCONFIRMED_MS
      ? [`publishing: connected, but no confirms for ${inSeconds(unconfirmedMs)}`]
      : []),
    ...(unansweredMs > UNANSWERED_MS ? [`RabbitMQ: connected, but no answer for ${inSeconds(unansweredMs)}`] : [])
  ];
}

/** A right to one topic is missing for some events only. */
function deniedIn({ denied }: CourierStatus, topic: boolean): string[] {
  return denied !== undefined && denied.includes("access to topic") === topic
    ? [`publishing: RabbitMQ refuses it: ${denied}`]
    : [];
}

function consumeFaults({ consume, idle }: CourierStatus, consumers: Consuming[]): string[] {
  if (!consume.connected) return [`consuming: ${connectionText(consume)}`];
  const waiting = consumers.filter(({ consuming, paused }) => !consuming && !paused).map(({ spec }) => spec.queue);
  return [...new Set([...idle, ...waiting])].map(queue => `consuming: connected, but not from ${queue}`);
}

function connectionText({ connected, address, lastError }: ConnectionStatus): string {
  return connected ? `up${address ? ` (${address})` : ""}` : `down${lastError ? `: ${lastError}` : ""}`;
}
