import type { ChannelModel } from "amqplib";
import { CLOSE_MS, withTimeout } from "../../async/deadline";
import { TypedEmitter } from "../../async/typed-emitter";
import { WaitGroup } from "../../async/wait-group";
import { ReliableError, reasonOf } from "../../errors";
import type { Timer } from "../../platform/clock";
import { Warnings } from "../../platform/warnings";
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
import { AmqpControl } from "./control";
import { Declarations } from "./declarations";
import { assertChannels, onTemporaryChannel } from "./declare";
import { DelayQueues } from "./delay-queues";
import { Isolation, type IsolationParts } from "./isolation";
import type { AmqpCourierOptions } from "./options";
import type { Refusal } from "./refusal";
import { controlExchange, eventsExchange } from "./topology";

export type { AmqpCourierOptions } from "./options";

const WINDOW_BYTES = 16 * 1024 * 1024;

/**
 * RabbitMQ over two connections: a broker that blocks publishers stops reading from their connection, acks included.
 */
export class AmqpCourier implements Courier {
  readonly features: CourierFeatures = { durable: true, shared: true };
  readonly #warnings: Warnings;
  readonly #listeners: TypedEmitter<CourierEvents>;
  readonly #declarations: Declarations;
  readonly #delayQueues: DelayQueues;
  readonly control: AmqpControl;
  readonly #consumptions = new Set<AmqpConsumption>();
  readonly #publish: AmqpConnection;
  readonly #consume: AmqpConnection;
  readonly #publisher: ConfirmChannel;
  readonly #isolation: Isolation;
  readonly #unsettled = new WaitGroup();
  readonly #blocked: BlockedTime;
  #wasReady = false;
  readonly #repairEveryMs: number;
  readonly #declares: boolean;
  readonly #sign: Sign | undefined;
  #repairing: Timer | undefined;
  #closing: Promise<void> | undefined;

