import type { ListedMessage, Note } from "../message/message";
import type { AuditRecord, Parked } from "../message/records";
import { lengthOf } from "./views";

export function auditOf(message: ListedMessage, note: Note): AuditRecord {
  const { _id: id, event, producer, createdAt, reason, failed, bytes } = message;
  return {
    // The instant makes it the record of this row: an id may be emitted and discarded again.
    _id: `discard:${id}@${createdAt.getTime()}`,
    at: note.at,
    by: note.by,
    act: "discard",
    ...(note.note ? { note: note.note } : {}),
    message: { id, event, producer, createdAt, ...(reason ? { reason } : {}), failed, bytes }
  };
}

export function parkedAuditOf({ _id: id, at, queue, reason, ...whole }: Parked, note: Note): AuditRecord {
  // The instant makes it the record of this parking: a message may be parked and discarded again.
  return {
    _id: `discard-parked:${id}@${at.getTime()}`,
    ...note,
    act: "discard",
    parked: { id, queue, reason, at, bytes: lengthOf(whole) }
  };
}
