import { uuidv7 } from "uuidv7";
import type { Failure, Message, Note, Receipt } from "../../src/message/message";
import { bucketOf } from "../../src/message/message";
import {
  type AuditRecord,
  type Discarded,
  type ListedParked,
  PARKED_HEAD_BYTES,
  type Parked,
  type Subscription
} from "../../src/message/records";
import type { FailedRecord, HandledRecord } from "../../src/stores/store-records";

/** Instants of the tests, in ms from a fixed start: rows are made already old, nothing waits. */
export function at(ms: number): Date {
  return new Date(Date.UTC(2026, 0, 1) + ms);
}

export function messageOf(fields: Partial<Message> = {}): Message {
  const _id = fields._id ?? uuidv7();
  return {
    _id,
    v: 2,
    event: "order.created",
    body: Buffer.from('{"n":1}'),
    meta: {},
    headers: {},
    origin: {},
    strategy: "outbox",
    producer: "orders",
    status: "pending",
    dueAt: at(30_000),
    bucket: bucketOf(_id),
    waiting: ["stock"],
    failed: [],
    resolved: [],
    deadAt: {},
    errors: {},
    receipts: {},
    attempts: {},
    spent: {},
    base: {},
    next: {},
    unroutable: {},
    unroutableMs: 3_600_000,
    maxAttempts: 3,
    backoff: { initialMs: 1000, maxMs: 10_000, jitter: "none" },
    receiptTimeoutMs: 60_000,
    failures: [],
    createdAt: at(0),
    at: fields.createdAt ?? at(0),
    notes: [],
    ...fields
  };
}

/** Fields of a message whose attempts are spent for `group`. */
export function deadOf(fields: Partial<Message> = {}): Message {
  const dead = messageOf({
    status: "dead",
    waiting: [],
    failed: ["stock"],
    spent: { stock: 3 },
    at: at(500),
    reason: "handler: boom",
    ...fields
  });
  delete dead.dueAt;
  return dead;
}

export function finalOf(
  status: "consumed" | "resolved" | "withdrawn" | "cancelled",
  doneAt: Date,
  fields: Partial<Message> = {}
): Message {
  const final = messageOf({ status, waiting: [], at: doneAt, ...fields });
  delete final.dueAt;
  return final;
}

/** To be sent at `sendAt`, to whoever is known then. */
export function scheduledOf(sendAt: Date, fields: Partial<Message> = {}): Message {
  return messageOf({ status: "scheduled", waiting: ["*"], sendAt, dueAt: sendAt, ...fields });
}

export function receiptOf(fields: Partial<Receipt> = {}): Receipt {
  return { at: at(1000), nodeID: "node-1", durationMs: 5, attempt: 1, ...fields };
}

export function failureOf(fields: Partial<Failure> = {}): Failure {
  return { at: at(1000), cause: "handler", error: { name: "Error", message: "boom" }, ...fields };
}

export function handledBy(id: string, group = "stock"): HandledRecord {
  return { id, group, receipt: receiptOf() };
}

export function failedBy(id: string, fields: Partial<FailedRecord> = {}): FailedRecord {
  const { group = "stock", attempt = 1 } = fields;
  return {
    id,
    group,
    attempt,
    failure: failureOf({ group, attempt }),
    nextAt: at(5000),
    reason: `handler (${group}): boom`,
    ...fields
  };
}

export function noteOf(act: Note["act"], fields: Partial<Note> = {}): Note {
  return { at: at(9000), by: "tester", act, ...fields };
}

export function auditOf(fields: Partial<AuditRecord> = {}): AuditRecord {
  return {
    _id: uuidv7(),
    at: at(9000),
    by: "tester",
    act: "discard",
    state: "begun",
    note: "a test",
    counts: { matched: 1, done: 0, lost: 0 },
    ...fields
  };
}

export function discardedOf(message: Message, fields: Partial<Discarded> = {}): Discarded {
  const { _id: id, event, producer, createdAt, failed, body } = message;
  return {
    _id: uuidv7(),
    id,
    of: "an act",
    at: at(9000),
    by: "tester",
    note: "a test",
    message: { event, producer, createdAt, failed, bytes: body.length },
    ...fields
  };
}

export function subscriptionOf(group: string, fields: Partial<Subscription> = {}): Subscription {
  return {
    pattern: "order.created",
    group,
    queue: `q.${group}`,
    nodeID: "node-1",
    service: group,
    firstSeenAt: at(0),
    seenAt: at(0),
    ...fields
  };
}

export function parkedOf(fields: Partial<Parked> = {}): Parked {
  return {
    _id: uuidv7(),
    at: at(0),
    queue: "q",
    reason: "unparsable",
    nodeID: "node-1",
    body: Buffer.from([0, 255, 7]),
    properties: {},
    headers: {},
    ...fields
  };
}

/** The same in a list. */
export function listedOf({ body, ...parked }: Parked): ListedParked {
  return { ...parked, head: body.subarray(0, PARKED_HEAD_BYTES), kept: body.length };
}

export const silent = { error: () => undefined, warn: () => undefined, info: () => undefined, debug: () => undefined };
