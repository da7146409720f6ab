import { AmqpCourier } from "../couriers/amqp/courier";
import { eventsExchange } from "../couriers/amqp/topology";
import { type Courier, type Publication, systemQueue } from "../couriers/courier";
import { MemoryCourier } from "../couriers/memory/courier";
import { ReliableError } from "../errors";
import { Signatures } from "../inbound/signatures";
import { withTls } from "../options/addresses";
import type { NodeOptions } from "../options/options";
import type { Clock } from "../platform/clock";
import type { Logger } from "../platform/logger";
import type { Warnings } from "../platform/warnings";
import { EmbeddedStore } from "../stores/embedded/store";
import { MongoStore } from "../stores/mongo/store";
import type { Store } from "../stores/store";
import type { Metrics } from "../telemetry/metrics";
import { loadOpenTelemetry } from "../telemetry/open-telemetry/api";
import { MessageSpans } from "../telemetry/open-telemetry/message-spans";
import { systemQueues } from "../wire/names";
import type { Surroundings } from "./surroundings";

/** Which implementation is behind each interface. */
export interface Backends {
  courier: "amqp" | "memory";
  store: "mongodb" | "embedded" | "none";
  redis: "redis" | "none";
}

interface Where {
  nodeID: string;
  namespace: string;
  surroundings: Surroundings;
  logger: Logger;
}

/** Undefined without a key. Throws RELIABLE_BAD_OPTION. */
export function newSignatures(
  { signingKey, signing }: NodeOptions,
  { metrics, clock }: { metrics: Metrics; clock: Clock }
): Signatures | undefined {
  const [first, ...more] = [signingKey ?? []].flat();
  const required = signing === "require";
  if (first !== undefined) return new Signatures({ keys: [first, ...more], required, metrics, clock });
  if (!required) return undefined;
  throw new ReliableError("RELIABLE_BAD_OPTION", "Option 'signing' is \"require\", and there is no 'signingKey'.", {
    option: "signing"
  });
}

/** A node with RabbitMQ and without a store address has no store: it consumes, and emits with strategy `callback`. */
export function backendsOf({ amqp, mongo, redis, path }: NodeOptions): Backends {
  return {
    courier: amqp ? "amqp" : "memory",
    store: mongo ? "mongodb" : !amqp || path ? "embedded" : "none",
    redis: redis ? "redis" : "none"
  };
}

export function newCourier(
  { amqp, confirmTimeoutMs, window, repairEveryMs, observer }: NodeOptions,
  { nodeID, namespace, logger, surroundings }: Where,
  signatures: Signatures | undefined
): Courier {
  const sign = signatures && ((publication: Publication) => signatures.sign(publication));
  const { clock } = surroundings;
  if (!amqp) return new MemoryCourier({ namespace: surroundings.place(namespace), sign, logger, clock });
  const given = typeof amqp === "string" || Array.isArray(amqp) ? { urls: amqp } : amqp;
  return new AmqpCourier({
    urls: given.urls,
    socket: given.tls,
    sign,
    namespace,
    nodeID,
    logger,
    clock,
    confirmTimeoutMs,
    window,
    repairEveryMs,
    declares: !observer
  });
}

/** Undefined = the option is off, and the package is not loaded. Throws RELIABLE_BAD_OPTION. */
export function newSpans(
  { openTelemetry }: NodeOptions,
  { namespace, ...parts }: { namespace: string; courier: Courier; warnings: Warnings; clock: Clock }
): MessageSpans | undefined {
  if (!openTelemetry) return undefined;
  return new MessageSpans({ ...parts, api: loadOpenTelemetry(), exchange: eventsExchange(namespace).name });
}

export function newStore(options: NodeOptions, { namespace, logger, surroundings }: Where): Store | undefined {
  const { mongo, database, path, observer } = options;
  const { store } = backendsOf(options);
  const { clock } = surroundings;
  if (store === "mongodb")
    return new MongoStore({
      ...(withTls(mongo) ?? { client: mongo }),
      ...{ database, namespace, indexes: !observer, logger, clock }
    });
  if (store === "none") return undefined;
  const transactions = surroundings.transactions?.(namespace);
  return new EmbeddedStore({ path, namespace: surroundings.place(namespace), logger, clock, transactions });
}

/** Those of the library itself. */
export async function declareQueues(courier: Courier, namespace: string, store: Store | undefined): Promise<void> {
  const own = systemQueues(namespace);
  const { displaced, parked, checks, callbackReceipts, receipts } = own;
  const queues = [displaced, parked, checks, callbackReceipts, ...(store ? [receipts] : [])];
  await Promise.all(queues.map(name => courier.declare(systemQueue(name, own))));
}

/** What the node runs on and what that cannot do, for the log at start. */
export function describeBackends(options: NodeOptions, store: Store | undefined): string {
  const { courier, store: name, redis } = backendsOf(options);
  const embedded = store?.features.durable
    ? `embedded store in ${options.path} (this process only, no transactions)`
    : "embedded store in memory (gone with the process, no transactions)";
  return [
    courier === "amqp"
      ? "RabbitMQ"
      : "in-process courier (messages reach this process only; what is under way is sent again from the store after a restart)",
    name === "mongodb"
      ? "MongoDB"
      : name === "embedded"
        ? embedded
        : "no store (it consumes, and emits with strategy `callback` only)",
    redis === "redis" ? "Redis lease" : "no Redis lease"
  ].join(", ");
}
