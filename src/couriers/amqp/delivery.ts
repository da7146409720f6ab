import type { Channel, ConsumeMessage } from "amqplib";
import type { Clock } from "../../platform/clock";
import type { Delivery } from "../courier";
import { unpacked } from "./headers";
import { Unacked } from "./unacked";

/** One channel of a consumption. Its delivery tags mean nothing on the next one. */
export interface Epoch {
  number: number;
  channel: Channel;
  consumerTag: string | undefined;
  unacked: Unacked;
  /** Deliveries that were handed on. */
  handed: number;
  live: boolean;
}

export class AmqpDelivery implements Delivery {
  readonly #epoch: Epoch;
  readonly #message: ConsumeMessage;
  /** Not AMQP's tag: that of a delivery that was given back at once is missing in their row. */
  readonly tag: number;

  constructor(
    readonly queue: string,
    epoch: Epoch,
    message: ConsumeMessage
  ) {
    this.#epoch = epoch;
    this.#message = message;
    this.tag = ++epoch.handed;
    const { properties } = message;
    // There, since handlers written for the client library read them there.
    if (properties.headers) properties.headers = unpacked(properties.headers);
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

  get epoch(): number {
    return this.#epoch.number;
  }

  get #deliveryTag(): number {
    return this.#message.fields.deliveryTag;
  }

  ack(): boolean {
    const { live, unacked } = this.#epoch;
    if (!live) return false;
    return unacked.delete(this.#deliveryTag) ? this.#send(this.#deliveryTag, false) : true;
  }

  nack(requeue: boolean): boolean {
    const { live, unacked, channel } = this.#epoch;
    if (!live) return false;
    return unacked.delete(this.#deliveryTag) ? sent(() => channel.nack(this.#message, false, requeue)) : true;
  }

  ackUpTo(): boolean {
    const { live, unacked } = this.#epoch;
    if (!live) return false;
    // The broker treats a second ack of a tag as an error, so the highest tag that is still open stands for all.
    const highest = unacked.deleteUpTo(this.#deliveryTag);
    return highest ? this.#send(highest, true) : true;
  }

  #send(deliveryTag: number, multiple: boolean): boolean {
    return sent(() => this.#epoch.channel.ack({ fields: { deliveryTag } } as ConsumeMessage, multiple));
  }
}

export function newEpoch(number: number, channel: Channel): Epoch {
  return { number, channel, consumerTag: undefined, unacked: new Unacked(), handed: 0, live: true };
}

/**
 * Ends the epoch; all that is not acked goes back. A nack returns deliveries without counting against the delivery limit
 * (RabbitMQ 4.3); closing the channel alone counts.
 */
export function returnAll(epoch: Epoch, failed: (thrown: unknown) => void): void {
  const { channel, unacked, live } = epoch;
  epoch.live = false;
  if (!live || !unacked.size) return;
  try {
    channel.nackAll(true);
  } catch (thrown) {
    failed(thrown);
  }
}

const DRAIN_POLL_MS = 100;

/** Until nothing is unacked, or that does not matter any more. */
export async function drained(
  epoch: Epoch,
  { withinMs, clock, ended }: { withinMs: number; clock: Clock; ended: () => boolean }
): Promise<void> {
  const until = clock.monotonic() + withinMs;
  while (epoch.live && epoch.unacked.size && !ended() && clock.monotonic() < until) await clock.sleep(DRAIN_POLL_MS);
}

/** To its place in the queue. It was not handed on. */
export function giveBack({ channel }: Epoch, message: ConsumeMessage): void {
  sent(() => channel.nack(message, false, true));
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
