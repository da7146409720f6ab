import { describeError } from "../message/failure-text";
import type { Envelope } from "../wire/envelope";
import type { ReceiptItem } from "../wire/receipt";

/**
 * Pure: which receipt a handler's end deserves. `rejected` marks an event that never reached its handler (params
 * validation, a middleware): doing the same again cannot help.
 */
export function settle(
  envelope: Envelope,
  end: { error?: unknown; rejected?: boolean },
  durationMs: number
): ReceiptItem {
  const { id, attempt } = envelope;
  const duration = Math.max(0, Math.round(durationMs));
  if (end.error === undefined) return { id, outcome: "handled", attempt, durationMs: duration };
  return {
    id,
    outcome: "failed",
    attempt,
    durationMs: duration,
    retryable: isRetryable(end.error, end.rejected === true),
    ...(end.rejected ? { rejected: true } : {}),
    error: describeError(end.error)
  };
}

/**
 * Moleculer's convention: `retryable` on the error decides, where it stands. A plain Error says nothing and is tried
 * again; of what refused the event before its handler, only an overload (`retryable: true`, such as a bulkhead's full
 * queue) is.
 */
function isRetryable(error: unknown, rejected: boolean): boolean {
  const said = (error as { retryable?: unknown } | null)?.retryable;
  if (typeof said === "boolean") return said;
  return !rejected;
}
