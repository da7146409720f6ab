import type { Clock } from "../../platform/clock";
import type { PublishResult } from "../courier";

/** So long a refusal is believed when nothing else is sent there. */
const BELIEVED_MS = 60_000;
/** Routing keys that are remembered. */
const MAX = 100;

/** Rights that the broker denies a publish: it is about who sends, and not about the message. */
export class Denials {
  readonly #texts = new Map<string, { text: string; until: number }>();

  constructor(private readonly clock: Clock) {}

  settled(routingKey: string, result: PublishResult | undefined): void {
    if (result?.outcome === "refused" && /^ACCESS_REFUSED\b/.test(result.reason ?? "")) {
      if (this.#texts.size < MAX || this.#texts.has(routingKey))
        this.#texts.set(routingKey, { text: result.reason ?? "", until: this.clock.monotonic() + BELIEVED_MS });
    } else if (this.#texts.size && result?.outcome !== "unknown") this.#texts.delete(routingKey);
  }

  /** The last one that still holds. */
  get text(): string | undefined {
    const now = this.clock.monotonic();
    for (const [routingKey, { until }] of this.#texts) if (until <= now) this.#texts.delete(routingKey);
    return [...this.#texts.values()].at(-1)?.text;
  }
}
