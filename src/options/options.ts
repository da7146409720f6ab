import { type Backoff, JITTERS, MAX_PAYLOAD_BYTES, STRATEGIES } from "../message/message";
import { MAX_TIMER_MS } from "../platform/clock";
import type { Decode, Encode, OnDead } from "./hooks";
import {
  address,
  count,
  DAY,
  flag,
  flagRule,
  hook,
  MINUTE,
  ms,
  msRule,
  type Option,
  type OptionScope,
  oneOf,
  perEvent,
  perNode,
  perService,
  type Rule,
  SECOND,
  secrets,
  text
} from "./option";
import type { Schemas } from "./schemas";

const KIB = 1024;

/** See OPTIONS. */
export interface BreakerOptions {
  failures: number;
  pauseMs: number;
  maxPauseMs: number;
  patienceMs: number;
}

/** See OPTIONS. */
export interface AdmissionOptions {
  targetMs: number;
  waitMs: number;
  minPerSecond: number;
}

/** What `admission: true` means, and what it has of what is not given. */
export const ADMISSION: AdmissionOptions = { targetMs: 500, waitMs: 300, minPerSecond: 250 };

const admissionRule: Rule = {
  type: "object",
  strict: true,
  props: Object.fromEntries(
    Object.entries({
      targetMs: msRule({ min: 20, max: MINUTE }),
      waitMs: msRule({ min: 0, max: MINUTE }),
      minPerSecond: count(50).rule
    }).map(([part, rule]) => [part, { ...rule, optional: true }])
  )
};

const breakerRule: Rule = {
  type: "object",
  strict: true,
  props: Object.fromEntries(
    Object.entries({
      // Each keeps its message until the run ends.
      failures: count(10, { max: 100 }).rule,
      pauseMs: msRule(),
      maxPauseMs: msRule(),
      patienceMs: msRule({ min: 0 })
    }).map(([part, rule]) => [part, { ...rule, optional: true }])
  )
};

/** RabbitMQ addresses. `tls`: options of Node.js' `tls.connect` (`ca`, `cert`, `key`, `servername`, …). */
export type AmqpOption = string | string[] | { urls: string | string[]; tls?: Record<string, unknown> };

/**
 * Every option of the mixin: scope, limits, default, and above it what it is and what it costs. All types of options
 * are derived from this table, editors show its comments, and the table of options in the docs is made of it.
 */
