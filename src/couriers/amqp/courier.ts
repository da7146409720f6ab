import type { ChannelModel, SocketOptions } from "amqplib";
import { CLOSE_MS, withTimeout } from "../../async/deadline";
import { type CourierEvents, TypedEmitter } from "../../async/typed-emitter";
import { WaitGroup } from "../../async/wait-group";
import { ReliableError, ReliableRetryableError, reasonOf } from "../../errors";
import type { Logger } from "../../platform/logger";
import {
  type ConsumeSpec,
  type Consumption,
  type Courier,
  type CourierFeatures,
  type CourierStatus,
  notSent,
  type Outcome,
  type Publication,
  type PublishResult,
  type QueueDepth,
  type QueueSpec
} from "../courier";
import { parseAddresses } from "./addresses";
import { ConfirmChannel } from "./confirm-channel";
import { AmqpConnection } from "./connection";
import { AmqpConsumption } from "./consumption";
import { assertExchange, ensureQueue, inspectQueue, onTemporaryChannel } from "./declare";
import { DelayQueues } from "./delay-queues";
import { type ExchangeDeclaration, eventsExchange, type QueueDeclaration, queueDeclaration } from "./topology";

export interface AmqpCourierOptions {
  /** `amqp://` or `amqps://` addresses of one cluster: an array, or one string separated by `;` or `,`. */
  urls?: string | string[];
  /** A live amqplib ChannelModel instead of `urls`: serves for both directions, is neither reconnected nor closed. */
  connection?: ChannelModel;
  /** The Moleculer namespace; may be empty. */
  namespace: string;
  nodeID: string;
  logger: Logger;
  /**
   * @default 30000 Below the time a dead connection takes to be noticed it would make outcomes unknown without need.
   */
  confirmTimeoutMs?: number;
  /** @default 1000 Publishes in flight. 100 gives a third less throughput at an eighth of the latency. */
  window?: number;
  /** @default 60000 How often everything declared is declared again: what somebody deleted comes back. */
  repairEveryMs?: number;
  /** @default 10 A dead connection is noticed within three of these. */
  heartbeatS?: number;
  /** TLS and socket options, handed to `net.connect` or `tls.connect`. */
  socket?: SocketOptions;
}

const WINDOW_BYTES = 16 * 1024 * 1024;

/**
 * RabbitMQ, over two connections: a broker that blocks publishers stops reading from their connection, acks included.
 */
