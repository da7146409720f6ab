import { consumerGroup, isObjectKey, isPattern, isWildcard } from "../message/pattern";
import { hasControl } from "../platform/printable";
import { type Counts, parseCounts } from "./counts";
import { describe, WIRE_VERSION } from "./envelope";
import { parseJson, Unreadable } from "./json";

export const ANNOUNCEMENT_TYPE = "reliable.announcement";

/** Group and pattern are part of a queue's name, which AMQP limits to 255 bytes. */
export const MAX_BYTES = { pattern: 120, group: 60, queue: 255 } as const;

/** Five names, two of them without a limit of their own. */
const MAX_ANNOUNCEMENT_BYTES = 64 * 1024;

/** Separators of lists of groups, and what separates a group from patterns and queues. */
export const RESERVED_IN_GROUPS = /[:/,*#]/;

export interface Announcement {
  v: number;
  pattern: string;
  group: string;
  queue: string;
  nodeID: string;
  service: string;
  /** Of a node without a store: what it has counted in a minute. */
  counts?: Counts | undefined;
}

/**
 * Throws Unreadable. The pattern is matched against every event that is emitted, so it must be a valid one. Messages
 * are sent to the queue, so it must not be one of the library's own, which begin with `prefix`.
 */
export function parseAnnouncement(body: Buffer, prefix: string): Announcement {
  const value = parseJson(body, "announcement", MAX_ANNOUNCEMENT_BYTES) as Partial<Announcement> | null;
  if (value?.v !== WIRE_VERSION) throw new Unreadable(`unknown announcement version ${describe(value?.v)}`);
  for (const field of ["pattern", "group", "queue", "nodeID", "service"] as const) {
    if (typeof value[field] !== "string" || value[field] === "") throw new Unreadable(`announcement without ${field}`);
    if (hasControl(value[field])) throw new Unreadable(`announcement whose ${field} has control characters`);
  }
  const { pattern, group, queue } = value as Announcement;
  if (Buffer.byteLength(queue) > MAX_BYTES.queue)
    throw new Unreadable(`announcement of a queue whose name is longer than ${MAX_BYTES.queue} bytes`);
  if (queue.startsWith(`${prefix}.`) && !queue.startsWith(`${prefix}.on.`))
    throw new Unreadable(
      `announcement of the queue '${queue}': of the names below ${prefix}. only those below ${prefix}.on. are for groups`
    );
  if (!isPattern(pattern) || Buffer.byteLength(pattern) > MAX_BYTES.pattern)
    throw new Unreadable(`announcement whose pattern is no event pattern of at most ${MAX_BYTES.pattern} bytes`);
  const [base = ""] = group.split(":");
  if (
    !base ||
    isObjectKey(base) ||
    RESERVED_IN_GROUPS.test(base) ||
    Buffer.byteLength(base) > MAX_BYTES.group ||
    group !== consumerGroup(base, pattern)
  ) {
    throw new Unreadable(
      `announcement whose group must be ${isWildcard(pattern) ? "<name>:<pattern>" : "<name>"}, a name of at most ${MAX_BYTES.group} bytes without : / , * #`
    );
  }
  return { ...(value as Announcement), counts: parseCounts(value.counts) };
}
