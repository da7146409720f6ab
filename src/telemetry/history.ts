import type { ReliableError } from "../errors";
import { reasonOf } from "../errors";
import { beginOf, type HistoryRecord, HOUR_MS, LATEST_MS, MINUTE_MS, minuteID, Tally } from "../message/history";
import type { Clock, Timer } from "../platform/clock";
import type { Logger } from "../platform/logger";

/** What the parts of this node count, until it is taken. */
export class HistoryCounter {
  #tally = new Tally();

  get current(): Tally {
    return this.#tally;
  }

  /** What was counted since the last time; from here on it is counted anew. */
  take(): HistoryRecord["rows"] {
    const { rows } = this.#tally;
    if (rows.length) this.#tally = new Tally();
    return rows;
  }
}

/** Where the minutes go: the store, or on a node without one an announcement. */
export interface HistorySink {
  /**
   * Per record: it is kept (false = it was there already), or why it never will be. Rejects while it is not known; doing
   * the same again is then safe.
   */
  add(records: HistoryRecord[]): Promise<(boolean | ReliableError)[]>;
}

export interface HistoryParts {
  counter: HistoryCounter;
  sink: HistorySink;
  /** Tells the minute: the store's clock, where there is a store. */
  time: { now(): Date };
  nodeID: string;
  logger: Logger;
  clock: Clock;
}

/** While the sink does not answer so many are kept, an hour of a busy node. Then the oldest is given up. */
const MAX_UNTOLD = HOUR_MS / MINUTE_MS;

/** A timer may fire a little before its time, by the store's clock, and the minute would come twice. */
const TIMER_EARLY_MS = 50;

/**
 * A minute's counts → one document, at the minute's end. Nothing is written of a minute in which nothing happened.
 *
 *   process is killed before the minute's end    its counts of that minute are lost: nobody else has them
 *   … after the insert, before its answer        it is there: `_id` is fixed
 *   … while the sink is away                     what is not told is lost, up to MAX_UNTOLD minutes
 *   process is stopped                           the minute that has begun is written too
 *   the insert's answer comes late or never      the same document again: it is there once
 */
export class HistoryWriter {
  readonly #start: string;
  /** A clock that was set back tells a minute again: that is another part of it. */
  #part = 0;
  #timer: Timer | undefined;
  #untold: HistoryRecord[] = [];
  #telling: Promise<void> | undefined;
  #minute: Date;

  constructor(private readonly parts: HistoryParts) {
    this.#start = parts.clock.now().toString(36);
    this.#minute = beginOf(parts.time.now(), MINUTE_MS);
  }

  start(): void {
    this.#arm();
  }

  /** The minute that has begun as well. One that was never started writes nothing. */
  async stop(): Promise<void> {
    if (!this.#timer) return;
    this.#timer.stop();
    this.#close();
    await this.#telling;
    await this.#tell();
  }

  #arm(): void {
    const { time, clock } = this.parts;
    const now = time.now();
    const minute = beginOf(now, MINUTE_MS);
    if (minute <= this.#minute) this.#part++;
    this.#minute = minute;
    this.#timer = clock.after(minute.getTime() + MINUTE_MS + TIMER_EARLY_MS - now.getTime(), () => {
      this.#close();
      this.#arm();
      this.#telling ??= this.#tell().finally(() => (this.#telling = undefined));
    });
  }

  /** Ends the minute: counts from here on are the next one's. */
  #close(): void {
    const { counter, nodeID, logger } = this.parts;
    const rows = counter.take();
    if (!rows.length) return;
    const at = this.#minute;
    this.#untold.push({ _id: minuteID(at, nodeID, `${this.#start}.${this.#part}`), unit: "minute", at, nodeID, rows });
    if (this.#untold.length <= MAX_UNTOLD) return;
    this.#untold.shift();
    logger.debug("Reliable: the history of an older minute is given up, since it could not be written for an hour.");
  }

  async #tell(): Promise<void> {
    const { sink, time, logger } = this.parts;
    const oldest = time.now().getTime() - LATEST_MS;
    this.#untold = this.#untold.filter(({ at }) => at.getTime() >= oldest);
    const records = [...this.#untold];
    if (!records.length) return;
    try {
      const results = await sink.add(records);
      const refused = results.find(result => typeof result !== "boolean");
      if (refused !== undefined)
        logger.warn(`Reliable: the store refuses the history of a minute: ${reasonOf(refused)}`);
      this.#untold = this.#untold.filter(record => !records.includes(record));
    } catch (error) {
      logger.debug(`Reliable: the history of ${records.length} minute(s) waits to be written: ${reasonOf(error)}`);
    }
  }
}
