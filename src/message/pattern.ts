import { Utils } from "moleculer";

type Match = (event: string, pattern: string) => boolean;

/** Whether an event name matches a Moleculer event pattern: Moleculer's own rule, whatever line it is. */
export function matches(event: string, pattern: string): boolean {
	return (Utils as unknown as { match: Match }).match(event, pattern);
}

export function isWildcard(pattern: string): boolean {
	return /[*?]/.test(pattern);
}

/**
 * AMQP topic key that covers a Moleculer pattern. Moleculer's wildcards also stand inside a word and `?` even for a dot, AMQP's only
 * for whole words, so the key may cover more than the pattern: the consumer checks each event with `matches`.
 */
export function bindingKey(pattern: string): string {
	if (pattern.includes("?")) return "#";
	const words = pattern.split(".").map(word => (word.includes("**") ? "#" : word.includes("*") ? "*" : word));
	// A `**` that is only part of a word (`order**`) may stand for nothing or for dots, so its neighbours are free too.
	return words.some((word, i) => word === "#" && pattern.split(".")[i] !== "**") ? "#" : words.join(".");
}

/**
 * The name under which a handler answers. Two patterns of one Moleculer group may match the same event, and each handler then owes its
 * own receipt; so a wildcard handler answers as `<group>:<pattern>`, an exact one as `<group>` (two exact ones never match the same event).
 */
export function consumerGroup(group: string, pattern: string): string {
	return isWildcard(pattern) ? `${group}:${pattern}` : group;
}

/** Whether a group named by an operator or by the `groups` option means this consumer group. */
export function namesGroup(named: string, group: string): boolean {
	return group === named || group.startsWith(`${named}:`);
}

/** Prefix of every exchange, queue, collection and key of a Moleculer namespace. */
export function prefixOf(namespace: string): string {
	return namespace ? `${namespace}.reliable` : "reliable";
}

export interface Queues {
	receipts: string;
	announcements: string;
	parked: string;
}

/** The queues by which nodes without a store talk to those that have one. */
export function systemQueues(namespace: string): Queues {
	const prefix = prefixOf(namespace);
	return { receipts: `${prefix}.receipts.outbox`, announcements: `${prefix}.announcements`, parked: `${prefix}.parked` };
}

/** One durable queue per group and pattern. */
export function eventQueue(namespace: string, group: string, pattern: string): string {
	return `${prefixOf(namespace)}.on.${group}/${pattern}`;
}
