import type { ChannelModel, SocketOptions } from "amqplib";
import { CLOSE_MS, withTimeout } from "../../async/deadline";
import { TypedEmitter } from "../../async/typed-emitter";
import { WaitGroup } from "../../async/wait-group";
import { ReliableError, reasonOf } from "../../errors";
import type { Clock, Timer } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import {
  type ConsumeSpec,
  type Consumption,
  type Courier,
  type CourierEvents,
  type CourierFeatures,
  type CourierStatus,
  notSent,
  type Publication,
  type PublishResult,
  type QueueDepth,
  type QueueSpec,
  type Sign
} from "../courier";
import { parseAddresses } from "./addresses";
import { BlockedTime } from "./blocked-time";
import { ConfirmChannel } from "./confirm-channel";
import { AmqpConnection } from "./connection";
import { AmqpConsumption } from "./consumption";
import { Declarations } from "./declarations";
import { assertChannels, inspectQueue, onTemporaryChannel } from "./declare";
import { DelayQueues } from "./delay-queues";
import { Isolation, type IsolationParts } from "./isolation";
import type { Refusal } from "./refusal";
import { eventsExchange } from "./topology";

export interface AmqpCourierOptions {
  /** `amqp://` or `amqps://` addresses of one cluster: an array, or one string separated by `;` or `,`. */
  urls: string | string[];
  /** The Moleculer namespace; may be empty. */
  namespace: string;
  nodeID: string;
  logger: Logger;
  clock: Clock;
  /**
   * @default 30000 A shorter time than a dead connection takes to be noticed would make outcomes unknown without need.
   */
  confirmTimeoutMs?: number;
  /** @default 1000 Publishes in flight. 100 gives a third less throughput at an eighth of the latency. */
  window?: number;
  /** @default 60000 How often all declarations are repeated, so that a deleted queue or binding comes back. */
  repairEveryMs?: number;
  /** @default 10 A dead connection is noticed within three heartbeats. */
  heartbeatS?: number;
  /** Signs what is published. */
  sign?: Sign | undefined;
  /** TLS and socket options for `net.connect` or `tls.connect`. */
  socket?: SocketOptions;
}

const WINDOW_BYTES = 16 * 1024 * 1024;

/**
 * RabbitMQ over two connections: a broker that blocks publishers stops reading from their connection, acks included.
 */
