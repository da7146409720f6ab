import { Batcher } from "../async/batcher";
import { reasonOf } from "../errors";
import type { Clock, Timer } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { Store } from "../stores/store";
import type { PublishedRecord } from "../stores/store-records";
import type { Events } from "../telemetry/events";

/** How long a confirm waits for the receipt that makes its write unnecessary. */
const KEPT_MS = 500;
/**
 * With this many waiting, one write each would limit the rate, and receipts take longer. Then a confirm waits this
 * long.
 */
const CROWD = 1000;
const CROWD_KEPT_MS = 5000;
/**
 * At most this many wait. The oldest are given up many at a time: a Map keeps deleted entries at its front, and each
 * iteration passes all of them.
 */
const MAX_KEPT = 20_000;
const GIVEN_UP = 2000;
/** Instants are rounded down to this, so that one statement can write many. */
const GRAIN_MS = 50;
/** Per store command. */
const MAX_BATCH = 5000;
/** How often waiting confirms are looked through. */
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
 * Writes late that messages were confirmed and routed: most are consumed by then and need no write for it, which spares
 * the store its most frequent one. If the process dies in between, the row looks unconfirmed, as it also does while the
 * store takes to answer. It comes due after the confirm timeout and is sent again.
 */
export class ConfirmBuffer {
  /** In order of arrival. */
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
    // Nothing is left to write about these.
    this.#deaf = events.on("consumed", ids => {
      for (const id of ids) this.#kept.delete(id);
    });
  }

  /** `atOnce`: a caller waits for the status, or the row comes due soon. */
  add(record: PublishedRecord, createdAt: Date, atOnce: boolean): void {
    if (atOnce) {
      this.#write(record);
      return;
    }
    const { id } = record;
    const at = record.at.getTime();
    // Not before the emit, or the message's history would begin with the confirm.
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

  /** Writes everything that is waiting. */
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
          `Reliable: the confirm of message ${record.id} was not recorded; the sweeper will send it again: ${reasonOf(error)}`
        )
      );
  }
}
