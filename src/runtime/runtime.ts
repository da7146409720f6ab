import { uuidv7 } from "uuidv7";
import { Deadline, withTimeout } from "../async/deadline";
import { assertSameOptions, Consumer, type ConsumerSpec } from "../consumer/consumer";
import type { Courier } from "../couriers/courier";
import { Callback } from "../emit/callback";
import { type EmitDefaults, type EmitOptions, type EmitSource, emitPlan, newMessage } from "../emit/emit";
import { InsertQueue } from "../emit/insert-queue";
import { Outbox } from "../emit/outbox";
import { type StatusSeen, StatusWaiter } from "../emit/status-waiter";
import type { EmitPlan, EmitResult, Strategy } from "../emit/strategy";
import { ReliableError, reasonOf, sanitizeError } from "../errors";
import { ANY_GROUP, type Message } from "../message/message";
import { type Done, Operations } from "../operator/operations";
import { mergeNode } from "../options/merge";
import type { NodeOptions, ServiceOptions } from "../options/options";
import { nodeOptions } from "../options/resolve";
import { MessagePublisher } from "../outbound/message-publisher";
import { Subscriptions } from "../outbound/subscriptions";
import type { Call } from "../platform/call";
import type { Logger } from "../platform/logger";
import { ProducerClient } from "../producer-rpc/client";
import { ProducerHandler } from "../producer-rpc/handler";
import type { DeadMessage, Store } from "../stores/store";
import { CallbackService } from "../sweeper/callback-service";
import { Leases } from "../sweeper/lease";
import { connectRedis, type RedisConnection } from "../sweeper/redis";
import { Sweeper } from "../sweeper/sweeper";
import { Gauges } from "../telemetry/gauges";
import { Metrics } from "../telemetry/metrics";
import { Tracker } from "../tracker/tracker";
import { prefixOf, systemQueues } from "../wire/names";
import type { ResendAnswer, ResendRequest } from "../wire/resend";
import { type Backends, backendsOf, describeBackends, newCourier, newStore } from "./backends";
import { Services } from "./services";
import { type Storage, shutDown } from "./shutdown";

/** Who we are on the Moleculer side. */
export interface Identity {
  nodeID: string;
  namespace: string;
  logger: Logger;
  /** Calls a Moleculer action. */
  call: Call;
}

export interface LifecycleListener {
  consumed(ids: string[]): void;
  dead(messages: DeadMessage[]): void;
  /** A human has retried, resolved or discarded them. */
  acted(act: Done, ids: string[], by: string): void;
  /** A failure in the background that nobody is waiting for, told once until it has passed. */
  error(error: Error, module: string): void;
}

type Phase = "created" | "starting" | "started" | "stopped";

/**
 * The composition root, one per Moleculer broker: one pair of RabbitMQ connections, one store client, one Redis client,
 * whatever the number of services. Built at the first service's start, closed after the last one's stop:
 *
 *   start   store + courier → subscriptions → (service `reliable`: tracker, sweeper) → consumers, each after its service's `started`
 *   stop    consumers, each before its service's `stopped` → the rest, in the order and with the deadline of `shutdown.ts`
 */
