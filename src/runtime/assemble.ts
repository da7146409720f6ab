import type { AnnouncedHistory } from "../consumer/announced-history";
import type { Consumer } from "../consumer/consumer";
import type { OwnRows } from "../consumer/consumer-parts";
import type { Courier } from "../couriers/courier";
import { Admission } from "../emit/admission";
import { Callback } from "../emit/callback";
import { Emitter } from "../emit/emit";
import { InsertQueue } from "../emit/insert-queue";
import { Outbox } from "../emit/outbox";
import { StatusWaiter } from "../emit/status-waiter";
import type { Signatures } from "../inbound/signatures";
import { SweepNews } from "../inbound/sweep-news";
import { AskSweepers } from "../operator/ask-sweepers";
import { BulkOperations } from "../operator/bulk/bulk";
import { BulkWorker } from "../operator/bulk/bulk-worker";
import { ReplayOperations } from "../operator/bulk/replay";
import { ClusterNodes, type KnownNode } from "../operator/cluster-nodes";
import { NodeHealth } from "../operator/health";
import { Operations } from "../operator/operations";
import { OverviewReader } from "../operator/overview";
import { QueueDepths } from "../operator/queue-depths";
import type { NodeOptions } from "../options/options";
import { MessagePublisher } from "../outbound/message-publisher";
import { PauseMarks } from "../outbound/pause-marks";
import { Subscriptions } from "../outbound/subscriptions";
import type { Call } from "../platform/call";
import type { Clock } from "../platform/clock";
import { newId } from "../platform/ids";
import type { Logger } from "../platform/logger";
import type { Warnings } from "../platform/warnings";
import { ProducerClient } from "../producer-rpc/client";
import { DeadHooks } from "../producer-rpc/dead-hooks";
import { ProducerHandler } from "../producer-rpc/handler";
import { Progress } from "../progress/progress";
import { OwnStore } from "../stores/own-store";
import type { Store } from "../stores/store";
import { CallbackService } from "../sweeper/callback-service";
import { Leases } from "../sweeper/lease";
import type { RedisConnection } from "../sweeper/redis";
import { Sweeper } from "../sweeper/sweeper";
import { Turns } from "../sweeper/turns";
import type { Events } from "../telemetry/events";
import { Gauges } from "../telemetry/gauges";
import { HistoryWriter } from "../telemetry/history";
import type { Load } from "../telemetry/load";
import type { Metrics } from "../telemetry/metrics";
import type { MessageSpans } from "../telemetry/open-telemetry/message-spans";
import { Tracker } from "../tracker/tracker";
import { prefixOf, systemQueues } from "../wire/names";
import { newSpans } from "./backends";
import type { Surroundings } from "./surroundings";
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
  /** The nodes with the service `reliable`, those too whose heartbeats have ended. */
  nodes(): KnownNode[];
}

/** What all parts of a node use. */
export interface Foundation {
  identity: Identity;
  options: NodeOptions;
  courier: Courier;
  signatures: Signatures | undefined;
  store: Store | undefined;
  /** Where there is no store. */
  announcedHistory: AnnouncedHistory;
  redis: RedisConnection | undefined;
  consumers: ReadonlySet<Consumer>;
  metrics: Metrics;
  load: Load;
  warnings: Warnings;
  events: Events;
  surroundings: Surroundings;
  clock: Clock;
}

/** The parts of every node. */
export interface NodeParts {
  callback: Callback;
  admission: Admission;
  emitter: Emitter;
  producerHandler: ProducerHandler;
  statusWaiter: StatusWaiter;
  gauges: Gauges;
  history: HistoryWriter;
  /** Undefined = no OpenTelemetry. */
  spans: MessageSpans | undefined;
  storage: Storage | undefined;
}

/** The parts of a node with a store. */
export interface Storage {
  store: Store;
  ownStore: OwnStore;
  ownRows: OwnRows;
  subscriptions: Subscriptions;
  pauseMarks: PauseMarks;
  insertQueue: InsertQueue;
  outbox: Outbox;
  tracker: Tracker;
  callbackService: CallbackService;
  sweeper: Sweeper;
  turns: Turns;
  deadHooks: DeadHooks;
  operations: Operations;
  bulks: BulkOperations;
  replays: ReplayOperations;
  bulkWorker: BulkWorker;
  sweepNews: SweepNews;
  /** Of an observer. */
  askSweepers: AskSweepers | undefined;
  health: NodeHealth;
  overview: OverviewReader;
}

/**
 * The composition root: builds the parts of a node and hands them each other. None of them does anything yet. Throws
 * RELIABLE_BAD_OPTION where the option `openTelemetry` needs a package that is not there.
 */
