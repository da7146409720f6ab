import type { Delivery } from "../couriers/courier";
import type { Clock } from "../platform/clock";

/** By then a handler that had ended has its record, also on a machine that is busy with a restart. */
const RECORD_MS = 1000;

/** Those of one lost connection come within this time and wait together. Longer than RECORD_MS: a backlog goes on. */
const BURST_MS = 2000;

/**
 * RabbitMQ delivers again, within milliseconds, what was in the hands of a connection that it has lost. Its handler may
 * just have ended there, with its record on the way: a look now would not see that, and the message would be handled
 * twice.
 */
export class Redeliveries {
  #since = Number.NEGATIVE_INFINITY;
  #pause: Promise<void> | undefined;

  constructor(
    private readonly clock: Clock,
    private readonly end: AbortSignal
  ) {}

  /** Undefined = there is nothing to wait for. */
  wait({ redelivered }: Delivery): Promise<void> | undefined {
    if (!redelivered || this.end.aborted) return undefined;
    const now = this.clock.monotonic();
    if (now - this.#since >= BURST_MS) {
      this.#since = now;
      this.#pause = this.clock.sleep(RECORD_MS, this.end).finally(() => (this.#pause = undefined));
    }
    return this.#pause;
  }
}
