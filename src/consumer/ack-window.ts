import type { Delivery } from "../couriers/courier";

/**
 * Acks everything up to the first unsettled delivery with one multiple ack, and later ones singly. So a slow handler
 * does not fill the prefetch window.
 */
export class AckWindow {
  #epoch = -1;
  #mark = 0;
  #beyond = new Set<number>();

  settle(deliveries: Delivery[]): void {
    const fresh: Delivery[] = [];
    for (const delivery of deliveries) {
      if (delivery.epoch < this.#epoch) {
        delivery.ack();
        continue;
      }
      if (delivery.epoch > this.#epoch) {
        // Of the connection of before, which may live: it ends when all of its deliveries have.
        for (const old of fresh) old.ack();
        this.#epoch = delivery.epoch;
        this.#mark = 0;
        this.#beyond.clear();
        fresh.length = 0;
      }
      fresh.push(delivery);
      this.#beyond.add(delivery.tag);
    }
    const from = this.#mark;
    while (this.#beyond.delete(this.#mark + 1)) this.#mark++;
    const last = fresh.find(delivery => delivery.tag === this.#mark);
    if (last) last.ackUpTo();
    for (const delivery of fresh) {
      if (delivery.tag > this.#mark || (!last && delivery.tag > from)) delivery.ack();
    }
  }
}
