import { type Deadline, withTimeout } from "../async/deadline";
import type { Consumer } from "../consumer/consumer";
import type { Courier } from "../couriers/courier";
import type { Clock } from "../platform/clock";
import type { Store } from "../stores/store";
import type { RedisConnection } from "../sweeper/redis";
import type { NodeParts } from "./assemble";

/** The parts to stop. A start that failed or was stopped has made only some of them. */
export interface Stoppable {
  /** Their services have stopped them, except where a stop came during the start. */
  consumers: Iterable<Consumer>;
  parts: NodeParts | undefined;
  courier: Courier | undefined;
  store: Store | undefined;
  redis: RedisConnection | undefined;
  clock: Clock;
}

/**
 * The end of a node, in the order in which its parts need each other:
 *
 *   consumers         no delivery is taken any more; handlers, receipts and acks come to their end. Each before its
 *                     service's `stopped`
 *   sweeper, emits    the pass ends at its page's end, leases are given back; publishes get their confirms, rows their
 *                     status
 *   tracker           what it holds is written and acked
 *   courier → store → Redis
 *
 * All steps share one deadline, which starts with the first service's stop (`Runtime.leave`): work has
 * `drainTimeoutMs`, the closes CLOSE_MS more. So a server that is frozen or gone costs that time once, no matter how
 * many parts wait for it. Separate limits, one after the other, took four times as long. Giving up loses nothing:
 * an unacked delivery, an unanswered claim, a row without its status and a check without an answer are each taken up
 * later (laws 1 and 2). At worst the work is done twice.
 *
 * A stop during a start finds parts that are still waiting for a server. Closing courier and store makes them fail at
 * once, and the start ends without an error (`Runtime.acquire`): nothing was promised yet.
 */
export async function shutDown(
  { consumers, parts, courier, store, redis, clock }: Stoppable,
  deadline: Deadline
): Promise<void> {
  const within = (work: Promise<void>, ms: number) =>
    withTimeout(
      work.catch(() => undefined),
      ms,
      clock
    );
  await Promise.all([...consumers].map(consumer => consumer.stop(deadline)));
  if (parts) {
    const { callback, admission, storage, statusWaiter, gauges, history } = parts;
    admission.stop();
    const strategies = [callback, ...(storage ? [storage.outbox] : [])];
    // Before the lease is given back: the node that gets it looks for them.
    await storage?.bulkWorker.stop(deadline);
    await Promise.all([
      storage?.sweeper.stop(deadline),
      ...strategies.map(strategy => within(strategy.idle(), deadline.left))
    ]);
    // An emit that still waits is rejected.
    for (const strategy of strategies) strategy.stop();
    storage?.insertQueue.stop();
    await Promise.all([storage?.tracker.stop(deadline), storage?.callbackService.stop(deadline)]);
    // After the last receipts: those behind them have their turns.
    await storage?.turns.stop(deadline);
    storage?.sweepNews.stop();
    storage?.askSweepers?.stop();
    storage?.overview.stop();
    storage?.pauseMarks.stop();
    storage?.deadHooks.stop();
    storage?.subscriptions.stop();
    statusWaiter.stop();
    await within(gauges.stop(), deadline.toClose);
    await within(history.stop(), deadline.toClose);
  }
  await courier?.close(deadline.left, deadline.toClose);
  await store?.close(deadline.toClose);
  await redis?.close();
}

/** Of a node that is still starting: what the start waits for fails at once, and it closes what it has made. */
export async function overtake(
  {
    courier,
    store,
    starting = Promise.resolve(),
    clock
  }: Pick<Stoppable, "courier" | "store" | "clock"> & {
    starting: Promise<void> | undefined;
  },
  deadline: Deadline
): Promise<void> {
  void store?.close(0);
  await courier?.close(0, 0);
  await withTimeout(
    starting.catch(() => undefined),
    deadline.toClose,
    clock
  );
}
