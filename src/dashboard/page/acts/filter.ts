import { age } from "../kit/format";

/** What a list is filtered by: in the address, as the calls take it, and in words. Pure. */

export interface Filter {
  status?: string;
  event?: string;
  group?: string;
  producer?: string;
  olderThanMs?: number;
  youngerThanMs?: number;
  idPrefix?: string;
  requestID?: string;
  key?: string;
  errorType?: string;
  cause?: string;
  errorText?: string;
  deadFromAt?: string;
  deadToAt?: string;
}

export type Params = Readonly<Record<string, string | undefined>>;

/** Names in the address that the calls have too. */
const PLAIN = [
  "status",
  "event",
  "group",
  "producer",
  "idPrefix",
  "requestID",
  "key",
  "errorType",
  "cause",
  "errorText",
  "deadFromAt",
  "deadToAt"
] as const;

/** What makes a cause, beside the time. */
export const CAUSE_PARAMS = ["group", "event", "cause", "errorType", "errorText"] as const;

/** All that a filter is kept in. */
export const FILTER_PARAMS = [...PLAIN, "since", "olderThan"] as const;

const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, min: 60_000, h: 3_600_000, d: 86_400_000 };

/** `1h`, `30min`, `2d`, `5000` (ms). */
export function durationOf(text: string): number | undefined {
  const [, number, unit = "ms"] = /^(\d{1,13}(?:\.\d{1,3})?)\s*([a-z]+)?$/.exec(text.trim().toLowerCase()) ?? [];
  const size = UNITS[unit];
  if (number === undefined || size === undefined) return undefined;
  const ms = Math.round(Number(number) * size);
  return ms <= 10_000_000_000_000 ? ms : undefined;
}

/** In words: what of the address cannot be read. */
export function faultOf(params: Params): string | undefined {
  for (const name of ["since", "olderThan"] as const) {
    const text = params[name];
    if (text && durationOf(text) === undefined) return `“${name}” is a time like 30min, 1h or 2d, not “${text}”.`;
  }
  return undefined;
}

/** As the calls take it. What cannot be read is left out: `faultOf` tells it. */
export function filterOf(params: Params): Filter {
  const filter: Filter = {};
  for (const name of PLAIN) {
    const text = params[name]?.trim();
    if (text) filter[name] = text;
  }
  const younger = params["since"] ? durationOf(params["since"]) : undefined;
  const older = params["olderThan"] ? durationOf(params["olderThan"]) : undefined;
  if (younger !== undefined) filter.youngerThanMs = younger;
  if (older !== undefined) filter.olderThanMs = older;
  return filter;
}

/** The part of an address that is its filter. */
export function filterParams(params: Params): Record<string, string> {
  return Object.fromEntries(
    FILTER_PARAMS.flatMap(name => {
      const text = params[name]?.trim();
      return text ? [[name, text]] : [];
    })
  );
}

/** A cause is chosen: its error, at least. */
export function hasCause(params: Params): boolean {
  return Boolean(params["cause"] || params["errorType"] || params["errorText"]);
}

/** For people: `dead`, `last 1 h`, `event order.created`, `failed in group mail`. */
export function wordsOf(filter: Filter): string[] {
  const { status, youngerThanMs, olderThanMs, errorText } = filter;
  const named = (name: string, value: string | undefined) => (value === undefined ? [] : [`${name} ${value}`]);
  return [
    ...(status === undefined ? [] : [status]),
    ...(youngerThanMs === undefined ? [] : [`last ${age(youngerThanMs)}`]),
    ...(olderThanMs === undefined ? [] : [`older than ${age(olderThanMs)}`]),
    ...named("from", filter.deadFromAt),
    ...named("before", filter.deadToAt),
    ...named("event", filter.event),
    ...named("failed in group", filter.group),
    ...named("cause", filter.cause),
    ...named("error", filter.errorType),
    ...(errorText === undefined ? [] : [`“${errorText}”`]),
    ...named("from service", filter.producer),
    ...named("key", filter.key),
    ...named("request", filter.requestID),
    ...named("id begins with", filter.idPrefix)
  ];
}

/** What somebody typed is this number, with or without separators. */
export function isNumber(typed: string, number: number): boolean {
  return /^\d[\d.,\s’']*$/.test(typed.trim()) && typed.replace(/\D/g, "") === String(number);
}
