import type { Heard, Publication } from "../couriers/courier";
import type { Clock } from "../platform/clock";
import type { Metrics } from "../telemetry/metrics";
import { HEADER } from "../wire/envelope";
import { Unreadable } from "../wire/json";
import { type Kind, kindOf, signatureOf, verdictOf } from "../wire/signature";

export interface SignaturesParts {
  /** The first one signs, all verify. */
  keys: [string, ...string[]];
  /** What is not signed with one of the keys is parked; else it is only counted. */
  required: boolean;
  metrics: Metrics;
  clock: Clock;
}

/** Signs what a node publishes, and looks at the signatures of what it takes. */
export class Signatures {
  /** When the last message came that would have been parked. */
  lastUnsignedAt: Date | undefined;

  constructor(readonly parts: SignaturesParts) {}

  sign(publication: Publication): Publication {
    const { headers } = publication;
    const signature = signatureOf(kindOf(publication), publication, this.parts.keys[0]);
    return { ...publication, headers: { ...headers, [HEADER.signature]: signature } };
  }

  /** Called by whoever reads a message, before it believes anything of it. Throws Unreadable. */
  check(delivery: Heard, kind: Kind): void {
    const { keys, required, metrics, clock } = this.parts;
    const verdict = verdictOf(kind, delivery, keys);
    if (verdict === "right") return;
    this.lastUnsignedAt = new Date(clock.now());
    metrics.count("unsigned", 1, { queue: delivery.queue });
    if (!required) return;
    throw new Unreadable(
      verdict === "unsigned"
        ? `${kind} without a signature, which option 'signing' requires`
        : `${kind} whose signature fits no key of option 'signingKey'`
    );
  }

  /** For `health`. */
  get text(): string {
    const since = this.lastUnsignedAt?.toISOString() ?? "never";
    return this.parts.required ? `required (last unsigned, parked: ${since})` : `signs (last unsigned: ${since})`;
  }
}
