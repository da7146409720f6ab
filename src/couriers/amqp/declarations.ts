import { randomBytes } from "node:crypto";
import type { Channel, ChannelModel } from "amqplib";
import type { TypedEmitter } from "../../async/typed-emitter";
import { ReliableError, ReliableRetryableError, reasonOf } from "../../errors";
import { backoffMs } from "../../message/backoff";
import type { Clock } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import { SHORT_CHARS } from "../../wire/names";
import type { CourierEvents, QueueDepth, QueueSpec } from "../courier";
import type { AmqpConnection } from "./connection";
import { assertExchange, ensureQueue, inspectQueue, isDown, NO_QUORUM, NoAnswer, onTemporaryChannel } from "./declare";
import { type ExchangeDeclaration, type QueueDeclaration, queueDeclaration } from "./topology";

export interface DeclarationsParts {
  exchange: ExchangeDeclaration;
  /** Nothing else is done on it: a declare that is not answered ends it. */
  connection: AmqpConnection;
  /** Begin of the names of queues of one process. */
  control: string;
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
  /** Nothing can be declared: nobody waits for that until all have been declared anew. */
  #silent = false;
  /** Queues whose declare was not answered. */
  readonly #slow = new Set<string>();

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
    if (this.#silent) return false;
    try {
      await this.#assertReachable(queue);
      return true;
    } catch (thrown) {
      // A stop has overtaken the start that wants it.
      if (this.#closed) throw thrown;
      if (thrown instanceof NoAnswer) {
        this.parts.logger.warn(`${thrown.message} ${spec.name} is declared when it does.`);
        return false;
      }
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
    const failing = new Map([...this.#failing.values()].map(failing => [failing.text, failing]));
    if (this.#silent) failing.set("", { text: NO_QUORUM, times: 2 });
    else if (!this.#model) failing.set("", { text: "not connected to declare queues", times: 1 });
    for (const name of this.#slow) failing.set(name, { text: `no answer to the declare of ${name}`, times: 2 });
    return [...failing.values()];
  }

  /** Told once for each text, until it has passed. What a close brings about is not told. */
  #tell(name: string, thrown: unknown): void {
    if (this.#closed) return;
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
    this.#slow.delete(name);
  }

  /** Deletes the queue, and those in which messages wait for it. */
  async remove(name: string, delayQueues: string[]): Promise<void> {
    this.forget(name);
    // Deleting a queue that does not exist is no error at the broker.
    for (const queue of [name, ...delayQueues])
      await onTemporaryChannel(this.connected(`delete queue ${queue}`), channel => channel.deleteQueue(queue));
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
    if (this.#silent || this.#slow.has(spec.name)) return Promise.reject(new NoAnswer(NO_QUORUM));
    return this.#assertReachable(this.#queues.get(spec.name) ?? queueDeclaration(spec));
  }

  /**
   * Declares all queues on a new connection. One that exists with other arguments is reported and does not stop the
   * others.
   */
  async assertAll(model: ChannelModel): Promise<void> {
    try {
      await this.#assertAll(model);
      this.#silent = false;
    } catch (thrown) {
      this.#silent ||= reasonOf(thrown).includes(NO_QUORUM);
      throw thrown;
    }
  }

  async #assertAll(model: ChannelModel): Promise<void> {
    const { exchange, logger, listeners } = this.parts;
    await this.prove(model);
    await onTemporaryChannel(model, channel => assertExchange(channel, exchange));
    for (const queue of this.#queues.values()) {
      // It has cost the connection of before; the repair tries it again.
      if (this.#slow.has(queue.name)) continue;
      try {
        await this.#ensure(model, queue);
      } catch (thrown) {
        if (thrown instanceof ReliableError) {
          logger.error(thrown.message);
          listeners.emit("error", thrown);
          // The connection was lost again: what cannot be declared on one that lives must not end it.
        } else if (thrown instanceof NoAnswer || model !== this.parts.connection.model) throw thrown;
        else this.#tell(queue.name, thrown);
      }
    }
  }

  /**
   * That the cluster behind this connection takes changes: the declare of what is there is answered by a node that is
   * alone, too. Throws NoAnswer.
   */
  async prove(model: ChannelModel): Promise<void> {
    const name = `${this.parts.control}.${randomBytes(12).toString("base64url").slice(0, SHORT_CHARS)}`;
    const work = async (channel: Channel) => {
      await channel.assertQueue(name, { exclusive: true, durable: false, arguments: { "x-queue-type": "classic" } });
      await channel.deleteQueue(name);
    };
    await onTemporaryChannel(model, work, NO_QUORUM);
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
        if (model && model === this.#model && !(thrown instanceof NoAnswer)) this.#tell(queue.name, thrown);
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
    return this.parts.connection.closed;
  }

  get #model(): ChannelModel | undefined {
    return this.parts.connection.model;
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
    try {
      await ensureQueue(model, this.parts.exchange, queue);
    } catch (thrown) {
      if (thrown instanceof NoAnswer) this.#slow.add(name);
      throw thrown;
    }
    this.#slow.delete(name);
    this.#seen.add(name);
    this.#failing.delete(name);
  }
}
