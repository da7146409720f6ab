import type { Channel, ChannelModel, ConsumeMessage } from "amqplib";
import { CLOSE_MS, TIMED_OUT, withTimeout } from "../../async/deadline";
import { ReliableError, reasonOf } from "../../errors";
import { backoffMs } from "../../message/backoff";
import type { Clock, Timer } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import type { ConsumeSpec, Consumption, Delivery } from "../courier";
import { closeChannel, discardChannel } from "./declare";

/**
 * Pause after a lost channel or a cancellation. Without it this would loop fast on a queue that is being moved or
 * deleted.
 */
const RECONSUME = { initialMs: 100, maxMs: 30_000, jitter: "half" } as const;

/** A cancel takes one round trip. After this time the connection counts as dead. */
const CANCEL_TIMEOUT_MS = 5_000;

export interface ConsumptionOptions {
  spec: ConsumeSpec;
  logger: Logger;
  clock: Clock;
  model(): ChannelModel | undefined;
  /** Declares the queue again, since it may have been deleted. */
  declare(): Promise<void>;
  onFailure(error: Error): void;
  onClosed(consumption: AmqpConsumption): void;
}

/** One channel of this consumption. Its delivery tags mean nothing on the next one. */
interface Epoch {
  number: number;
  channel: Channel;
  consumerTag: string | undefined;
  /** Delivered and not acked, in order. Acking a tag twice would close the channel. */
  unacked: Set<number>;
  live: boolean;
}

/** Consumes one queue on a channel of its own, so that an error of one consumer does not affect the others. */
export class AmqpConsumption implements Consumption {
  readonly #end = new AbortController();
  #epoch: Epoch | undefined;
  #epochs = 0;
  #failures = 0;
  #opening: Promise<void> | undefined;
  #timer: Timer | undefined;
  #lastError: string | undefined;

  constructor(private readonly options: ConsumptionOptions) {}

  get queue(): string {
    return this.options.spec.queue.name;
  }

  get active(): boolean {
    return this.#epoch?.live === true && this.#epoch.consumerTag !== undefined && !this.#cancelled;
  }

  /** Starts consuming if it does not yet and there is a connection. Called at the start and after each connect. */
  resume(): Promise<void> {
    this.#opening ??= this.#open().finally(() => (this.#opening = undefined));
    return this.#opening;
  }

  async cancel(withinMs = CANCEL_TIMEOUT_MS): Promise<void> {
    this.abandon();
    const stopped = await withTimeout(this.#stop(), Math.min(withinMs, CANCEL_TIMEOUT_MS), this.options.clock);
    // From a broker that does not answer, no more deliveries are taken; unacked ones return to the queue with the
    // channel.
    if (stopped === TIMED_OUT && this.#epoch) this.#drop(this.#epoch);
  }

  async close(withinMs = CANCEL_TIMEOUT_MS + CLOSE_MS): Promise<void> {
    const until = this.options.clock.monotonic() + withinMs;
    await this.cancel(withinMs);
    const epoch = this.#epoch;
    this.options.onClosed(this);
    if (!epoch?.live) return;
    epoch.live = false;
    if (epoch.unacked.size) {
      // A nack returns deliveries without counting against the delivery limit (RabbitMQ 4.3); closing the channel alone
      // counts.
      try {
        epoch.channel.nackAll(true);
      } catch (thrown) {
        this.options.logger.debug(`Returning messages to ${this.queue}: ${reasonOf(thrown)}`);
      }
    }
    const { clock } = this.options;
    await closeChannel(epoch.channel, Math.max(0, until - clock.monotonic()), clock);
  }

  /** The connection is about to be closed: failures caused by that are neither reported nor repeated. */
  abandon(): void {
    this.#end.abort();
    this.#timer?.stop();
  }

  get #cancelled(): boolean {
    return this.#end.signal.aborted;
  }

  async #stop(): Promise<void> {
    await this.#opening;
    const epoch = this.#epoch;
    if (!epoch?.live || epoch.consumerTag === undefined) return;
    const tag = epoch.consumerTag;
    epoch.consumerTag = undefined;
    // Rejects if the channel is lost; then nothing is delivered either.
    await epoch.channel.cancel(tag).catch(() => undefined);
  }