export const OPTIONS = {
  /**
   * RabbitMQ: URL, list of URLs of one cluster, or `{ urls, tls }` (docs/guide/servers.md). Without it: an in-process
   * courier.
   */
  amqp: perNode(address<AmqpOption>()),
  /**
   * MongoDB: URL, `{ url, tls }`, or your own live `MongoClient`. Without it and without `amqp`: an embedded store;
   * with `amqp` alone: no store on this node.
   */
  mongo: perNode(address<string | object>()),
  /**
   * Redis: URL, `{ url, tls }`, or your own live ioredis client. Without it every sweeping node sweeps, slower; correct
   * all the same.
   */
  redis: perNode(address<string | object>()),
  /** Folder of the embedded store. Without it the embedded store is memory and ends with the process. */
  path: perNode(text()),
  /** MongoDB database. Default: the one in the URL, else `reliable`. */
  database: perNode(text()),
  /** Run the service `reliable` (tracker, sweeper, actions) on this node, where it has a store. */
  service: perNode(flag(true)),
  /**
   * Signs every message that goes over RabbitMQ, of all kinds (HMAC-SHA-256); the same on all nodes. Text of 32 bytes at
   * least. A list: the first one signs, all verify, so that the key can be changed while nodes run. Where several teams
   * share a vhost; see docs/guide/servers.md.
   */
  signingKey: perNode(secrets()),
  /**
   * With `signingKey`: `sign` takes unsigned messages too and counts them; `require` parks them. From one to the other
   * when none has come for longer than the longest of `checkDelaysMs` and all backlogs.
   */
  signing: perNode(oneOf(["sign", "require"], "sign")),
  /** Let this node compete for sweeping; false = it only tracks and answers actions. */
  sweeper: perNode(flag(true)),
  /**
   * With `amqp` and `mongo`, for an operator's page or shell beside a cluster: this node shows and acts, and does none of
   * the cluster's work. It sweeps, tracks, prunes, repairs and counts nothing, and no service of it emits or handles
   * events reliably.
   */
  observer: perNode(flag(false)),
  /** Pause between sweeps. Shorter = faster resends, more store reads. */
  sweepEveryMs: perNode(ms(SECOND, { min: 50 })),
  /** Sweeper lease in Redis. A dead holder is replaced after this at the latest. */
  leaseMs: perNode(ms(30 * SECOND, { min: 300 })),
  /** Parts of the store swept at the same time, by as many nodes; same value on all nodes. */
  partitions: perNode(count(1, { max: 64 })),
  /** Messages claimed and resent at a time by a sweep. */
  pageSize: perNode(count(500, { max: 5000 })),
  /** How long a sweep may hold a page before another may take it; far above what a page takes. */
  claimMs: perNode(ms(MINUTE, { min: SECOND })),
  /**
   * Final messages and inbox rows are pruned after this. Must exceed the longest outage you want duplicates recognised
   * over.
   */
  retainMs: perNode(ms(7 * DAY, { min: SECOND })),
  /**
   * Payloads of final messages, with their meta, headers and the texts of their errors, are dropped after this; the rows
   * stay until `retainMs`, which it may not exceed. Default: with the rows. Shorter = less personal data and less space,
   * and less to look up and to replay.
   */
  retainBodiesMs: perNode({ rule: msRule({ min: SECOND }), default: undefined as number | undefined }),
  /** How often the known groups are read from the store. */
  refreshMs: perNode(ms(5 * SECOND, { min: 50 })),
  /** A publish without the broker's answer counts as unknown after this; not below heartbeat detection (30 s). */
  confirmTimeoutMs: perNode(ms(30 * SECOND, { min: 100 })),
  /** Publishes in flight on the confirm channel. 100 → 1000: +40 % rate, 8× latency. */
  window: perNode(count(1000, { max: 10_000 })),
  /**
   * Checks of strategy `callback` that go out in one message while others are on their way. More = less work per emit,
   * and more emits with an unknown outcome where one confirm is lost. 1 = each alone, for as long as callback services
   * of an earlier version run.
   */
  checkBatch: perNode(count(200, { max: 500 })),
  /**
   * Payload, meta and headers of messages of strategy `callback` are kept in their rows although everybody has handled
   * them: for `reliable.get` and `reliable.replay`. It costs a write with the payload for each. Where it is false, they
   * are kept only of messages that a group has failed, or had not answered when their check came.
   */
  keepCallbackBodies: perNode(flag(false)),
  /** How often queues, bindings and the exchange are declared again: what was deleted comes back. */
  repairEveryMs: perNode(ms(MINUTE, { min: 100 })),
  /** How long an emit waits for a store that is down before it rejects. */
  emitTimeoutMs: perNode(ms(30 * SECOND)),
  /**
   * Keeps a node that is asked for more than it can do from doing less. `true`, or what differs of
   * `{ targetMs: 500, waitMs: 300, minPerSecond: 250 }`: when its event loop, its emits on their way to store or
   * RabbitMQ, or their deliveries to its own handlers have been later than `targetMs` for a moment (and more than 1,200
   * are on their way), emits are let in only as fast as they are finished. The excess waits, about `waitMs` at most
   * (1,000 emits may wait in any case), or rejects at once with RELIABLE_UNAVAILABLE. Longer `targetMs` = larger
   * batches, more waiting; longer `waitMs` = bursts are delayed, not refused. At least `minPerSecond` are always let in.
   * Emits of reliable handlers and with `session` are never refused. false: nothing is held, and a node that is asked
   * for too much does less and less.
   */
  admission: perNode({
    rule: { type: "multi", rules: [flagRule, admissionRule] },
    default: ADMISSION as false | AdmissionOptions
  }),
  /**
   * Emits that may wait for the store, or with `callback` for RabbitMQ, at once (and 64 MiB); more reject at once with
   * RELIABLE_UNAVAILABLE. It counts while a server is away, where `admission` lets everything in.
   */
  maxPending: perNode(count(10_000)),
  /** How long the callback service waits for a producer's answer. 24 days at most, since Moleculer's own timer ends it. */
  askTimeoutMs: perNode(ms(10 * SECOND, { min: 100, max: MAX_TIMER_MS })),
  /** A message is `dead` when no instance of its producer has answered for this long. */
  producerGoneMs: perNode(ms(DAY, { min: SECOND })),
  /**
   * How long the stop of a node waits in all, from its first service's stop on, for handlers, receipts, confirms and
   * status writes. Then connections are closed, which takes up to 2 s more where a server does not answer (a handshake
   * is one round trip; after 2 s the server is taken for frozen and the socket is destroyed). What is not finished is
   * sent again later. Give the process 5 s more than this before SIGKILL.
   */
  drainTimeoutMs: perNode(ms(10 * SECOND, { min: 0 })),
  /**
   * Tell other nodes what becomes of messages, as Moleculer events `reliable.consumed`, `reliable.dead`, …: to one
   * instance of each service (`emit`), or to all. One event per batch of receipts.
   */
  lifecycleEvents: perNode(oneOf([false, "emit", "broadcast"], false)),
  /**
   * Spans of messages (send, process, settle) through your `@opentelemetry/api`, which must be installed, by the semantic
   * conventions for messaging; those are in development, so names may change with a minor version of this package. They
   * are beside Moleculer's own, and cost some 30 µs of the processor a message; see docs/guide/metrics-and-tracing.md.
   */
  openTelemetry: perNode(flag(false)),
  /**
   * `outbox`: message in the store first. `callback`: no store on the producer's path; a delayed check asks for it
   * afterwards.
   */
  strategy: perService(oneOf(STRATEGIES, "outbox")),
  /** Attempts per message and group before it is `dead`. */
  maxAttempts: perService(count(3, { max: 100 })),
  /** Delay after a failed attempt: doubles from `initialMs` to `maxMs`; `jitter` none, half or full. */
  backoff: perService({
    rule: {
      type: "object",
      strict: true,
      properties: {
        initialMs: { ...msRule(), optional: true },
        maxMs: { ...msRule(), optional: true },
        jitter: { type: "enum", values: JITTERS, optional: true }
      }
    },
    default: { initialMs: SECOND, maxMs: 5 * MINUTE, jitter: "half" } as Backoff
  }),
  /**
   * How long a message for which no group is known stays `pending`, with the reason `unroutable`, and costs no attempt;
   * after that it burns them and is `dead`. Long enough to deploy the consumer after the producer; 0 = at once.
   */
  unroutableMs: perService(ms(60 * MINUTE, { min: 0 })),
  /**
   * After this time without a receipt a published message comes due for the sweeper. Longer than the consumers'
   * `handlerTimeoutMs`.
   */
  receiptTimeoutMs: perService(ms(MINUTE, { min: 100 })),
  /**
   * Delays of the checks of strategy `callback` and of intents, in turn, increasing; one RabbitMQ queue per distinct
   * delay. Their number is `callback`'s default for `maxAttempts`.
   */
  checkDelaysMs: perService({
    rule: { type: "array", items: msRule({ min: 100 }), min: 1, max: 20 },
    default: [30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE]
  }),
  /**
   * Actions that `source` of an emit may name, with their full names (`orders.find`, `v2.orders.find`). The service
   * calls no other, whatever a message says.
   */
  sources: perService({
    // Not a node's own actions (`$node.…`), and no patterns.
    rule: { type: "array", items: { type: "string", pattern: /^[^$*][^*]*$/, max: 255 }, max: 100 },
    default: [] as string[]
  }),
  /**
   * Each version of the service is a group of its own, named as the service in full (`v2.stock`), for reliable and for
   * plain emits; false: versions share the group, as Moleculer has it. An event's own `group` counts in any case.
   */
  groupByVersion: perService(flag(false)),
  /**
   * Standard Schemas (Zod, Valibot, ArkType, …; `fastestValidatorSchema`) by name of the event: each payload that the
   * service emits is checked before anything is stored, and what the schema makes of it is stored and sent.
   */
  schemas: perService({ rule: { type: "object" }, default: {} as Schemas }),
  /** Cap on the JSON of a payload; store a reference for more. */
  maxPayloadBytes: perService(count(256 * KIB, { max: MAX_PAYLOAD_BYTES })),
  /**
   * Makes of each payload that the service emits what is stored and sent, `(payload, { id, event }) => …`: encryption,
   * for one. May be async. See docs/guide/personal-data.md.
   */
  encode: perService(hook<Encode>()),
  /** The way back, `(encoded, { id, event }) => …`, before the handlers of the service. May be async. */
  decode: perService(hook<Decode>()),
  /**
   * Called once per group and message that has failed for good, on one instance of the service that emitted it. May be
   * async. Not called again where it fails or a process dies: `dead` stays, whatever it does.
   */
  onDead: perService(hook<OnDead>()),
  /**
   * Handlers of the event at work at a time, per instance. Of what they take no time for, more is fetched ahead: up to
   * 20 times as much, or 1,000.
   */
  maxInFlight: perEvent(count(50, { max: 5000 })),
  /** A handler that has not answered counts as failed; below RabbitMQ's own 30 min. */
  handlerTimeoutMs: perEvent(ms(30 * SECOND, { min: 10, max: 29 * MINUTE })),
  /**
   * Remember handled ids per group, so that a duplicate is answered and not handled again; needs a store on the node.
   * `"transaction"`: in one MongoDB transaction with the handler's writes.
   */
  inbox: perEvent({
    rule: { type: "multi", rules: [flagRule, { type: "equal", value: "transaction", strict: true }] },
    default: true as boolean | "transaction"
  }),
  /**
   * Opens when `failures` different messages have failed within a minute without a success between them, most likely
   * because something that the handler depends on is away: then one at a time is tried, after pauses from `pauseMs` to
   * `maxPauseMs`, until one succeeds, and what fails costs no attempt. More `failures` = later, and more calls into an outage; fewer =
   * sooner, and also by that many poison messages in a row. `patienceMs`: for so long after its first failure a message
   * costs none in any case, where few messages come; it dies later by that. false: no breaker.
   */
  breaker: perEvent({
    rule: { type: "multi", rules: [flagRule, breakerRule] },
    default: { failures: 10, pauseMs: SECOND, maxPauseMs: 30 * SECOND, patienceMs: 0 } as false | BreakerOptions
  }),
  /** RabbitMQ's fuse against a message whose consumers die on it. */
  deliveryLimit: perEvent(count(20, { max: 1000 }))
};

