import { TIMED_OUT, withTimeout } from "../async/deadline";
import type { ConsumerSpec } from "../consumer/consumer-parts";
import type { Clock } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { Store } from "../stores/store";

/** MongoDB's default for `transactionLifetimeLimitSeconds`. */
const DEFAULT_LIFETIME_MS = 60_000;
/** A start waits no longer for the answer. */
const ASK_MS = 2000;

/**
 * The server ends a transaction that is older than its limit, so a handler that takes longer can never succeed. Not
 * every user may ask for the limit.
 */
export async function warnOfLifetime(
  { pattern, group, options }: ConsumerSpec,
  store: Store,
  logger: Logger,
  clock: Clock
): Promise<void> {
  const asked = store.ready ? store.inbox.lifetimeMs().catch(() => undefined) : undefined;
  const answer = asked && (await withTimeout(asked, ASK_MS, clock));
  const known = answer === TIMED_OUT ? undefined : answer;
  const limitMs = known ?? DEFAULT_LIFETIME_MS;
  if (options.handlerTimeoutMs <= limitMs) return;
  logger.warn(
    `Reliable: the handler of '${pattern}' in group ${group} may take ${options.handlerTimeoutMs} ms (handlerTimeoutMs), and MongoDB ends its transaction (inbox: "transaction") after ${limitMs} ms${known === undefined ? ", its default" : ""} (transactionLifetimeLimitSeconds): what takes longer never succeeds.`
  );
}
