import { Cached } from "../async/cached";
import { TIMED_OUT, withTimeout } from "../async/deadline";
import type { Courier } from "../couriers/courier";
import { beginOf, type HistoryRecord, MINUTE_MS } from "../message/history";
import type { Subscription } from "../message/records";
import { hasProcess } from "../outbound/control-messages";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Clock, Timer } from "../platform/clock";
import type { Store } from "../stores/store";
import type { StoreStats } from "../stores/store-records";
import { type Advice, adviceOf, type OpenBreaker, type Paused, type RunningBulk } from "./advice";
import { ongoingBulks } from "./bulk/bulk-ongoing";
import { type ClusterNodes, consumersOf, type NodeNow } from "./cluster-nodes";
import { type GroupFacts, type GroupNow, groupsNow } from "./groups-now";
import type { HealthRead, NodeHealth } from "./health";
import { type KeysNow, keysNow } from "./keys-now";
import { type OutageParts, Outages } from "./outages";
import { type QueueDepths, SHARED_MS } from "./queue-depths";
import { type RabbitmqNow, rabbitmqNow } from "./rabbitmq-now";

/** What `reliable.overview` returns. What could not be read in time is null, or not in its list. */
export interface Overview extends Advice {
  at: string;
  /** The node that answers. */
  nodeID: string;
  messages: MessagesNow | null;
  groups: GroupNow[];
  servers: ServerNow[];
  nodes: NodeNow[];
  /** Who sweeps which partition, null = nobody; not there without Redis, and while that does not answer. */
  leaseHolders?: (string | null)[];
  paused: Paused[];
  /** Of the nodes that answer: those without a store are not asked. */
  breakers: OpenBreaker[];
  bulks: RunningBulk[];
  /** Order keys that are held. */
  keys: KeysNow | null;
}

export interface MessagesNow {
  byStatus: StoreStats["byStatus"];
  parked: number;
  /** Of these there are more. */
  capped: StoreStats["capped"];
  oldestPendingMs: number | null;
  oldestUnconsumedMs: number | null;
  oldestDeadMs: number | null;
}

export interface ServerNow {
  name: "RabbitMQ" | "store" | "Redis";
  ok: boolean;
  text: string;
  /** As this node has noticed it. */
  awaySinceAt?: string;
}

export interface OverviewParts {
  nodeID: string;
  store: Store;
  courier: Courier;
  subscriptions: Subscriptions;
  depths: QueueDepths;
  health: NodeHealth;
  nodes: ClusterNodes;
  leases: OutageParts["leases"];
  clock: Clock;
}

/** What "per minute" is the mean of. */
const RATE_MINUTES = 5;

/** Of these minutes: of 400 nodes, all busy. */
const MAX_RATE_RECORDS = 2000;

/** Each number is counted up to this: it is read every few seconds, beside any number of dead messages. */
const MAX_COUNTED = 10_000;

/** Of so many dead ones it is told which groups they are of: each is read. */
const MAX_DEAD = 1000;

/** More groups that stand still have one cause, and it is another. */
const MAX_ASKED = 100;

/** As long as a node is given. */
const ANSWER_MS = 2000;

/** While something is away it is looked at so often, also where nobody asks: its end is noticed. */
const AWAY_MS = 10_000;

/** How everything is, and what to do: one read per node and 5 s, for any number of viewers. */
export class OverviewReader {
  readonly #cached: Cached<Overview>;
  readonly #outages: Outages;
  #again: Timer | undefined;
  #stopped = false;

  constructor(private readonly parts: OverviewParts) {
    this.#cached = new Cached(() => this.#read().finally(() => this.#lookAgain()), SHARED_MS, parts.clock);
    this.#outages = new Outages(parts, parts.clock);
  }

  /** Answers within some 2 s, whatever the servers and the nodes do. */
  read(): Promise<Overview> {
    return this.#cached.read();
  }

  stop(): void {
    this.#stopped = true;
    this.#again?.stop();
  }

  #lookAgain(): void {
    this.#again?.stop();
    if (this.#stopped || !this.#outages.open) return;
    this.#again = this.parts.clock.after(AWAY_MS, () => void this.read().catch(() => undefined));
  }

