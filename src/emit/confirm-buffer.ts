import { Batcher } from "../async/batcher";
import { reasonOf } from "../errors";
import type { Clock, Timer } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { PublishedRecord, Store } from "../stores/store";
import type { Events } from "../telemetry/events";

/** How long a confirm waits for the receipt that makes it needless. */
const KEPT_MS = 500;
/**
 * With so many waiting a write each is what limits the rate, and receipts take longer to come: they wait for so long.
 */
const CROWD = 1000;
const CROWD_KEPT_MS = 5000;
/**
 * So many at most. The oldest are given up many at a time: a Map keeps the place of what was deleted at its front, and
 * each look passes all of them.
 */
const MAX_KEPT = 20_000;
const GIVEN_UP = 2000;
/** Instants are rounded down to this, so that one statement writes down many. */
const GRAIN_MS = 50;
/** Per store command. */
const MAX_BATCH = 5000;
/** How often it is looked who has waited long enough. */
const TICK_MS = 250;

export interface ConfirmBufferParts {
  store: Store;
  logger: Logger;
  events: Events;
  clock: Clock;
}

interface Kept {
  id: string;
  since: number;
  /** ms since the epoch. */
  at: number;
  dueAt: number;
}

/**
 * Writes down that messages were confirmed and routed, a little later: most are consumed by then, and a row update each
 * is spared, which is what a store has to do most. A process that dies in between leaves a row that looks unconfirmed,
 * which it was in any case for as long as the store takes to answer: it comes due after the confirm's timeout and is
 * sent again.
 */
export class ConfirmBuffer {
  /** In the order of their coming. */
  readonly #kept = new Map<string, Kept>();
  readonly #writer: Batcher<PublishedRecord, void>;
  readonly #deaf: () => void;
  #timer: Timer | undefined;

  constructor(readonly parts: ConfirmBufferParts) {
    const { store, events } = parts;
    this.#writer = new Batcher({
      maxItems: MAX_BATCH,
      write: records => store.messages.published(records).then(() => [])
    });
    // There is nothing left to write about these.
    this.#deaf = events.on("consumed", ids => {
      for (const id of ids) this.#kept.delete(id);
    });
  }

  /** `atOnce`: somebody waits for the status, or the row comes due soon. */
  add(record: PublishedRecord, createdAt: Date, atOnce: boolean): void {
    if (atOnce) {
      this.#write(record);
      return;
    }
    const { id } = record;
    const at = record.at.getTime();
    // Not before the emit, or its story would begin with the confirm.
    const rounded = Math.min(at, Math.max(Math.floor(at / GRAIN_MS) * GRAIN_MS, createdAt.getTime()));
    this.#kept.set(id, {
      id,
      since: this.parts.clock.monotonic(),
      at: rounded,
      dueAt: record.dueAt.getTime() - (at - rounded)
    });
    if (this.#kept.size > MAX_KEPT) this.#release(GIVEN_UP);
    this.#timer ??= this.#tickLater();
  }

  /** Writes all that it holds. */
  idle(): Promise<void> {
    this.#timer?.stop();
    this.#timer = undefined;
    this.#release(this.#kept.size);
    return this.#writer.idle();
  }

  stop(): void {
    this.#deaf();
  }

  #tickLater(): Timer {
    return this.parts.clock.after(TICK_MS, () => this.#tick());
  }

  #tick(): void {
    this.#timer = undefined;
    const before = this.parts.clock.monotonic() - (this.#kept.size > CROWD ? CROWD_KEPT_MS : KEPT_MS);
    let due = 0;
    for (const { since } of this.#kept.values()) {
      if (since > before) break;
      due++;
    }
    this.#release(due);
    if (this.#kept.size) this.#timer = this.#tickLater();
  }

  #release(count: number): void {
    let left = count;
    for (const { id, at, dueAt } of this.#kept.values()) {
      if (left-- <= 0) return;
      this.#kept.delete(id);
      this.#write({ id, at: new Date(at), dueAt: new Date(dueAt) });
    }
  }

  #write(record: PublishedRecord): void {
    this.#writer
      .add(record)
      .catch(error =>
        this.parts.logger.debug(
          `Reliable: the confirm of message ${record.id} was not recorded, the sweeper will see to it: ${reasonOf(error)}`
        )
      );
  }
}
