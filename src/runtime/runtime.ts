import { Deadline } from "../async/deadline";
import { AnnouncedHistory } from "../consumer/announced-history";
import type { Consumer } from "../consumer/consumer";
import type { ConsumerSpec } from "../consumer/consumer-parts";
import { decoding } from "../consumer/decoding";
import { type Courier, systemQueue } from "../couriers/courier";
import type { Emitter } from "../emit/emit";
import { noStore, notRunning } from "../emit/emit";
import type { EmitOptions } from "../emit/emit-options";
import type { EmitSource } from "../emit/new-message";
import type { EmitResult } from "../emit/strategy";
import type { ReliableError } from "../errors";
import type { Signatures } from "../inbound/signatures";
import type { DeadNews } from "../options/hooks";
import { mergeNode } from "../options/merge";
import type { NodeOptions, ServiceOptions } from "../options/options";
import { checkTogether, nodeOptions } from "../options/resolve";
import type { Clock } from "../platform/clock";
import { Warnings } from "../platform/warnings";
import { runDeadHook } from "../producer-rpc/dead-hooks";
import type { Store } from "../stores/store";
import { connectRedis, type RedisConnection } from "../sweeper/redis";
import { Events } from "../telemetry/events";
import { Load } from "../telemetry/load";
import { Metrics } from "../telemetry/metrics";
import { systemQueues } from "../wire/names";
import type { ResendAnswer, ResendRequest } from "../wire/resend";
import { assemble, type Identity, type NodeParts, type Storage } from "./assemble";
import {
  type Backends,
  backendsOf,
  declareQueues,
  describeBackends,
  newCourier,
  newSignatures,
  newStore
} from "./backends";
import { checkNamespace } from "./names";
import { newConsumer } from "./new-consumer";
import { Services } from "./services";
import { overtake, shutDown } from "./shutdown";
import { assertFree, PROCESS, type Surroundings } from "./surroundings";
import { Traps } from "./traps";

type Phase = "created" | "starting" | "started" | "stopped";

/**
 * A node's start and stop; one per Moleculer broker. It owns one pair of RabbitMQ connections, one store client and one
 * Redis client, whatever the number of services. The first service's start opens them, the last one's stop closes them:
 *
 *   start   store + courier → subscriptions → (service `reliable`: tracker, sweeper) → consumers, each after its
 *           service's `started`
 *   stop    consumers, each before its service's `stopped` → the rest, in the order and with the deadline of
 *           `shutdown.ts`
 */
export class Runtime {
  readonly metrics = new Metrics();
  readonly events: Events;
  // By its clock; see `surround`.
  load!: Load;
  warnings!: Warnings;
  services!: Services;
  traps!: Traps;
  readonly #values: Record<string, unknown> = {};
  readonly #consumers = new Set<Consumer>();
  #phase: Phase = "created";
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;
  #tracking: Promise<void> | undefined;
  #options: NodeOptions | undefined;
  #courier: Courier | undefined;
  #signatures: Signatures | undefined;
  #store: Store | undefined;
  #redis: RedisConnection | undefined;
  #announcedHistory!: AnnouncedHistory;
  #parts: NodeParts | undefined;
  #surroundings!: Surroundings;

  constructor(readonly identity: Identity) {
    this.events = new Events(identity.logger);
    this.#goBy(PROCESS);
  }

