import { uuidv7 } from "uuidv7";
import type { Consumer } from "../consumer/consumer";
import type { Courier } from "../couriers/courier";
import { Callback } from "../emit/callback";
import { Emitter } from "../emit/emit";
import { InsertQueue } from "../emit/insert-queue";
import { Outbox } from "../emit/outbox";
import { StatusWaiter } from "../emit/status-waiter";
import type { Signatures } from "../inbound/signatures";
import { NodeHealth } from "../operator/health";
import { Operations } from "../operator/operations";
import type { NodeOptions } from "../options/options";
import { MessagePublisher } from "../outbound/message-publisher";
import { Subscriptions } from "../outbound/subscriptions";
import type { Call } from "../platform/call";
import type { Clock } from "../platform/clock";
import type { Logger } from "../platform/logger";
import { ProducerClient } from "../producer-rpc/client";
import { ProducerHandler } from "../producer-rpc/handler";
import { Progress } from "../progress/progress";
import type { Store } from "../stores/store";
import { CallbackService } from "../sweeper/callback-service";
import { Leases } from "../sweeper/lease";
import type { RedisConnection } from "../sweeper/redis";
import { Sweeper } from "../sweeper/sweeper";
import type { Events } from "../telemetry/events";
import { Gauges } from "../telemetry/gauges";
import type { Metrics } from "../telemetry/metrics";
import { Tracker } from "../tracker/tracker";
import { prefixOf, systemQueues } from "../wire/names";
import type { ServiceView } from "./traps";

/** A node on the Moleculer side. */
export interface Identity {
  nodeID: string;
  namespace: string;
  logger: Logger;
  /** Calls a Moleculer action. */
  call: Call;
  /** The services of the cluster, as Moleculer's registry knows them now. */
  services(): ServiceView[];
}

/** What all parts of a node use. */
export interface Foundation {
  identity: Identity;
  options: NodeOptions;
  courier: Courier;
  signatures: Signatures | undefined;
  store: Store | undefined;
  redis: RedisConnection | undefined;
  consumers: ReadonlySet<Consumer>;
  metrics: Metrics;
  events: Events;
  clock: Clock;
}

/** The parts of every node. */
export interface NodeParts {
  callback: Callback;
  emitter: Emitter;
  producerHandler: ProducerHandler;
  statusWaiter: StatusWaiter;
  gauges: Gauges;
  storage: Storage | undefined;
}

/** The parts of a node with a store. */
export interface Storage {
  store: Store;
  subscriptions: Subscriptions;
  insertQueue: InsertQueue;
  outbox: Outbox;
  tracker: Tracker;
  callbackService: CallbackService;
  sweeper: Sweeper;
  operations: Operations;
  health: NodeHealth;
}

/** The composition root: builds the parts of a node and hands them each other. None of them does anything yet. */
export function assemble(foundation: Foundation): NodeParts {
  const { identity, options, courier, store, consumers, metrics, events, clock } = foundation;
  const { call, logger, namespace, nodeID } = identity;
  const { askTimeoutMs, emitTimeoutMs } = options;
  const queues = systemQueues(namespace);
  const subscriptions = store && new Subscriptions(store, options.refreshMs, logger, clock);
  const publisher = new MessagePublisher(courier, subscriptions, queues, nodeID, metrics, clock);
  const statusWaiter = new StatusWaiter({ store, call, askTimeoutMs, events, clock });
  const prefix = prefixOf(namespace);
  const producerHandler = new ProducerHandler({ publisher, store, call, clock, askTimeoutMs, prefix });
  const callback = new Callback({ publisher, statusWaiter, metrics, clock });
  const shared = { publisher, statusWaiter, producerHandler };
  const storage = store && subscriptions && assembleStorage({ ...foundation, ...shared, store, subscriptions });
  const emitter = new Emitter({
    nodeID,
    callback,
    outbox: storage?.outbox,
    store,
    subscriptions,
    metrics,
    logger,
    clock,
    emitTimeoutMs
  });
  const sweeper = storage?.sweeper;
  const gauges = new Gauges({ metrics, courier, store, logger, sweeper, consumers, clock });
  return { callback, emitter, producerHandler, statusWaiter, gauges, storage };
}

interface StorageFoundation extends Foundation {
  store: Store;
  subscriptions: Subscriptions;
  publisher: MessagePublisher;
  statusWaiter: StatusWaiter;
  producerHandler: ProducerHandler;
}

function assembleStorage(foundation: StorageFoundation): Storage {
  const { identity, options, courier, signatures, store, redis, consumers, metrics, events, clock } = foundation;
  const { subscriptions, publisher, statusWaiter, producerHandler: handler } = foundation;
  const { call, logger, namespace, nodeID } = identity;
  const { askTimeoutMs, claimMs, confirmTimeoutMs, pageSize, partitions, producerGoneMs, retainMs } = options;
  const queues = systemQueues(namespace);
  const prefix = prefixOf(namespace);
  const common = { store, courier, signatures, subscriptions, publisher, metrics, logger, events, clock, nodeID };
  const progress = new Progress(common);
  const insertQueue = new InsertQueue(store, options.maxPending, clock);
  const outbox = new Outbox({ ...common, progress, insertQueue, statusWaiter, confirmTimeoutMs });
  const tracker = new Tracker({ ...common, progress, statusWaiter, queues, prefix, retainMs });
  const producerClient = new ProducerClient({ call, handler, subscriptions, queues, askTimeoutMs, logger });
  const sweeping = { ...common, progress, producerClient, pageSize, claimMs, producerGoneMs };
  const callbackService = new CallbackService(sweeping, { queues, retainMs });
  const owner = `${nodeID}#${uuidv7()}`;
  const leases =
    redis && new Leases(redis.client, { prefix, owner, ttlMs: options.leaseMs, partitions, logger, clock });
  leases?.on("unreachable", error => events.emit("error", error, "redis"));
  const sweeper = new Sweeper(sweeping, leases, { everyMs: options.sweepEveryMs, partitions, retainMs });
  const operations = new Operations({ store, courier, progress, events, clock, namespace });
  const health = new NodeHealth({
    nodeID,
    courier,
    signatures,
    store,
    redis: redis?.address,
    sweeper,
    sweeps: options.sweeper,
    consumers,
    metrics,
    clock
  });
  return { store, subscriptions, insertQueue, outbox, tracker, callbackService, sweeper, operations, health };
}
