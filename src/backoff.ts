import { fullJitterGenerator, halfJitterGenerator, noJitterGenerator } from "cockatiel";
import type { Backoff } from "./message/message";

const GENERATORS = { none: noJitterGenerator, half: halfJitterGenerator, full: fullJitterGenerator };

/**
 * Delay in ms after attempt number `attempt` (from 1) failed: exponential, capped, with jitter so that messages that failed
 * together do not come back together.
 */
export function backoffMs(backoff: Backoff, attempt: number): number {
	const options = { initialDelay: backoff.initialMs, maxDelay: backoff.maxMs, exponent: backoff.factor, maxAttempts: Infinity };
	const [delay] = GENERATORS[backoff.jitter](Math.max(0, attempt - 1), options as never);
	return Math.round(delay);
}
