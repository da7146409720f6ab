import { describeError } from "../message/failure-text";
import type { Envelope } from "../wire/envelope";
import type { ReceiptItem } from "../wire/receipt";

/**
 * Pure: the receipt for the way a handler ended. `rejected` marks an event that never reached its handler (params
 * validation, a middleware): trying again cannot help.
 */
export function settle(
  envelope: Envelope,
  end: { error?: unknown; rejected?: boolean },
  durationMs: number,
  runs = 1
): ReceiptItem {
  const { id, attempt, order } = envelope;
  const took = {
    durationMs: Math.max(0, Math.round(durationMs)),
    ...(runs > 1 ? { runs } : {}),
    ...(order ? { orderKey: order.key } : {})
  };
  if (end.error === undefined) return { id, outcome: "handled", attempt, ...took };
  return {
    id,
    outcome: "failed",
    attempt,
    ...took,
    retryable: isRetryable(end.error, end.rejected === true),
    ...(end.rejected ? { rejected: true } : {}),
    error: describeError(end.error)
  };
}

/**
 * Moleculer's convention: if the error has `retryable`, that decides. A plain Error is tried again. An error from
 * before the handler is tried again only for an overload (`retryable: true`, such as a bulkhead's full queue).
 */
function isRetryable(error: unknown, rejected: boolean): boolean {
  const said = (error as { retryable?: unknown } | null)?.retryable;
  if (typeof said === "boolean") return said;
  return !rejected;
}
