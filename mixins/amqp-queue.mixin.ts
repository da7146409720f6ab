import type { Service, ServiceSchema } from "moleculer";
import type { QueueHandler } from "../src/amqp-queue/channel";
import { checkQueues, consumeQueue, emitOptionsOf, type JobOptions, type QueuesOption } from "../src/amqp-queue/queues";
import type { EmitResult } from "../src/emit/strategy";
import { ReliableError } from "../src/errors";
import type { ReliableOptions } from "../src/options/options";
import { readOptions } from "../src/options/resolve";
import { startAll } from "./consumers";
import { ReliableEmit } from "./reliable-emit.mixin";
import type { Schema } from "./reliable-events";
import { hooks, type Mixed, type State } from "./service-state";

/** The `name` in moleculer-amqp-queue's own schema, by which its mixin is found. */
const THEIRS = "moleculer-amqp-queue";

export interface AmqpQueueOptions extends ReliableOptions {
  /** By name of the queue. */
  queues?: QueuesOption;
}

/** The methods of a service with the mixin, for `ServiceSchema<Settings, AmqpQueueMethods>`. */
export interface AmqpQueueMethods {
  /** See JobOptions. Rejects with typed RELIABLE_ errors; resolves when the strategy's promise holds. */
  addAMQPJob(queue: string, payload: unknown, options?: JobOptions): Promise<EmitResult>;
}

interface QueueSchema extends Schema {
  mixins?: unknown;
  methods?: Record<string, unknown>;
  settings?: Schema["settings"] & { url?: unknown; $secureSettings?: string[] };
  AMQPQueues?: unknown;
}

type Queued = Mixed & { $reliableQueues?: QueuesOption };

/**
 * Mixin to put beside the one of `moleculer-amqp-queue`, before or after it, or in its place: `addAMQPJob()` becomes a
 * reliable emit to that queue, the handlers in `AMQPQueues` answer with receipts, and connections are those of the
 * library. It contains `ReliableEmit` and takes its options; `amqp` is `settings.url` unless given.
 *
 * Throws RELIABLE_BAD_OPTION / RELIABLE_BAD_CONSUMER when the service is created; a start rejects as with ReliableEmit.
 */
export function ReliableAmqpQueue({ queues, ...options }: AmqpQueueOptions = {}): Partial<ServiceSchema> {
  const ownQueues = checkQueues(queues);
  const base = ReliableEmit(options) as Partial<ServiceSchema> & { merged(this: Mixed, schema: Schema): void };
  return {
    ...base,

    merged(this: Queued, schema: QueueSchema): void {
      // A broker's address may hold a password, and settings are published to other nodes.
      const settings = (schema.settings ??= {});
      settings.$secureSettings = [...new Set([...(settings.$secureSettings ?? []), "reliable", "url"])];
      if (settings.url && readOptions(options, settings.reliable).amqp === undefined)
        settings.reliable = { ...settings.reliable, amqp: settings.url };
      takeOver(schema);
      base.merged.call(this, schema);
      this.$reliableQueues = { ...this.$reliableQueues, ...ownQueues };
      queuesOf(schema);
      if (!hooks(schema.started).includes(startQueues)) schema.started = [...hooks(schema.started), startQueues];
    }
  } as unknown as Partial<ServiceSchema>;
}

/** Replaces the methods and the `started` (it would connect) of their mixin, at any place in `mixins`. */
function takeOver(schema: QueueSchema): void {
  const theirs = [schema.mixins ?? []].flat().find(mixin => (mixin as { name?: unknown }).name === THEIRS) as
    | { started?: unknown; methods?: { addAMQPJob?: unknown } }
    | undefined;
  const { addAMQPJob: before } = schema.methods ?? {};
  if (before && before !== addAMQPJob && before !== theirs?.methods?.addAMQPJob) {
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      `The service '${schema.name}' has an addAMQPJob() of its own: ReliableAmqpQueue takes the place of moleculer-amqp-queue's mixin, which must stand in 'mixins' as it is, and of no other.`,
      { option: "mixins", service: schema.name }
    );
  }
  const connect = hooks(theirs?.started);
  schema.started = hooks(schema.started).filter(hook => !connect.includes(hook));
  schema.methods = { ...schema.methods, addAMQPJob, getAMQPQueue };
}

async function addAMQPJob(this: Queued, queue: string, payload: unknown, options?: JobOptions): Promise<EmitResult> {
  const emitOptions = emitOptionsOf(queue, options, this.$reliableQueues ?? {}, this.broker.namespace ?? "");
  return this.reliableEmit(queue, payload, emitOptions);
}

async function getAMQPQueue(this: Service, queue: string): Promise<never> {
  throw new ReliableError(
    "RELIABLE_UNSUPPORTED",
    `getAMQPQueue('${queue}'): the connection belongs to the library and its channels are not given out. To send, use addAMQPJob().`,
    { queue, method: "getAMQPQueue" }
  );
}

/** Throws RELIABLE_BAD_CONSUMER. */
function queuesOf({ name: service, AMQPQueues: queues = {} }: QueueSchema): [string, QueueHandler][] {
  const bad = (what: string, queue?: string) =>
    new ReliableError(
      "RELIABLE_BAD_CONSUMER",
      `${what} of service '${service}' must be ${queue === undefined ? "an object of handlers" : "a function (channel, message)"}.`,
      { queue, service }
    );
  if (typeof queues !== "object" || queues === null) throw bad("AMQPQueues");
  for (const [queue, handler] of Object.entries(queues))
    if (typeof handler !== "function") throw bad(`AMQPQueues['${queue}']`, queue);
  return Object.entries(queues) as [string, QueueHandler][];
}

async function startQueues(this: Queued): Promise<void> {
  const state = this.$reliable as State;
  const { runtime, options: defaults } = state;
  // Not before: a further ReliableEmit in `mixins` makes the options again.
  defaults.sendsJobs = true;
  const starts = queuesOf(this.schema as unknown as QueueSchema).map(([queue, handler]) => () => {
    const options = this.$reliableQueues?.[queue] ?? {};
    return consumeQueue(runtime, { queue, service: this.fullName, defaults, options, handler: handler.bind(this) });
  });
  await startAll(this, state, starts);
}
