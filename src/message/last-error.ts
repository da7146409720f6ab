import { cutBytes, groupErrorOf } from "./failure-text";
import { type Failure, type FailureCause, type LastError, LIBRARY } from "./message";

/** In UTF-8. */
const MAX_TEXT_BYTES = 150;

/** Names, numbers and ids. */
const WORD = /[\p{L}\p{N}_-]+/gu;

/** What stood between two of them (`12:30`, `10.0.0.1`) means nothing without them. */
const RUN = /…(?:[\s.,:;/+-]*…)+/g;

const CONTROL = /[\p{Cc}\s]+/gu;

/** A word with a digit in it is a number or an id, as far as anybody can tell. It takes a time in proportion to its length. */
export function withoutIds(text: string): string {
  return text
    .replace(CONTROL, " ")
    .replace(WORD, word => (/\p{N}/u.test(word) ? "…" : word))
    .replace(RUN, "…")
    .trim();
}

export function lastErrorOf(group: string, failure: Failure, at: Date): LastError {
  const { cause, name, code, type } = groupErrorOf(failure);
  const { nodeID } = failure;
  return {
    group,
    at,
    cause,
    name,
    type: type || String(code ?? "") || name,
    // Before it is cut: an id in front of the cut would decide where that is.
    text: cutBytes(withoutIds(failure.error.message), MAX_TEXT_BYTES),
    ...(nodeID !== undefined && nodeID !== LIBRARY && { nodeID })
  };
}

/** Of a message that the store has refused a change of: it is about all groups, and no error of theirs. */
export function refusedError(group: string, reason: string, at: Date): LastError {
  const type = "RELIABLE_STORE_REFUSED";
  return { group, at, cause: "refused", name: type, type, text: cutBytes(withoutIds(reason), MAX_TEXT_BYTES) };
}

/** For those that type one. */
export const FAILURE_CAUSES = Object.keys({
  handler: 1,
  rejected: 1,
  silence: 1,
  unroutable: 1,
  refused: 1,
  displaced: 1,
  "crash-loop": 1,
  source: 1
} satisfies Record<FailureCause, 1>) as FailureCause[];
