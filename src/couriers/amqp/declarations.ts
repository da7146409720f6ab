import type { ChannelModel } from "amqplib";
import type { TypedEmitter } from "../../async/typed-emitter";
import { ReliableError, ReliableRetryableError, reasonOf } from "../../errors";
import { backoffMs } from "../../message/backoff";
import type { Clock } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import type { CourierEvents, QueueDepth, QueueSpec } from "../courier";
import type { AmqpConnection } from "./connection";
import { assertExchange, ensureQueue, inspectQueue, isDown, onTemporaryChannel } from "./declare";
import { type ExchangeDeclaration, type QueueDeclaration, queueDeclaration } from "./topology";

export interface DeclarationsParts {
  exchange: ExchangeDeclaration;
  publish: AmqpConnection;
  consume: AmqpConnection;
  logger: Logger;
  clock: Clock;
  listeners: TypedEmitter<CourierEvents>;
}

/** A queue that another channel is just making is there in less than a second. Then the caller is told. */
const DOWN = { initialMs: 50, maxMs: 1000, jitter: "half" } as const;
const MAX_TRIES = 8;

/** The queues declared here. They are remembered, and declared again after each connect and from time to time. */
export class Declarations {
  readonly #queues = new Map<string, QueueDeclaration>();
  #repairing: Promise<void> | undefined;
  /** Queues that cannot be declared at the moment. */
  readonly #failing = new Map<string, { text: string; times: number }>();
  /** Those that were there. One of them that is missing was deleted, with what was in it. */
  readonly #seen = new Set<string>();

  constructor(private readonly parts: DeclarationsParts) {}

  get exchange(): ExchangeDeclaration {
    return this.parts.exchange;
  }

  /** The declaration of the queue, if it was declared here. */
  get(name: string): QueueDeclaration | undefined {
    return this.#queues.get(name);
  }