export class Runtime {
  readonly metrics = new Metrics();
  readonly services = new Services();
  readonly startedAt = Date.now();
  readonly #values: Record<string, unknown> = {};
  readonly #consumers = new Set<Consumer>();
  readonly #listeners = new Set<LifecycleListener>();
  #phase: Phase = "created";
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;
  #tracking: Promise<void> | undefined;
  #options: NodeOptions | undefined;
  #courier: Courier | undefined;
  #store: Store | undefined;
  #storage: Storage | undefined;
  #redis: RedisConnection | undefined;
  #publisher: MessagePublisher | undefined;
  #callback: Callback | undefined;
  #gauges: Gauges | undefined;
  readonly #statusWaiter: StatusWaiter;
  readonly #emitDefaults: EmitDefaults = {
    id: uuidv7,
    waitingFor: (event, groups) => this.#storage?.subscriptions.waitingFor(event, groups) ?? groups ?? [ANY_GROUP]
  };

  constructor(readonly identity: Identity) {
    this.#statusWaiter = new StatusWaiter(async ids => {
      if (this.#storage) return this.#storage.operations.statuses(ids);
      return (await identity.call(
        "reliable.statuses",
        { ids },
        { timeout: this.options.askTimeoutMs }
      )) as StatusSeen[];
    });
  }

  /** Node options of a further service. Throws RELIABLE_BAD_OPTION when it contradicts another's. */
  configure(values: Record<string, unknown>, service: string): void {
    mergeNode(this.#values, values, service);
  }

  get options(): NodeOptions {
    return this.#options ?? nodeOptions(this.#values);
  }

  get backends(): Backends {
    return backendsOf(this.options);
  }

  get running(): boolean {
    return this.#phase === "started";
  }

  get courier(): Courier | undefined {
    return this.#courier;
  }

  get redis(): RedisConnection | undefined {
    return this.#redis;
  }

  get storage(): Storage | undefined {
    return this.#storage;
  }

  /** Throws RELIABLE_NO_STORE. */
  needStorage(): Storage {
    if (this.#storage) return this.#storage;
    throw this.#phase === "started"
      ? new ReliableError(
          "RELIABLE_NO_STORE",
          `Node '${this.identity.nodeID}' has no store: give the option 'mongo' (or 'path').`,
          { option: "mongo", nodeID: this.identity.nodeID }
        )
      : this.#notRunning();
  }

  listen(listener: LifecycleListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  get consumers(): ReadonlySet<Consumer> {
    return this.#consumers;
  }

  /**
   * Counts a service in, once; the node's parts start with the first. Rejects on refused credentials and bad addresses,
   * not on servers that are down. False = its stop has overtaken it: that is not a start that failed, and a SIGTERM in
   * its middle ends with exit code 0.
   */
  async acquire(service: object): Promise<boolean> {
    this.services.enter(service);
    await this.#stopping;
    // An overtaken start may still be on its way out.
    if (this.#overtaken) await this.#starting?.catch(() => undefined);
    if (!this.services.serves(service)) return false;
    try {
      await (this.#starting ??= this.#start());
    } catch (error) {
      if (this.services.remove(service)) throw error;
    }
    return this.services.serves(service);
  }

  /** A service begins to stop; `release` has to follow. */
  leave(service: object): Deadline {
    return this.services.leave(service, this.options.drainTimeoutMs);
  }

  /** Counts a service out; the last one closes everything. */
  async release(service: object): Promise<void> {
    const deadline = this.leave(service);
    try {
      if (this.services.remove(service) && this.services.empty)
        await (this.#stopping ??= this.#stop(deadline).finally(() => (this.#stopping = undefined)));
    } finally {
      this.services.left(service);
    }
  }

  async #start(): Promise<void> {
    this.#phase = "starting";
    try {
      await this.#open();
      if (this.#overtaken) throw this.#notRunning();
      this.#phase = "started";
      this.identity.logger.info(
        `Reliable: node ${this.identity.nodeID} runs on ${describeBackends(this.options, this.#store)}.`
      );
    } catch (error) {
      // Nothing of it may keep the process alive; a further start begins anew.
      await this.#close(new Deadline(0));
      this.#starting = undefined;
      throw error;
    }
  }

  get #overtaken(): boolean {
    return this.#phase === "stopped";
  }

  async #open(): Promise<void> {
    this.#options = nodeOptions(this.#values);
    const { logger, namespace, nodeID } = this.identity;
    this.#courier = newCourier(this.#options, this.identity);
    this.#courier.on("error", error => this.reportError(error, "courier"));
    const store = (this.#store = newStore(this.#options, this.identity));
    store?.onUnavailable(error => this.reportError(error, "store"));
    const starts = await Promise.allSettled([this.#courier.start(), store?.start()]);
    for (const start of starts) if (start.status === "rejected") throw start.reason;
    const queues = systemQueues(namespace);
    await Promise.all(
      [queues.checks, queues.callbackReceipts, ...(store ? [queues.receipts] : [])].map(name =>
        this.#courier?.declare({ name })
      )
    );
    const subscriptions = store && new Subscriptions(store, this.#options.refreshMs, logger);
    this.#publisher = new MessagePublisher(this.#courier, subscriptions, queues, nodeID, this.metrics);
    this.#callback = new Callback({
      publisher: this.#publisher,
      statusWaiter: this.#statusWaiter,
      metrics: this.metrics
    });
    if (store && subscriptions)
      this.#storage = await this.#assemble(store, subscriptions, this.#courier, this.#publisher);
    const handling = () => [...this.#consumers].reduce((sum, { inFlight }) => sum + inFlight, 0);
    const sweeper = this.#storage?.sweeper;
    this.#gauges = new Gauges({
      metrics: this.metrics,
      courier: this.#courier,
      store,
      logger,
      handling,
      sweeping: () => sweeper?.sweeping ?? false,
      leaseChanges: () => sweeper?.leases?.changes ?? 0
    });
    this.#gauges.start();
  }

  async #assemble(
    store: Store,
    subscriptions: Subscriptions,
    courier: Courier,
    publisher: MessagePublisher
  ): Promise<Storage> {
    const { call, logger, namespace, nodeID } = this.identity;
    const { metrics, options } = this;
    const queues = systemQueues(namespace);
    if (options.redis) this.#redis = await connectRedis(options.redis, logger);
    await subscriptions.start();
    const statusWaiter = this.#statusWaiter;
    const insertQueue = new InsertQueue(store, options.maxPending);
    const onDead = (messages: DeadMessage[]) => {
      for (const { id, reason } of messages) logger.warn(`Reliable: message ${id} is dead: ${reason}`);
      for (const listener of this.#listeners) listener.dead(messages);
    };
    const onError = this.reportError.bind(this);
    const tracker = new Tracker({
      ...{
        store,
        courier,
        subscriptions,
        statusWaiter,
        queues,
        metrics,
        logger,
        nodeID,
        onDead,
        onError,
        prefix: prefixOf(namespace),
        retainMs: options.retainMs
      },
      onChecks: deliveries => callbackService.take(deliveries),
      onConsumed: ids => {
        outbox.consumed(ids);
        for (const listener of this.#listeners) listener.consumed(ids);
      }
    });
    const recordFailures = tracker.record.bind(tracker);
    const outbox = new Outbox({
      store,
      insertQueue,
      publisher,
      statusWaiter,
      metrics,
      logger,
      recordFailures,
      confirmTimeoutMs: options.confirmTimeoutMs
    });
    const leases =
      this.#redis &&
      new Leases(this.#redis.client, {
        prefix: prefixOf(namespace),
        owner: `${nodeID}#${uuidv7()}`,
        ttlMs: options.leaseMs,
        partitions: options.partitions,
        logger
      });
    leases?.on("unreachable", (error: Error) => onError(error, "redis"));
    const copies = new ProducerHandler({
      publisher,
      store,
      call,
      askTimeoutMs: options.askTimeoutMs,
      maxPayloadBytes: 0,
      prefix: prefixOf(namespace),
      sendsJobs: false
    });
    const producerClient = new ProducerClient({
      call,
      copies,
      queueOf: (group, event) => subscriptions.queueOf(group, event),
      queues,
      askTimeoutMs: options.askTimeoutMs,
      logger
    });
    const { pageSize, claimMs, producerGoneMs } = options;
    const parts = {
      store,
      courier,
      publisher,
      subscriptions,
      producerClient,
      metrics,
      logger,
      nodeID,
      pageSize,
      claimMs,
      producerGoneMs,
      recordFailures,
      onError,
      announceDead: tracker.announceDead.bind(tracker),
      resolveRecipients: (messages: Message[]) => tracker.resolveRecipients(messages)
    };
    const callbackService = new CallbackService(parts, options.retainMs);
    const sweeper = new Sweeper(parts, leases, {
      everyMs: options.sweepEveryMs,
      partitions: options.partitions,
      retainMs: options.retainMs
    });
    const operations = new Operations(
      store,
      () =>
        void sweeper
          .once()
          .catch(error => logger.debug(`Reliable: the sweep after a retry failed: ${reasonOf(error)}`)),
      (act, ids, by) => {
        for (const listener of this.#listeners) listener.acted(act, ids, by);
      }
    );
    return { store, subscriptions, insertQueue, outbox, tracker, sweeper, operations: operations };
  }

  /** Tracker and sweeper: what the service `reliable` runs. Idempotent. */
  track(): Promise<void> {
    const { tracker, sweeper } = this.needStorage();
    const sweeps = async () => (this.running && this.options.sweeper ? sweeper.start() : undefined);
    this.#tracking ??= tracker
      .start()
      .then(sweeps)
      .catch(error => (this.#overtaken ? undefined : Promise.reject(error)));
    return this.#tracking;
  }

  /** See the mixin's `reliableEmit`. */
  async emit(source: EmitSource, event: string, payload: unknown, options: EmitOptions): Promise<EmitResult> {
    if (this.#phase !== "started") throw this.#notRunning(event);
    const strategy = options?.strategy ?? source.options.strategy;
    if (strategy !== "callback") this.needStorage();
    const message = newMessage(source, event, payload, options, this.#emitDefaults);
    const write = options.commit && this.#businessWrite(message, payload, options.commit);
    const started = performance.now();
    const chosen = (strategy === "callback" ? this.#callback : this.needStorage().outbox) as Strategy;
    const result = await chosen.emit(message, emitPlan(options, this.options, write));
    this.metrics.emitted(event);
    this.metrics.time("emit.time", performance.now() - started, event);
    return result;
  }

  #businessWrite(
    { _id: id, event, intent }: Message,
    payload: unknown,
    commit: NonNullable<EmitOptions["commit"]>
  ): Required<Pick<EmitPlan, "commit" | "rolledBack">> {
    let fenced = false;
    const barrier = async (session: unknown) => {
      await this.needStorage().store.barrier(session, id);
      fenced = true;
    };
    return {
      commit: async () => {
        await commit({ id, event, payload, barrier });
        // It is done and will be announced; but had we died in it, nobody could have told.
        if (intent === "barrier" && !fenced)
          this.identity.logger.error(
            `Reliable: the 'commit' of '${event}' (${id}) promised a barrier row and wrote none; after a crash it would have been withdrawn.`
          );
      },
      // The transaction may have been committed, and only the answer was lost.
      rolledBack: async () =>
        !fenced ||
        this.needStorage()
          .store.rolledBack(id)
          .catch(() => false)
    };
  }

  /** What the mixin's action `reliableResend` does: answers for the messages of this node's services. */
  async answer(request: ResendRequest, service: ServiceOptions): Promise<ResendAnswer> {
    if (this.#phase !== "started" || !this.#publisher) throw this.#notRunning();
    const { call, namespace } = this.identity;
    const producer = new ProducerHandler({
      publisher: this.#publisher,
      store: this.#storage?.store,
      call,
      askTimeoutMs: this.options.askTimeoutMs,
      maxPayloadBytes: service.maxPayloadBytes,
      sendsJobs: service.sendsJobs === true,
      prefix: prefixOf(namespace)
    });
    return producer.answer(request);
  }

  /**
   * Starts a consumer. Rejects with RELIABLE_QUEUE_MISMATCH or RELIABLE_BAD_CONSUMER; with RELIABLE_STOPPED when the
   * node's stop overtakes it.
   */
  async consume(spec: ConsumerSpec): Promise<Consumer> {
    const courier = this.#courier;
    if (this.#phase !== "started" || !courier) throw this.#notRunning();
    const store = this.#storage?.store;
    if (spec.options.inbox === "transaction" && !store?.features.transactions) {
      throw new ReliableError(
        "RELIABLE_BAD_CONSUMER",
        `The handler of '${spec.pattern}' in group ${spec.group} wants inbox: "transaction", which needs MongoDB on this node (option 'mongo').`,
        { option: "inbox", event: spec.pattern, group: spec.group }
      );
    }
    assertSameOptions(spec, this.#consumers);
    const { logger, nodeID, namespace } = this.identity;
    const consumer = new Consumer(spec, {
      courier,
      store,
      queues: systemQueues(namespace),
      metrics: this.metrics,
      logger,
      nodeID,
      onError: this.reportError.bind(this)
    });
    this.#consumers.add(consumer);
    try {
      await consumer.start();
    } catch (error) {
      this.#consumers.delete(consumer);
      throw this.#overtaken ? this.#notRunning() : error;
    }
    return consumer;
  }

  async stopConsumer(consumer: Consumer, deadline = new Deadline(this.options.drainTimeoutMs)): Promise<void> {
    await consumer.stop(deadline);
    this.#consumers.delete(consumer);
  }

  reportError(thrown: unknown, module: string): void {
    const error = sanitizeError(thrown);
    for (const listener of this.#listeners) listener.error(error, module);
  }

  #notRunning(event?: string): ReliableError {
    const what = event ? `Cannot emit '${event}' reliably` : "Not possible";
    return this.#phase === "stopped"
      ? new ReliableError("RELIABLE_STOPPED", `${what}: the node has stopped. Nothing was stored.`, { event })
      : new ReliableError(
          "RELIABLE_NOT_STARTED",
          `${what}: the service has not started yet; \`started()\` is the earliest place. Nothing was stored.`,
          { event }
        );
  }

  async #stop(deadline: Deadline): Promise<void> {
    const overtakes = this.#phase === "starting";
    this.#phase = "stopped";
    if (overtakes) {
      // What the start waits for fails at once, and it closes what it has made.
      void this.#store?.close(0);
      await this.#courier?.close(0, 0);
      return withTimeout(this.#starting ?? Promise.resolve(), deadline.toClose);
    }
    await this.#close(deadline);
    this.#starting = this.#tracking = undefined;
  }

  async #close(deadline: Deadline): Promise<void> {
    const parts = {
      consumers: this.#consumers,
      storage: this.#storage,
      callback: this.#callback,
      statusWaiter: this.#statusWaiter,
      gauges: this.#gauges,
      courier: this.#courier,
      store: this.#store,
      redis: this.#redis
    };
    await shutDown(parts, deadline);
    this.#consumers.clear();
    this.#courier =
      this.#store =
      this.#storage =
      this.#redis =
      this.#publisher =
      this.#callback =
      this.#gauges =
        undefined;
  }
}
