import { HEADER, PACKED } from "../../wire/envelope";

const NAMES: ReadonlySet<string> = new Set(Object.values(HEADER));
const PREFIX = `${PACKED}-`;

/** Those with a JSON of their own, whose quotes would be escaped once more, and what is not ours alone. */
const SINGLE: ReadonlySet<string> = new Set([
  HEADER.meta,
  HEADER.headers,
  HEADER.echo,
  HEADER.traceparent,
  HEADER.tracestate
]);

/** `"attempt":`, which stands before the value of `x-reliable-attempt`. */
const KEYS: ReadonlyMap<string, string> = new Map(
  [...NAMES].filter(name => !SINGLE.has(name)).map(name => [name, `${JSON.stringify(name.slice(PREFIX.length))}:`])
);

/** Longer ones travel each by itself: escaped they could be six times as long, and 64 KiB are all there is. */
const MAX_PACKED_CHARS = 4096;

let current: Record<string, unknown> = {};

/**
 * One property for each header, which reads it from the current headers. A missing one is undefined, and amqplib omits
 * it.
 */
const view: Record<string, unknown> = {};
for (const name of [PACKED, ...NAMES])
  Object.defineProperty(view, name, { enumerable: true, get: () => current[name] });

/**
 * The object from which amqplib must encode these headers at once, since the next call changes it. amqplib makes the
 * object it gets the prototype of a new one. For a new object each time V8 makes hidden classes and a dictionary, three
 * times the size of the headers: a third of a publish's cost (`bench/results.md`, P1). Reusing one object avoids that.
 */
export function encodable(headers: Record<string, unknown>): Record<string, unknown> {
  for (const name in headers) if (!NAMES.has(name)) return headers;
  current = packed(headers);
  return view;
}

/** Each header costs RabbitMQ and both clients some µs a message, so those of ours travel as one, in JSON. */
function packed(headers: Record<string, unknown>): Record<string, unknown> {
  const rest: Record<string, unknown> = {};
  let json = "";
  for (const name in headers) {
    const value = headers[name];
    if (value === undefined) continue;
    const key = KEYS.get(name);
    if (key === undefined) rest[name] = value;
    else json += (json ? "," : "{") + key + JSON.stringify(value);
  }
  if (!json || json.length > MAX_PACKED_CHARS) return headers;
  rest[PACKED] = `${json}}`;
  return rest;
}

/**
 * The headers of a delivery, each under its own name; where one is there twice, the packed one. What cannot be unpacked
 * stays as it came, for its reader to refuse.
 */
export function unpacked(headers: Record<string, unknown>): Record<string, unknown> {
  const json = headers[PACKED];
  if (typeof json !== "string") return headers;
  let values: Record<string, unknown>;
  try {
    values = JSON.parse(json) as Record<string, unknown>;
  } catch {
    return headers;
  }
  if (typeof values !== "object" || values === null || Array.isArray(values)) return headers;
  const all: Record<string, unknown> = {};
  for (const name in headers) if (name !== PACKED) all[name] = headers[name];
  for (const name in values) {
    // A null, too.
    if (typeof values[name] === "object") return headers;
    all[PREFIX + name] = values[name];
  }
  return all;
}
