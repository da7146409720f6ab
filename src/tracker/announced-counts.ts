import { beginOf, type HistoryRecord, LATEST_MS, MAX_ROWS, MINUTE_MS, minuteID, Tally } from "../message/history";
import { MAX_NODE_ID } from "../message/message";
import type { Store } from "../stores/store";
import type { Announcement } from "../wire/announcement";
import type { Counts } from "../wire/counts";

/**
 * Minutes that one tracker takes within a minute. A cluster has as many nodes without a store as it has; a stranger who
 * tells more of them fills nobody's disk.
 */
const MAX_A_MINUTE = 1000;

/** What nodes without a store have counted, from their announcements. Told twice it is there once. */
export class AnnouncedCounts {
  #records: HistoryRecord[] = [];
  #minute = 0;
  #taken = 0;

  constructor(private readonly store: Store) {}

  add({ nodeID }: Pick<Announcement, "nodeID">, { minute, start, rows }: Counts): void {
    const now = this.store.now();
    const at = new Date(minute);
    // It may be folded already.
    if (at.getTime() < now.getTime() - LATEST_MS || !this.#admits(now)) return;
    const tally = new Tally(MAX_ROWS);
    for (const row of rows) tally.add(row);
    const node = nodeID.slice(0, MAX_NODE_ID);
    this.#records.push({
      _id: minuteID(at, node, start),
      unit: "minute",
      // A node whose clock is wrong tells of what is to come: it stands where it was told.
      at: at <= now ? at : beginOf(now, MINUTE_MS),
      nodeID: node,
      rows: tally.rows
    });
  }

  /** Rejects while the store does not answer: the announcements come again then. */
  async write(): Promise<void> {
    const records = this.#records;
    this.#records = [];
    if (records.length) await this.store.history.add(records);
  }

  #admits(now: Date): boolean {
    const minute = beginOf(now, MINUTE_MS).getTime();
    if (minute !== this.#minute) this.#taken = 0;
    this.#minute = minute;
    return this.#taken++ < MAX_A_MINUTE;
  }
}
