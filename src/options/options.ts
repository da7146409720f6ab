import type { Backoff } from "../message/message";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const DAY = 24 * 60 * MINUTE;
const KIB = 1024;

/**
 * Where an option counts: once per Moleculer node, per service, or per reliable event (then also per service, as its
 * default).
 */
export type OptionScope = "node" | "service" | "event";

export interface OptionSpec {
  scope: OptionScope;
  /** fastest-validator rule. */
  rule: Record<string, unknown>;
  default?: unknown;
  /** One line for the README's table: what it is, its unit, the trade-off. */
  doc: string;
}

/** No duration is longer. */
export const LONGEST_MS = 365 * DAY;

const ms = (min = 1, max = LONGEST_MS) => ({ type: "number", integer: true, min, max });
const count = (min = 1, max = 1e6) => ({ type: "number", integer: true, min, max });
const flag = { type: "boolean" };

/** Every option of the mixin. README's options table is tested against this. */
export const OPTIONS = {
  amqp: {
    scope: "node",
    rule: { type: "any" },
    doc: "RabbitMQ: URL, list of URLs tried in turn, or `{ urls, tls }` ([TLS](#tls)). Without it: an in-process courier"
  },
  mongo: {
    scope: "node",
    rule: { type: "any" },
    doc: "MongoDB: URL, `{ url, tls }`, or your own live `MongoClient`. Without it and without `amqp`: an embedded store; with `amqp` alone: no store on this node"
  },
  redis: {
    scope: "node",
    rule: { type: "any" },
    doc: "Redis: URL, `{ url, tls }`, or your own live ioredis client. Without it every sweeping node sweeps, slower; correct all the same"
  },
  path: {
    scope: "node",
    rule: { type: "string", empty: false },
    doc: "Folder of the embedded store. Without it the embedded store is memory and ends with the process"
  },
  database: {
    scope: "node",
    rule: { type: "string", empty: false },
    doc: "MongoDB database. Default: the one in the URL, else `reliable`"
  },
  service: {
    scope: "node",
    rule: flag,
    default: true,
    doc: "Run the service `reliable` (tracker, sweeper, actions) on this node, where it has a store"
  },
  sweeper: {
    scope: "node",
    rule: flag,
    default: true,
    doc: "Let this node compete for sweeping; false = it only tracks and answers actions"
  },
  sweepEveryMs: {
    scope: "node",
    rule: ms(50),
    default: SECOND,
    doc: "Pause between sweeps. Shorter = faster resends, more store reads"
  },
  leaseMs: {
    scope: "node",
    rule: ms(300),
    default: 30 * SECOND,
    doc: "Sweeper lease in Redis. A dead holder is replaced after this at the latest"
  },
  partitions: {
    scope: "node",
    rule: count(1, 64),
    default: 1,
    doc: "Parts of the store swept at the same time, by as many nodes; same value on all nodes"
  },
  pageSize: {
    scope: "node",
    rule: count(1, 5000),
    default: 500,
    doc: "Messages claimed and resent at a time by a sweep"
  },
  claimMs: {
    scope: "node",
    rule: ms(1000),
    default: MINUTE,
    doc: "How long a sweep may hold a page before another may take it; far above what a page takes"
  },
  retainMs: {
    scope: "node",
    rule: ms(SECOND),
    default: 7 * DAY,
    doc: "Final messages and inbox rows are pruned after this. Must exceed the longest outage you want duplicates recognised over"
  },
  refreshMs: {
    scope: "node",
    rule: ms(50),
    default: 5 * SECOND,
    doc: "How often the known groups are read from the store"
  },
  confirmTimeoutMs: {
    scope: "node",
    rule: ms(100),
    default: 30 * SECOND,
    doc: "A publish without the broker's answer counts as unknown after this; not below heartbeat detection (30 s)"
  },
  window: {
    scope: "node",
    rule: count(1, 10_000),
    default: 1000,
    doc: "Publishes in flight on the confirm channel. 100 → 1000: +40 % rate, 8× latency"
  },
  repairEveryMs: {
    scope: "node",
    rule: ms(100),
    default: MINUTE,
    doc: "How often queues, bindings and the exchange are declared again: what somebody deleted comes back"
  },
  emitTimeoutMs: {
    scope: "node",
    rule: ms(),
    default: 30 * SECOND,
    doc: "How long an emit waits for a store that is down before it rejects"
  },
  maxPending: {
    scope: "node",
    rule: count(1),
    default: 10_000,
    doc: "Emits that may wait for the store at once (and 64 MiB); more reject at once"
  },
  askTimeoutMs: {
    scope: "node",
    rule: ms(100),
    default: 10 * SECOND,
    doc: "How long the callback service waits for a producer's answer"
  },
  producerGoneMs: {
    scope: "node",
    rule: ms(1000),
    default: DAY,
    doc: "A message whose producer nobody answers for is `dead` after this"
  },
  drainTimeoutMs: {
    scope: "node",
    rule: ms(0),
    default: 10 * SECOND,
    doc: "How long the stop of a node waits in all, from its first service's stop on, for handlers, receipts, confirms and status writes. Then connections are closed, which takes up to 2 s more where a server does not answer (a handshake is one round trip; after 2 s the server is taken for frozen and the socket is destroyed). What is not finished is sent again later. Give the process 5 s more than this before SIGKILL"
  },
  lifecycleEvents: {
    scope: "node",
    rule: { type: "enum", values: [false, "emit", "broadcast"] },
    default: false,
    doc: "Tell other nodes what becomes of messages, as Moleculer events `reliable.consumed`, `reliable.dead`, …: to one instance of each service (`emit`), or to all. One event per batch of receipts"
  },
  strategy: {
    scope: "service",
    rule: { type: "enum", values: ["outbox", "callback"] },
    default: "outbox",
    doc: "`outbox`: message in the store first. `callback`: no store on the producer's path; a delayed check asks for it afterwards"
  },
  maxAttempts: {
    scope: "service",
    rule: count(1, 100),
    default: 3,
    doc: "Attempts per message and group before it is `dead`"
  },
  backoff: {
    scope: "service",
    rule: {
      type: "object",
      strict: true,
      properties: {
        initialMs: { ...ms(), optional: true },
        maxMs: { ...ms(), optional: true },
        jitter: { type: "enum", values: ["none", "half", "full"], optional: true }
      }
    },
    default: { initialMs: SECOND, maxMs: 5 * MINUTE, jitter: "half" } satisfies Backoff,
    doc: "Delay after a failed attempt: doubles from `initialMs` to `maxMs`; `jitter` none, half or full"
  },
  receiptTimeoutMs: {
    scope: "service",
    rule: ms(100),
    default: MINUTE,
    doc: "Silence after a confirmed publish that makes it the sweeper's business; above the consumers' `handlerTimeoutMs`"
  },
  checkDelaysMs: {
    scope: "service",
    rule: { type: "array", items: ms(100), min: 1, max: 20 },
    default: [30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE],
    doc: "Delays of the checks of strategy `callback` and of intents, in turn, increasing; one RabbitMQ queue per distinct delay. Their number is `callback`'s default for `maxAttempts`"
  },
  maxPayloadBytes: {
    scope: "service",
    rule: count(1, 16 * KIB * KIB),
    default: 256 * KIB,
    doc: "Cap on the JSON of a payload; store a reference for more"
  },
  maxInFlight: {
    scope: "event",
    rule: count(1, 5000),
    default: 50,
    doc: "Deliveries a consumer holds at once (AMQP prefetch)"
  },
  handlerTimeoutMs: {
    scope: "event",
    rule: ms(10, 29 * MINUTE),
    default: 30 * SECOND,
    doc: "A handler that has not answered counts as failed; below RabbitMQ's own 30 min"
  },
  inbox: {
    scope: "event",
    rule: { type: "multi", rules: [flag, { type: "equal", value: "transaction", strict: true }] },
    default: true,
    doc: 'Remember handled ids per group, so that a duplicate is answered and not handled again; needs a store on the node. `"transaction"`: in one MongoDB transaction with the handler\'s writes'
  },
  deliveryLimit: {
    scope: "event",
    rule: count(1, 1000),
    default: 20,
    doc: "RabbitMQ's fuse against a message whose consumers die on it"
  }
} as const satisfies Record<string, OptionSpec>;