  async #read(): Promise<Overview> {
    const { nodeID, store, subscriptions, health, nodes, clock } = this.parts;
    const now = new Date(clock.now());
    const statsRead = store.messages.stats(MAX_COUNTED);
    const late: string[] = [];
    const read = health.read(
      statsRead.then(({ oldestPendingAt, oldestPublishedAt }) => ({
        pending: oldestPendingAt,
        published: oldestPublishedAt
      }))
    );
    const [stats, dead, minutes, depths, own, asked, bulks, keys] = await Promise.all([
      this.#inTime(statsRead),
      this.#inTime(store.messages.deadGroups(MAX_DEAD)),
      this.#inTime(this.#minutes()),
      this.#depths(late),
      this.#inTime(read),
      nodes.ask(read.then(({ health: own }) => own)),
      this.#inTime(ongoingBulks(store)),
      this.#inTime(keysNow(store.lanes, now.getTime()))
    ]);
    const known = subscriptions.all;
    const living = await this.#living(known, depths);
    const groups = groupsNow({
      subscriptions: known,
      depths,
      living,
      dead,
      minutes: minutes ?? [],
      rateMinutes: RATE_MINUTES
    });
    const rabbitmq = rabbitmqNow(this.parts.courier.status(), late.length, ANSWER_MS);
    const servers = this.#servers(own, rabbitmq);
    const told = { subscriptions: known, minutes: minutes ?? [], holders: own?.holders };
    const all = [...asked, ...consumersOf(told, asked, now)];
    const going = { paused: pausedNow(subscriptions), breakers: breakersOf(asked), bulks: bulks ?? [] };
    const messages = stats ? messagesOf(stats, now) : null;
    const holders = own?.holders;
    return {
      ...adviceOf({
        now,
        ...this.#away(servers, own, rabbitmq),
        pending: {
          count: stats?.byStatus.pending,
          capped: stats?.capped.includes("pending"),
          oldestMs: messages?.oldestPendingMs ?? undefined
        },
        dead: {
          count: stats?.byStatus.dead,
          capped: stats?.capped.includes("dead"),
          groups: (dead?.groups ?? []).map(({ group }) => group),
          since: stats?.oldestDeadAt
        },
        parked: { count: stats?.parked, capped: stats?.capped.includes("parked") },
        groups: groups.map(({ group, queues, lastSeenAt }) => ({
          group,
          waits: queues,
          lastSeenAt: lastSeenAt === null ? undefined : new Date(lastSeenAt)
        })),
        keys: keys && { count: keys.held, capped: keys.capped.includes("held"), first: keys.longest[0] },
        silentNodes: this.#outages.silent(asked),
        ...going
      }),
      at: now.toISOString(),
      nodeID,
      messages,
      groups,
      servers,
      nodes: all,
      ...(holders && { leaseHolders: holders }),
      ...going,
      keys: keys ?? null
    };
  }

  /** undefined = not in time, or not at all. */
  async #inTime<T>(asked: Promise<T> | undefined): Promise<T | undefined> {
    if (!asked) return undefined;
    const answer = await withTimeout(asked, ANSWER_MS, this.parts.clock).catch(() => undefined);
    return answer === TIMED_OUT ? undefined : answer;
  }

  async #minutes(): Promise<HistoryRecord[]> {
    const { store } = this.parts;
    const to = beginOf(store.now(), MINUTE_MS);
    const from = new Date(to.getTime() - RATE_MINUTES * MINUTE_MS);
    return (await store.history.between("minute", from, to, MAX_RATE_RECORDS)).records;
  }

  /** `late` gets those that were not told of in time. */
  async #depths(late: string[]) {
    const { subscriptions, depths, clock } = this.parts;
    const queues = [...new Set(subscriptions.all.map(({ queue }) => queue))];
    const depthOf = async (queue: string) => {
      const depth = await withTimeout(depths.of(queue), ANSWER_MS, clock);
      if (depth !== TIMED_OUT) return depth;
      late.push(queue);
      return undefined;
    };
    return new Map(await Promise.all(queues.map(async queue => [queue, await depthOf(queue)] as const)));
  }

  /** Queues in which messages wait for a consumer, though a process has them in its hands. */
  async #living(known: readonly Subscription[], depths: GroupFacts["depths"]): Promise<Set<string>> {
    const halted = known.filter(({ queue }) => {
      const depth = depths.get(queue);
      return depth && depth.ready > 0 && depth.consumers === 0;
    });
    const asked = halted.slice(0, MAX_ASKED).map(async sub => {
      return (await this.#inTime(hasProcess(this.parts.courier, sub, this.parts.clock))) ? [sub.queue] : [];
    });
    return new Set((await Promise.all(asked)).flat());
  }

  #servers(own: HealthRead | undefined, rabbitmq: RabbitmqNow): ServerNow[] {
    const { store } = this.parts;
    const server = (name: ServerNow["name"], ok: boolean, text: string): ServerNow => {
      const since = this.#outages.note(name, !ok);
      return { name, ok, text, ...(since && { awaySinceAt: since.toISOString() }) };
    };
    const { written, redis } = own ?? {
      written: { up: false, text: `no answer within ${ANSWER_MS} ms (${store.name})` },
      redis: undefined
    };
    return [
      server("RabbitMQ", rabbitmq.ok, rabbitmq.text),
      server("store", written.up, written.text),
      ...(redis ? [server("Redis", redis.up, redis.up ? "up" : redis.text)] : [])
    ];
  }

  #away(servers: ServerNow[], own: HealthRead | undefined, { slow }: RabbitmqNow) {
    const sinceOf = (name: ServerNow["name"]) => {
      const at = servers.find(server => server.name === name)?.awaySinceAt;
      return at === undefined ? undefined : new Date(at);
    };
    const { publish, blocked, blockedReason } = this.parts.courier.status();
    return {
      store: {
        name: this.parts.store.name,
        awaySince: sinceOf("store"),
        slow: own ? own.written.slow : this.parts.store.ready
      },
      rabbitmq: {
        awaySince: sinceOf("RabbitMQ"),
        blocked: publish.connected && blocked ? (blockedReason ?? "no reason given") : undefined,
        slow
      },
      redis: { awaySince: sinceOf("Redis") }
    };
  }
}

function messagesOf({ byStatus, parked, capped, ...oldest }: StoreStats, now: Date): MessagesNow {
  const ageOf = (at: Date | undefined) => (at ? Math.max(0, now.getTime() - at.getTime()) : null);
  return {
    byStatus,
    parked,
    capped,
    oldestPendingMs: ageOf(oldest.oldestPendingAt),
    oldestUnconsumedMs: ageOf(oldest.oldestPublishedAt),
    oldestDeadMs: ageOf(oldest.oldestDeadAt)
  };
}

function pausedNow({ paused }: Subscriptions): Paused[] {
  return paused.map(({ group, pattern, at, by }) => ({
    group,
    ...(pattern !== undefined && { pattern }),
    sinceAt: at,
    by
  }));
}

function breakersOf(nodes: NodeNow[]): OpenBreaker[] {
  return nodes.flatMap(({ nodeID, health }) =>
    (health?.breakers ?? []).map(({ group, since }) => ({ group, nodeID, sinceAt: new Date(since) }))
  );
}