export class AmqpCourier implements Courier {
  readonly name = "amqp";
  readonly features: CourierFeatures = { durable: true, shared: true };
  readonly #logger: Logger;
  readonly #given: boolean;
  readonly #listeners: TypedEmitter<CourierEvents>;
  readonly #exchange: ExchangeDeclaration;
  readonly #queues = new Map<string, QueueDeclaration>();
  readonly #buckets: DelayQueues;
  readonly #consumptions = new Set<AmqpConsumption>();
  readonly #publish: AmqpConnection;
  readonly #consume: AmqpConnection;
  readonly #publisher: ConfirmChannel;
  readonly #outcomes: Record<Outcome, number> = { confirmed: 0, returned: 0, nacked: 0, unknown: 0 };
  readonly #unsettled = new WaitGroup();
  #blockedAt: number | undefined;
  #blockedMs = 0;
  #wasReady = false;
  readonly #repairEveryMs: number;
  #repairing: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: AmqpCourierOptions) {
    const {
      urls,
      connection: given,
      namespace,
      nodeID,
      logger,
      confirmTimeoutMs = 30_000,
      window = 1_000,
      repairEveryMs = 60_000,
      heartbeatS = 10,
      socket
    } = options;
    this.#logger = logger;
    this.#given = given !== undefined;
    this.#repairEveryMs = repairEveryMs;
    this.#listeners = new TypedEmitter(logger);
    this.#exchange = eventsExchange(namespace);
    this.#buckets = new DelayQueues({
      exchange: this.#exchange,
      model: what => this.#admin(what),
      declared: target => this.#queues.get(target)
    });
    const addresses = given ? [] : parseAddresses(urls ?? [], heartbeatS);
    const common = {
      addresses,
      given,
      nodeID,
      logger,
      socket,
      onFailure: (error: Error) => this.#listeners.emit("error", error)
    };
    this.#publisher = new ConfirmChannel({
      window,
      windowBytes: WINDOW_BYTES,
      confirmTimeoutMs,
      logger,
      onChannelLost: reason => this.#reopen(reason),
      onSettled: (routingKey, result) => this.#settled(routingKey, result)
    });
    this.#publish = new AmqpConnection({
      ...common,
      purpose: "publish",
      onUp: model => this.#open(model),
      onDown: reason => {
        this.#publisher.detach(`connection lost: ${reason}`);
        this.#block(undefined);
        this.#signal();
      },
      onBlocked: reason => this.#block(reason)
    });
    this.#consume = new AmqpConnection({
      ...common,
      purpose: "consume",
      onUp: async () => {
        // Not awaited: a queue that cannot be had must not keep the others, or the start, waiting.
        for (const consumption of this.#consumptions) void consumption.resume();
      },
      onDown: () => undefined,
      onBlocked: () => undefined
    });
  }

  get ready(): boolean {
    return this.#publisher.open && this.#publisher.blocked === undefined && !this.#closing;
  }

  get writable(): boolean {
    return this.#publisher.writable;
  }

  async start(): Promise<void> {
    try {
      await Promise.all([this.#publish.start(), this.#consume.start()]);
      this.#repairing = setInterval(() => void this.#repair(), this.#repairEveryMs).unref();
    } catch (thrown) {
      await this.close(0);
      throw thrown;
    }
  }

  close(drainTimeoutMs: number, withinMs = drainTimeoutMs + CLOSE_MS): Promise<void> {
    this.#closing ??= this.#close(drainTimeoutMs, performance.now() + withinMs);
    this.#signal();
    return this.#closing;
  }

  on<E extends keyof CourierEvents>(event: E, listener: (...args: CourierEvents[E]) => void): () => void {
    return this.#listeners.on(event, listener);
  }

  async declare(spec: QueueSpec): Promise<void> {
    const queue = queueDeclaration(spec);
    const before = this.#queues.get(spec.name);
    this.#queues.set(spec.name, queue);
    const model = this.#declaring;
    try {
      await this.#assert(queue);
    } catch (thrown) {
      if (thrown instanceof ReliableError) {
        if (before) this.#queues.set(spec.name, before);
        else this.#queues.delete(spec.name);
      }
      // Still connected: it failed for a reason of its own. Otherwise the next connect declares it.
      if (thrown instanceof ReliableError || (model && model === this.#declaring)) throw thrown;
      this.#logger.debug(`${reasonOf(thrown)} It will be declared after the next connect.`);
    }
  }

  async remove(name: string): Promise<void> {
    this.#queues.delete(name);
    const buckets = this.#buckets.forgetTarget(name);
    const model = this.#admin(`delete queue ${name}`);
    // Deleting what does not exist is no error to the broker.
    await onTemporaryChannel(model, async channel => {
      for (const queue of [name, ...buckets]) await channel.deleteQueue(queue);
    });
  }

  /** Without a promise or a closure of its own: `#settled` counts. */
  publish(publication: Publication): Promise<PublishResult> {
    const { to } = publication;
    if (this.#closing) return Promise.resolve(this.#count(notSent("courier is closed")));
    this.#unsettled.begin();
    if ("event" in to) return this.#publisher.publish(this.#exchange.name, to.event, publication);
    const { queue, delayMs = 0 } = to;
    // Where it cannot be sent the publisher says why.
    if (delayMs <= 0 || !this.ready) return this.#publisher.publish("", queue, publication);
    const bucket = this.#buckets.known(queue, delayMs);
    return bucket === undefined
      ? this.#publishIntoNew(queue, delayMs, publication)
      : this.#publisher.publish("", bucket, publication);
  }

  async consume(spec: ConsumeSpec): Promise<Consumption> {
    await this.declare(spec.queue);
    const consumption = new AmqpConsumption({
      spec,
      logger: this.#logger,
      model: () => (this.#closing ? undefined : this.#consume.model),
      declare: () => this.#assert(this.#queues.get(spec.queue.name) ?? queueDeclaration(spec.queue)),
      onFailure: error => this.#listeners.emit("error", error),
      onClosed: closed => void this.#consumptions.delete(closed)
    });
    this.#consumptions.add(consumption);
    await consumption.resume();
    return consumption;
  }

  async depth(queue: string): Promise<QueueDepth | undefined> {
    const found = await inspectQueue(this.#admin(`look at queue ${queue}`), queue);
    return found && { ready: found.messageCount, consumers: found.consumerCount };
  }

  status(): CourierStatus {
    const since = this.#blockedAt;
    return {
      publish: this.#publish.status,
      consume: this.#consume.status,
      blocked: since !== undefined,
      blockedReason: this.#publisher.blocked,
      blockedMs: this.#blockedMs + (since === undefined ? 0 : Math.round(performance.now() - since)),
      inFlight: this.#publisher.inFlight,
      reconnects: this.#publish.reconnects + this.#consume.reconnects,
      outcomes: { ...this.#outcomes }
    };
  }

  async #close(drainTimeoutMs: number, until: number): Promise<void> {
    const left = () => Math.max(0, until - performance.now());
    clearInterval(this.#repairing);
    if (drainTimeoutMs > 0) await withTimeout(this.#unsettled.idle(), drainTimeoutMs);
    if (this.#given) {
      await Promise.all([...this.#consumptions].map(consumption => consumption.close(left())));
      await this.#publisher.close(left());
    }
    this.#publisher.detach("courier closed");
    for (const consumption of this.#consumptions) consumption.abandon();
    await Promise.all([this.#publish.close(left()), this.#consume.close(left())]);
  }

  /** Exchange and queues first: publishing to an exchange that is not there closes the channel for all in flight. */
  async #open(model: ChannelModel): Promise<void> {
    this.#buckets.forgetAll();
    await onTemporaryChannel(model, channel => assertExchange(channel, this.#exchange));
    for (const queue of this.#queues.values()) {
      try {
        await ensureQueue(model, this.#exchange, queue);
      } catch (thrown) {
        if (!(thrown instanceof ReliableError)) throw thrown;
        this.#logger.error(thrown.message);
        this.#listeners.emit("error", thrown);
      }
    }
    await this.#publisher.attach(model);
    // Lost meanwhile, and its `close` came before there was a channel to detach.
    if (this.#publish.model !== model) this.#publisher.detach("connection lost");
    this.#signal();
  }

  /**
   * A binding or an exchange that an operator deletes is missed by no connection. Until it is back its group lives on
   * resends, and emits of strategy `callback` are refused.
   */
  async #repair(): Promise<void> {
    for (const queue of this.#queues.values())
      await this.#assert(queue).catch(thrown => this.#logger.debug(`Cannot look after a queue: ${reasonOf(thrown)}`));
  }

  #reopen(reason: string): void {
    this.#signal();
    const { model } = this.#publish;
    if (!model || this.#closing) return;
    this.#logger.warn(`RabbitMQ publish channel: ${reason}`);
    this.#listeners.emit("error", new Error(reason));
    // Dropping the connection when that fails puts the next try under its backoff.
    this.#open(model).catch(thrown => {
      if (this.#publish.model === model) this.#publish.destroy(reasonOf(thrown));
    });
  }

  #block(reason: string | undefined): void {
    const now = performance.now();
    if (reason !== undefined) this.#blockedAt ??= now;
    else if (this.#blockedAt !== undefined) {
      this.#blockedMs += Math.round(now - this.#blockedAt);
      this.#blockedAt = undefined;
    }
    if (reason !== this.#publisher.blocked && this.#publish.model)
      this.#logger.warn(
        reason === undefined ? "RabbitMQ takes publishes again." : `RabbitMQ blocks publishers: ${reason}`
      );
    this.#publisher.setBlocked(reason);
    this.#signal();
  }

  #signal(): void {
    const { ready } = this;
    if (ready === this.#wasReady) return;
    this.#wasReady = ready;
    this.#listeners.emit(ready ? "ready" : "down");
  }

  #count(result: PublishResult): PublishResult {
    this.#outcomes[result.outcome]++;
    return result;
  }

  #settled(routingKey: string, result: PublishResult | undefined): void {
    this.#unsettled.end();
    if (!result) return;
    this.#count(result);
    // A bucket that somebody deleted: the next one declares it again.
    if (result.outcome === "returned") this.#buckets.forget(routingKey);
  }

  async #publishIntoNew(target: string, delayMs: number, publication: Publication): Promise<PublishResult> {
    const failed = (result: PublishResult) => {
      this.#settled(target, result);
      return result;
    };
    try {
      const bucket = await this.#buckets.provide(target, delayMs);
      return bucket === undefined
        ? failed({ outcome: "returned", reason: `there is no queue ${target}` })
        : this.#publisher.publish("", bucket, publication);
    } catch (thrown) {
      return failed({ ...notSent(reasonOf(thrown)), ...(thrown instanceof ReliableError && { outcome: "nacked" }) });
    }
  }

  /** Now if connected; after the next connect otherwise. */
  async #assert(queue: QueueDeclaration): Promise<void> {
    const model = this.#declaring;
    if (!model) return;
    await onTemporaryChannel(model, channel => assertExchange(channel, this.#exchange));
    await ensureQueue(model, this.#exchange, queue);
  }

  /** For declares and looks: the consume connection, which the broker never blocks. */
  get #declaring(): ChannelModel | undefined {
    return this.#consume.model ?? this.#publish.model;
  }

  #admin(what: string): ChannelModel {
    const model = this.#declaring;
    if (!model) throw new ReliableRetryableError("RELIABLE_UNAVAILABLE", `Cannot ${what}: not connected to RabbitMQ.`);
    return model;
  }
}
