import type { Message } from "./message";

/** How soon a message is looked at again whose group is not there: ms. */
export function offlinePauseMs({ backoff, receiptTimeoutMs }: Pick<Message, "backoff" | "receiptTimeoutMs">): number {
  return Math.min(receiptTimeoutMs, Math.max(backoff.initialMs, backoff.maxMs));
}
