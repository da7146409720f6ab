import type { ServiceBroker } from "moleculer";
import { uuidv7 } from "uuidv7";
import { lastErrorOf } from "../../src/message/last-error";
import type { Failure, FailureError, Message } from "../../src/message/message";
import { placeOf } from "../../src/message/order";
import { auditOf, deadOf, failureOf, finalOf, noteOf, parkedOf, receiptOf } from "./messages";
import { storeOf } from "./runtime";

const MINUTE_MS = 60_000;

/** The texts of strangers that a page shows, by where they stand. */
export interface Texts {
  id: string;
  event: string;
  group: string;
  producer: string;
  error: FailureError;
  key: string;
  /** Held by the message. */
  orderKey: string;
  payload: unknown;
  meta: Record<string, unknown>;
  nodeID: string;
  note: string;
  by: string;
  queue: string;
  reason: string;
}

export const plainTexts: Texts = {
  id: "order-77",
  event: "order.created",
  group: "mail",
  producer: "orders",
  error: {
    name: "MailError",
    code: "EAUTH",
    message: "535 authentication failed",
    stack: "MailError: 535\n    at send (mail.js:3)"
  },
  key: "order=77",
  orderKey: "order-7",
  payload: { order: 77, customer: "Ada", lines: [{ sku: "a-1", count: 2 }] },
  meta: { tenant: "north" },
  nodeID: "mail-2",
  note: "the password was changed",
  by: "ops2",
  queue: "reliable.on.mail/order.created",
  reason: "unparsable: Unexpected token"
};

const ago = (ms: number) => new Date(Date.now() - ms);

/** A message that has died in `group` a quarter of an hour ago, with all that a row can have. */
export function deadRow(texts: Texts, fields: Partial<Message> = {}): Message {
  const { id, event, group, producer, error, key, payload, meta, nodeID, note, by } = texts;
  const at = ago(15 * MINUTE_MS);
  const failure: Failure = failureOf({ at, group, attempt: 3, nodeID, error });
  return deadOf({
    _id: id,
    event,
    producer,
    body: Buffer.from(JSON.stringify(payload)),
    meta,
    origin: { requestID: `request of ${id}`.slice(0, 200), nodeID },
    keys: [key],
    failed: [group],
    spent: { [group]: 3 },
    attempts: { [group]: 3 },
    deadAt: { [group]: at },
    errors: { [group]: { cause: "handler", name: error.name, message: error.message } },
    receipts: { stock: receiptOf({ at: ago(16 * MINUTE_MS), nodeID }) },
    failures: [failure],
    lastErrors: [lastErrorOf(group, failure, at)],
    reason: `handler (${group}): ${error.message}`,
    createdAt: ago(20 * MINUTE_MS),
    publishedAt: ago(19 * MINUTE_MS),
    at,
    notes: [
      noteOf("retry", { at: ago(17 * MINUTE_MS), by, note, groups: [group] }),
      noteOf("dead", { at, note: `handler (${group}): ${error.message}`, groups: [group] })
    ],
    ...fields
  });
}

/** Something on every page of the dashboard: two causes, a finished message, parked ones, and what was done by hand. */
export async function fill(broker: ServiceBroker, texts: Texts = plainTexts): Promise<void> {
  const store = storeOf(broker);
  const { id, event, producer, key, queue, reason, nodeID, by, note } = texts;
  const now = new Date();
  const { orderKey } = texts;
  const outcomes = await store.messages.insert([
    deadRow(texts, { order: { key: orderKey }, place: placeOf(orderKey, 1), holds: orderKey }),
    deadRow({ ...texts, id: `${id} 2` }),
    deadRow({ ...texts, id: `${id} 3`, error: { ...texts.error, name: "TimeoutError", message: "no answer" } }),
    finalOf("consumed", now, {
      _id: `${id} 4`,
      event,
      producer,
      keys: [key],
      receipts: { stock: receiptOf({ nodeID }) }
    })
  ]);
  const refused = outcomes.find(outcome => outcome instanceof Error);
  if (refused) throw refused;
  await store.parked.add([
    parkedOf({
      _id: `parked ${id}`,
      at: now,
      queue,
      reason,
      nodeID,
      body: Buffer.from(JSON.stringify(texts.payload)),
      properties: { messageId: id, type: event },
      headers: { from: producer, note }
    }),
    parkedOf({ at: now, queue, reason, nodeID })
  ]);
  // One whose services are gone: it can be forgotten.
  await store.subscriptions.announce([
    {
      pattern: "invoice.sent",
      group: "invoices",
      queue: `${broker.namespace}.invoices`,
      nodeID,
      service: "invoices",
      firstSeenAt: ago(MINUTE_MS),
      seenAt: ago(MINUTE_MS)
    }
  ]);
  const audit = auditOf({ _id: uuidv7(), at: now, by, note, act: "retry", id, filter: { event, key } });
  await store.audits.begin(audit);
}
