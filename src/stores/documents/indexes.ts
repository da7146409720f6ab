import type { CollectionName } from "./collection";

export interface Index {
  key: Record<string, 1>;
  /** Only documents that have the field. */
  sparse?: true;
}

/**
 * Every index with the query it serves; `_id` serves the rest. No TTL index: `prune` deletes what is final, by pages,
 * the same way in both stores; it follows a changed `retainMs` at once and cannot touch `dead`, because its filter
 * names the statuses.
 */
export const INDEXES: Record<CollectionName, Index[]> = {
  messages: [
    // claim: dueAt <= now, oldest first. Only open messages have it: the index stays as small, whatever the history
    { key: { dueAt: 1 }, sparse: true },
    // lists, by status or merged from all, newest first; stats: counts and oldest per status; forget: live statuses
    // only; prune: final, at < before
    { key: { status: 1, at: 1 } }
  ],
  // A row per group and pattern: always read whole.
  subscriptions: [],
  // parked, newest first
  parked: [{ key: { at: 1 } }],
  // prune: at < before
  inbox: [{ key: { at: 1 } }],
  // prune: at < before
  barriers: [{ key: { at: 1 } }],
  // audits of one message
  audit: [{ key: { "message.id": 1 } }]
};
