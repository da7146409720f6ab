import { type FailureError, QUESTIONS, type Question, type Source } from "../message/message";
import { isCount } from "./envelope";
import { isEmpty, parseObject } from "./json";

/**
 * Called by the callback service and the sweeper on any live instance of the emitting service:
 * `<producer>.reliableResend`.
 */
export const RESEND_ACTION = "reliableResend";

/**
 * What a `source` returns for "cannot say yet". It is asked again later and the message ends as `dead` at the limit; it
 * is never rolled back silently.
 */
export const UNKNOWN = "unknown";

export interface ResendRequest {
  id: string;
  event: string;
  /** The envelope's headers, from which the message is rebuilt. */
  headers: Record<string, unknown>;
  /** base64; empty if `source` has the payload. */
  body: string;
  /** Only asks whether the business write of this intent happened; nothing is sent. */
  question?: Question;
  source?: Source;
  steps: { group: string; attempt: number; queue: string | null }[];
  /** Number of the check that is sent with it; absent for messages of strategy `outbox`. */
  round?: number;
}

/** Validation of a ResendRequest: it comes over the transporter. */
export const RESEND_PARAMS = {
  $$strict: true,
  id: { type: "string", empty: false, max: 300 },
  event: { type: "string", empty: false, max: 300 },
  headers: "object",
  body: "string",
  question: { type: "enum", values: QUESTIONS, optional: true },
  source: {
    type: "object",
    strict: true,
    optional: true,
    props: { action: { type: "string", empty: false }, params: { type: "any", optional: true } }
  },
  steps: {
    type: "array",
    max: 1000,
    items: {
      type: "object",
      strict: true,
      props: {
        group: "string",
        attempt: { type: "number", integer: true, min: 1 },
        queue: { type: "string", nullable: true }
      }
    }
  },
  round: { type: "number", integer: true, min: 1, optional: true }
};

/**
 * In the headers of a ResendRequest: JSON of how many attempts of each group do not count, where there are any. Not a
 * field, which a producer of an earlier version would refuse.
 */
const BASE = "x-reliable-base";

export function baseHeader(base: Record<string, number>): Record<string, string> {
  return isEmpty(base) ? {} : { [BASE]: JSON.stringify(base) };
}

/** Throws Unreadable. */
export function parseBase({ [BASE]: text }: Record<string, unknown>): Record<string, number> {
  if (typeof text !== "string") return {};
  return Object.fromEntries(
    Object.entries(parseObject(text, BASE)).filter((entry): entry is [string, number] => isCount(entry[1]))
  );
}

/** Like a courier's PublishResult. */
export interface ResendResult {
  outcome: "confirmed" | "returned" | "nacked" | "refused" | "unknown";
  reason?: string;
  code?: "NO_ROUTE";
}

export type ResendAnswer =
  | { answer: "sent"; results: ResendResult[]; check?: ResendResult }
  /** The business write happened; base64 of the payload if only the source has it, and whether that is encoded. */
  | { answer: "yes"; body?: string; encoded?: true }
  | { answer: "no" }
  | { answer: "unknown"; reason: string }
  /** The source was asked, and it failed or returned something that cannot be sent. */
  | { answer: "error"; error: FailureError };
