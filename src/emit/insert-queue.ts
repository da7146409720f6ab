import { Batcher } from "../async/batcher";
import { ExpiringSet } from "../async/expiring-set";
import { ReliableError, ReliableRetryableError, reasonOf } from "../errors";
import type { Message } from "../message/message";
import type { Clock } from "../platform/clock";
import type { Store } from "../stores/store";
import type { InsertOutcome } from "../stores/store-records";

/** The largest insert: well under MongoDB's 48 MB message. */
const MAX_BATCH_BYTES = 8 * 1024 * 1024;
const MAX_BATCH = 500;
/** Pause before an insert is repeated after an error that may pass. Short, because emits are waiting. */
const RETRY_MS = 200;

/** While the store takes one batch the next one is encoded. */
const PARALLEL = 2;

export interface InsertQueueOptions {
  /** The store's verb. @default messages.insert */
  insert?: (messages: Message[]) => Promise<(InsertOutcome | ReliableError)[]>;
  parallel?: number;
}

interface Pending {
  message: Message;
  deadline: number;
  /** Sent to the store at least once: from then on a missing answer means "unknown". */
  tried: boolean;
  /** What the store answered last. */
  reason?: string;
  expired: boolean;
  expire(): void;
  /** Called when the message turns out to be stored after its caller was told that this is not known. */
  late(): void;
}

/**
 * Stores emitted messages by group commit. While the store is away they wait, limited in time, and by `Admission` in
 * number and bytes. An insert without an answer is repeated with the same ids: an existing row is then our own.
 */
export class InsertQueue {
  readonly #batcher: Batcher<Pending, InsertOutcome | Error>;
  readonly #pending: ExpiringSet<Pending>;
  readonly #insert: (messages: Message[]) => Promise<(InsertOutcome | ReliableError)[]>;
  readonly #end = new AbortController();
  /** Ends the current pauses. */
  #wake = new AbortController();

  constructor(
    readonly store: Store,
    readonly clock: Clock,
    { insert = messages => store.messages.insert(messages), parallel = PARALLEL }: InsertQueueOptions = {}
  ) {
    this.#insert = insert;
    this.#pending = new ExpiringSet(item => this.#expire(item), clock);
    this.#batcher = new Batcher({
      maxItems: MAX_BATCH,
      parallel,
      maxBytes: MAX_BATCH_BYTES,
      sizeOf: item => item.message.body.length + 512,
      write: items => this.#write(items)
    });
    store.onReady(() => this.#wakeUp());
  }

  /** Emits that wait for the store's answer. */
  get size(): number {
    return this.#pending.size;
  }

  /** Of those that are not on their way to it. */
  get bytes(): number {
    return this.#batcher.bytes;
  }

  /**
   * Rejects with RELIABLE_NOT_STORED or RELIABLE_STORE_REFUSED (nothing was stored), and with RELIABLE_OUTCOME_UNKNOWN
   * (it may be stored; emit again with the same id).
   */
  insert(message: Message, timeoutMs: number, late: () => void): Promise<InsertOutcome> {
    return new Promise((resolve, reject) => {
      const item: Pending = {
        message,
        deadline: this.clock.monotonic() + timeoutMs,
        tried: false,
        expired: false,
        expire: () => reject(this.#expired(item, timeoutMs)),
        late
      };
      this.#pending.add(item);
      this.#batcher.addThen(
        item,
        outcome => {
          this.#pending.delete(item);
          if (outcome instanceof Error) reject(outcome);
          else resolve(outcome);
        },
        error => {
          this.#pending.delete(item);
          reject(error as Error);
        }
      );
    });
  }

  idle(): Promise<void> {
    return this.#batcher.idle();
  }

  /** Rejects everything that still waits. No further insert is tried. */
  stop(): void {
    this.#end.abort();
    this.#pending.expireAll();
    this.#wakeUp();
  }

  #expired({ message, tried, reason }: Pending, timeoutMs: number): Error {
    const data = { id: message._id, event: message.event, timeoutMs };
    return tried
      ? new ReliableRetryableError(
          "RELIABLE_OUTCOME_UNKNOWN",
          `The store did not answer whether it has '${message.event}' (${message._id}); emit it again with this id, that cannot duplicate it.${reason ? ` Its last answer: ${reason}` : ""}`,
          data
        )
      : new ReliableRetryableError(
          "RELIABLE_NOT_STORED",
          `The store could not be reached within ${timeoutMs} ms; nothing was stored of '${message.event}' (${message._id}).`,
          data
        );
  }

  #expire(item: Pending): void {
    item.expired = true;
    item.expire();
    this.#wakeUp();
  }

  #wakeUp(): void {
    this.#wake.abort();
    this.#wake = new AbortController();
  }

  async #write(items: Pending[]): Promise<(InsertOutcome | Error)[]> {
    const outcomes = new Map<Pending, InsertOutcome | Error>();
    for (;;) {
      const live = items.filter(item => !item.expired && !outcomes.has(item));
      if (!live.length || this.#end.signal.aborted) break;
      if (!this.store.ready) {
        await this.#pause();
        continue;
      }
      for (const item of live) item.tried = true;
      try {
        const results = await this.#insert(live.map(item => item.message));
        live.forEach((item, i) => {
          const result = results[i] as InsertOutcome | Error;
          if (result instanceof Error) outcomes.set(item, this.#refused(item.message, result));
          else {
            outcomes.set(item, result);
            if (item.expired && result.stored) item.late();
          }
        });
      } catch (error) {
        if ((error as { retryable?: boolean }).retryable) {
          for (const item of live) item.reason = reasonOf(error);
          await this.#pause(RETRY_MS);
        } else if (live.length === 1)
          outcomes.set(live[0] as Pending, this.#refused((live[0] as Pending).message, error));
        // A message that cannot even be handed to the store must not fail the others of its batch.
        else for (const item of live) outcomes.set(item, (await this.#write([item]))[0] as InsertOutcome | Error);
      }
    }
    // The promise of an expired item is settled already, so this result reaches no caller.
    return items.map(item => outcomes.get(item) ?? { stored: true });
  }

  #refused({ _id: id, event }: Message, error: unknown): Error {
    const { index } = ((error as Partial<ReliableError>).data ?? {}) as { index?: unknown };
    return new ReliableError(
      "RELIABLE_STORE_REFUSED",
      `The store refused '${event}' (${id}): ${reasonOf(error)}`,
      { id, event, ...(index !== undefined && { index }) },
      error
    );
  }

  /** Until the store is back, an item expires, or `ms` have passed. */
  #pause(ms = Infinity): Promise<void> {
    return this.clock.sleep(ms, this.#wake.signal);
  }
}
