import { HEADER } from "../../wire/envelope";

const NAMES: ReadonlySet<string> = new Set(Object.values(HEADER));

let current: Record<string, unknown> = {};

/**
 * One property for each header of this library, which reads it from the current headers. A missing one is undefined,
 * and amqplib omits it.
 */
const view: Record<string, unknown> = {};
for (const name of NAMES) Object.defineProperty(view, name, { enumerable: true, get: () => current[name] });

/**
 * The object from which amqplib must encode these headers at once, since the next call changes it. amqplib makes the
 * object it gets the prototype of a new one. For a new object each time V8 makes hidden classes and a dictionary, three
 * times the size of the headers: a third of a publish's cost (`bench/results.md`, P1). Reusing one object avoids that.
 */
export function encodable(headers: Record<string, unknown>): Record<string, unknown> {
  for (const name in headers) if (!NAMES.has(name)) return headers;
  current = headers;
  return view;
}
