import type { ChannelModel } from "amqplib";
import { CLOSE_MS, withTimeout } from "../../async/deadline";
import { newSignal } from "../../async/signal";
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
import { Consumptions } from "./consumptions";
import { AmqpControl } from "./control";
import { Declarations } from "./declarations";
import { DECLARE_MS } from "./declare";
import { DelayQueues } from "./delay-queues";
import { Hosts } from "./hosts";
import { Isolation, type IsolationParts } from "./isolation";
import type { AmqpCourierOptions } from "./options";
import { Placement } from "./placement";
import type { Refusal } from "./refusal";
import { controlExchange, eventsExchange } from "./topology";

export type { AmqpCourierOptions } from "./options";

const WINDOW_BYTES = 16 * 1024 * 1024;

/**
 * RabbitMQ over three connections. A broker that blocks publishers stops reading from their connection, acks included;
 * and a declare that cannot be answered ends its connection, with all that is under way on it.
 */
export class AmqpCourier implements Courier {
  readonly features: CourierFeatures = { durable: true, shared: true };
  readonly #warnings: Warnings;
  readonly #listeners: TypedEmitter<CourierEvents>;
  readonly #declarations: Declarations;
  readonly #delayQueues: DelayQueues;
  readonly control: AmqpControl;
  readonly #consumptions: Consumptions;
  readonly #publish: AmqpConnection;
  readonly #consume: AmqpConnection;
  readonly #declare: AmqpConnection;
  readonly #placement: Placement;
  /** Resolved while what is declared here is known to be there. */
  #declared = newSignal();
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
    const hosts = new Hosts(parseAddresses(urls, heartbeatS), nodeID);
    const common = {
      ...{ hosts, nodeID, logger, clock, socket },
      onFailure: (error: Error) => this.#listeners.emit("error", error)
    };
    const onSettled = (routingKey: string, result?: PublishResult) => this.#settled(routingKey, result);
    const channel: IsolationParts["channel"] = { confirmTimeoutMs, logger, clock, onSettled };
    this.#isolation = new Isolation({ clock, connection: common, channel });
    this.#publisher = new ConfirmChannel({
      ...channel,
      window,
      windowBytes: WINDOW_BYTES,
      onChannelLost: (reason, refusal) => this.#reopen(reason, refusal),
      onSilent: reason => this.#placement.silent(this.#publish, reason),
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
      // Not awaited: a queue that cannot be declared must not delay the others or the start.
      onUp: async () => void this.#consumptions.openSoon(),
      onDown: () => undefined,
      onBlocked: () => undefined
    });
    this.#declare = new AmqpConnection({
      ...common,
      purpose: "declare",
      onUp: async model => {
        if (this.#declares) await this.#declarations.assertAll(model);
        this.#declared.resolve();
        this.#placement.declareUp();
        void this.control.open();
        void this.#delayQueues.again();
        this.#consumptions.open();
      },
      onDown: (reason, host) => {
        if (this.#declared.resolved) this.#declared = newSignal();
        this.#placement.declareLost(reason, host);
      },
      onBlocked: () => undefined
    });
    this.#declarations = new Declarations({
      exchange: eventsExchange(namespace),
      control: controlExchange(namespace).name,
      ...{ logger, clock, connection: this.#declare, listeners: this.#listeners }
    });
    this.#delayQueues = new DelayQueues(this.#declarations, logger);
    this.#consumptions = new Consumptions({
      ...{ logger, clock, connection: this.#consume, declare: this.#declare, declarations: this.#declarations },
      model: () => (this.#closing ? undefined : this.#consume.model),
      marked: name => this.control.marked(name),
      onFailure: error => this.#listeners.emit("error", error)
    });
    this.#placement = new Placement({
      ...{ hosts, logger, clock, declare: this.#declare, publish: this.#publish, consume: this.#consume },
      confirmedAt: () => this.#publisher.silence.confirmedAt,
      prove: model => this.#declarations.prove(model),
      carry: {
        // Of being blocked the new one tells at its first publish.
        publish: model => this.#publisher.move(model, () => this.#block(undefined)),
        consume: () => this.#consumptions.move()
      }
    });
    this.control = new AmqpControl({
      ...{ logger, clock, exchange: controlExchange(namespace) },
      model: () => (this.#closing ? undefined : this.#declare.model),
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
      await Promise.all([this.#declare.start(), this.#publish.start(), this.#consume.start()]);
      if (this.#closing) return;
      this.#placement.start();
      if (this.#declares) this.#repairing = this.options.clock.every(this.#repairEveryMs, () => void this.#repair());
    } catch (thrown) {
      await this.close(0);
      throw thrown;
    }
  }

  async #repair(): Promise<void> {
    await this.#declarations.repair();
    await this.#delayQueues.repair();
  }

  close(drainTimeoutMs: number, withinMs = drainTimeoutMs + CLOSE_MS): Promise<void> {
    this.#closing ??= this.#close(drainTimeoutMs, this.options.clock.monotonic() + withinMs);
    this.#signal();
    return this.#closing;
  }

  on<E extends keyof CourierEvents>(event: E, listener: (...args: CourierEvents[E]) => void): () => void {
    return this.#listeners.on(event, listener);
  }

  async declare(spec: QueueSpec): Promise<boolean> {
    const declared = await this.#declarations.declare(spec);
    if (spec.delaysMs) void this.#delayQueues.prepare(spec.name, spec.delaysMs);
    return declared;
  }

  async remove(name: string): Promise<void> {
    await this.#declarations.remove(name, this.#delayQueues.forgetTarget(name));
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

  consume(spec: ConsumeSpec): Promise<Consumption> {
    return this.#consumptions.add(spec);
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
      unconfirmedMs: this.#publisher.silence.ms,
      unansweredMs: this.#placement.unansweredMs,
      idle: this.#consumptions.idle,
      unmended: this.#declarations.unmended,
      denied: this.#isolation.denials.text,
      reconnects: this.#publish.reconnects + this.#consume.reconnects
    };
  }

  async #close(drainTimeoutMs: number, until: number): Promise<void> {
    const left = () => Math.max(0, until - this.options.clock.monotonic());
    this.#repairing?.stop();
    this.#declared.resolve();
    const placed = this.#placement.close();
    this.control.close();
    if (drainTimeoutMs > 0) await withTimeout(this.#unsettled.idle(), drainTimeoutMs, this.options.clock);
    this.#publisher.close("courier closed");
    this.#consumptions.abandon();
    await Promise.all([this.#publish, this.#consume, this.#declare, this.#isolation].map(each => each.close(left())));
    await withTimeout(placed, Math.min(CLOSE_MS, left()), this.options.clock);
    this.#warnings.flush();
  }

  /** The exchange first: publishing to a missing one closes the channel for everything in flight. */
  async #open(model: ChannelModel): Promise<void> {
    if (this.#declares) await withTimeout(this.#declared.promise, DECLARE_MS, this.options.clock);
    await this.#attach(model);
  }

  /** The channel was closed, maybe since the exchange is gone. */
  async #openAgain(model: ChannelModel): Promise<void> {
    const declaring = this.#declare.model;
    if (!declaring) return this.#open(model);
    if (this.#declares) await this.#declarations.assertAll(declaring);
    await this.#attach(model);
  }

  async #attach(model: ChannelModel): Promise<void> {
    // The connection may be lost in the meantime, or have moved.
    await this.#publisher.attach(model, () => this.#publish.model === model);
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
    (refusal ? this.#attach(model) : this.#openAgain(model)).catch(thrown => {
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
