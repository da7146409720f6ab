/** A group's queue: what consumers announce and `waiting` is filled from. */
export interface Subscription {
  /** Moleculer event pattern, `*` and `**` allowed. */
  pattern: string;
  group: string;
  queue: string;
  nodeID: string;
  service: string;
  firstSeenAt: Date;
  seenAt: Date;
}

/** A group, or one of its patterns, whose consumers take nothing, because a human says so. */
export interface Pause {
  /** As its services name it; of a queue of moleculer-amqp-queue `queue/<name>`. */
  group: string;
  /** undefined = all of the group's, and those to come. */
  pattern?: string;
  at: Date;
  by: string;
  note: string;
  /**
   * Its end. The row stays until its marker is known to be gone (`unmarked`), and a while longer: a message that was
   * held back by the pause is not silent because of it.
   */
  resumed?: { at: Date; by: string; note?: string };
  unmarked?: boolean;
}

/** Something that was received and could not be read; all of it is kept, unless it is too large for the store. */
export interface Parked {
  _id: string;
  at: Date;
  /** The queue it came from. */
  queue: string;
  reason: string;
  nodeID: string;
  body: Buffer;
  /** The body is only the beginning: length and SHA-256 (hex) of the whole. */
  cut?: { bytes: number; sha256: string };
  properties: Record<string, unknown>;
  headers: Record<string, unknown>;
}

/** As in a list. `head`: the first PARKED_HEAD_BYTES of the body; `kept`: how many of it are kept. */
export type ListedParked = Omit<Parked, "body"> & { head: Buffer; kept: number };

/** What a list shows of a body: divisible by three, so that base64 ends without padding; and the end of a character. */
export const PARKED_PREVIEW_BYTES = 198;
export const PARKED_HEAD_BYTES = PARKED_PREVIEW_BYTES + 3;

/** How many ids an audit record keeps of what the act was about; `counts` tells the number. */
export const IDS_KEPT = 500;

/**
 * One act of an operator: who, when, why, on what, and what came of it. One record per act, however many messages it
 * was about. It is written before anything is done, and its end is added.
 */
export interface AuditRecord {
  _id: string;
  at: Date;
  /** Who did it. Of the user in a call's meta if there is one, whatever the call itself says. */
  by: string;
  /** What such a call said in `by`. */
  onBehalfOf?: string;
  act:
    | "retry"
    | "resolve"
    | "discard"
    | "cancel"
    | "skip"
    | "forget"
    | "sweep"
    | "pause"
    | "resume"
    | "erase"
    | "replay";
  /** `begun`: under way, or its process died before the end. `failed`: it ended with an error, half-way perhaps. `stopped`: a bulk act that was stopped, or stopped itself. */
  state: "begun" | "done" | "failed" | "stopped";
  note?: string;
  /** What it was asked to act on, where that was a filter. */
  filter?: Record<string, string | number | string[]>;
  /** What it was about: one message, or the first IDS_KEPT of several. Parked ones if `parked`. */
  id?: string;
  ids?: string[];
  parked?: true;
  group?: string;
  pattern?: string;
  /** A bulk act: of the same id, and on all that matched. */
  bulk?: true;
  counts: Record<string, number>;
  endedAt?: Date;
  error?: string;
  /** With `forget`: who began it before, if it was begun, came to no end, and was done again. */
  earlier?: Pick<AuditRecord, "at" | "by" | "note">[];
}

/** What came of an act. */
export type AuditEnd = Required<Pick<AuditRecord, "state" | "endedAt" | "counts">> & Pick<AuditRecord, "error">;

/** What is left of a message, or of a parked one, after `discard`. Written before it is deleted. */
export interface Discarded {
  _id: string;
  /** Of the message or the parked one. */
  id: string;
  /** `_id` of the act's audit record. */
  of: string;
  at: Date;
  by: string;
  note: string;
  message?: { event: string; producer: string; createdAt: Date; reason?: string; failed: string[]; bytes: number };
  parked?: { queue: string; reason: string; at: Date; bytes: number };
}
