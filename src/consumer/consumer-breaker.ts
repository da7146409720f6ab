import { backoffMs } from "../message/backoff";
import type { BreakerOptions } from "../options/options";
import type { Timer } from "../platform/clock";
import { printable } from "../platform/printable";
import type { Envelope } from "../wire/envelope";
import { BREAKER, Breaker, type BreakerState } from "./breaker";
import type { ConsumerParts, ConsumerSpec } from "./consumer-parts";
import type { Owed, ReceiptSender } from "./receipt-sender";

/** Characters of the last error, in what is told. */
const MAX_ERROR = 300;

/**
 * The breaker of one consumer (group × pattern × node) at work: how many deliveries its consumption may hold, when it is
 * tried again, what its failed receipts say, and who is told. While it is open nothing is held but what a handler has
 * begun.
 *
 *   process dies while it is open      the next one begins closed. Its first failures open it, and are given back
 *   … before what it gives back        those attempts stay counted, as they were told
 *   … while a probe is in hand         unacked: the broker delivers it again
 *   connection lost while it is open   the next one takes as many as it says; a probe in hand comes again
 *   stop while it is open              it ends; nothing waits for it
 */
export class ConsumerBreaker {
  readonly #breaker: Breaker<Owed>;
  #state: BreakerState = BREAKER.closed;
  #timer: Timer | undefined;
  #stopped = false;
  /** Since when it is not closed, and the failure by which it opened. */
  #opened: { since: Date; error: string } | undefined;

  constructor(
    private readonly spec: ConsumerSpec,
    private readonly parts: ConsumerParts,
    private readonly receipts: ReceiptSender,
    private readonly window: { limit(deliveries: number): void },
    private readonly options: BreakerOptions
  ) {
    this.#breaker = new Breaker(options, spec.options.maxInFlight);
    this.#gauge();
  }

  /** undefined = closed. */
  get opened(): { since: Date; error: string } | undefined {
    return this.#opened;
  }

  /** No handler may begin: the delivery goes back. */
  isOpen(): boolean {
    return this.#breaker.state === BREAKER.open;
  }

  begin(): number {
    return this.#breaker.begin();
  }

  ended(era: number): void {
    this.#breaker.ended(era);
  }

  succeeded({ id }: Envelope, era: number): void {
    this.#breaker.succeeded(id, era);
    this.#follow();
  }

  /** Says in the receipt whether the failure counts. */
  failed({ id, attempt, counted = attempt - 1 }: Envelope, era: number, answer: Owed): void {
    const { item } = answer;
    // Such a message dies at once, whoever else fails.
    if (item.rejected || item.retryable === false) return;
    const at = this.parts.clock.monotonic();
    const failure = { id, fresh: counted === 0, era, at, tookMs: item.durationMs, answer };
    const { excused, givenBack } = this.#breaker.failed(failure);
    if (excused) item.excused = "this";
    this.receipts.giveBack(givenBack);
    const { name = "Error", message = "" } = item.error ?? {};
    this.#follow(printable(`${name}: ${message}`).slice(0, MAX_ERROR));
  }

  /** Closed, and knows of no failure. */
  reset(): void {
    this.#breaker.reset();
    this.#follow();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.stop();
    if (this.#opened) this.#gauge(0);
  }

  #follow(error = ""): void {
    const { state, limit, openings } = this.#breaker;
    if (state === this.#state || this.#stopped) return;
    this.#state = state;
    this.#timer?.stop();
    this.window.limit(limit);
    const { pauseMs, maxPauseMs } = this.options;
    if (state === BREAKER.open)
      this.#elapsesIn(
        backoffMs({ initialMs: pauseMs, maxMs: Math.max(pauseMs, maxPauseMs), jitter: "half" }, openings)
      );
    else if (state === BREAKER.trial) this.#elapsesIn(maxPauseMs);
    if (state === BREAKER.open && !this.#opened) this.#tellOpen(error);
    if (state === BREAKER.closed) this.#tellClosed();
  }

  #elapsesIn(ms: number): void {
    this.#timer = this.parts.clock.after(ms, () => {
      this.#breaker.elapsed();
      this.#follow();
    });
  }

  #tellOpen(error: string): void {
    const { group, pattern } = this.spec;
    const since = new Date(this.parts.clock.now());
    this.#opened = { since, error };
    this.parts.logger.warn(
      `Reliable: the breaker of group ${group} for '${pattern}' is open: ${this.options.failures} or more different messages have failed without a success between them, the last one with ${error}. One at a time is tried until one succeeds; what fails meanwhile costs no attempt.`
    );
    this.#tell("open", since, error);
  }

  #tellClosed(): void {
    if (!this.#opened) return;
    const { group, pattern } = this.spec;
    const { since, error } = this.#opened;
    this.#opened = undefined;
    const seconds = Math.round((this.parts.clock.now() - since.getTime()) / 1000);
    this.parts.logger.info(
      `Reliable: the breaker of group ${group} for '${pattern}' is closed again, after ${seconds} s.`
    );
    this.#tell("closed", since, error);
  }

  #tell(state: "open" | "closed", since: Date, error: string): void {
    const { group, pattern } = this.spec;
    const { events, nodeID: node } = this.parts;
    this.#gauge();
    events.emit("breaker", { group, pattern, node, state, since, error });
  }

  #gauge(value = this.#opened ? 1 : 0): void {
    const { group, pattern } = this.spec;
    this.parts.metrics.set("breaker.open", value, { group, event: pattern });
  }
}
