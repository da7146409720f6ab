import type { Courier } from "../couriers/courier";
import type { Signatures } from "../inbound/signatures";
import type { MessagePublisher } from "../outbound/message-publisher";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Clock } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { Warnings } from "../platform/warnings";
import type { ProducerClient } from "../producer-rpc/client";
import type { Progress } from "../progress/progress";
import type { Store } from "../stores/store";
import type { DisplacedRecord, FailedRecord, RescheduleRecord } from "../stores/store-records";
import type { Events } from "../telemetry/events";
import type { Metrics } from "../telemetry/metrics";

export interface SweepParts {
  store: Store;
  courier: Courier;
  /** Undefined = messages are not signed. */
  signatures?: Signatures | undefined;
  publisher: MessagePublisher;
  /** For how long this node has kept up with what it is asked for. */
  load: { readonly calmMs: number };
  subscriptions: Subscriptions;
  metrics: Metrics;
  logger: Logger;
  warnings: Warnings;
  nodeID: string;
  pageSize: number;
  claimMs: number;
  producerClient: ProducerClient;
  /** After this silence of a producer its messages become `dead`. */
  producerGoneMs: number;
  progress: Progress;
  events: Events;
  clock: Clock;
}

/** What a pass writes about a message. No record if its status has changed already. */
export interface Settled {
  record?: RescheduleRecord;
  failures: FailedRecord[];
  /** Groups whose queue the broker does not have. */
  missing?: string[];
  /** Groups that no queue took it for, and that are not known, since this pass. */
  unroutable?: DisplacedRecord[];
}
