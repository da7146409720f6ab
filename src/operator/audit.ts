import { ReliableError, reasonOf } from "../errors";
import type { ListedMessage } from "../message/message";
import { type AuditRecord, type Discarded, IDS_KEPT, type Parked } from "../message/records";
import { newId } from "../platform/ids";
import { printable } from "../platform/printable";
import type { Warnings } from "../platform/warnings";
import type { Store } from "../stores/store";
import type { Actor } from "./actor";
import { deathReason, lengthOf } from "./views";

export interface AuditParts {
  store: Pick<Store, "audits" | "now">;
  warnings: Warnings;
}

/** What the record of an act says from the beginning. */
export type ActStory = Actor &
  Pick<AuditRecord, "act" | "note" | "filter" | "id" | "ids" | "parked" | "group" | "pattern">;

const MAX_ERROR = 500;

/** Throws RELIABLE_BAD_OPTION. */
export function needNote(act: string, note: string | undefined, why: string): void {
  if (note !== undefined && note.trim() !== "") return;
  throw new ReliableError("RELIABLE_BAD_OPTION", `'${act}' needs a 'note': ${why}.`, { option: "note" });
}

/** The record of an act that begins now. */
export function recordOf(store: Pick<Store, "now">, story: ActStory): AuditRecord {
  const given = Object.entries(story).filter(([, value]) => value !== undefined);
  return { _id: newId(), at: store.now(), state: "begun", counts: {}, ...Object.fromEntries(given) } as AuditRecord;
}

/** One id, or the first of several. */
export function idsOf(ids: string[]): Pick<AuditRecord, "id" | "ids"> {
  return ids.length === 1 ? { id: ids[0] as string } : { ids: ids.slice(0, IDS_KEPT) };
}

/**
 * Does an act whose record has begun, and adds its end. `counts` is what `work` has counted by then.
 *
 *   process dies before the end     the record stays `begun`: it is seen that the act was not finished
 *   the store does not take the end the same; the act itself is done, and its answer is given
 */
export async function audited<T>(
  { store, warnings }: AuditParts,
  id: string,
  counts: Record<string, number>,
  work: () => Promise<T>
): Promise<T> {
  const end = async (state: "done" | "failed", error?: string) => {
    const ended = { state, endedAt: store.now(), counts, ...(error !== undefined && { error }) };
    await store.audits
      .end(id, ended)
      .catch(thrown =>
        warnings.warn("audit", "", `Reliable: the end of the act ${id} was not recorded: ${reasonOf(thrown)}`)
      );
  };
  let result: T;
  try {
    result = await work();
  } catch (error) {
    await end("failed", printable(reasonOf(error)).slice(0, MAX_ERROR));
    throw error;
  }
  await end("done");
  return result;
}

/** What a discard leaves of a message. */
export function discardedOf(message: ListedMessage, { _id: of, by, note = "" }: AuditRecord, at: Date): Discarded {
  const { _id: id, event, producer, createdAt, failed, bytes } = message;
  const reason = deathReason(message);
  return {
    // The instant makes it the record of this row: an id may be emitted and discarded again.
    _id: `discard:${id}@${createdAt.getTime()}`,
    id,
    ...{ of, at, by, note },
    message: { event, producer, createdAt, ...(reason ? { reason } : {}), failed, bytes }
  };
}

/** What must be known of a parked message to discard it: not its bytes. */
export type ParkedHead = Pick<Parked, "_id" | "at" | "queue" | "reason"> & { bytes: number };

export function headOf({ _id, at, queue, reason, ...whole }: Parked): ParkedHead {
  return { _id, at, queue, reason, bytes: lengthOf(whole) };
}

/** What a discard leaves of a parked message. */
export function parkedDiscardedOf(head: ParkedHead, { _id: of, by, note = "" }: AuditRecord, at: Date): Discarded {
  const { _id: id, at: parkedAt, queue, reason, bytes } = head;
  return {
    // The instant makes it the record of this parking: a message may be parked and discarded again.
    _id: `discard-parked:${id}@${parkedAt.getTime()}`,
    id,
    ...{ of, at, by, note },
    parked: { queue, reason, at: parkedAt, bytes }
  };
}

/** `discarded`: what is left of it, where a human has discarded it. */
export function notFound(
  id: string,
  what: "message" | "parked message",
  discarded: Discarded | undefined
): ReliableError {
  if (discarded) {
    const { at, by, note, of } = discarded;
    return new ReliableError(
      "RELIABLE_NOT_FOUND",
      `The ${what} '${id}' was discarded by ${by} at ${at.toISOString()}: ${note}.`,
      { id, discardedAt: at, by, auditID: of }
    );
  }
  const why =
    what === "message" ? "final ones are pruned after retainMs" : "those that were discarded are told by 'audits'";
  return new ReliableError("RELIABLE_NOT_FOUND", `No ${what} '${id}' is in the store; ${why}.`, { id });
}