  constructor(private readonly options: AmqpCourierOptions) {
    const {
      urls,
      namespace,
      nodeID,
      logger,
      clock,
      confirmTimeoutMs = 30_000,
      window = 1_000,
      repairEveryMs = 60_000,
      declares = true,
      heartbeatS = 10,
      socket,
      sign
    } = options;
    this.#sign = sign;
    this.#warnings = new Warnings(logger, clock);
    this.#blocked = new BlockedTime(clock);
    this.#repairEveryMs = repairEveryMs;
    this.#declares = declares;
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
        for (const consumption of this.#consumptions) void consumption.open();
        void this.control.open();
      },
      onDown: () => undefined,
      onBlocked: () => undefined
    });
    this.#declarations = new Declarations({
      exchange: eventsExchange(namespace),
      publish: this.#publish,
      consume: this.#consume,
      logger,
      clock: this.options.clock,
      listeners: this.#listeners
    });
    this.#delayQueues = new DelayQueues(this.#declarations);
    this.control = new AmqpControl({
      exchange: controlExchange(namespace),
      logger,
      clock,
      model: () => (this.#closing ? undefined : this.#consume.model),
      connected: what => this.#declarations.connected(what)
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
      if (this.#declares) this.#repairing = this.options.clock.every(this.#repairEveryMs, () => void this.#repair());
    } catch (thrown) {
      await this.close(0);
      throw thrown;
    }
  }

  async #repair(): Promise<void> {
    await this.#declarations.repair();
    await this.#delayQueues
      .repair()
      .catch(thrown => this.options.logger.debug(`Cannot look for the delay queues: ${reasonOf(thrown)}`));
  }

  close(drainTimeoutMs: number, withinMs = drainTimeoutMs + CLOSE_MS): Promise<void> {
    this.#closing ??= this.#close(drainTimeoutMs, this.options.clock.monotonic() + withinMs);
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

  unbind(queue: string, key: string): Promise<void> {
    return this.#declarations.unbind(queue, key);
  }

  /** No promise and no closure of its own; `#settled` counts. */
  publish(given: Publication): Promise<PublishResult> {
    const publication = this.#sign ? this.#sign(given) : given;
    const { to } = publication;
    if (this.#closing) return Promise.resolve(notSent("courier is closed"));
    this.#unsettled.begin();
    if ("event" in to) return this.#publisher.publish(this.#declarations.exchange.name, to.event, publication);
    if ("control" in to) return this.#publishInto(() => this.control.provide(), publication);
    const { queue, delayMs = 0 } = to;
    // If it cannot be sent, the publisher says why.
    if (delayMs <= 0 || !this.ready) return this.#publisher.publish("", queue, publication);
    const delayQueue = this.#delayQueues.known(queue, delayMs);
    return delayQueue === undefined
      ? this.#publishInto(() => this.#delayQueues.provide(queue, delayMs), publication)
      : this.#publisher.publish("", delayQueue, publication);
  }

  async consume(spec: ConsumeSpec): Promise<Consumption> {
    await this.declare(spec.queue);
    assertChannels(this.#consume.channelMax, this.#consumptions.size + 1, spec.queue.name);
    const consumption = new AmqpConsumption({
      spec,
      logger: this.options.logger,
      clock: this.options.clock,
      model: () => (this.#closing ? undefined : this.#consume.model),
      declare: () => this.#declarations.again(spec.queue),
      marked: name => this.control.marked(name),
      onFailure: error => this.#listeners.emit("error", error),
      onClosed: closed => this.#closed(closed)
    });
    this.#consumptions.add(consumption);
    await consumption.open();
    return consumption;
  }

  /** The queue of a group that this node does not consume any more is not declared again: it may be forgotten. */
  #closed(consumption: AmqpConsumption): void {
    this.#consumptions.delete(consumption);
    const { queue } = consumption;
    const shared = [...this.#consumptions].some(other => other.queue === queue);
    if (!shared && this.#declarations.get(queue)?.bindings.length) this.#declarations.forget(queue);
  }

  depth(queue: string): Promise<QueueDepth | undefined> {
    return this.#declarations.depth(queue);
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
      idle: [...this.#consumptions].filter(({ active, suspended }) => !active && !suspended).map(({ queue }) => queue),
      unmended: this.#declarations.unmended,
      denied: this.#isolation.denials.text,
      reconnects: this.#publish.reconnects + this.#consume.reconnects
    };
  }

  async #close(drainTimeoutMs: number, until: number): Promise<void> {
    const left = () => Math.max(0, until - this.options.clock.monotonic());
    this.#repairing?.stop();
    this.control.close();
    if (drainTimeoutMs > 0) await withTimeout(this.#unsettled.idle(), drainTimeoutMs, this.options.clock);
    this.#publisher.close("courier closed");
    for (const consumption of this.#consumptions) consumption.abandon();
    await Promise.all([this.#publish.close(left()), this.#consume.close(left()), this.#isolation.close(left())]);
    this.#warnings.flush();
  }

  /** Exchange and queues first: publishing to a missing exchange closes the channel for everything in flight. */
  async #open(model: ChannelModel): Promise<void> {
    this.#delayQueues.forgetAll();
    if (this.#declares) await this.#declarations.assertAll(model);
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
    this.#warnings.warn("publish channel", reason, `RabbitMQ publish channel: ${reason}`);
    this.#listeners.emit("error", new Error(reason));
    // When that fails the connection is dropped, so that the next try waits for its backoff.
    (refusal ? this.#attach(model) : this.#open(model)).catch(thrown => {
      if (this.#publish.model === model) this.#publish.destroy(reasonOf(thrown));
    });
  }

  #block(reason: string | undefined): void {
    this.#blocked.set(reason !== undefined);
    if (reason !== this.#publisher.blocked && this.#publish.model)
      this.options.logger.warn(
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

  /** `provide` makes what it goes to, if that is not there; undefined = it cannot be. */
  async #publishInto(provide: () => Promise<string | undefined>, publication: Publication): Promise<PublishResult> {
    const { to } = publication;
    const target = "queue" in to ? to.queue : this.control.exchange;
    const failed = (result: PublishResult) => {
      this.#settled(target, result);
      return result;
    };
    try {
      const name = await provide();
      if (name === undefined) return failed({ outcome: "returned", reason: `there is no queue ${target}` });
      const [exchange, key] = "control" in to ? [name, to.control] : ["", name];
      return this.#publisher.publish(exchange, key, publication);
    } catch (thrown) {
      return failed({ ...notSent(reasonOf(thrown)), ...(thrown instanceof ReliableError && { outcome: "nacked" }) });
    }
  }
}
