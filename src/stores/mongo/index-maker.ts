import { withTimeout } from "../../async/deadline";
import { ReliableError, reasonOf } from "../../errors";
import { backoffMs } from "../../message/backoff";
import type { Clock, Timer } from "../../platform/clock";
import type { Logger } from "../../platform/logger";
import { COLLECTION_NAMES, type CollectionName } from "../documents/collection";
import { INDEXES } from "../documents/indexes";
import type { MongoCollection } from "./collection";

/** Indexes of a new database take milliseconds; those of a big collection are built while the store is at work. */
const WAIT_MS = 5000;

/** An index is no hurry, and a server that is asked for it while it builds it has the same work twice. */
const AGAIN = { initialMs: 1000, maxMs: 60_000, jitter: "half" } as const;

/** IndexOptionsConflict, IndexKeySpecsConflict: somebody has made it otherwise. */
const CONFLICTS = [85, 86];

/** InvalidNamespace; DatabaseDifferCase, since two databases may not differ in case only. */
const BAD_NAMES = [73, 13297];

export interface IndexMakerParts {
  collections: Record<CollectionName, MongoCollection>;
  logger: Logger;
  clock: Clock;
}

/**
 * Makes the indexes. No refusal but that of the user's rights or of a name keeps the store from working: without an index it is
 * right, and slower.
 */
export class IndexMaker {
  readonly #missing = new Set<CollectionName>(COLLECTION_NAMES);
  readonly #told = new Set<string>();
  #making: Promise<void> | undefined;
  #retry: Timer | undefined;
  #stopped = false;

  constructor(private readonly parts: IndexMakerParts) {}

  /** Resolves when they are made, or are not made at once. Rejects with RELIABLE_ACCESS_REFUSED and RELIABLE_BAD_OPTION. */
  async start(): Promise<void> {
    this.#retry?.stop();
    await withTimeout(this.#make(1), WAIT_MS, this.parts.clock);
  }

  stop(): void {
    this.#stopped = true;
    this.#retry?.stop();
  }

  /** One at a time. */
  #make(attempt: number): Promise<void> {
    this.#making ??= this.#makeAll(attempt).finally(() => (this.#making = undefined));
    return this.#making;
  }

  async #makeAll(attempt: number): Promise<void> {
    const { collections, clock } = this.parts;
    for (const name of [...this.#missing]) {
      if (this.#stopped) return;
      try {
        await collections[name].createIndexes(INDEXES[name]);
        this.#missing.delete(name);
      } catch (thrown) {
        this.#refused(name, thrown);
      }
    }
    if (!this.#missing.size || this.#stopped) return;
    this.#retry = clock.after(
      backoffMs(AGAIN, attempt),
      () => void this.#make(attempt + 1).catch(thrown => this.#warn(thrown, "It is not tried again."))
    );
  }

  #refused(name: CollectionName, thrown: unknown): void {
    const { type, retryable, cause } = thrown as ReliableError & { cause?: { code?: number } };
    if (type === "RELIABLE_ACCESS_REFUSED") throw thrown;
    const code = cause?.code ?? 0;
    if (BAD_NAMES.includes(code))
      throw new ReliableError(
        "RELIABLE_BAD_OPTION",
        `Option 'database': MongoDB refuses the name (is there one that differs in case only?): ${reasonOf(thrown)}`,
        { option: "database" },
        thrown
      );
    const final = !retryable || CONFLICTS.includes(code);
    if (final) this.#missing.delete(name);
    this.#warn(thrown, final ? "It is not tried again." : "It is tried again in the background.");
  }

  #warn(thrown: unknown, then: string): void {
    const text = reasonOf(thrown);
    if (this.#stopped || this.#told.has(text)) return;
    this.#told.add(text);
    this.parts.logger.warn(`${text}. The store works without that index, slower. ${then}`);
  }
}
