import type { Backoff } from "../message/message";
import {
  address,
  count,
  DAY,
  flag,
  flagRule,
  type Kind,
  MINUTE,
  ms,
  msRule,
  type OptionScope,
  oneOf,
  perEvent,
  perNode,
  perService,
  SECOND,
  text
} from "./option";

const KIB = 1024;

/** RabbitMQ addresses. `tls`: options of Node.js' `tls.connect` (`ca`, `cert`, `key`, `servername`, …). */
export type AmqpOption = string | string[] | { urls: string | string[]; tls?: Record<string, unknown> };

const BACKOFF: Kind<Backoff> = {
  rule: {
    type: "object",
    strict: true,
    properties: {
      initialMs: { ...msRule(), optional: true },
      maxMs: { ...msRule(), optional: true },
      jitter: { type: "enum", values: ["none", "half", "full"], optional: true }
    }
  },
  default: { initialMs: SECOND, maxMs: 5 * MINUTE, jitter: "half" }
};

const CHECK_DELAYS: Kind<number[]> = {
  rule: { type: "array", items: msRule({ min: 100 }), min: 1, max: 20 },
  default: [30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE]
};

const INBOX: Kind<boolean | "transaction"> = {
  rule: { type: "multi", rules: [flagRule, { type: "equal", value: "transaction", strict: true }] },
  default: true
};

/** Every option of the mixin; the types below and `docs/reference/options.md` are made from this table. */
export const OPTIONS = {
  amqp: perNode(
    address<AmqpOption>(),
    "RabbitMQ: URL, list of URLs tried in turn, or `{ urls, tls }` ([TLS](../guide/servers.md#tls)). Without it: an in-process courier"
  ),
  mongo: perNode(
    address<string | object>(),
    "MongoDB: URL, `{ url, tls }`, or your own live `MongoClient`. Without it and without `amqp`: an embedded store; with `amqp` alone: no store on this node"
  ),
  redis: perNode(
    address<string | object>(),
    "Redis: URL, `{ url, tls }`, or your own live ioredis client. Without it every sweeping node sweeps, slower; correct all the same"
  ),
  path: perNode(
    text(),
    "Folder of the embedded store. Without it the embedded store is memory and ends with the process"
  ),
  database: perNode(text(), "MongoDB database. Default: the one in the URL, else `reliable`"),
  service: perNode(
    flag(true),
    "Run the service `reliable` (tracker, sweeper, actions) on this node, where it has a store"
  ),
  sweeper: perNode(flag(true), "Let this node compete for sweeping; false = it only tracks and answers actions"),
  sweepEveryMs: perNode(ms(SECOND, { min: 50 }), "Pause between sweeps. Shorter = faster resends, more store reads"),
  leaseMs: perNode(
    ms(30 * SECOND, { min: 300 }),
    "Sweeper lease in Redis. A dead holder is replaced after this at the latest"
  ),
  partitions: perNode(
    count(1, { max: 64 }),
    "Parts of the store swept at the same time, by as many nodes; same value on all nodes"
  ),
  pageSize: perNode(count(500, { max: 5000 }), "Messages claimed and resent at a time by a sweep"),
  claimMs: perNode(
    ms(MINUTE, { min: SECOND }),
    "How long a sweep may hold a page before another may take it; far above what a page takes"
  ),
  retainMs: perNode(
    ms(7 * DAY, { min: SECOND }),
    "Final messages and inbox rows are pruned after this. Must exceed the longest outage you want duplicates recognised over"
  ),
  refreshMs: perNode(ms(5 * SECOND, { min: 50 }), "How often the known groups are read from the store"),
  confirmTimeoutMs: perNode(
    ms(30 * SECOND, { min: 100 }),
    "A publish without the broker's answer counts as unknown after this; not below heartbeat detection (30 s)"
  ),
  window: perNode(
    count(1000, { max: 10_000 }),
    "Publishes in flight on the confirm channel. 100 → 1000: +40 % rate, 8× latency"
  ),
  repairEveryMs: perNode(
    ms(MINUTE, { min: 100 }),
    "How often queues, bindings and the exchange are declared again: what somebody deleted comes back"
  ),
  emitTimeoutMs: perNode(ms(30 * SECOND), "How long an emit waits for a store that is down before it rejects"),
  maxPending: perNode(count(10_000), "Emits that may wait for the store at once (and 64 MiB); more reject at once"),
  askTimeoutMs: perNode(ms(10 * SECOND, { min: 100 }), "How long the callback service waits for a producer's answer"),
  producerGoneMs: perNode(ms(DAY, { min: SECOND }), "A message whose producer nobody answers for is `dead` after this"),
  drainTimeoutMs: perNode(
    ms(10 * SECOND, { min: 0 }),
    "How long the stop of a node waits in all, from its first service's stop on, for handlers, receipts, confirms and status writes. Then connections are closed, which takes up to 2 s more where a server does not answer (a handshake is one round trip; after 2 s the server is taken for frozen and the socket is destroyed). What is not finished is sent again later. Give the process 5 s more than this before SIGKILL"
  ),
  lifecycleEvents: perNode(
    oneOf([false, "emit", "broadcast"], false),
    "Tell other nodes what becomes of messages, as Moleculer events `reliable.consumed`, `reliable.dead`, …: to one instance of each service (`emit`), or to all. One event per batch of receipts"
  ),
  strategy: perService(
    oneOf(["outbox", "callback"], "outbox"),
    "`outbox`: message in the store first. `callback`: no store on the producer's path; a delayed check asks for it afterwards"
  ),
  maxAttempts: perService(count(3, { max: 100 }), "Attempts per message and group before it is `dead`"),
  backoff: perService(
    BACKOFF,
    "Delay after a failed attempt: doubles from `initialMs` to `maxMs`; `jitter` none, half or full"
  ),
  receiptTimeoutMs: perService(
    ms(MINUTE, { min: 100 }),
    "Silence after a confirmed publish that makes it the sweeper's business; above the consumers' `handlerTimeoutMs`"
  ),
  checkDelaysMs: perService(
    CHECK_DELAYS,
    "Delays of the checks of strategy `callback` and of intents, in turn, increasing; one RabbitMQ queue per distinct delay. Their number is `callback`'s default for `maxAttempts`"
  ),
  maxPayloadBytes: perService(
    count(256 * KIB, { max: 16 * KIB * KIB }),
    "Cap on the JSON of a payload; store a reference for more"
  ),
  maxInFlight: perEvent(count(50, { max: 5000 }), "Deliveries a consumer holds at once (AMQP prefetch)"),
  handlerTimeoutMs: perEvent(
    ms(30 * SECOND, { min: 10, max: 29 * MINUTE }),
    "A handler that has not answered counts as failed; below RabbitMQ's own 30 min"
  ),
  inbox: perEvent(
    INBOX,
    'Remember handled ids per group, so that a duplicate is answered and not handled again; needs a store on the node. `"transaction"`: in one MongoDB transaction with the handler\'s writes'
  ),
  deliveryLimit: perEvent(count(20, { max: 1000 }), "RabbitMQ's fuse against a message whose consumers die on it")
};

