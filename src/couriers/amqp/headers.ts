import { HEADER } from "../../wire/envelope";

const NAMES: ReadonlySet<string> = new Set(Object.values(HEADER));

let current: Record<string, unknown> = {};

/**
 * One property for each header of ours, which reads it from the headers at hand; what is not there is undefined, and
 * amqplib leaves that out.
 */
const view: Record<string, unknown> = {};
for (const name of NAMES) Object.defineProperty(view, name, { enumerable: true, get: () => current[name] });

/**
 * What amqplib shall encode these headers from, at once: the next call changes it. amqplib makes the object it gets the
 * prototype of one of its own, for which V8 makes hidden classes and a dictionary each time, three times the size of
 * the headers: a third of what a publish costs (`bench/results.md`, P1). Always the same object spares that.
 */
export function encodable(headers: Record<string, unknown>): Record<string, unknown> {
  for (const name in headers) if (!NAMES.has(name)) return headers;
  current = headers;
  return view;
}
