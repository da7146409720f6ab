import type { Courier } from "../couriers/courier";
import type { StatusWaiter } from "../emit/status-waiter";
import type { Signatures } from "../inbound/signatures";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Clock } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { Warnings } from "../platform/warnings";
import type { Progress } from "../progress/progress";
import type { Store } from "../stores/store";
import type { Events } from "../telemetry/events";
import type { Metrics } from "../telemetry/metrics";
import type { Queues } from "../wire/names";

export interface TrackerParts {
  store: Store;
  courier: Courier;
  /** Undefined = messages are not signed. */
  signatures?: Signatures | undefined;
  progress: Progress;
  subscriptions: Subscriptions;
  statusWaiter: StatusWaiter;
  queues: Queues;
  metrics: Metrics;
  logger: Logger;
  warnings: Warnings;
  events: Events;
  clock: Clock;
  nodeID: string;
  /** Prefix of the namespace's names. */
  prefix: string;
  /** Older messages may have been pruned. Late receipts and checks must not bring them back. */
  retainMs: number;
}