export type OptionName = keyof typeof OPTIONS;

type ValueOf<Name extends OptionName> = (typeof OPTIONS)[Name]["default"];

type NamesOf<Scope extends OptionScope> = {
  [Name in OptionName]: (typeof OPTIONS)[Name]["scope"] extends Scope ? Name : never;
}[OptionName];

/** Options of a scope as the parts get them: those without a default may be missing. */
type OptionsOf<Scope extends OptionScope> = {
  [Name in NamesOf<Scope> as undefined extends ValueOf<Name> ? never : Name]: ValueOf<Name>;
} & {
  [Name in NamesOf<Scope> as undefined extends ValueOf<Name> ? Name : never]?: ValueOf<Name>;
};

export type NodeOptions = OptionsOf<"node">;

export type ConsumerOptions = OptionsOf<"event">;

export type ServiceOptions = OptionsOf<"service" | "event"> & {
  /** `maxAttempts` for strategy `callback`: one attempt per check, unless it is given. */
  callbackAttempts: number;
  /** Set by ReliableAmqpQueue: its messages go to queues that are nobody's group. */
  sendsJobs?: boolean;
};

/** What the mixin takes: all optional, see OPTIONS for defaults and units. */
export type ReliableOptions = {
  [Name in OptionName]?: Name extends "backoff" ? Partial<Backoff> : ValueOf<Name>;
};

/** Names of a scope; `service` includes the event options, as their defaults. */
export function namesOf(scopes: OptionScope[]): OptionName[] {
  return (Object.keys(OPTIONS) as OptionName[]).filter(name => scopes.includes(OPTIONS[name].scope));
}
