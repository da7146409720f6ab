import type { Backoff } from "./message/message";

/**
 * Delay before attempt `attempt + 1`, after `attempt` failed (counts from 1): exponential, capped, with jitter so that
 * messages that failed together do not come back together. `random` is 0..1.
 */
export function backoffMs(backoff: Backoff, attempt: number, random: number = Math.random()): number {
	const grown = backoff.initialMs * backoff.factor ** Math.max(0, attempt - 1);
	const capped = Math.min(grown, backoff.maxMs);
	return Math.round(capped * (1 - backoff.jitter + backoff.jitter * random));
}
