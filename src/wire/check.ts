import { STATUS } from "../message/lifecycle";
import { type Backoff, bucketOf, type Message, type Receipt, type Source } from "../message/message";
import { LONGEST_MS } from "../options/option";
import { HEADER, isCount, parseEnvelope, type Wire } from "./envelope";
import { Unreadable } from "./json";
import type { Echo } from "./receipt";

/**
 * Strategy `callback` keeps no row on the producer's side, so what the callback service must know of a message travels
 * with it: as `x-reliable-echo` on the message and on its check. Consumers hand it back unread.
 */
interface Plan {
  v: 1;
  /** When it was emitted, ms on the producer's clock. */
  at: number;
  /** Delays of the checks, ms. */
  delays: number[];
  max: number;
  backoff: Backoff;
  only?: string[];
  source?: Source;
  intent?: "source" | "barrier";
  /** The producer cannot be asked; see `Message.resend`. */
  resend?: "copy";
}

/** A check's body travels on through an RPC, so it stays far below what transporters take. */
export const MAX_CHECK_BYTES = 1024 * 1024;

/** Above a check's delay and its lateness: then the row alone, without its check, is the sweeper's business. */
export const LOST_CHECK_MARGIN_MS = 30_000;

const JITTERS = new Set<unknown>(["none", "half", "full"]);

/** Half of what a Date can hold: the sum of two is one still. */
const MAX_INSTANT = 4e15;

export function encodePlan(message: Message): string {
  const { createdAt, delays = [], maxAttempts: max, backoff, groups: only, source, intent, resend } = message;
  // JSON leaves out what is undefined.
  return JSON.stringify({
    v: 1,
    at: createdAt.getTime(),
    delays,
    max,
    backoff,
    only,
    source,
    intent,
    resend
  } satisfies { [name in keyof Plan]: Plan[name] | undefined });
}

/** Throws Unreadable. */
function parsePlan(text: string): Plan {
  let plan: Partial<Plan> | null;
  try {
    plan = JSON.parse(text) as Partial<Plan> | null;
  } catch {
    throw new Unreadable("x-reliable-echo is not JSON");
  }
  const { v, at, delays, max, backoff, only, source, intent, resend } = plan ?? {};
  if (v !== 1) throw new Unreadable(`unknown version ${JSON.stringify(v)} of x-reliable-echo`);
  // Bounded, because a date beyond it is none, and no store takes that.
  const positive = (value: unknown) => typeof value === "number" && value > 0 && value < MAX_INSTANT;
  if (
    !positive(at) ||
    !isCount(max) ||
    !Array.isArray(delays) ||
    !delays.length ||
    !delays.every(delay => positive(delay) && delay <= LONGEST_MS)
  )
    throw new Unreadable("x-reliable-echo lacks at, max or delays");
  // Of two checks that came out together one would find the other's attempt without an answer.
  if (!delays.every((delay, i) => i === 0 || delay > (delays[i - 1] as number)))
    throw new Unreadable("x-reliable-echo has delays that do not increase");
  if (
    typeof backoff !== "object" ||
    backoff === null ||
    !positive(backoff.initialMs) ||
    !positive(backoff.maxMs) ||
    !JITTERS.has(backoff.jitter)
  )
    throw new Unreadable("x-reliable-echo lacks backoff");
  if (
    source !== undefined &&
    (typeof source !== "object" || source === null || typeof source.action !== "string" || source.action === "")
  )
    throw new Unreadable("x-reliable-echo has a bad source");
  if (only !== undefined && !(Array.isArray(only) && only.every(group => typeof group === "string" && group !== "")))
    throw new Unreadable("x-reliable-echo has bad groups");
  if (intent !== undefined && intent !== "source" && intent !== "barrier")
    throw new Unreadable("x-reliable-echo has a bad intent");
  if (resend !== undefined && resend !== "copy") throw new Unreadable("x-reliable-echo has a bad resend");
  // Both are questions, and with it there is nobody to be asked.
  if (resend && (source || intent)) throw new Unreadable("x-reliable-echo has resend together with source or intent");
  return plan as Plan;
}

/** How long an attempt of this round may stay without an answer: the delay of its check; the last one repeats. */
export function delayOf(message: Message, round: number): number {
  const delays = message.delays ?? [];
  return delays[Math.min(round, delays.length) - 1] ?? message.receiptTimeoutMs;
}

