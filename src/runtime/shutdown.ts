import { type Deadline, withTimeout } from "../async/deadline";
import type { Consumer } from "../consumer/consumer";
import type { Courier } from "../couriers/courier";
import type { Callback } from "../emit/callback";
import type { InsertQueue } from "../emit/insert-queue";
import type { Outbox } from "../emit/outbox";
import type { StatusWaiter } from "../emit/status-waiter";
import type { Operations } from "../operator/operations";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Store } from "../stores/store";
import type { RedisConnection } from "../sweeper/redis";
import type { Sweeper } from "../sweeper/sweeper";
import type { Gauges } from "../telemetry/gauges";
import type { Tracker } from "../tracker/tracker";

/** What exists once the store part of a node is up. */
export interface Storage {
  store: Store;
  subscriptions: Subscriptions;
  insertQueue: InsertQueue;
  outbox: Outbox;
  tracker: Tracker;
  sweeper: Sweeper;
  operations: Operations;
}

/** What there is to stop; a start that failed, or was overtaken by its stop, has made a part of it. */
export interface Stoppable {
  /** Their services have stopped them, but for those whose start was overtaken. */
  consumers: Iterable<Consumer>;
  storage?: Storage;
  callback?: Callback;
  statusWaiter: StatusWaiter;
  gauges?: Gauges;
  courier?: Courier;
  store?: Store;
  redis?: RedisConnection;
}

/**
 * The end of a node, in the order in which its parts need each other:
 *
 *   consumers         no delivery is taken any more; handlers, receipts and acks come to their end. Each before its service's `stopped`
 *   sweeper, emits    the pass ends at its page's end, leases are given back; publishes get their confirms, rows their status
 *   tracker           what it holds is written and acked
 *   courier → store → Redis
 *
 * All of it goes by one clock, which starts with the first service's stop (`Runtime.leave`): work has `drainTimeoutMs`,
 * the closes CLOSE_MS more. So a server that is frozen or gone costs that much once, whichever it is and however many
 * parts wait for it; limits of their own, one after the other, took four times as long. Nothing is lost by giving up:
 * an unacked delivery, an unanswered claim, a row without its status and a check without an answer are each somebody's
 * business later (laws 1 and 2). At worst it is done twice.
 *
 * A stop in the middle of a start finds parts that are still waiting for a server. Closing courier and store makes them
 * fail at once, and the start ends without an error of its own (`Runtime.acquire`): nothing had been promised yet.
 */
export async function shutDown(
  { consumers, storage, callback, statusWaiter, gauges: sampler, courier, store, redis }: Stoppable,
  deadline: Deadline
): Promise<void> {
  await Promise.all([...consumers].map(consumer => consumer.stop(deadline)));
  await Promise.all([
    storage?.sweeper.stop(deadline),
    ...[callback, storage?.outbox].map(strategy => strategy && withTimeout(strategy.idle(), deadline.left))
  ]);
  // Whoever still waits is told so.
  callback?.stop();
  storage?.insertQueue.stop();
  await storage?.tracker.stop(deadline);
  storage?.subscriptions.stop();
  statusWaiter.stop();
  if (sampler) await withTimeout(sampler.stop(), deadline.toClose);
  await courier?.close(deadline.left, deadline.toClose);
  await store?.close(deadline.toClose);
  await redis?.close();
}
