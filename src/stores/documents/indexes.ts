import type { CollectionName } from "./collection";

export interface Index {
  key: Record<string, 1>;
  /** Only documents with `open: true`: the index stays as small as the open messages, whatever the history. */
  openOnly?: true;
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
    // claim: open, dueAt <= now, oldest first
    { key: { dueAt: 1 }, openOnly: true },
    // list by status, newest first; stats: counts and oldest per status; forget: live statuses only
    { key: { status: 1, createdAt: 1 } },
    // list without a status, newest first
    { key: { createdAt: 1 } },
    // prune: doneAt < before
    { key: { doneAt: 1 }, sparse: true }
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
