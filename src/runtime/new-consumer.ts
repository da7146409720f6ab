import type { AnnouncedHistory } from "../consumer/announced-history";
import { Consumer } from "../consumer/consumer";
import type { ConsumerSpec } from "../consumer/consumer-parts";
import { assertSameOptions } from "../consumer/same-options";
import type { Courier } from "../couriers/courier";
import { ReliableError } from "../errors";
import type { Signatures } from "../inbound/signatures";
import type { Clock } from "../platform/clock";
import type { Warnings } from "../platform/warnings";
import type { Events } from "../telemetry/events";
import type { Metrics } from "../telemetry/metrics";
import type { MessageSpans } from "../telemetry/open-telemetry/message-spans";
import { systemQueues } from "../wire/names";
import type { Identity, Storage } from "./assemble";
import { warnOfLifetime } from "./transaction-lifetime";

/** What a node has for its consumers. */
export interface ConsumerFoundation {
  identity: Identity;
  courier: Courier;
  signatures: Signatures | undefined;
  storage: Storage | undefined;
  /** Where there is no store. */
  announcedHistory: AnnouncedHistory;
  /** Those that are there: it is one of them from now on. */
  consumers: Set<Consumer>;
  metrics: Metrics;
  /** Undefined = nothing is traced by OpenTelemetry. */
  spans: MessageSpans | undefined;
  warnings: Warnings;
  events: Events;
  clock: Clock;
  /** What it calls. */
  handleOf(spec: ConsumerSpec): ConsumerSpec["handle"];
}

/** Of a node, not started. Rejects with RELIABLE_BAD_CONSUMER. */
export async function newConsumer(spec: ConsumerSpec, foundation: ConsumerFoundation): Promise<Consumer> {
  const { identity, courier, signatures, storage, announcedHistory, consumers, handleOf, ...watching } = foundation;
  const { logger, nodeID, namespace } = identity;
  const store = storage?.store;
  if (spec.options.inbox === "transaction") {
    if (!store?.features.transactions)
      throw new ReliableError(
        "RELIABLE_BAD_CONSUMER",
        `The handler of '${spec.pattern}' in group ${spec.group} wants inbox: "transaction", which needs MongoDB on this node (option 'mongo').`,
        { option: "inbox", event: spec.pattern, group: spec.group }
      );
    await warnOfLifetime(spec, store, logger, watching.clock);
  }
  // Nothing is waited for between the two: of services that start at the same time the second one finds the first.
  assertSameOptions(spec, consumers);
  const consumer = new Consumer(
    { ...spec, handle: handleOf(spec) },
    {
      ...{ courier, signatures, queues: systemQueues(namespace), inbox: store?.inbox, rows: storage?.ownRows },
      ...{ ...watching, logger, nodeID, namespace },
      ...(!store && { announcedHistory })
    }
  );
  consumers.add(consumer);
  return consumer;
}
