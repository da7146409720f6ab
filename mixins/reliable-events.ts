import { ReliableError } from "../src/errors";
import { isObjectKey, isPattern } from "../src/message/pattern";
import type { ConsumerOptions, ServiceOptions } from "../src/options/options";
import { consumerOptions } from "../src/options/resolve";
import { hasControl } from "../src/platform/printable";
import { MAX_BYTES, RESERVED_IN_GROUPS } from "../src/wire/announcement";
import { eventQueue, MAX_NAME_BYTES } from "../src/wire/names";

/** The part of a service schema that both Moleculer lines type in their own way. */
export interface Schema {
  name: string;
  version?: string | number;
  settings?: { reliable?: Record<string, unknown> };
  events?: Record<string, unknown>;
  actions?: Record<string, unknown>;
  started?: unknown;
  stopped?: unknown;
}

interface ReliableEvent {
  name?: string;
  group?: string;
  reliable?: unknown;
  debounce?: unknown;
  throttle?: unknown;
  handler?: unknown;
}

/**
 * Gives the reliable events of a versioned service that name no group the full name as theirs. In place of the schema's
 * events, which another version may share.
 */
export function groupByVersion(schema: Schema): void {
  const { name, version, events = {} } = schema;
  if (version === undefined || version === null) return;
  const group = typeof version === "number" ? `v${version}.${name}` : `${version}.${name}`;
  schema.events = Object.fromEntries(
    Object.entries(events).map(([key, event]) => {
      const given = event as ReliableEvent | null;
      const reliable = typeof given === "object" && given?.reliable !== undefined && given.reliable !== false;
      return [key, reliable && given.group === undefined ? { ...given, group } : event];
    })
  );
}

/** The reliable events of a schema, checked. Throws RELIABLE_BAD_CONSUMER. */
export function reliableEvents(
  schema: Schema,
  defaults: ServiceOptions,
  namespace = ""
): { pattern: string; base: string; options: ConsumerOptions }[] {
  return Object.entries((schema.events ?? {}) as Record<string, ReliableEvent>).flatMap(([key, event]) => {
    if (typeof event !== "object" || event === null || event.reliable === undefined || event.reliable === false)
      return [];
    const pattern = event.name ?? key;
    const where = `events['${pattern}'] of service '${schema.name}'`;
    const bad = (why: string) =>
      new ReliableError("RELIABLE_BAD_CONSUMER", `${where} ${why}.`, { event: pattern, service: schema.name });
    const consumer = consumerOptions(where, event.reliable, defaults);
    const base = event.group ?? schema.name;
    if (pattern.startsWith("$")) throw bad("cannot be reliable: '$' events stay on their node in Moleculer");
    if (!isPattern(pattern))
      throw bad("cannot be reliable: Moleculer cannot read its pattern as one of words, dots, *, ** and ?");
    // Merged with a mixin, an event without a handler has an empty list of them, which Moleculer does not mind.
    const handlers = [event.handler].flat();
    if (!handlers.length || !handlers.every(handler => typeof handler === "function")) throw bad("has no handler");
    if (event.debounce || event.throttle)
      throw bad("cannot be reliable together with debounce or throttle: its handler might never run");
    if (hasControl(pattern) || hasControl(base))
      throw bad("cannot be reliable: its pattern or its group has control characters");
    if (isObjectKey(base))
      throw bad(`cannot be reliable: no group can have the name '${base}', which every object has`);
    if (RESERVED_IN_GROUPS.test(base)) throw bad(`cannot be reliable: the group '${base}' contains one of : / , * #`);
    if (Buffer.byteLength(pattern) > MAX_BYTES.pattern || Buffer.byteLength(base) > MAX_BYTES.group)
      throw bad(
        `cannot be reliable: the event pattern may have ${MAX_BYTES.pattern} bytes and the group ${MAX_BYTES.group}, since both are part of the queue's name`
      );
    const bytes = Buffer.byteLength(eventQueue(namespace, base, pattern));
    if (bytes > MAX_NAME_BYTES)
      throw bad(
        `cannot be reliable: the name of its queue, of namespace, group and pattern, would have ${bytes} bytes, of ${MAX_NAME_BYTES}`
      );
    return [{ pattern, base, options: consumer }];
  });
}
