import type { CollectionName } from "./collection";

export interface Index {
  key: Record<string, 1>;
  /** Only documents that have this field. */
  onlyWith?: string;
}

/**
 * Every index with the query it serves; `_id` serves the rest. No TTL index: `prune` deletes what is final, by pages,
 * the same way in both stores; it follows a changed `retainMs` at once and cannot touch `dead`, because its filter
 * names the statuses.
 */
export const INDEXES: Record<CollectionName, Index[]> = {
  messages: [
    // claim: dueAt <= now, oldest first. Only open messages have it: the index stays as small, whatever the history
    { key: { dueAt: 1 }, onlyWith: "dueAt" },
    // lists, by status or merged from all, newest first; stats: counts and oldest per status; forget: live statuses
    // only; prune: final, at < before; dropPayloads: one final status, oldest first
    { key: { status: 1, at: 1 } },
    // erase; lists, by a message key, newest first; without `at`, that of a key of many messages would sort them all
    { key: { keys: 1, at: 1 }, onlyWith: "keys" },
    // lists, by request, newest first
    { key: { "origin.requestID": 1, at: 1 }, onlyWith: "origin.requestID" },
    // lists and causes, by type of the error. Only dead messages have it; a frequent one is found by status
    { key: { "lastErrors.type": 1 }, onlyWith: "lastErrors" },
    // bulk retries: what became of theirs, newest outcome first. Only what one has retried has it
    { key: { bulk: 1, status: 1, at: 1 }, onlyWith: "bulk" },
    // lanes: places of a key, in order, and single ones of many. Only messages in line have one
    { key: { place: 1 }, onlyWith: "place" },
    // held keys. Only a dead message that holds its key has it
    { key: { holds: 1, at: 1 }, onlyWith: "holds" }
  ],
  // prune: those whose row never came, at < before
  bodies: [{ key: { at: 1 } }],
  // A row per group and pattern: always read whole, and sorted where it is read.
  subscriptions: [],
  // parked, newest first: both, since those of one batch have one instant
  parked: [{ key: { at: 1, _id: 1 } }],
  // prune: at < before
  inbox: [{ key: { at: 1 } }],
  // prune: at < before
  barriers: [{ key: { at: 1 } }],
  audit: [
    // newest first
    { key: { at: 1, _id: 1 } },
    // forget: was this group forgotten? Only the records of that act have it
    { key: { group: 1 }, onlyWith: "group" }
  ],
  bulks: [
    // those that are under way
    { key: { state: 1 }, onlyWith: "state" },
    // newest first
    { key: { at: 1, _id: 1 } }
  ],
  // what became of a message, or of a parked one
  discarded: [{ key: { id: 1 } }],
  // minutes, or hours, from one instant to another; fold: the oldest minute; drop: hours, at < before
  history: [{ key: { unit: 1, at: 1 } }],
  lanes: [
    // look: those that have not changed for a while
    { key: { dueAt: 1 }, onlyWith: "dueAt" },
    // prune: idle < before. A lane in which somebody has his turn is not in it: a second entry for each turn is dear
    { key: { idle: 1 }, onlyWith: "idle" }
  ]
};
