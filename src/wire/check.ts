import { STATUS } from "../message/lifecycle";
import { bucketOf, EMPTY, type Message, NONE, type Receipt, ROW_VERSION, UNROUTABLE_MS } from "../message/message";
import { HEADER, isCount, parseEnvelope, type Wire } from "./envelope";
import { Unreadable } from "./json";
import { isQuestion, parsePlan } from "./plan";
import type { Echo } from "./receipt";

/** A check's body is passed on through an RPC, so it stays far below the limits of transporters. */
export const MAX_CHECK_BYTES = 1024 * 1024;

/** More than a check's delay and its lateness. After that the row is due for the sweeper, without its check. */
export const LOST_CHECK_MARGIN_MS = 30_000;

export interface Check {
  /** The check's message, as it would be stored. */
  row: Message;
  round: number;
}

/** Of a message whose payload a source has. */
export const NO_BODY = Buffer.alloc(0);

/** Groups that shall handle an event: those of `only`, or all known ones. */
type WaitingFor = (event: string, only?: string[]) => string[];

/** Throws Unreadable. */
export function parseCheck(wire: Wire, waitingFor: WaitingFor, now: Date): Check {
  const { [HEADER.round]: round, [HEADER.intent]: intent } = wire.headers;
  if (!isCount(round)) throw new Unreadable("check without x-reliable-round");
  if (intent !== undefined && !isQuestion(intent)) throw new Unreadable("check with a bad x-reliable-intent");
  if (wire.body.length > MAX_CHECK_BYTES)
    throw new Unreadable(`check of ${wire.body.length} bytes, more than ${MAX_CHECK_BYTES}`);
  const row = messageOfEnvelope(wire, waitingFor, now);
  if (!wire.body.length && !row.source) throw new Unreadable("check without payload and without source");
  row.round = round;
  if (row.intent && intent !== undefined) {
    row.status = STATUS.intended;
    // It is not known yet whether the message was sent, nor whether it should have been.
    delete row.publishedAt;
  }
  return { row, round };
}

/**
 * A message of strategy `callback`, from its headers and body. An empty body means that the source has it. Throws
 * Unreadable.
 */
export function messageOfEnvelope(wire: Wire, waitingFor: WaitingFor, now: Date): Message {
  // Copied one by one: the fields of a delivery are getters, which a spread does not copy.
  const { messageId, type, body } = wire;
  const { id, event, producer, meta, headers, origin, echo, encoded } = parseEnvelope({
    messageId,
    type,
    headers: wire.headers,
    // An envelope's body is never empty; a check's may be.
    body: body.length ? body : Buffer.from("null")
  });
  if (echo === undefined) throw new Unreadable("no x-reliable-echo");
  return callbackMessage({ id, event, producer, plan: echo }, waitingFor, now, {
    body: wire.body,
    meta,
    headers,
    origin,
    ...(encoded && { encoded })
  });
}

/** What a receipt returns of a message: all of it after a failure, else no payload. Throws Unreadable. */
export function messageOfEcho(id: string, echo: Echo, waitingFor: WaitingFor, now: Date): Message {
  const { headers, body } = echo;
  if (headers && body) {
    // The envelope has the same plan. A different plan is not used, but it must not make the message unreadable.
    if (headers[HEADER.echo] !== echo.plan) parsePlan(echo.plan);
    return messageOfEnvelope(
      { messageId: id, type: echo.event, headers, body: Buffer.from(body, "base64") },
      waitingFor,
      now
    );
  }
  const row = callbackMessage({ id, event: echo.event, producer: echo.producer, plan: echo.plan }, waitingFor, now, {
    body: NO_BODY,
    meta: EMPTY,
    headers: EMPTY,
    origin: EMPTY
  });
  row.partial = true;
  return row;
}

/** A new message after these receipts: the same as `handled` in the store would leave it. */
export function withReceipts(row: Message, receipts: Map<string, Receipt>, now: Date): Message {
  const waiting = row.waiting.filter(group => !receipts.has(group));
  const answered: Message = { ...row, receipts: Object.fromEntries(receipts), waiting };
  if (waiting.length) return answered;
  answered.status = STATUS.consumed;
  answered.at = now;
  // Not deleted: that would make V8 keep the whole row as a dictionary. An undefined field is not stored.
  (answered as { dueAt: Date | undefined }).dueAt = undefined;
  return answered;
}

function callbackMessage(
  known: { id: string; event: string; producer: string; plan: string },
  waitingFor: WaitingFor,
  now: Date,
  rest: Pick<Message, "body" | "meta" | "headers" | "origin" | "encoded">
): Message {
  const { at, delays, max, backoff, unroutableMs = UNROUTABLE_MS, ...rare } = parsePlan(known.plan);
  const { only, keys, requestID, source, intent, resend } = rare;
  const [first = 0] = delays;
  const { body, meta, headers, origin, encoded } = rest;
  // Written without spreads: this runs for every receipt, and spreads are several times slower in V8.
  const row: Message = {
    _id: known.id,
    v: ROW_VERSION,
    event: known.event,
    body,
    meta,
    headers,
    // A receipt brings nothing else of it.
    origin: requestID && !origin.requestID ? { ...origin, requestID } : origin,
    strategy: "callback",
    producer: known.producer,
    status: STATUS.published,
    bucket: bucketOf(known.id),
    waiting: waitingFor(known.event, only),
    failed: NONE,
    resolved: NONE,
    deadAt: EMPTY,
    errors: EMPTY,
    receipts: EMPTY,
    attempts: EMPTY,
    spent: EMPTY,
    base: EMPTY,
    next: EMPTY,
    unroutable: EMPTY,
    unroutableMs,
    maxAttempts: max,
    backoff,
    receiptTimeoutMs: first,
    failures: NONE,
    delays,
    round: 1,
    createdAt: new Date(at),
    at: new Date(at),
    publishedAt: new Date(at),
    notes: NONE,
    // The producer's clock may be ahead, but its emit is in the past.
    dueAt: new Date(Math.max(now.getTime(), Math.min(at, now.getTime()) + first) + LOST_CHECK_MARGIN_MS)
  };
  if (encoded) row.encoded = encoded;
  if (only) row.groups = only;
  if (keys?.length) row.keys = keys;
  if (source) row.source = source;
  if (intent) row.intent = intent;
  if (resend) row.resend = resend;
  return row;
}