type Table = typeof OPTIONS;

export type OptionName = keyof Table;

type NamesOf<Scope extends OptionScope> = {
  [Name in OptionName]: Table[Name]["scope"] extends Scope ? Name : never;
}[OptionName];

/** By way of `Pick`, which keeps the comments of the table. */
type Values<Options extends Record<keyof Options, Option>> = { [Name in keyof Options]: Options[Name]["default"] };

export interface NodeOptions extends Values<Pick<Table, NamesOf<"node">>> {}

export interface ConsumerOptions extends Values<Pick<Table, NamesOf<"event">>> {}

export interface ServiceOptions extends Values<Pick<Table, NamesOf<"service" | "event">>> {
  /** Default of `maxAttempts` for strategy `callback`: one attempt per check. */
  callbackAttempts: number;
  /** Set by ReliableAmqpQueue: its messages go to queues that belong to no group. */
  sendsJobs?: boolean;
}

/** Of an option that is an object, each part has a default of its own. */
type Given<Value> = Value extends Backoff
  ? Partial<Backoff>
  : Value extends BreakerOptions
    ? true | Partial<BreakerOptions>
    : Value extends AdmissionOptions
      ? true | Partial<AdmissionOptions>
      : Value;

/** What the mixin takes: all optional, see OPTIONS for defaults. */
export type ReliableOptions = { [Name in keyof Table]?: Given<Table[Name]["default"]> };

/** Names of a scope; `service` includes the event options, as their defaults. */
export function namesOf(scopes: OptionScope[]): OptionName[] {
  return (Object.keys(OPTIONS) as OptionName[]).filter(name => scopes.includes(OPTIONS[name].scope));
}
