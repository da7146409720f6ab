import { randomUUID } from "node:crypto";
import type { Delivery } from "../couriers/courier";
import { ReliableError, reasonOf } from "../errors";
import type { Parked } from "../message/records";
import type { Store } from "../stores/store";
import {
  announceParked,
  causeOf,
  isParkedMessage,
  type Parkable,
  type ParkingNode,
  toParked,
  toShortRecord
} from "./parked-messages";

/** A delivery that is to be parked, and the reason. `part`: this alone of it; the rest of it could be handled. */
export type Fault = [delivery: Delivery, reason: string, part?: Parkable];

export interface ParkingParts extends ParkingNode {
  store: Pick<Store, "ready" | "parked">;
}

/** True if the store may take the same later, or takes nothing at all now. Any other error is about this message. */
export function mayPass(error: unknown, store: Pick<Store, "ready">): boolean {
  const { retryable, type } = error as { retryable?: boolean; type?: string };
  const takesNothing = type === "RELIABLE_ACCESS_REFUSED" || type === "RELIABLE_LOCK_LOST";
  return retryable === true || takesNothing || !store.ready;
}

/**
 * Deliveries of one queue that nobody can handle → store. One that the store refuses is kept in a short form, and holds
 * up no other. It is counted and told when it is kept, once.
 */
export class Parking {
  readonly #run = randomUUID();
  readonly #tried = new WeakSet<Parkable>();
  readonly #told = new WeakSet<Parkable>();
  readonly #refused = new WeakSet<Parkable>();

  constructor(readonly parts: ParkingParts) {}

  /**
   * Returns those of which the store refuses something in any form; they are told. Rejects when it may take them later;
   * repeating it is harmless.
   */
  async park(faults: Fault[]): Promise<Delivery[]> {
    if (!faults.length) return [];
    try {
      await this.#add(faults.map(fault => [fault, this.#recordOf(fault)]));
      return [];
    } catch (error) {
      if (mayPass(error, this.parts.store)) throw error;
      if (faults.length === 1) return this.#parkShort(faults[0] as Fault, error);
      const refused: Delivery[] = [];
      for (const fault of faults) refused.push(...(await this.park([fault])));
      return refused;
    }
  }

  #recordOf([delivery, reason, found = delivery]: Fault): Parked {
    return toParked(found, reason, this.parts, this.#run);
  }

  async #parkShort(fault: Fault, refusal: unknown): Promise<Delivery[]> {
    const [delivery] = fault;
    try {
      await this.#add([[fault, toShortRecord(this.#recordOf(fault), reasonOf(refusal))]]);
      return [];
    } catch (error) {
      if (mayPass(error, this.parts.store)) throw error;
      this.#tellRefused(fault, error);
      return [delivery];
    }
  }

  async #add(records: [Fault, Parked][]): Promise<void> {
    // One that was tried before without an answer may be there by now, and was not told.
    const tried = records.map(([[delivery, , found = delivery]]) => this.#tried.has(found));
    for (const [[delivery, , found = delivery]] of records) this.#tried.add(found);
    const stored = await this.parts.store.parked.add(records.map(([, record]) => record));
    records.forEach(([[delivery, , found = delivery], { reason }], i) => {
      // Whoever has stored it before it came again has told it.
      const toldBefore = !stored[i] && !tried[i] && found.redelivered;
      if (toldBefore || this.#told.has(found) || isParkedMessage(found)) return;
      this.#told.add(found);
      announceParked(found, reason, this.parts, "tracker");
    });
  }

  #tellRefused([delivery, reason, found = delivery]: Fault, cause: unknown): void {
    if (this.#refused.has(found)) return;
    this.#refused.add(found);
    const { queue, messageId } = found;
    const { warnings, events } = this.parts;
    const error = new ReliableError(
      "RELIABLE_STORE_REFUSED",
      `The store refuses to keep a message from ${queue} that is to be parked (${reason}), even in short: ${reasonOf(cause)}. It stays in its queue, unacked, and is tried again.`,
      { queue, messageId, reason },
      cause
    );
    warnings.error(`refused from ${queue}`, causeOf(reason), `Reliable: ${error.message}`);
    events.emit("error", error, "tracker");
  }
}