  /** Puts others in place of the process's. Throws RELIABLE_BAD_OPTION once it has started, and of a second one. */
  surround(by: Surroundings): void {
    assertFree(this.identity.nodeID, this.#surroundings, this.#phase !== "created");
    this.#goBy(by);
  }

  #goBy(surroundings: Surroundings): void {
    const { identity } = this;
    const { clock } = surroundings;
    this.#surroundings = surroundings;
    this.warnings = new Warnings(identity.logger, clock);
    this.services = new Services(clock);
    this.load = new Load(clock, this.#consumers);
    this.#announcedHistory = new AnnouncedHistory(clock);
    this.traps = new Traps({
      logger: identity.logger,
      clock,
      services: () => identity.services(),
      known: event => Boolean(this.storage?.subscriptions.groupsFor(event).length)
    });
  }

  /** Node options of a further service. Throws RELIABLE_BAD_OPTION when it contradicts another's. */
  configure(values: Record<string, unknown>, service: string): void {
    mergeNode(this.#values, values, service);
  }

  get clock(): Clock {
    return this.#surroundings.clock;
  }

  get options(): NodeOptions {
    return this.#options ?? this.#surroundings.options(nodeOptions(this.#values));
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

  get storage(): Storage | undefined {
    return this.#parts?.storage;
  }

  /** Throws RELIABLE_NO_STORE. */
  needStorage(): Storage {
    if (this.storage) return this.storage;
    throw this.#phase === "started" ? noStore(this.identity.nodeID) : this.#notRunning();
  }

  get consumers(): ReadonlySet<Consumer> {
    return this.#consumers;
  }

  /**
   * Counts a service in, once. The node's parts start with the first one. Rejects on refused credentials and bad
   * addresses, not on servers that are down. False = a stop came in the middle of the start: that is no failure, so a
   * SIGTERM during the start ends with exit code 0.
   */
  async acquire(service: object): Promise<boolean> {
    this.services.enter(service);
    await this.#stopping;
    // An earlier start that was stopped may still be ending.
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
      this.traps.changed();
      this.identity.logger.info(
        `Reliable: node ${this.identity.nodeID} runs on ${describeBackends(this.options, this.#store)}.`
      );
    } catch (error) {
      // Nothing may keep the process alive now. Another start begins from the beginning.
      await this.#close(new Deadline(0, this.clock));
      this.#starting = undefined;
      throw error;
    }
  }

  get #overtaken(): boolean {
    return this.#phase === "stopped";
  }

  async #open(): Promise<void> {
    const { identity, metrics, load, warnings, events, clock } = this;
    const surroundings = this.#surroundings;
    const options = (this.#options = surroundings.options(nodeOptions(this.#values)));
    const { logger, namespace } = identity;
    checkNamespace(namespace, options);
    checkTogether(options, this.#values);
    const signatures = (this.#signatures = newSignatures(options, { metrics, clock }));
    const courier = (this.#courier = newCourier(options, { ...identity, surroundings }, signatures));
    const store = (this.#store = newStore(options, { ...identity, surroundings }));
    courier.on("error", error => events.emit("error", error, "courier"));
    store?.onUnavailable(error => events.emit("error", error, "store"));
    const starts = await Promise.allSettled([courier.start(), store?.start()]);
    for (const start of starts) if (start.status === "rejected") throw start.reason;
    if (!options.observer) await declareQueues(courier, namespace, store);
    // Only nodes that can sweep need the lease.
    if (store && options.redis) this.#redis = await connectRedis(options.redis, logger, clock);
    const servers = { courier, signatures, store, redis: this.#redis };
    const watching = { metrics, load, warnings, events, announcedHistory: this.#announcedHistory };
    const consumers = this.#consumers;
    this.#parts = assemble({ identity, options, ...servers, ...watching, consumers, surroundings, clock });
    const { storage } = this.#parts;
    await Promise.all([storage?.subscriptions.start(), !options.observer && storage?.ownStore.learn()]);
    if (options.observer) return;
    await storage?.pauseMarks.start();
    this.#parts.gauges.start();
    this.#parts.history.start();
  }

  /**
   * The queues in which checks wait are made before the first emit: a new one takes long while a member of RabbitMQ's
   * cluster is away. Not waited for; what is refused is told by the first emit.
   */
  prepareChecks(delaysMs: number[]): void {
    const own = systemQueues(this.identity.namespace);
    this.#courier?.declare({ ...systemQueue(own.checks, own), delaysMs }).catch(() => undefined);
  }

  /** Tracker, callback service and sweeper: what the service `reliable` runs, but of an observer. Idempotent. */
  track(): Promise<void> {
    this.#tracking ??= this.#track(this.needStorage()).catch(error => {
      if (!this.#overtaken) throw error;
    });
    return this.#tracking;
  }

  async #track({ tracker, callbackService, sweeper, bulkWorker, sweepNews }: Storage): Promise<void> {
    if (this.options.observer) return;
    await tracker.start();
    await callbackService.start();
    if (!this.running) return;
    if (this.options.sweeper) sweeper.start();
    bulkWorker.start();
    if (this.options.sweeper) sweepNews.start();
  }

  /** See the mixin's `reliableEmit`. */
  emit(source: EmitSource, event: string, payload: unknown, options: EmitOptions): Promise<EmitResult> {
    if (this.#phase !== "started" || !this.#parts) return Promise.reject(this.#notRunning(event));
    this.traps.emitted(event);
    return this.#parts.emitter.emit(source, event, payload, this.#surroundings.emit(options));
  }

  /** Throws RELIABLE_NOT_STARTED, RELIABLE_STOPPED. */
  get emitter(): Emitter {
    if (this.#phase !== "started" || !this.#parts) throw this.#notRunning();
    return this.#parts.emitter;
  }

  /** What the mixin's action `reliableResend` does: answers for the messages of this node's services. */
  async answer(
    request: ResendRequest,
    { maxPayloadBytes, sendsJobs = false, sources, encode }: ServiceOptions
  ): Promise<ResendAnswer> {
    if (this.#phase !== "started" || !this.#parts) throw this.#notRunning();
    return this.#parts.producerHandler.answer(request, { maxPayloadBytes, sendsJobs, sources, encode });
  }

  /** A message of this service has failed for good. Never rejects. */
  async died(news: DeadNews, { onDead }: ServiceOptions): Promise<void> {
    if (onDead) await runDeadHook(this, onDead, news);
  }

  /**
   * Starts a consumer. Rejects with RELIABLE_QUEUE_MISMATCH or RELIABLE_BAD_CONSUMER; with RELIABLE_STOPPED when the
   * node's stop overtakes it.
   */
  async consume(spec: ConsumerSpec): Promise<Consumer> {
    const courier = this.#courier;
    if (this.#phase !== "started" || !courier) throw this.#notRunning();
    const { identity, storage, metrics, warnings, events, clock } = this;
    const wire = { courier, signatures: this.#signatures, spans: this.#parts?.spans };
    const watching = { metrics, warnings, events, clock, announcedHistory: this.#announcedHistory };
    const handleOf = (of: ConsumerSpec) => this.#handleOf(of);
    const consumers = this.#consumers;
    const consumer = await newConsumer(spec, { identity, storage, ...wire, ...watching, consumers, handleOf });
    try {
      await consumer.start();
    } catch (error) {
      this.#forget(consumer);
      throw this.#overtaken ? this.#notRunning() : error;
    }
    return consumer;
  }

  async stopConsumer(
    consumer: Consumer,
    deadline = new Deadline(this.options.drainTimeoutMs, this.clock)
  ): Promise<void> {
    await consumer.stop(deadline);
    this.#forget(consumer);
  }

  /** With an admission what it emits is known to be of a delivery, and its load is watched. */
  #handleOf(spec: ConsumerSpec): ConsumerSpec["handle"] {
    const own = this.#surroundings.handler(spec);
    if (spec.foreign) return own;
    const handle = decoding(own, spec.decode);
    if (!this.options.admission) return handle;
    return this.load.watch(
      (...given) => this.#parts?.admission.handling(spec.group, () => handle(...given)) ?? handle(...given),
      spec
    );
  }

  #forget(consumer: Consumer): void {
    this.#consumers.delete(consumer);
    this.load.unwatch(consumer.spec.handle);
  }

  #notRunning(event?: string): ReliableError {
    return notRunning(this.#phase === "stopped", event);
  }

  async #stop(deadline: Deadline): Promise<void> {
    this.traps.stop();
    const overtakes = this.#phase === "starting";
    this.#phase = "stopped";
    const { clock } = this;
    const begun = { store: this.#store, courier: this.#courier, starting: this.#starting, clock };
    if (overtakes) return overtake(begun, deadline);
    await this.#close(deadline);
    this.#starting = this.#tracking = undefined;
  }

  async #close(deadline: Deadline): Promise<void> {
    const consumers = this.#consumers;
    const servers = { courier: this.#courier, store: this.#store, redis: this.#redis };
    await shutDown({ consumers, parts: this.#parts, ...servers, clock: this.clock }, deadline);
    this.warnings.flush();
    consumers.clear();
    this.#parts = this.#courier = this.#store = this.#redis = undefined;
  }
}