export class AmqpCourier implements Courier {
  readonly features: CourierFeatures = { durable: true, shared: true };
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #listeners: TypedEmitter<CourierEvents>;
  readonly #declarations: Declarations;
  readonly #delayQueues: DelayQueues;
  readonly #consumptions = new Set<AmqpConsumption>();
  readonly #publish: AmqpConnection;
  readonly #consume: AmqpConnection;
  readonly #publisher: ConfirmChannel;
  readonly #isolation: Isolation;
  readonly #unsettled = new WaitGroup();
  readonly #blocked: BlockedTime;
  #wasReady = false;
  readonly #repairEveryMs: number;
  readonly #sign: Sign | undefined;
  #repairing: Timer | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: AmqpCourierOptions) {
    const {
      urls,
      namespace,
      nodeID,
      logger,
      clock,
      confirmTimeoutMs = 30_000,
      window = 1_000,
      repairEveryMs = 60_000,
      heartbeatS = 10,
      socket,
      sign
    } = options;
    this.#sign = sign;
    this.#logger = logger;
    this.#clock = clock;
    this.#blocked = new BlockedTime(clock);
    this.#repairEveryMs = repairEveryMs;
    this.#listeners = new TypedEmitter(logger);
    const addresses = parseAddresses(urls, heartbeatS);
    const common = {
      addresses,
      nodeID,
      logger,
      clock,
      socket,
      onFailure: (error: Error) => this.#listeners.emit("error", error)
    };
    const channel: IsolationParts["channel"] = {
      confirmTimeoutMs,
      logger,
      clock,
      onSettled: (routingKey, result) => this.#settled(routingKey, result)
    };
    this.#isolation = new Isolation({ clock, connection: common, channel });
    this.#publisher = new ConfirmChannel({
      ...channel,
      window,
      windowBytes: WINDOW_BYTES,
      onChannelLost: (reason, refusal) => this.#reopen(reason, refusal),
      onSuspects: suspects => this.#isolation.add(suspects)
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
        // Not awaited: a queue that cannot be declared must not delay the others or the start.
        for (const consumption of this.#consumptions) void consumption.resume();
      },
      onDown: () => undefined,
      onBlocked: () => undefined
    });
    this.#declarations = new Declarations({
      exchange: eventsExchange(namespace),
      publish: this.#publish,
      consume: this.#consume,
      logger,
      clock: this.#clock,
      listeners: this.#listeners
    });
    this.#delayQueues = new DelayQueues(this.#declarations);
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
      this.#repairing = this.#clock.every(this.#repairEveryMs, () => void this.#repair());
    } catch (thrown) {
      await this.close(0);
      throw thrown;
    }
  }

  async #repair(): Promise<void> {
    await this.#declarations.repair();
    await this.#delayQueues
      .repair()
      .catch(thrown => this.#logger.debug(`Cannot look for the delay queues: ${reasonOf(thrown)}`));
  }

  close(drainTimeoutMs: number, withinMs = drainTimeoutMs + CLOSE_MS): Promise<void> {
    this.#closing ??= this.#close(drainTimeoutMs, this.#clock.monotonic() + withinMs);
    this.#signal();
    return this.#closing;
  }

  on<E extends keyof CourierEvents>(event: E, listener: (...args: CourierEvents[E]) => void): () => void {
    return this.#listeners.on(event, listener);
  }

  declare(spec: QueueSpec): Promise<boolean> {
    return this.#declarations.declare(spec);
  }

  async remove(name: string): Promise<void> {
    this.#declarations.forget(name);
    const delayQueues = this.#delayQueues.forgetTarget(name);
    const model = this.#declarations.connected(`delete queue ${name}`);
    // Deleting a queue that does not exist is no error at the broker.
    await onTemporaryChannel(model, async channel => {
      for (const queue of [name, ...delayQueues]) await channel.deleteQueue(queue);
    });
  }

  async unbind(queue: string, key: string): Promise<void> {
    this.#declarations.forget(queue);
    const model = this.#declarations.connected(`unbind queue ${queue}`);
    if (!(await inspectQueue(model, queue))) return;
    await onTemporaryChannel(model, channel => channel.unbindQueue(queue, this.#declarations.exchange.name, key));
  }

  /** No promise and no closure of its own; `#settled` counts. */
  publish(given: Publication): Promise<PublishResult> {
    const publication = this.#sign ? this.#sign(given) : given;
    const { to } = publication;
    if (this.#closing) return Promise.resolve(notSent("courier is closed"));
    this.#unsettled.begin();
    if ("event" in to) return this.#publisher.publish(this.#declarations.exchange.name, to.event, publication);
    const { queue, delayMs = 0 } = to;
    // If it cannot be sent, the publisher says why.
    if (delayMs <= 0 || !this.ready) return this.#publisher.publish("", queue, publication);
    const delayQueue = this.#delayQueues.known(queue, delayMs);
    return delayQueue === undefined
      ? this.#publishIntoNew(queue, delayMs, publication)
      : this.#publisher.publish("", delayQueue, publication);
  }

  async consume(spec: ConsumeSpec): Promise<Consumption> {
    await this.declare(spec.queue);
    assertChannels(this.#consume.channelMax, this.#consumptions.size + 1, spec.queue.name);
    const consumption = new AmqpConsumption({
      spec,
      logger: this.#logger,
      clock: this.#clock,
      model: () => (this.#closing ? undefined : this.#consume.model),
      declare: () => this.#declarations.again(spec.queue),
      onFailure: error => this.#listeners.emit("error", error),
      onClosed: closed => this.#closed(closed)
    });
    this.#consumptions.add(consumption);
    await consumption.resume();
    return consumption;
  }

  /** The queue of a group that this node does not consume any more is not declared again: it may be forgotten. */
  #closed(consumption: AmqpConsumption): void {
    this.#consumptions.delete(consumption);
    const { queue } = consumption;
    const shared = [...this.#consumptions].some(other => other.queue === queue);
    if (!shared && this.#declarations.get(queue)?.bindings.length) this.#declarations.forget(queue);
  }

  async depth(queue: string): Promise<QueueDepth | undefined> {
    const found = await inspectQueue(this.#declarations.connected(`look at queue ${queue}`), queue);
    return found && { ready: found.messageCount, consumers: found.consumerCount };
  }

  status(): CourierStatus {
    return {
      publish: this.#publish.status,
      consume: this.#consume.status,
      blocked: this.#blocked.now,
      blockedReason: this.#publisher.blocked,
      blockedMs: this.#blocked.ms,
      inFlight: this.#publisher.inFlight + this.#isolation.count,
      unconfirmedMs: this.#publisher.unconfirmedMs,
      idle: [...this.#consumptions].filter(({ active }) => !active).map(({ queue }) => queue),
      unmended: this.#declarations.unmended,
      denied: this.#isolation.denials.text,
      reconnects: this.#publish.reconnects + this.#consume.reconnects
    };
  }

  async #close(drainTimeoutMs: number, until: number): Promise<void> {
    const left = () => Math.max(0, until - this.#clock.monotonic());
    this.#repairing?.stop();
    if (drainTimeoutMs > 0) await withTimeout(this.#unsettled.idle(), drainTimeoutMs, this.#clock);
    this.#publisher.close("courier closed");
    for (const consumption of this.#consumptions) consumption.abandon();
    await Promise.all([this.#publish.close(left()), this.#consume.close(left()), this.#isolation.close(left())]);
  }

  /** Exchange and queues first: publishing to a missing exchange closes the channel for everything in flight. */
  async #open(model: ChannelModel): Promise<void> {
    this.#delayQueues.forgetAll();
    await this.#declarations.assertAll(model);
    await this.#attach(model);
  }

  async #attach(model: ChannelModel): Promise<void> {
    await this.#publisher.attach(model);
    // The connection was lost in the meantime, and its `close` came before there was a channel to detach.
    if (this.#publish.model !== model) this.#publisher.detach("connection lost");
    this.#signal();
  }

  /** After a refusal nothing is missing at the broker, and the other publishes wait. */
  #reopen(reason: string, refusal?: Refusal): void {
    this.#signal();
    const { model } = this.#publish;
    if (!model || this.#closing) return;
    this.#logger.warn(`RabbitMQ publish channel: ${reason}`);
    this.#listeners.emit("error", new Error(reason));
    // When that fails the connection is dropped, so that the next try waits for its backoff.
    (refusal ? this.#attach(model) : this.#open(model)).catch(thrown => {
      if (this.#publish.model === model) this.#publish.destroy(reasonOf(thrown));
    });
  }

  #block(reason: string | undefined): void {
    this.#blocked.set(reason !== undefined);
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

  #settled(routingKey: string, result: PublishResult | undefined): void {
    this.#unsettled.end();
    this.#isolation.denials.settled(routingKey, result);
    // Someone deleted a delay queue: the next delayed publish declares it again.
    if (result?.outcome === "returned") this.#delayQueues.missing(routingKey);
  }

  async #publishIntoNew(target: string, delayMs: number, publication: Publication): Promise<PublishResult> {
    const failed = (result: PublishResult) => {
      this.#settled(target, result);
      return result;
    };
    try {
      const delayQueue = await this.#delayQueues.provide(target, delayMs);
      return delayQueue === undefined
        ? failed({ outcome: "returned", reason: `there is no queue ${target}` })
        : this.#publisher.publish("", delayQueue, publication);
    } catch (thrown) {
      return failed({ ...notSent(reasonOf(thrown)), ...(thrown instanceof ReliableError && { outcome: "nacked" }) });
    }
  }
}
