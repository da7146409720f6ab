import type { ConsumeMessage } from "amqplib";
import type { Epoch } from "./delivery";

/**
 * Bytes of unacked deliveries above which a consumption takes fewer at a time. A prefetch counts messages alone: 1,000
 * of 16 MiB, RabbitMQ's largest, would be 16 GB. A full prefetch of what our own nodes send at their defaults is below
 * it: 50 events of 256 KiB, or 1,000 receipts of 30 KiB.
 */
export const MAX_UNACKED_BYTES = 32 * 1024 * 1024;

/** At least so many deliveries between two widenings. */
const MIN_CALM = 50;

/**
 * How many deliveries a consumer may hold, so that memory stays bounded whatever their size. With the delivery that
 * takes it above MAX_UNACKED_BYTES it is cancelled; what is still on its way is given back at once, since RabbitMQ would
 * send the rest of the prefetch. When enough is acked the queue is consumed again, with a prefetch that fits the largest
 * one; it grows when smaller messages have come for a while. So a consumption holds the limit and one message more.
 */
export class Intake {
  prefetch: number;
  /** From the decision to cancel until the broker's answer. */
  givesBack = false;
  #largest = 0;
  #seen = 0;

  constructor(readonly full: number) {
    this.prefetch = full;
  }

  /** Returns the prefetch to go on with, if it must be another one. */
  took(epoch: Epoch, message: ConsumeMessage): number | undefined {
    const { unacked } = epoch;
    const bytes = unacked.add(message);
    if (unacked.bytes > MAX_UNACKED_BYTES && this.prefetch > 1)
      return this.#fitting(unacked.largest, this.prefetch - 1);
    return this.prefetch < this.full ? this.#wider(bytes, unacked.bytes) : undefined;
  }

  /**
   * Not sooner: before RabbitMQ 4.3 a message that is given back comes nearer to its delivery limit. So it is a few
   * times at most.
   */
  #wider(bytes: number, held: number): number | undefined {
    this.#largest = Math.max(this.#largest, bytes);
    if (++this.#seen < Math.max(MIN_CALM, this.full / 8)) return undefined;
    const wider = this.#fitting(this.#largest, this.full);
    this.#seen = 0;
    this.#largest = 0;
    return wider >= Math.min(2 * this.prefetch, this.full) && held <= MAX_UNACKED_BYTES / 2 ? wider : undefined;
  }

  /** Half of the limit, so that messages that are a little larger do not pass it at once. */
  #fitting(bytes: number, atMost: number): number {
    return Math.max(1, Math.min(atMost, Math.floor(MAX_UNACKED_BYTES / 2 / Math.max(1, bytes))));
  }

  turned(prefetch: number): void {
    this.prefetch = prefetch;
    this.givesBack = false;
    this.#seen = 0;
    this.#largest = 0;
  }
}
