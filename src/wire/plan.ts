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
import { hasControl, printable } from "../platform/printable";
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
  /** Of the context, by which operators find the message; as in `x-reliable-request-id`. */
  requestID?: string;
  source?: Source;
  intent?: Question;
  /** The producer cannot be asked; see `Message.resend`. */
  resend?: "copy";
}

export const isQuestion = (value: unknown): value is Question => QUESTIONS.includes(value as Question);

const MAX_REQUEST_ID = 200;

/** Half of the largest Date, so that the sum of two is still a Date. */
export const MAX_INSTANT = 4e15;

/** What the plans of nearly all messages of a service have in common: all but `at`. */
export interface SharedPlan {
  delays: number[];
  max: number;
  backoff: Backoff;
  unroutableMs: number;
  /** As JSON, without the braces. */
  text: string;
}

/** By a service's `checkDelaysMs`, which all its messages share. Options are never changed in place. */
const sharedPlans = new WeakMap<number[], SharedPlan>();
const NO_DELAYS: number[] = [];

export function sharedPlanOf({ delays = NO_DELAYS, maxAttempts: max, backoff, unroutableMs }: Message): SharedPlan {
  const known = sharedPlans.get(delays);
  if (known && known.max === max && known.backoff === backoff && known.unroutableMs === unroutableMs) return known;
  const text = JSON.stringify({
    delays,
    max,
    backoff,
    unroutableMs: unroutableMs === UNROUTABLE_MS ? undefined : unroutableMs
  }).slice(1, -1);
  const shared: SharedPlan = { delays, max, backoff, unroutableMs, text };
  sharedPlans.set(delays, shared);
  return shared;
}

/** The part of a plan that only this message has. */
export type OwnPlan = Pick<CallbackPlan, "only" | "keys" | "requestID" | "source" | "intent" | "resend">;

/** undefined = it has nothing of its own, as most. */
export function ownPlanOf(message: Message): OwnPlan | undefined {
  const { groups: only, keys, source, intent, resend } = message;
  const requestID = requestIDOf(message);
  if (!only && !keys && !source && !intent && !resend && requestID === undefined) return undefined;
  // JSON omits undefined fields.
  return { only, keys, requestID, source, intent, resend } as OwnPlan;
}

/** User code may have set it to any type and content. One that is longer travels in its header alone. */
function requestIDOf({ origin: { requestID } }: Message): string | undefined {
  if (!requestID) return undefined;
  const text = printable(String(requestID));
  return text.length <= MAX_REQUEST_ID ? text : undefined;
}

/** Every emit needs it, so it is put together from what is known. */
export function encodePlan(message: Message): string {
  const own = ownPlanOf(message);
  const text = `{"v":1,"at":${message.createdAt.getTime()},${sharedPlanOf(message).text}`;
  return own ? `${text},${JSON.stringify(own).slice(1)}` : `${text}}`;
}

/** Throws Unreadable. */
export function parsePlan(text: string): CallbackPlan {
  let plan: Partial<CallbackPlan> | null;
  try {
    plan = JSON.parse(text) as Partial<CallbackPlan> | null;
  } catch {
    throw new Unreadable("x-reliable-echo is not JSON");
  }
  const { v, at, delays, max, backoff, unroutableMs = 0, only, keys, requestID, source, intent, resend } = plan ?? {};
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
  if (
    requestID !== undefined &&
    (typeof requestID !== "string" || requestID.length > MAX_REQUEST_ID || hasControl(requestID))
  )
    throw new Unreadable("x-reliable-echo has a bad requestID");
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
