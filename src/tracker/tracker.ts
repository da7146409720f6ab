import type { Deadline } from "../async/deadline";
import type { Delivery } from "../couriers/courier";
import { BatchConsumer } from "../inbound/batch-consumer";
import type { Fault } from "../inbound/parking";
import { Announcements } from "./announcements";
import { ParkedQueue } from "./parked-queue";
import { Receipts } from "./receipts";
import type { TrackerParts } from "./tracker-parts";

/**
 * What comes back from consumers → store. Any number of trackers compete on the same queues. A message from a queue is
 * acked after the store has what it says; every store verb may be repeated, so a crash in between only does it again.
 */
export class Tracker {
  readonly #consumers: BatchConsumer[] = [];
  readonly #end = new AbortController();
  readonly receipts: Receipts;

  constructor(readonly parts: TrackerParts) {
    this.receipts = new Receipts(parts);
  }

  async start(): Promise<void> {
    const { queues } = this.parts;
    const announcements = new Announcements(this.parts);
    const parkedQueue = new ParkedQueue(this.parts);
    for (const queue of [queues.displaced, queues.parked])
      await this.#consume(queue, deliveries => parkedQueue.take(deliveries));
    await this.#consume(queues.receipts, deliveries => this.receipts.take(deliveries));
    await this.#consume(queues.callbackReceipts, deliveries => this.receipts.take(deliveries));
    await this.#consume(queues.announcements, deliveries => announcements.take(deliveries));
  }

  async stop(deadline: Deadline): Promise<void> {
    this.#end.abort();
    await Promise.all(this.#consumers.map(consumer => consumer.stop(deadline)));
  }

  async #consume(queue: string, handle: (deliveries: Delivery[]) => Promise<Fault[]>): Promise<void> {
    if (this.#end.signal.aborted) return;
    const consumer = new BatchConsumer(queue, { ...this.parts, handle, awaiting: this.parts.statusWaiter });
    this.#consumers.push(consumer);
    await consumer.start();
  }
}
