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
