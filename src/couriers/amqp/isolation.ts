import type { ChannelModel } from "amqplib";
import { reasonOf } from "../../errors";
import type { Clock, Timer } from "../../platform/clock";
import { ConfirmChannel } from "./confirm-channel";
import type { ConfirmChannelOptions } from "./confirm-options";
import { AmqpConnection, type ConnectionOptions } from "./connection";
import { Denials } from "./denials";
import type { Entry } from "./outgoing";

/** A connection that nobody needs is closed after this time. */
const IDLE_MS = 10_000;

/** A publish alone is confirmed in milliseconds, or closes its channel. After two without an answer the rest is told so. */
const ANSWER_MS = 5000;

export interface IsolationParts {
  clock: Clock;
  connection: Omit<ConnectionOptions, "purpose" | "onUp" | "onDown" | "onBlocked">;
  channel: Pick<ConfirmChannelOptions, "confirmTimeoutMs" | "logger" | "clock" | "onSettled">;
}

/**
 * The broker has closed a channel, or a connection, because of one publish, and its text does not tell which. Those that
 * had no answer go again here, one at a time over a connection of their own: the one that closes it again is refused,
 * and nothing else is harmed.
 */
export class Isolation {
  readonly #channel: ConfirmChannel;
  #connection: AmqpConnection | undefined;
  #idle: Timer | undefined;
  #count = 0;
  /** Of all publishes, also those that were alone when they were refused. */
  readonly denials: Denials;

  constructor(private readonly parts: IsolationParts) {
    const { onSettled } = parts.channel;
    this.denials = new Denials(parts.clock);
    this.#channel = new ConfirmChannel({
      ...parts.channel,
      // Of a broker that does not answer the others need not wait for theirs one by one.
      confirmTimeoutMs: Math.min(parts.channel.confirmTimeoutMs, ANSWER_MS),
      window: 1,
      windowBytes: 0,
      onChannelLost: () => this.#reopen(),
      onSilent: reason => this.#connection?.destroy(reason),
      // There is never more than one.
      onSuspects: () => undefined,
      onSettled: (routingKey, result) => {
        onSettled(routingKey, result);
        if (--this.#count === 0) this.#idle = parts.clock.after(IDLE_MS, () => void this.#disconnect());
      }
    });
  }

  /** Publishes that wait here. */
  get count(): number {
    return this.#count;
  }

  add(suspects: Entry[]): void {
    this.#idle?.stop();
    this.#count += suspects.length;
    this.#channel.adopt(suspects);
    if (this.#connection) return;
    const connection = new AmqpConnection({
      ...this.parts.connection,
      purpose: "isolate",
      onUp: model => this.#channel.attach(model),
      onDown: reason => this.#channel.detach(`connection lost: ${reason}`),
      onBlocked: reason => this.#channel.setBlocked(reason)
    });
    this.#connection = connection;
    connection.start().catch(thrown => {
      this.#channel.close(reasonOf(thrown));
      void this.#disconnect();
    });
  }

  async close(withinMs?: number): Promise<void> {
    this.#channel.close("courier closed");
    await this.#disconnect(withinMs);
  }

  async #disconnect(withinMs?: number): Promise<void> {
    this.#idle?.stop();
    const connection = this.#connection;
    this.#connection = undefined;
    await connection?.close(withinMs);
  }

  #reopen(): void {
    const connection = this.#connection;
    const model: ChannelModel | undefined = connection?.model;
    if (model) this.#channel.attach(model).catch(thrown => connection?.destroy(reasonOf(thrown)));
  }
}