  /** Declares it now if connected, else after the next connect. False = the broker does not let it be declared now. */
  async declare(spec: QueueSpec): Promise<boolean> {
    const queue = queueDeclaration(spec);
    const before = this.#queues.get(spec.name);
    this.#queues.set(spec.name, queue);
    const model = this.#model;
    try {
      await this.#assertReachable(queue);
      return true;
    } catch (thrown) {
      // A stop has overtaken the start that wants it.
      if (this.#closed) throw thrown;
      if (thrown instanceof ReliableError) {
        if (before) this.#queues.set(spec.name, before);
        else this.#queues.delete(spec.name);
        throw thrown;
      }
      // Still connected: it failed for a reason of its own. Otherwise the next connect declares it again.
      const refused = model !== undefined && model === this.#model;
      if (refused) this.#tell(spec.name, thrown);
      else this.parts.logger.debug(`${reasonOf(thrown)} It will be declared after the next connect.`);
      return !refused;
    }
  }

  /** What could not be declared the last time, and how often in a row. A fault of the exchange fails them all. */
  get unmended(): { text: string; times: number }[] {
    return [...new Map([...this.#failing.values()].map(failing => [failing.text, failing])).values()];
  }

  /** Told once for each text, until it has passed. */
  #tell(name: string, thrown: unknown): void {
    const { logger, listeners } = this.parts;
    const text = reasonOf(thrown);
    const before = this.#failing.get(name);
    const known = [...this.#failing.values()].some(failing => failing.text === text);
    this.#failing.set(name, { text, times: before?.text === text ? before.times + 1 : 1 });
    if (known) return;
    logger.warn(text);
    listeners.emit("error", thrown as Error);
  }

  forget(name: string): void {
    this.#queues.delete(name);
    this.#seen.delete(name);
    this.#failing.delete(name);
  }

  async unbind(queue: string, key: string): Promise<void> {
    this.forget(queue);
    const model = this.connected(`unbind queue ${queue}`);
    if (!(await inspectQueue(model, queue))) return;
    await onTemporaryChannel(model, channel => channel.unbindQueue(queue, this.exchange.name, key));
  }

  async depth(queue: string): Promise<QueueDepth | undefined> {
    const found = await inspectQueue(this.connected(`look at queue ${queue}`), queue);
    return found && { ready: found.messageCount, consumers: found.consumerCount };
  }

  /** It was there, and somebody, or a policy, has deleted it. */
  tellMissing(queue: string): void {
    this.#seen.delete(queue);
    const { logger, listeners } = this.parts;
    const error = new ReliableError(
      "RELIABLE_QUEUE_MISSING",
      `The queue ${queue} was deleted, with the messages that were in it (by somebody, or by the policy key 'expires').`,
      { queue }
    );
    logger.warn(error.message);
    listeners.emit("error", error);
  }

  /** Called before a consumer consumes the queue, which may have been deleted. */
  again(spec: QueueSpec): Promise<void> {
    return this.#assertReachable(this.#queues.get(spec.name) ?? queueDeclaration(spec));
  }

  /**
   * Declares all queues on a new connection. One that exists with other arguments is reported and does not stop the
   * others.
   */
  async assertAll(model: ChannelModel): Promise<void> {
    const { exchange, logger, listeners } = this.parts;
    await onTemporaryChannel(model, channel => assertExchange(channel, exchange));
    for (const queue of this.#queues.values()) {
      try {
        await this.#ensure(model, queue);
      } catch (thrown) {
        if (thrown instanceof ReliableError) {
          logger.error(thrown.message);
          listeners.emit("error", thrown);
          // The connection was lost again: what cannot be declared on one that lives must not end it.
        } else if (model !== this.parts.publish.model && model !== this.parts.consume.model) throw thrown;
        else this.#tell(queue.name, thrown);
      }
    }
  }

  /**
   * No connection notices that an operator has deleted a binding or an exchange. Until it is back its group gets
   * messages by resends only, and emits of strategy `callback` are refused.
   */
  repair(): Promise<void> {
    // A slow broker must not get the next round on top of this one.
    this.#repairing ??= this.#repairAll().finally(() => (this.#repairing = undefined));
    return this.#repairing;
  }

  async #repairAll(): Promise<void> {
    for (const queue of this.#queues.values()) {
      const model = this.#model;
      await this.#assert(queue).catch(thrown => {
        // A connection that was lost meanwhile is told elsewhere, and declares all when it is back.
        if (model && model === this.#model && !this.#closed) this.#tell(queue.name, thrown);
      });
    }
  }

  /** A connection for declaring, deleting or reading. Throws RELIABLE_UNAVAILABLE when there is none. */
  connected(what: string): ChannelModel {
    const model = this.#model;
    if (!model) throw new ReliableRetryableError("RELIABLE_UNAVAILABLE", `Cannot ${what}: not connected to RabbitMQ.`);
    return model;
  }

  get #closed(): boolean {
    return this.parts.publish.closed || this.parts.consume.closed;
  }

  /** The consume connection if it is open, since the broker never blocks it. */
  get #model(): ChannelModel | undefined {
    return this.parts.consume.model ?? this.parts.publish.model;
  }

  /** For one queue that somebody waits for: a start must not fail of what passes in a moment. */
  async #assertReachable(queue: QueueDeclaration): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await this.#assert(queue);
        return;
      } catch (thrown) {
        if (!isDown(thrown) || tries === MAX_TRIES) throw thrown;
        await this.parts.clock.sleep(backoffMs(DOWN, tries));
      }
    }
  }

  async #assert(queue: QueueDeclaration): Promise<void> {
    const model = this.#model;
    if (!model) return;
    const { exchange } = this.parts;
    await onTemporaryChannel(model, channel => assertExchange(channel, exchange));
    await this.#ensure(model, queue);
  }

  async #ensure(model: ChannelModel, queue: QueueDeclaration): Promise<void> {
    const { name } = queue;
    if (this.#seen.has(name) && !(await inspectQueue(model, name))) this.tellMissing(name);
    await ensureQueue(model, this.parts.exchange, queue);
    this.#seen.add(name);
    this.#failing.delete(name);
  }
}
