/** Numbers and times as text. Instants are ISO texts, and shown in the time of the browser. */

const two = (value: number) => String(value).padStart(2, "0");

/** `12,345`, and `100,000+` of what was not counted to the end. */
export function count(value: number, capped = false): string {
  return `${value.toLocaleString("en-US")}${capped ? "+" : ""}`;
}

/** `1 message`, `12 messages`. */
export function counted(value: number, one: string, many = `${one}s`, capped = false): string {
  return `${count(value, capped)} ${value === 1 && !capped ? one : many}`;
}

const UNITS: [unit: string, ms: number][] = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000],
  ["s", 1000]
];

/** How long something takes: `12 ms`, `1.4 s`, `3 min 5 s`. */
export function ms(value: number): string {
  if (value < 1000) return `${Math.round(value)} ms`;
  if (value < 10_000) return `${Math.round(value / 100) / 10} s`;
  return age(value);
}

/** How long ago, or how old: two units at most, as `3 h 20 min`. */
export function age(value: number): string {
  const whole = Math.floor(value / 1000) * 1000;
  const first = UNITS.findIndex(([, size]) => whole >= size);
  // Also below 0, for clocks of two machines differ: what has just happened is never in the future.
  if (first === -1) return "0 s";
  const [unit, size] = UNITS[first] as [string, number];
  const [smaller, step] = UNITS[first + 1] ?? ["", 0];
  const rest = step ? Math.floor((whole % size) / step) : 0;
  return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${smaller}` : ""}`;
}

const invalid = (at: Date) => Number.isNaN(at.getTime());

const dayOf = (at: Date) => `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;

/** `03:04:05` */
export function clock(at: string | number | Date): string {
  const date = new Date(at);
  return invalid(date) ? String(at) : [date.getHours(), date.getMinutes(), date.getSeconds()].map(two).join(":");
}

/** `03:04` */
export const hourMinute = (at: string | number | Date): string => clock(at).slice(0, 5);

/** `03:04:05`, and the day before it if that is not today. */
export function dateTime(at: string | number | Date, now: Date = new Date()): string {
  const date = new Date(at);
  if (invalid(date)) return String(at);
  return dayOf(date) === dayOf(now) ? clock(date) : `${dayOf(date)} ${clock(date)}`;
}

/** `2026-11-26 03:04:05.678 UTC`: as logs have it. */
export function utc(at: string | number | Date): string {
  const date = new Date(at);
  return invalid(date) ? String(at) : `${date.toISOString().replace("T", " ").slice(0, -1)} UTC`;
}

/** What `getTimezoneOffset` says, as people write it: `UTC+1`, `UTC-3:30`. */
export function zone(offsetMinutes: number): string {
  if (!offsetMinutes) return "UTC";
  const minutes = Math.abs(offsetMinutes);
  const rest = minutes % 60;
  return `UTC${offsetMinutes < 0 ? "+" : "-"}${Math.floor(minutes / 60)}${rest ? `:${two(rest)}` : ""}`;
}

/** `1.2 kB` */
export function bytes(value: number): string {
  if (value < 1000) return `${value} B`;
  const [unit, size] = value < 1_000_000 ? ["kB", 1000] : ["MB", 1_000_000];
  return `${(value / (size as number)).toLocaleString("en-US", { maximumFractionDigits: 1 })} ${unit}`;
}

/** A rate per minute, with one digit where it is small. */
export function perMinute(value: number): string {
  return value.toLocaleString("en-US", { maximumFractionDigits: value < 10 ? 1 : 0 });
}
