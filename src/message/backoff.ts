import type { Backoff } from "./message";

/** The share of a delay that is fixed; the rest is random. */
const FIXED_SHARE = { none: 1, half: 0.5, full: 0 } as const;

/**
 * Delay in ms after attempt number `attempt` (from 1) failed: it doubles up to a maximum, with jitter so that messages
 * that failed together do not come back together.
 */
export function backoffMs({ initialMs, maxMs, jitter }: Backoff, attempt: number): number {
  const delay = Math.min(maxMs, initialMs * 2 ** Math.max(0, attempt - 1));
  const fixed = delay * FIXED_SHARE[jitter];
  return Math.round(fixed + Math.random() * (delay - fixed));
}

/** Pause in ms before somebody who has been away for `goneMs` is looked for again: it grows with that time. */
export function growingPauseMs({ initialMs, maxMs }: Backoff, goneMs: number): number {
  const grown = Math.max(initialMs, goneMs / 2);
  return Math.round(Math.min(grown, Math.max(initialMs, maxMs)) * (0.75 + Math.random() / 2));
}
