import type { AuditRecord, Discarded } from "../message/records";

/** An act, flat. `id` is what it was about, if that is one message; `auditID` is its own. Its counts stand beside (`matched`, `done`, `lost`, …; of a sweep those of the sweep). */
export interface AuditRow extends Record<string, unknown> {
  auditID: string;
  at: string;
  act: string;
  by: string;
  onBehalfOf?: string;
  /** `begun`: under way, or its process died before the end · `done` · `failed`: see `error`. */
  state: string;
  note?: string;
  /** The filter it was given: `status=dead event=order.created`. */
  filter?: string;
  /** Of the message, or of the parked one if `parked`. */
  id?: string;
  parked?: true;
  group?: string;
  pattern?: string;
  /** Of the one message that was discarded. */
  event?: string;
  queue?: string;
  reason?: string;
  endedAt?: string;
  error?: string;
  /** With `forget`: who began it before, and came to no end. */
  earlier?: string;
}

export interface DiscardedRow {
  id: string;
  event?: string;
  producer?: string;
  queue?: string;
  reason?: string;
  /** Of the emit, or when it was parked. */
  createdAt: string;
  bytes: number;
}

/** All of one act. */
export interface AuditStory extends AuditRow {
  /** What it was about: 500 at most. */
  ids: string[];
  /** What is left of those that were discarded. */
  discarded: DiscardedRow[];
}

export function auditRow(record: AuditRecord, discarded: Discarded[]): AuditRow {
  const { _id: auditID, at, act, by, onBehalfOf, state, note, filter, id, parked, group, pattern } = record;
  const { counts, endedAt, error, earlier } = record;
  const left = discarded.find(row => row.of === auditID && row.id === id);
  const row: AuditRow = {
    ...{ auditID, at: at.toISOString(), act, by, onBehalfOf, state, note },
    filter: filter && textOf(filter),
    ...{ id, parked, group, pattern },
    event: left?.message?.event,
    queue: left?.parked?.queue,
    reason: left?.message?.reason ?? left?.parked?.reason,
    ...counts,
    endedAt: endedAt?.toISOString(),
    error,
    earlier: earlier?.map(({ at, by, note }) => `${by} at ${at.toISOString()}${note ? `: ${note}` : ""}`).join("; ")
  };
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== undefined)) as unknown as AuditRow;
}

export function auditStory(record: AuditRecord, ids: string[], discarded: Discarded[]): AuditStory {
  const own = discarded.filter(({ of }) => of === record._id);
  return { ...auditRow(record, own), ids, discarded: own.map(discardedRow) };
}

function discardedRow({ id, message, parked }: Discarded): DiscardedRow {
  const row = {
    id,
    event: message?.event,
    producer: message?.producer,
    queue: parked?.queue,
    reason: message?.reason ?? parked?.reason,
    createdAt: (message?.createdAt ?? parked?.at ?? new Date(0)).toISOString(),
    bytes: message?.bytes ?? parked?.bytes ?? 0
  };
  return Object.fromEntries(Object.entries(row).filter(([, value]) => value !== undefined)) as unknown as DiscardedRow;
}

export function textOf(filter: Record<string, string | number | string[]>): string {
  return Object.entries(filter)
    .map(([name, value]) => `${name}=${[value].flat().join(",")}`)
    .join(" ");
}
