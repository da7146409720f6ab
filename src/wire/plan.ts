import { keyFault, MAX_KEYS } from "../message/keys";
import {
  type Backoff,
  JITTERS,
  type Message,
  QUESTIONS,
  type Question,
  type Source,
  UNROUTABLE_MS
} from "../message/message";
import { LONGEST_MS } from "../options/option";
import { hasControl } from "../platform/printable";
import { isCount } from "./envelope";
import { Unreadable } from "./json";

/**
 * Strategy `callback` keeps no row on the producer's side. So what the callback service must know of a message travels
 * with it, as `x-reliable-echo` on the message and on its check. Consumers return it unread.
 */
export interface CallbackPlan {
  v: 1;
  /** When it was emitted, ms on the producer's clock. */
  at: number;
  /** Delays of the checks, ms. */
  delays: number[];
  max: number;
  backoff: Backoff;
  /** Absent = UNROUTABLE_MS. */
  unroutableMs?: number;
  only?: string[];
  /** As in the row: `name=value`. */
  keys?: string[];
  source?: Source;
  intent?: Question;
  /** The producer cannot be asked; see `Message.resend`. */
  resend?: "copy";
}

export const isQuestion = (value: unknown): value is Question => QUESTIONS.includes(value as Question);

/** Half of the largest Date, so that the sum of two is still a Date. */
const MAX_INSTANT = 4e15;

export function encodePlan(message: Message): string {
  const { createdAt, delays = [], maxAttempts: max, backoff, groups: only, keys, source, intent, resend } = message;
  const unroutableMs = message.unroutableMs === UNROUTABLE_MS ? undefined : message.unroutableMs;
  // JSON omits undefined fields.
  return JSON.stringify({
    v: 1,
    at: createdAt.getTime(),
    delays,
    max,
    backoff,
    unroutableMs,
    only,
    keys,
    source,
    intent,
    resend
  } satisfies { [name in keyof CallbackPlan]: CallbackPlan[name] | undefined });
}

/** Throws Unreadable. */
export function parsePlan(text: string): CallbackPlan {
  let plan: Partial<CallbackPlan> | null;
  try {
    plan = JSON.parse(text) as Partial<CallbackPlan> | null;
  } catch {
    throw new Unreadable("x-reliable-echo is not JSON");
  }
  const { v, at, delays, max, backoff, unroutableMs = 0, only, keys, source, intent, resend } = plan ?? {};
  if (v !== 1) throw new Unreadable(`unknown version ${JSON.stringify(v)} of x-reliable-echo`);
  // Limited, because a later Date is invalid and no store takes it.
  const positive = (value: unknown) => typeof value === "number" && value > 0 && value < MAX_INSTANT;
  if (
    !positive(at) ||
    !isCount(max) ||
    !Array.isArray(delays) ||
    !delays.length ||
    !delays.every(delay => positive(delay) && delay <= LONGEST_MS)
  )
    throw new Unreadable("x-reliable-echo lacks at, max or delays");
  // If two checks were due together, one would find the other's attempt unanswered.
  if (!delays.every((delay, i) => i === 0 || delay > (delays[i - 1] as number)))
    throw new Unreadable("x-reliable-echo has delays that do not increase");
  if (
    typeof backoff !== "object" ||
    backoff === null ||
    !positive(backoff.initialMs) ||
    !positive(backoff.maxMs) ||
    !JITTERS.includes(backoff.jitter)
  )
    throw new Unreadable("x-reliable-echo lacks backoff");
  if (typeof unroutableMs !== "number" || !(unroutableMs >= 0 && unroutableMs <= LONGEST_MS))
    throw new Unreadable("x-reliable-echo has a bad unroutableMs");
  if (
    source !== undefined &&
    (typeof source !== "object" ||
      source === null ||
      typeof source.action !== "string" ||
      // The actions of a Moleculer node itself ($node.…) are no sources.
      !/^[^$]/.test(source.action))
  )
    throw new Unreadable("x-reliable-echo has a bad source");
  if (
    only !== undefined &&
    !(Array.isArray(only) && only.every(group => typeof group === "string" && group !== "" && !hasControl(group)))
  )
    throw new Unreadable("x-reliable-echo has bad groups");
  if (
    keys !== undefined &&
    !(Array.isArray(keys) && keys.length <= MAX_KEYS && keys.every(key => keyFault(key) === undefined))
  )
    throw new Unreadable("x-reliable-echo has bad keys");
  if (intent !== undefined && !isQuestion(intent)) throw new Unreadable("x-reliable-echo has a bad intent");
  if (resend !== undefined && resend !== "copy") throw new Unreadable("x-reliable-echo has a bad resend");
  // Both are questions to the producer, and this plan says that the producer cannot be asked.
  if (resend && (source || intent)) throw new Unreadable("x-reliable-echo has resend together with source or intent");
  return plan as CallbackPlan;
}

/** How long an attempt of this round may stay without an answer: the delay of its check. The last delay repeats. */
export function delayOf(message: Message, round: number): number {
  const delays = message.delays ?? [];
  return delays[Math.min(round, delays.length) - 1] ?? message.receiptTimeoutMs;
}
