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

/** Kept after `discard` has deleted a message or a parked one, and for each `forget`. */
export interface AuditRecord {
  _id: string;
  at: Date;
  by: string;
  act: "discard" | "forget";
  note?: string;
  message?: {
    id: string;
    event: string;
    producer: string;
    createdAt: Date;
    reason?: string;
    failed: string[];
    bytes: number;
  };
  parked?: { id: string; queue: string; reason: string; at: Date; bytes: number };
  group?: string;
  pattern?: string;
}