export interface Check {
  row: Message;
  round: number;
}

/** A check from the wire, as the row it stands for. Throws Unreadable. */
export function parseCheck(wire: Wire, waitingFor: (event: string, only?: string[]) => string[], now: Date): Check {
  const { [HEADER.round]: round, [HEADER.intent]: intent } = wire.headers;
  if (!isCount(round)) throw new Unreadable("check without x-reliable-round");
  if (intent !== undefined && intent !== "source" && intent !== "barrier")
    throw new Unreadable("check with a bad x-reliable-intent");
  const row = rowOf(wire, waitingFor, now);
  if (!wire.body.length && !row.source) throw new Unreadable("check without payload and without source");
  row.round = round;
  if (row.intent && intent !== undefined) {
    row.status = STATUS.intended;
    // Whether the message went out is not known yet, nor whether it should have.
    delete row.publishedAt;
  }
  return { row, round };
}

/**
 * The row of a message of strategy `callback`, from its headers and body; an empty body stands for "ask the source".
 * Throws Unreadable.
 */
export function rowOf(wire: Wire, waitingFor: (event: string, only?: string[]) => string[], now: Date): Message {
  // An envelope's body is never empty; a check's may be. Named one by one: a delivery's are getters, which a spread
  // would leave behind.
  const { messageId, type, body } = wire;
  const { id, event, producer, meta, headers, origin, echo } = parseEnvelope({
    messageId,
    type,
    headers: wire.headers,
    body: body.length ? body : Buffer.from("null")
  });
  if (echo === undefined) throw new Unreadable("no x-reliable-echo");
  return newRow({ id, event, producer, plan: echo }, waitingFor, now, { body: wire.body, meta, headers, origin });
}

/** What a receipt tells of a message: all of it after a failure, else that it exists. Throws Unreadable. */
export function rowOfEcho(
  id: string,
  echo: Echo,
  waitingFor: (event: string, only?: string[]) => string[],
  now: Date
): Message {
  const { headers, body } = echo;
  // The copy has the same; but nothing that breaks its schema shall pass because it was not needed.
  parsePlan(echo.plan);
  if (headers && body)
    return rowOf({ messageId: id, type: echo.event, headers, body: Buffer.from(body, "base64") }, waitingFor, now);
  const row = newRow({ id, event: echo.event, producer: echo.producer, plan: echo.plan }, waitingFor, now, {
    body: Buffer.alloc(0),
    meta: {},
    headers: {},
    origin: {}
  });
  return { ...row, partial: true };
}

/** A row as these receipts leave it: what `handled` would make of it, before it is stored. */
export function answeredRow(row: Message, receipts: Map<string, Receipt>, now: Date): Message {
  const waiting = row.waiting.filter(group => !receipts.has(group));
  const answered = { ...row, receipts: Object.fromEntries(receipts), waiting };
  if (waiting.length) return answered;
  const { open: _open, dueAt: _dueAt, ...closed } = answered;
  return { ...closed, status: STATUS.consumed, consumedAt: now, doneAt: now };
}

function newRow(
  known: { id: string; event: string; producer: string; plan: string },
  waitingFor: (event: string, only?: string[]) => string[],
  now: Date,
  rest: Pick<Message, "body" | "meta" | "headers" | "origin">
): Message {
  const { at, delays, max, backoff, only, source, intent, resend } = parsePlan(known.plan);
  const [first = 0] = delays;
  return {
    _id: known.id,
    v: 1,
    event: known.event,
    ...rest,
    strategy: "callback",
    producer: known.producer,
    ...(only && { groups: only }),
    status: STATUS.published,
    open: true,
    // The producer's clock may be ahead, but it has emitted.
    dueAt: new Date(Math.max(now.getTime(), Math.min(at, now.getTime()) + first) + LOST_CHECK_MARGIN_MS),
    bucket: bucketOf(known.id),
    waiting: waitingFor(known.event, only),
    failed: [],
    receipts: {},
    attempts: {},
    spent: {},
    base: {},
    next: {},
    maxAttempts: max,
    backoff,
    receiptTimeoutMs: first,
    failures: [],
    ...(source && { source }),
    ...(intent && { intent }),
    ...(resend && { resend }),
    delays,
    round: 1,
    createdAt: new Date(at),
    publishedAt: new Date(at),
    notes: []
  };
}
