import { fullJitterGenerator, type GeneratorFn, halfJitterGenerator, noJitterGenerator } from "cockatiel";
import type { Backoff } from "./message";

const GENERATORS = { none: noJitterGenerator, half: halfJitterGenerator, full: fullJitterGenerator };

/**
 * Delay in ms after attempt number `attempt` (from 1) failed: doubling, capped, with jitter so that messages that
 * failed together do not come back together.
 */
export function backoffMs(backoff: Backoff, attempt: number): number {
  const generate = GENERATORS[backoff.jitter] as GeneratorFn<number>;
  const [delay] = generate(Math.max(0, attempt - 1), {
    initialDelay: backoff.initialMs,
    maxDelay: backoff.maxMs,
    generator: generate,
    exponent: 2
  });
  return Math.round(delay);
}
