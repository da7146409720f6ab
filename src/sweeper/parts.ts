import type { Courier } from "../couriers/courier";
import type { Message } from "../message/message";
import type { MessagePublisher } from "../outbound/message-publisher";
import type { Subscriptions } from "../outbound/subscriptions";
import type { Logger } from "../platform/logger";
import type { ProducerClient } from "../producer-rpc/client";
import type { DeadMessage, FailedRecord, RescheduleRecord, Store } from "../stores/store";
import type { Metrics } from "../telemetry/metrics";

export interface SweepParts {
  store: Store;
  courier: Courier;
  publisher: MessagePublisher;
  subscriptions: Subscriptions;
  metrics: Metrics;
  logger: Logger;
  nodeID: string;
  pageSize: number;
  claimMs: number;
  producerClient: ProducerClient;
  producerGoneMs: number;
  /** Writes failures and tells of messages that became dead. */
  recordFailures(records: FailedRecord[]): Promise<void>;
  announceDead(messages: DeadMessage[]): void;
  /** Somebody has answered for these, and they wait for ANY_GROUP still: names who that is by now. */
  resolveRecipients(messages: Message[]): Promise<void>;
  /** A failure that nobody waits for. */
  onError(error: unknown, module: string): void;
}

/** What a pass writes about a message; no record where it has left its status already. */
export interface Settled {
  record?: RescheduleRecord;
  failures: FailedRecord[];
}
