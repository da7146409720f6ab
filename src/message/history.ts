/** What is counted per event and group. `emitted` and `confirmed` have no group, since they are the producer's. */
export const COUNTS = ["emitted", "confirmed", "handled", "failed", "duplicates", "dead"] as const;

export type CountName = (typeof COUNTS)[number];

/**
 * From a local round trip to the longest outage that is still a delay and not a failure, in ms. Of the handlers'
 * durations there is a number per bucket, the last one for what is above all bounds.
 */
export const BUCKETS_MS = [
  1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 900_000, 3_600_000
];

/** What one event has done in one group. A count that is not there is 0. */
export type HistoryRow = { event: string; group?: string; times?: number[] } & { [name in CountName]?: number };

export type HistoryUnit = "minute" | "hour";

/** What one node has counted in one minute, or in one hour. Its `_id` is fixed, so that it is there once however often it is told. */
export interface HistoryRecord {
  _id: string;
  unit: HistoryUnit;
  /** Where the minute or hour begins. */
  at: Date;
  nodeID: string;
  rows: HistoryRow[];
}

export const MINUTE_MS = 60_000;
export const HOUR_MS = 60 * MINUTE_MS;

/** Hours are folded from minutes older than this, and pruned when they are older than that. */
export const MINUTES_KEPT_MS = 24 * HOUR_MS;
export const HOURS_KEPT_MS = 30 * 24 * HOUR_MS;

/** A minute that comes later may be folded already: it would be counted in part, or not at all. */
export const LATEST_MS = MINUTES_KEPT_MS - HOUR_MS;

/** Events × groups that one minute of a node tells apart: more than services have, and some 30 KiB at most. */
export const MAX_ROWS = 200;

/** Groups that it tells apart beyond that, of all other events together. */
const MAX_OTHERS = 50;

/** Stands for the events beyond these; and for the groups. */
export const OTHER = "other";

/**
 * The id of what a node has counted in a minute. `start` tells a process from an earlier one of the same name that was
 * stopped in the same minute: each has counted a part of it.
 */
export function minuteID(at: Date, nodeID: string, start: string): string {
  return `${at.toISOString()}|${nodeID}|${start}`;
}

export function hourID(at: Date, nodeID: string): string {
  return `hour|${at.toISOString()}|${nodeID}`;
}

/** The beginning of the minute, hour, … in which this instant lies. */
export function beginOf(at: Date, stepMs: number): Date {
  return new Date(Math.floor(at.getTime() / stepMs) * stepMs);
}

/** Sums by event and group; of a limited number of them, and the rest under one name. */
export class Tally {
  readonly #rows = new Map<string, Map<string, HistoryRow>>();
  #size = 0;

  constructor(private readonly limit = MAX_ROWS) {}

  get rows(): HistoryRow[] {
    return [...this.#rows.values()].flatMap(groups => [...groups.values()]);
  }

  count(name: CountName, event: string, group?: string, by = 1): void {
    const row = this.#row(event, group);
    row[name] = (row[name] ?? 0) + by;
  }

  /** How long a handler took. */
  time(ms: number, event: string, group?: string): void {
    const bucket = BUCKETS_MS.findIndex(bound => ms <= bound);
    addTimes(this.#row(event, group), bucket < 0 ? BUCKETS_MS.length : bucket, 1);
  }

  add({ event, group, times = [], ...counts }: HistoryRow): void {
    for (const name of COUNTS) if (counts[name]) this.count(name, event, group, counts[name]);
    if (times.length) {
      const row = this.#row(event, group);
      times.forEach((count, bucket) => {
        if (count) addTimes(row, bucket, count);
      });
    }
  }

  #row(event: string, group = ""): HistoryRow {
    const known = this.#rows.get(event)?.get(group);
    if (known) return known;
    if (this.#size >= this.limit && event !== OTHER) return this.#row(OTHER, group);
    // An emit has no group, and keeps none.
    if (this.#size >= this.limit + MAX_OTHERS && group !== "" && group !== OTHER) return this.#row(OTHER, OTHER);
    const row: HistoryRow = { event, ...(group !== "" && { group }) };
    const groups = this.#rows.get(event);
    if (groups) groups.set(group, row);
    else this.#rows.set(event, new Map([[group, row]]));
    this.#size++;
    return row;
  }
}

/** No zeros stand at the end: most handlers are quick. */
function addTimes(row: HistoryRow, bucket: number, count: number): void {
  const times = (row.times ??= []);
  while (times.length <= bucket) times.push(0);
  times[bucket] = (times[bucket] ?? 0) + count;
}

/**
 * The duration that this share of the handlers did not exceed, as far as buckets tell it: in between two bounds it is
 * taken as even. null = nothing was measured.
 */
export function percentileMs(times: readonly number[], share: number): number | null {
  const total = times.reduce((sum, count) => sum + count, 0);
  if (!total) return null;
  let left = share * total;
  for (const [bucket, count] of times.entries()) {
    if (count && left <= count) {
      const from = bucket ? (BUCKETS_MS[bucket - 1] as number) : 0;
      const to = BUCKETS_MS[bucket] ?? from;
      return Math.round((from + ((to - from) * left) / count) * 10) / 10;
    }
    left -= count;
  }
  return BUCKETS_MS.at(-1) as number;
}
