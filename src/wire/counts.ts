import { BUCKETS_MS, COUNTS, type HistoryRecord, type HistoryRow, MINUTE_MS, OTHER, Tally } from "../message/history";
import { hasControl } from "../platform/printable";
import { Unreadable } from "./json";

/**
 * What a node without a store has counted in a minute, beside its announcement. Readers that do not know it leave it
 * aside.
 */
export interface Counts {
  /** Where the minute begins, in ms since 1970, by that node's clock. */
  minute: number;
  /** Tells a process from an earlier one of the same name in the same minute. */
  start: string;
  rows: HistoryRow[];
}

/** Rows that are read. The library's own code sends fewer. */
const MAX_ROWS_READ = 500;
const MAX_LENGTH = { event: 255, group: 255, start: 40 } as const;

/** An announcement has 64 KiB at most, and some of it is names. */
const MAX_SENT_BYTES = 40 * 1024;

export function countsOf({ _id, at, rows }: HistoryRecord): Counts {
  return { minute: at.getTime(), start: _id.slice(_id.lastIndexOf("|") + 1), rows: withinBytes(rows, MAX_SENT_BYTES) };
}

/** The busiest ones; the others under one name. */
function withinBytes(rows: HistoryRow[], limit: number): HistoryRow[] {
  const sumOf = (row: HistoryRow) => COUNTS.reduce((sum, name) => sum + (row[name] ?? 0), 0);
  let bytes = 0;
  const kept = new Tally(MAX_ROWS_READ);
  for (const row of rows.toSorted((a, b) => sumOf(b) - sumOf(a))) {
    bytes += Buffer.byteLength(JSON.stringify(row));
    const { group, ...counts } = row;
    kept.add(bytes <= limit ? row : { ...counts, event: OTHER, ...(group !== undefined && { group: OTHER }) });
  }
  return kept.rows;
}

const isText = (value: unknown, max: number): value is string =>
  typeof value === "string" && value !== "" && value.length <= max && !hasControl(value);
const isNumber = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;

/** Throws Unreadable for what is not as `docs/schemas/announcement.schema.json` says. */
export function parseCounts(value: unknown): Counts | undefined {
  if (value === undefined) return undefined;
  const { minute, start, rows } = (value ?? {}) as Partial<Counts>;
  if (!isNumber(minute) || (minute as number) % MINUTE_MS) throw new Unreadable("counts whose minute is none");
  if (!isText(start, MAX_LENGTH.start))
    throw new Unreadable(`counts without a start of at most ${MAX_LENGTH.start} characters`);
  if (!Array.isArray(rows) || rows.length > MAX_ROWS_READ)
    throw new Unreadable(`counts without a list of at most ${MAX_ROWS_READ} rows`);
  return { minute: minute as number, start, rows: rows.map(rowOf) };
}

function rowOf(value: unknown): HistoryRow {
  const row = (value ?? {}) as Record<string, unknown>;
  const { event, group, times } = row;
  if (!isText(event, MAX_LENGTH.event)) throw new Unreadable("counts of an event whose name is none");
  if (group !== undefined && !isText(group, MAX_LENGTH.group))
    throw new Unreadable("counts of a group whose name is none");
  const wrong = COUNTS.find(name => row[name] !== undefined && !isNumber(row[name]));
  if (wrong) throw new Unreadable(`counts whose ${wrong} is no number of things`);
  const areTimes = Array.isArray(times) && times.length <= BUCKETS_MS.length + 1 && times.every(isNumber);
  if (times !== undefined && !areTimes)
    throw new Unreadable(`counts whose times are not numbers for at most ${BUCKETS_MS.length + 1} buckets`);
  const counts = Object.fromEntries(COUNTS.flatMap(name => (row[name] ? [[name, row[name]]] : [])));
  // Of what a stranger adds nothing is kept.
  return { event, ...(group !== undefined && { group }), ...counts, ...(areTimes && { times }) };
}
