import { createHash } from "node:crypto";
import { hasControl } from "../platform/printable";

/** Prefix of every exchange, queue, collection and key of a Moleculer namespace. */
export function prefixOf(namespace: string): string {
  return namespace ? `${namespace}.reliable` : "reliable";
}

export interface Queues {
  /** Receipts for messages of strategy `outbox`. */
  receipts: string;
  /** Receipts for messages of strategy `callback`. */
  callbackReceipts: string;
  /** The queue to which delayed checks come after their delay. */
  checks: string;
  announcements: string;
  parked: string;
  /** What a policy of the broker, or its delivery limit, has taken out of the queue of parked messages. */
  displaced: string;
}

/** The queues by which nodes without a store reach those that have one. */
export function systemQueues(namespace: string): Queues {
  const prefix = prefixOf(namespace);
  return {
    receipts: `${prefix}.receipts.outbox`,
    callbackReceipts: `${prefix}.receipts.callback`,
    checks: `${prefix}.checks`,
    announcements: `${prefix}.announcements`,
    parked: `${prefix}.parked`,
    displaced: `${prefix}.displaced`
  };
}

/** One durable queue per group and pattern. */
export function eventQueue(namespace: string, group: string, pattern: string): string {
  return `${prefixOf(namespace)}.on.${group}/${pattern}`;
}

/**
 * The queue whose existence says that a group is paused, or one of its patterns. A group's name has no colon, so no two
 * of them share a marker.
 */
export function pauseMarker(namespace: string, group: string, pattern?: string): string {
  const what = pattern === undefined ? group : `${group}:${pattern}`;
  const prefix = `${prefixOf(namespace)}.paused.`;
  if (Buffer.byteLength(prefix + what) <= MAX_NAME_BYTES) return prefix + what;
  return `${prefix}#${createHash("sha256").update(what).digest("base64url").slice(0, SHORT_CHARS)}`;
}

/** Under which the nodes that sweep hear control messages. A group's name has no colon, so it is none of them. */
export const SWEEPERS_KEY = ":sweepers";

/** Of an own name for what is too long, or for one process: 90 bits, and no longer than LONGEST_QUEUE with what precedes it. */
export const SHORT_CHARS = 15;

/** Of a name of AMQP, a short string. RabbitMQ closes the connection on a longer one. */
export const MAX_NAME_BYTES = 255;

/** Our longest name below a prefix, but for the queues of groups: checks that wait for the longest TTL there is. */
const LONGEST_QUEUE = ".checks.delay.4294967295";

/** Why a Moleculer namespace cannot be the beginning of our names, as the end of a sentence. */
export function namespaceFault(namespace: string): string | undefined {
  if (hasControl(namespace))
    return "has a control character or a line end (often the last character of a file it was read from)";
  // A group's queue of one namespace would have the name of a system queue of the other.
  if (/(^|\.)reliable\.on\./.test(namespace)) return "contains 'reliable.on.', with which the queues of groups begin";
  if (/(^|\.)reliable\.paused\./.test(namespace))
    return "contains 'reliable.paused.', with which the markers of paused groups begin";
  return undefined;
}

/** The same for what RabbitMQ refuses. */
export function brokerNameFault(namespace: string): string | undefined {
  if (`${namespace}.`.startsWith("amq.")) return "begins with 'amq.', which RabbitMQ keeps for itself";
  const most = MAX_NAME_BYTES - Buffer.byteLength(`.${prefixOf("")}${LONGEST_QUEUE}`);
  return tooLong(namespace, most, "names of queues at RabbitMQ");
}

/** The same for what MongoDB, or its driver, refuses as the name of a collection. `database`: its name. */
export function collectionNameFault(namespace: string, database: string): string | undefined {
  if (namespace.includes("$")) return "contains '$', which no collection of MongoDB may";
  if (/^\.|\.\.|\.$/.test(namespace)) return "has an empty word between dots, which no collection of MongoDB may";
  if (`.${namespace}.`.startsWith(".system.")) return "begins with 'system.', which MongoDB keeps for itself";
  // 255 bytes with the name of the database; 20 less where the collection is sharded.
  const most = 235 - Buffer.byteLength(`${database}..${prefixOf("")}.subscriptions`);
  return tooLong(namespace, most, `names of collections in the database '${database}'`);
}

/**
 * The beginning of the embedded store's files. One to one, also where the file system takes upper case and lower case
 * for the same: a capital letter is written as its code.
 */
export function fileNameOf(namespace: string): string {
  return encodeURIComponent(prefixOf(namespace)).replace(/%[0-9A-F]{2}|[A-Z!'()*~]/g, text =>
    text.length > 1 ? text : `%${text.charCodeAt(0).toString(16).toUpperCase()}`
  );
}

/** The same for a file of at most 255 bytes. What is longest stands behind it while a file is repaired. */
export function fileNameFault(namespace: string): string | undefined {
  const bytes = fileNameOf(namespace).length;
  const most = MAX_NAME_BYTES - ".subscriptions.db.torn~".length;
  return bytes > most ? `makes file names that are too long (${bytes} bytes of ${most})` : undefined;
}

function tooLong(namespace: string, most: number, what: string): string | undefined {
  const bytes = Buffer.byteLength(namespace);
  return bytes > most ? `has ${bytes} bytes, of which ${what} leave room for ${most}` : undefined;
}
