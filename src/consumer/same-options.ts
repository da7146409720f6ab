import { ReliableError } from "../errors";
import type { ConsumerOptions } from "../options/options";
import type { ConsumerSpec } from "./consumer-parts";

/**
 * Two services of one group take turns in handling the same event, so their options must agree. Throws
 * RELIABLE_BAD_CONSUMER.
 */
export function assertSameOptions(
  { group, pattern, options, service }: ConsumerSpec,
  consumers: Iterable<{ spec: ConsumerSpec }>
): void {
  for (const { spec: other } of consumers) {
    if (other.group !== group || other.pattern !== pattern) continue;
    const text = (of: ConsumerOptions, name: keyof ConsumerOptions) => JSON.stringify(of[name]);
    const differs = (Object.keys(options) as (keyof ConsumerOptions)[]).find(
      name => text(other.options, name) !== text(options, name)
    );
    if (!differs) continue;
    throw new ReliableError(
      "RELIABLE_BAD_CONSUMER",
      `The services '${other.service}' and '${service}' both handle '${pattern}' in group '${group}', with different '${differs}' (${text(other.options, differs)} and ${text(options, differs)}).`,
      { option: differs, group, event: pattern, services: [other.service, service] }
    );
  }
}