export function assemble(foundation: Foundation): NodeParts {
  const { identity, options, courier, store, consumers, metrics, load, warnings, clock, events } = foundation;
  const { call, logger, namespace, nodeID } = identity;
  const { askTimeoutMs, emitTimeoutMs, maxPending, checkBatch } = options;
  const queues = systemQueues(namespace);
  const subscriptions = store && new Subscriptions(store, options.refreshMs, logger, clock);
  const ownStore = store && new OwnStore(store);
  const spans = newSpans(options, { namespace, courier, warnings, clock });
  const sending = { store: ownStore, checkBatch, spans };
  const publisher = new MessagePublisher(courier, subscriptions, queues, nodeID, metrics, clock, sending);
  const statusWaiter = new StatusWaiter({ store, subscriptions, call, askTimeoutMs, events, clock });
  const prefix = prefixOf(namespace);
  const producerHandler = new ProducerHandler({ publisher, store, call, clock, askTimeoutMs, prefix });
  const callback = new Callback({ publisher, statusWaiter, metrics, clock });
  const servers = { store, courier };
  const admission = new Admission({ load, metrics, clock, options: options.admission, maxPending, servers });
  const shared = { publisher, statusWaiter, producerHandler, admission };
  const storage =
    store && subscriptions && ownStore
      ? assembleStorage({ ...foundation, ...shared, store, subscriptions, ownStore })
      : undefined;
  const emitter = new Emitter({
    nodeID,
    callback: foundation.surroundings.strategy(callback),
    outbox: storage && foundation.surroundings.strategy(storage.outbox),
    store,
    subscriptions,
    metrics,
    warnings,
    clock,
    emitTimeoutMs,
    admission,
    load,
    spans
  });
  const sweeper = storage?.sweeper;
  const gauges = new Gauges({ metrics, admission, courier, store, subscriptions, logger, sweeper, consumers, clock });
  const history = new HistoryWriter({
    counter: metrics.history,
    sink: store?.history ?? foundation.announcedHistory,
    time: store ?? { now: () => new Date(clock.now()) },
    nodeID,
    logger,
    clock
  });
  return { callback, admission, emitter, producerHandler, statusWaiter, gauges, history, spans, storage };
}

interface StorageFoundation extends Foundation {
  store: Store;
  subscriptions: Subscriptions;
  ownStore: OwnStore;
  publisher: MessagePublisher;
  statusWaiter: StatusWaiter;
  producerHandler: ProducerHandler;
  admission: Admission;
}

function assembleStorage(foundation: StorageFoundation): Storage {
  const { identity, options, courier, signatures, store, redis, consumers, metrics, warnings, events, clock } =
    foundation;
  const { subscriptions, ownStore, publisher, statusWaiter, producerHandler: handler, admission, load } = foundation;
  const { call, logger, namespace, nodeID } = identity;
  const { askTimeoutMs, claimMs, confirmTimeoutMs, pageSize, partitions, producerGoneMs, retainMs, retainBodiesMs } =
    options;
  const { observer, keepCallbackBodies } = options;
  const queues = systemQueues(namespace);
  const prefix = prefixOf(namespace);
  const telling = { metrics, logger, warnings, events };
  const common = { store, courier, signatures, subscriptions, publisher, ...telling, clock, nodeID };
  const progress = new Progress(common);
  const insertQueue = new InsertQueue(store, clock);
  const outbox = new Outbox({ ...common, progress, insertQueue, statusWaiter, confirmTimeoutMs, claimMs });
  const tracker = new Tracker({ ...common, progress, statusWaiter, queues, prefix, retainMs });
  const ownRows: OwnRows = {
    get id() {
      return ownStore.id;
    },
    handled: (group, items) => tracker.receipts.handled(group, items)
  };
  const producerClient = new ProducerClient({ call, handler, subscriptions, queues, askTimeoutMs, logger });
  const sweeping = { ...common, load, progress, producerClient, pageSize, claimMs, producerGoneMs };
  const callbackService = new CallbackService(sweeping, { queues, retainMs, keepBodies: keepCallbackBodies });
  const owner = `${nodeID}#${newId()}`;
  const leases =
    redis && new Leases(redis.client, { prefix, owner, ttlMs: options.leaseMs, partitions, logger, clock });
  leases?.on("unreachable", error => events.emit("error", error, "redis"));
  const turns = new Turns(sweeping, !observer);
  const sweeper = new Sweeper(sweeping, turns, leases, {
    works: !observer,
    everyMs: options.sweepEveryMs,
    partitions,
    retainMs,
    retainBodiesMs
  });
  const bulkWorker = new BulkWorker({ ...common, sweeper, call, registry: identity });
  const sweepNews = new SweepNews(common);
  const askSweepers = observer ? new AskSweepers(common) : undefined;
  const worker = askSweepers ?? bulkWorker;
  const bulks = new BulkOperations({ store, worker });
  const replays = new ReplayOperations({ store, subscriptions, worker });
  const pauseMarks = new PauseMarks({ store, courier, subscriptions, namespace, logger, clock });
  const hooked = () => new Set(identity.services().flatMap(({ fullName, onDead }) => (onDead ? fullName : [])));
  const deadHooks = new DeadHooks({ store, call, events, warnings, askTimeoutMs, hooked });
  const operations = new Operations({ ...common, pauseMarks, progress, sweeper: askSweepers ?? sweeper, namespace });
  const depths = new QueueDepths(courier, clock);
  const health = new NodeHealth({
    nodeID,
    courier,
    depths,
    signatures,
    store,
    subscriptions,
    redis: redis?.address,
    sweeper,
    admission,
    sweeps: options.sweeper && !observer,
    consumers,
    metrics,
    clock
  });
  const nodes = new ClusterNodes({ nodeID, registry: identity, call, observer, clock });
  const overview = new OverviewReader({
    ...{ nodeID, store, courier, subscriptions, depths, health, nodes, leases, clock }
  });
  return {
    store,
    ownStore,
    ownRows,
    subscriptions,
    pauseMarks,
    insertQueue,
    outbox,
    tracker,
    callbackService,
    sweeper,
    turns,
    deadHooks,
    operations,
    bulks,
    replays,
    bulkWorker,
    sweepNews,
    askSweepers,
    health,
    overview
  };
}