export type OptionName = keyof typeof OPTIONS;

export interface NodeOptions {
  amqp?: AmqpOption;
  /** URL, Secured, or a live MongoClient (never closed by us). */
  mongo?: string | object;
  /** URL, Secured, or a live ioredis client (never closed by us). */
  redis?: string | object;
  path?: string;
  database?: string;
  service: boolean;
  sweeper: boolean;
  sweepEveryMs: number;
  leaseMs: number;
  partitions: number;
  pageSize: number;
  claimMs: number;
  retainMs: number;
  refreshMs: number;
  confirmTimeoutMs: number;
  window: number;
  repairEveryMs: number;
  emitTimeoutMs: number;
  maxPending: number;
  askTimeoutMs: number;
  producerGoneMs: number;
  drainTimeoutMs: number;
  lifecycleEvents: "emit" | "broadcast" | false;
}

export interface ConsumerOptions {
  maxInFlight: number;
  handlerTimeoutMs: number;
  inbox: boolean | "transaction";
  deliveryLimit: number;
}

export interface ServiceOptions extends ConsumerOptions {
  strategy: "outbox" | "callback";
  maxAttempts: number;
  backoff: Backoff;
  /** Default for `callback`: one attempt per check. */
  callbackAttempts: number;
  receiptTimeoutMs: number;
  checkDelaysMs: number[];
  maxPayloadBytes: number;
  /** Set by ReliableAmqpQueue: its messages go to queues that are nobody's group. */
  sendsJobs?: boolean;
}

/** What the mixin takes: all optional, see OPTIONS for defaults. */
export type ReliableOptions = Partial<NodeOptions> &
  Partial<Omit<ServiceOptions, "backoff" | "callbackAttempts" | "sendsJobs">> & { backoff?: Partial<Backoff> };

/** Names of a scope; `service` includes the event options, as their defaults. */
export function namesOf(scopes: OptionScope[]): OptionName[] {
  return (Object.keys(OPTIONS) as OptionName[]).filter(name => scopes.includes(OPTIONS[name].scope));
}

export interface Rule {
  type: string;
  rules?: Rule[];
}

/** RabbitMQ addresses. `tls`: options of Node.js' `tls.connect` (`ca`, `cert`, `key`, `servername`, …). */
export type AmqpOption = string | string[] | { urls: string | string[]; tls?: Record<string, unknown> };
