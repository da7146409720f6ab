import type { Consumption } from "../couriers/courier";
import type { Clock, Timer } from "../platform/clock";
import type { Slots } from "./slots";

/** How often it is looked at. */
const TICK_MS = 250;

/** What waits longer for a handler is more than its handlers need, and others may have it. */
const HOARDED_MS = 250;

/** A consumer that is begun anew costs two round trips: only for a window that is so much larger. */
const WIDER = 1.25;

/** Times what was on its way on average, since it comes in bursts: with twice as many P15 of the bench loses a tenth. */
const ROOM = 3;

/**
 * What was given back was fetched in vain, and before RabbitMQ 4.3 comes nearer to its delivery limit. So nothing is
 * fetched ahead for this time, and twice as long after each further time.
 */
const CALM_MS = 10_000;
const MAX_CALM_MS = 600_000;

/** Per handler at work. A batch of look-ups or receipts that one of them fills is large enough. */
const MOST_PER_HANDLER = 20;
const MOST = 1000;

/** The most that a consumption with so many handlers at work holds. */
export function mostHeld(handlers: number): number {
  return Math.max(handlers, Math.min(MOST, handlers * MOST_PER_HANDLER));
}

/**
 * How many deliveries a consumption holds. Besides those at a handler some are looked up, and some wait until what came
 * of them is written: as many as there were of these on average are fetched ahead, so that handlers that take no time
 * need not wait for that. Their number is rate × time (Little's law), so a slow handler fetches next to nothing ahead.
 * What has been fetched when it becomes slow is given back, once.
 */
export class FetchWindow {
  #consumption: Consumption | undefined;
  #size: number;
  /** See `limit`. */
  #limit = Number.POSITIVE_INFINITY;
  #told: number | undefined;
  #held = 0;
  #full = false;
  /** Since the last look, of all deliveries: ms without a handler and without a wait for one. */
  #elsewhereMs = 0;
  #lookedAt = 0;
  /** Nothing is fetched ahead until then. */
  #calmUntil = Number.NEGATIVE_INFINITY;
  #calmMs = 0;
  #timer: Timer | undefined;

  constructor(
    private readonly slots: Slots,
    private readonly most: number,
    private readonly clock: Clock
  ) {
    this.#size = slots.size;
  }

  governs(consumption: Consumption): void {
    this.#consumption = consumption;
    if (this.size !== this.#told) this.#apply();
  }

  get size(): number {
    return Math.min(this.#size, this.#limit);
  }

  /** With which the consumption begins; `governs` must follow. */
  begin(): number {
    return (this.#told = this.size);
  }

  /** The breaker's: at most so many, whatever handlers could do. */
  limit(deliveries: number): void {
    if (deliveries < this.#limit) this.slots.clear();
    this.#limit = deliveries;
    this.#apply();
  }

  took(): void {
    if (++this.#held < this.#size) return;
    this.#full = true;
    if (this.#timer || this.most === this.slots.size) return;
    this.#lookedAt = this.clock.monotonic();
    this.#elsewhereMs = 0;
    this.#timer = this.clock.every(TICK_MS, () => this.#look());
  }

  left(elsewhereMs: number): void {
    this.#held--;
    this.#elsewhereMs += elsewhereMs;
  }

  #rest(): void {
    this.#timer?.stop();
    this.#timer = undefined;
  }

  stop(): void {
    this.#rest();
    this.slots.clear();
  }

  #look(): void {
    const now = this.clock.monotonic();
    const ahead = Math.ceil((ROOM * this.#elsewhereMs) / (now - this.#lookedAt));
    const full = this.#full;
    this.#lookedAt = now;
    this.#elsewhereMs = 0;
    this.#full = false;
    const size = Math.min(this.most, this.slots.size + ahead);
    if (this.slots.longestMs > HOARDED_MS) {
      // Alone with its handlers, so that nothing is given back again and again.
      this.#set(this.slots.size);
      this.slots.clear();
      this.#calm(now);
    } else if (full && now >= this.#calmUntil && size >= this.#size * WIDER) this.#set(size);
    // It is looked at again when it is full again.
    else if (!full && !this.slots.waiting) this.#rest();
  }

  #calm(now: number): void {
    this.#calmMs = now < this.#calmUntil + MAX_CALM_MS ? Math.min(2 * this.#calmMs, MAX_CALM_MS) : CALM_MS;
    this.#calmUntil = now + this.#calmMs;
  }

  #set(size: number): void {
    this.#size = size;
    this.#apply();
  }

  #apply(): void {
    this.#consumption?.limit(this.size);
  }
}
