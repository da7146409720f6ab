import { randomBytes } from "node:crypto";
import type { Channel, ChannelModel } from "amqplib";
import { type ReliableError, reasonOf } from "../../errors";
import { backoffMs } from "../../message/backoff";
import type { Clock, Timer } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import { SHORT_CHARS } from "../../wire/names";
import type { Control, Heard, Listener } from "../courier";
import { assertExchange, assertQueue, discardChannel, ignoreErrors, inspectQueue, onTemporaryChannel } from "./declare";
import { unpacked } from "./headers";
import { type ExchangeDeclaration, queueDeclaration } from "./topology";

/** As for consumptions: a queue that cannot be made at the moment must not be asked for in a loop. */
const AGAIN = { initialMs: 100, maxMs: 30_000, jitter: "half" } as const;

export interface ControlParts {
  exchange: ExchangeDeclaration;
  logger: Logger;
  clock: Clock;
  /** The connection for declares. */
  model(): ChannelModel | undefined;
  /** The same. Throws RELIABLE_UNAVAILABLE. */
  connected(what: string): ChannelModel;
}

/**
 * Marks, which are empty queues that are there or not; and the exchange by which all consuming nodes are told something.
 * Each node hears it by an exclusive queue, which is gone with its connection.
 */
export class AmqpControl implements Control {
  /** By key. */
  readonly #listeners = new Map<string, Set<Listener>>();
  readonly #end = new AbortController();
  #opening = false;
  #channel: Channel | undefined;
  #queue = "";
  #failures = 0;
  #timer: Timer | undefined;

  constructor(private readonly parts: ControlParts) {}

  get exchange(): string {
    return this.parts.exchange.name;
  }

  async mark(name: string): Promise<void> {
    const { exchange, connected } = this.parts;
    try {
      await onTemporaryChannel(connected(`make ${name}`), channel =>
        assertQueue(channel, exchange, queueDeclaration({ name }))
      );
    } catch (thrown) {
      // With other arguments it is there all the same.
      if ((thrown as Partial<ReliableError>).type !== "RELIABLE_QUEUE_MISMATCH") throw thrown;
    }
  }

  async unmark(name: string): Promise<void> {
    await onTemporaryChannel(this.parts.connected(`delete ${name}`), channel => channel.deleteQueue(name));
  }

  async marked(name: string): Promise<boolean> {
    return (await inspectQueue(this.parts.connected(`look at ${name}`), name)) !== undefined;
  }

  /** Before a publish to it: one to an exchange that is not there closes the channel of all publishes. */
  async provide(): Promise<string> {
    const { exchange, connected } = this.parts;
    await onTemporaryChannel(connected("tell all nodes"), channel => assertExchange(channel, exchange));
    return exchange.name;
  }

  listen(key: string, listener: Listener): () => void {
    const of = this.#listeners.get(key) ?? new Set();
    this.#listeners.set(key, of.add(listener));
    if (this.#channel) void this.#bindLate(this.#channel, key, listener);
    else void this.open();
    return () => {
      of.delete(listener);
      // The binding stays as long as the channel: a few names.
      if (!of.size && this.#listeners.get(key) === of) this.#listeners.delete(key);
    };
  }

  async #bindLate(channel: Channel, key: string, listener: Listener): Promise<void> {
    try {
      await channel.bindQueue(this.#queue, this.exchange, key);
      listener();
    } catch (thrown) {
      // All is made anew, and all are told so.
      this.parts.logger.debug(`Cannot listen to ${this.exchange} for ${key}: ${reasonOf(thrown)}`);
      if (this.#channel === channel) discardChannel(channel);
    }
  }

  close(): void {
    this.#end.abort();
    this.#timer?.stop();
  }

  /** Called after each connect. */
  async open(): Promise<void> {
    const model = this.parts.model();
    if (!model || !this.#listeners.size || this.#opening || this.#channel || this.#end.signal.aborted) return;
    this.#opening = true;
    try {
      const channel = await model.createChannel();
      ignoreErrors(channel);
      let lost = false;
      channel.on("close", () => {
        lost = true;
        if (this.#channel === channel) this.#channel = undefined;
        this.#again();
      });
      const keys = await this.#hear(channel);
      if (lost) return;
      if (this.#end.signal.aborted) return discardChannel(channel);
      this.#channel = channel;
      this.#failures = 0;
      for (const key of keys) this.#tell(key);
      // Those that came while the others were bound.
      for (const [key, listeners] of this.#listeners)
        if (!keys.includes(key)) for (const listener of listeners) void this.#bindLate(channel, key, listener);
    } catch (thrown) {
      this.parts.logger.debug(`Cannot listen to ${this.exchange}: ${reasonOf(thrown)}`);
      this.#again();
    } finally {
      this.#opening = false;
    }
  }

  /** Returns the keys that it hears. */
  async #hear(channel: Channel): Promise<string[]> {
    const { exchange } = this.parts;
    await assertExchange(channel, exchange);
    const queue = (this.#queue = `${exchange.name}.${randomBytes(12).toString("base64url").slice(0, SHORT_CHARS)}`);
    await channel.assertQueue(queue, {
      exclusive: true,
      autoDelete: true,
      durable: false,
      arguments: { "x-queue-type": "classic" }
    });
    const keys = [...this.#listeners.keys()];
    for (const key of keys) await channel.bindQueue(queue, exchange.name, key);
    await channel.consume(
      queue,
      message => {
        // Somebody has deleted the queue.
        if (message === null) return discardChannel(channel);
        const { messageId, type, appId, headers = {} } = message.properties;
        const heard = {
          queue: exchange.name,
          messageId,
          type,
          appId,
          headers: unpacked(headers),
          body: message.content
        };
        this.#tell(message.fields.routingKey, heard);
      },
      { noAck: true }
    );
    return keys;
  }

  #tell(key: string, heard?: Heard): void {
    for (const listener of [...(this.#listeners.get(key) ?? [])]) listener(heard);
  }

  /** Without a connection it is opened after the next connect. */
  #again(): void {
    if (this.#end.signal.aborted || !this.parts.model()) return;
    this.#timer?.stop();
    this.#timer = this.parts.clock.after(backoffMs(AGAIN, ++this.#failures), () => void this.open());
  }
}
