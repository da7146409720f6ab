import { ReliableError } from "../errors";
import {
  BUCKETS_MS,
  beginOf,
  COUNTS,
  type CountName,
  type HistoryRecord,
  type HistoryRow,
  type HistoryUnit,
  HOUR_MS,
  MINUTE_MS,
  MINUTES_KEPT_MS,
  percentileMs
} from "../message/history";
import { namesGroup } from "../message/pattern";
import type { Store } from "../stores/store";
import { instantOf } from "./instant";

/** What `reliable.history` is asked. Instants are Dates, ms since 1970, or ISO text (UTC without a zone). */
export interface HistoryParams {
  fromAt?: Date | number | string;
  toAt?: Date | number | string;
  stepMs?: number;
  event?: string;
  group?: string;
}

/** Sums of one step. `times`: how many handlers took how long, per bucket of `boundsMs`. */
export type HistoryStep = { at: string } & Record<CountName, number> & {
    times: number[];
    p50Ms: number | null;
    p95Ms: number | null;
    p99Ms: number | null;
  };

/** What `reliable.history` returns. */
export interface History {
  fromAt: string;
  toAt: string;
  stepMs: number;
  /** Upper bounds of the buckets in `times`; the last bucket is above all of them. */
  boundsMs: number[];
  steps: HistoryStep[];
  /** Sums of all steps. */
  total: Omit<HistoryStep, "at">;
  /** There was more to read than one call reads: these are sums of a part. */
  capped?: true;
}

/** A day of minutes, or two months of hours. */
export const MAX_STEPS = 1500;

/** Documents that are read at a time, and in all: a day of minutes of 30 busy nodes. */
const MAX_AT_A_TIME = 5000;
const MAX_READ = 50_000;

const bad = (option: string, text: string) => new ReliableError("RELIABLE_BAD_OPTION", text, { option });

interface Range {
  from: number;
  to: number;
  stepMs: number;
}

/** Throws RELIABLE_BAD_OPTION. */
function rangeOf({ fromAt, toAt, stepMs = MINUTE_MS }: HistoryParams, now: Date): Range {
  const to = instantOf("toAt", toAt ?? now).getTime();
  const from = instantOf("fromAt", fromAt ?? to - HOUR_MS).getTime();
  if (!Number.isSafeInteger(stepMs) || stepMs < MINUTE_MS || stepMs % MINUTE_MS)
    throw bad("stepMs", "'stepMs' must be whole minutes: 60000, or a multiple of it.");
  if (from >= to) throw bad("fromAt", "'fromAt' must be before 'toAt'.");
  if (from < now.getTime() - MINUTES_KEPT_MS && stepMs % HOUR_MS)
    throw bad("stepMs", "What is older than 24 h is kept by the hour: 'stepMs' must be 3600000, or a multiple of it.");
  const first = beginOf(new Date(from), stepMs).getTime();
  const steps = Math.ceil((to - first) / stepMs);
  if (steps > MAX_STEPS)
    throw bad(
      "stepMs",
      `These are ${steps} steps, more than ${MAX_STEPS}: give a longer 'stepMs', or a later 'fromAt'.`
    );
  return { from: first, to, stepMs };
}

type Sums = Omit<HistoryStep, "at">;

const noSums = (): Sums => ({
  ...(Object.fromEntries(COUNTS.map(name => [name, 0])) as Record<CountName, number>),
  times: Array(BUCKETS_MS.length + 1).fill(0),
  p50Ms: null,
  p95Ms: null,
  p99Ms: null
});

function add(sums: Sums, row: HistoryRow): void {
  for (const name of COUNTS) sums[name] += row[name] ?? 0;
  row.times?.forEach((count, bucket) => {
    sums.times[bucket] = (sums.times[bucket] ?? 0) + count;
  });
}

function withPercentiles(sums: Sums): Sums {
  const { times } = sums;
  return {
    ...sums,
    p50Ms: percentileMs(times, 0.5),
    p95Ms: percentileMs(times, 0.95),
    p99Ms: percentileMs(times, 0.99)
  };
}

/** Counts by time. Throws RELIABLE_BAD_OPTION. */
export async function historyOf(store: Store, params: HistoryParams): Promise<History> {
  const range = rangeOf(params, store.now());
  const { from, to, stepMs } = range;
  const { event, group } = params;
  const steps: (Sums & { at: string })[] = [];
  for (let at = from; at < to; at += stepMs) steps.push({ at: new Date(at).toISOString(), ...noSums() });
  const total = noSums();
  const wanted = (row: HistoryRow) =>
    (event === undefined || row.event === event) &&
    (group === undefined || (row.group !== undefined && namesGroup(group, row.group)));
  const capped = await eachRow(store, range, (at, row) => {
    const step = steps[Math.floor((at.getTime() - from) / stepMs)];
    if (!step || !wanted(row)) return;
    add(step, row);
    add(total, row);
  });
  return {
    fromAt: new Date(from).toISOString(),
    toAt: new Date(to).toISOString(),
    stepMs,
    boundsMs: [...BUCKETS_MS],
    steps: steps.map(step => ({ at: step.at, ...withPercentiles(step) })),
    total: withPercentiles(total),
    ...(capped && { capped })
  };
}

/** By slices, so that little is held at a time. Returns true if there was more than one call reads. */
async function eachRow(
  store: Store,
  { from, to }: Range,
  take: (at: Date, row: HistoryRow) => void
): Promise<true | undefined> {
  let left = MAX_READ;
  let capped: true | undefined;
  const read = async (unit: HistoryUnit, begin: number, end: number): Promise<HistoryRecord[]> => {
    if (begin >= end || left <= 0) return [];
    const limit = Math.min(MAX_AT_A_TIME, left);
    const { records, more } = await store.history.between(unit, new Date(begin), new Date(end), limit);
    left -= records.length;
    if (more || left <= 0) capped = true;
    return records;
  };
  const each = (records: HistoryRecord[]) => {
    for (const { at, rows } of records) for (const row of rows) take(at, row);
  };
  const [oldest] = (await store.history.between("minute", new Date(from), new Date(to), 1)).records;
  const minutesFrom = oldest ? Math.max(from, beginOf(oldest.at, HOUR_MS).getTime()) : to;
  for (let day = from; day < minutesFrom; day += MINUTES_KEPT_MS)
    each(await read("hour", day, Math.min(day + MINUTES_KEPT_MS, minutesFrom)));
  const foldedBefore = store.now().getTime() - MINUTES_KEPT_MS;
  for (let hour = minutesFrom; hour < to; hour += HOUR_MS) {
    const end = Math.min(hour + HOUR_MS, to);
    const minutes = await read("minute", hour, end);
    // After the minutes, never before them: see `HistoryStore.between`.
    const hours = hour <= foldedBefore ? await read("hour", hour, end) : [];
    const folded = new Set(hours.map(keyOf));
    each([...hours, ...minutes.filter(minute => !folded.has(keyOf(minute)))]);
  }
  return capped;
}

/** A node's hour. */
const keyOf = ({ at, nodeID }: HistoryRecord) => `${beginOf(at, HOUR_MS).getTime()}|${nodeID}`;