  async #open(): Promise<void> {
    const model = this.options.model();
    if (this.#cancelled || !model || this.#epoch?.live) return;
    let epoch: Epoch | undefined;
    try {
      await this.options.declare();
      const channel = await model.createChannel();
      if (this.#cancelled) return discardChannel(channel);
      epoch = this.#adopt(channel);
      await channel.prefetch(this.options.spec.prefetch);
      const current = epoch;
      const { consumerTag } = await channel.consume(this.queue, message => this.#received(current, message));
      // A null may have arrived together with the answer.
      if (!epoch.live) return;
      epoch.consumerTag = consumerTag;
      this.#failures = 0;
      this.#lastError = undefined;
    } catch (thrown) {
      if (epoch) this.#drop(epoch);
      this.#failed(thrown);
      this.#again();
    }
  }

  #adopt(channel: Channel): Epoch {
    const epoch: Epoch = { number: ++this.#epochs, channel, consumerTag: undefined, unacked: new Set(), live: true };
    this.#epoch = epoch;
    channel.on("error", error => this.#failed(error));
    channel.on("handler-error", error => this.options.logger.error(`Consuming ${this.queue}:`, error));
    channel.on("close", () => {
      if (!epoch.live) return;
      epoch.live = false;
      this.#again();
    });
    return epoch;
  }

  #received(epoch: Epoch, message: ConsumeMessage | null): void {
    if (!epoch.live) return;
    if (message === null) {
      // The queue was deleted or moved, or the broker's consumer timeout was reached. amqplib never answers the
      // cancellation, so the broker keeps a dead entry of the consumer that a later ack would wake. Only closing the
      // channel ends it.
      this.#failed(
        new Error(`the broker cancelled the consumer of ${this.queue} (queue deleted or moved, or consumer timeout)`)
      );
      this.#drop(epoch);
      this.#again();
      return;
    }
    epoch.unacked.add(message.fields.deliveryTag);
    try {
      this.options.spec.onDelivery(new AmqpDelivery(this.queue, epoch, message));
    } catch (thrown) {
      this.options.logger.error(`The consumer of ${this.queue} threw; the message stays unacked:`, thrown);
    }
  }

  #drop(epoch: Epoch): void {
    epoch.live = false;
    discardChannel(epoch.channel);
  }

  /** Without a connection the courier resumes it after the next connect. */
  #again(): void {
    if (this.#cancelled || !this.options.model()) return;
    this.#timer?.stop();
    this.#timer = this.options.clock.after(backoffMs(RECONSUME, ++this.#failures), () => void this.resume());
  }

  #failed(thrown: unknown): void {
    const text = reasonOf(thrown);
    if (this.#cancelled || text === this.#lastError) return;
    this.#lastError = text;
    this.options.logger.warn(`Consuming ${this.queue}: ${text}`);
    // A mismatch needs an operator; everything else is tried again.
    if (thrown instanceof ReliableError) this.options.onFailure(thrown);
  }
}

class AmqpDelivery implements Delivery {
  readonly #epoch: Epoch;
  readonly #message: ConsumeMessage;

  constructor(
    readonly queue: string,
    epoch: Epoch,
    message: ConsumeMessage
  ) {
    this.#epoch = epoch;
    this.#message = message;
  }

  get messageId(): string | undefined {
    return this.#message.properties.messageId as string | undefined;
  }

  get type(): string | undefined {
    return this.#message.properties.type as string | undefined;
  }

  get contentType(): string | undefined {
    return this.#message.properties.contentType as string | undefined;
  }

  get timestamp(): number | undefined {
    return this.#message.properties.timestamp as number | undefined;
  }

  get appId(): string | undefined {
    return this.#message.properties.appId as string | undefined;
  }

  get headers(): Record<string, unknown> {
    return this.#message.properties.headers ?? {};
  }

  get body(): Buffer {
    return this.#message.content;
  }

  get redelivered(): boolean {
    return this.#message.fields.redelivered;
  }

  get original(): ConsumeMessage {
    return this.#message;
  }

  get live(): boolean {
    return this.#epoch.live;
  }

  get tag(): number {
    return this.#message.fields.deliveryTag;
  }

  get epoch(): number {
    return this.#epoch.number;
  }

  ack(): boolean {
    const { live, unacked } = this.#epoch;
    if (!live) return false;
    return unacked.delete(this.tag) ? this.#send(this.tag, false) : true;
  }

  nack(requeue: boolean): boolean {
    const { live, unacked, channel } = this.#epoch;
    if (!live) return false;
    return unacked.delete(this.tag) ? sent(() => channel.nack(this.#message, false, requeue)) : true;
  }

  ackUpTo(): boolean {
    const { live, unacked } = this.#epoch;
    if (!live) return false;
    let highest = 0;
    for (const tag of unacked) {
      if (tag > this.tag) break;
      highest = tag;
      unacked.delete(tag);
    }
    // The broker treats a second ack of a tag as an error, so the highest tag that is still open stands for all.
    return highest ? this.#send(highest, true) : true;
  }

  #send(deliveryTag: number, multiple: boolean): boolean {
    return sent(() => this.#epoch.channel.ack({ fields: { deliveryTag } } as ConsumeMessage, multiple));
  }
}

function sent(send: () => void): boolean {
  try {
    send();
    return true;
  } catch {
    // It is closing, and the `close` event has not come yet.
    return false;
  }
}
