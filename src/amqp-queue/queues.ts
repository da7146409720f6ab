import type { Consumer } from "../consumer/consumer";
import type { EmitOptions } from "../emit/emit-options";
import { ReliableError } from "../errors";
import { queueGroup, type Settle } from "../message/queue-target";
import { type BreakerOptions, OPTIONS, type ServiceOptions } from "../options/options";
import { consumerOptions } from "../options/resolve";
import { check } from "../options/validate";
import type { Runtime } from "../runtime/runtime";
import { eventFault } from "../wire/envelope";
import { prefixOf } from "../wire/names";
import { ManualAck, type QueueHandler } from "./channel";

/**
 * Queues of moleculer-amqp-queue. What that package (0.0.1) does, and what therefore must stay as it is for services
 * that still run it:
 *
 *   queue      `assertQueue(name, { durable: true })` by producers and consumers: no arguments, so a classic queue
 *              unless the vhost says otherwise
 *   message    body `JSON.stringify(payload)`, persistent, no other property, to the default exchange; neither
 *              mandatory nor confirmed
 *   consumer   prefetch 1 per queue, handler `(channel, message)`, which acks by itself; what it throws or rejects is
 *              caught nowhere
 *   errors     no `error` listener on the connection (its loss ends the process), no reconnect, no `stopped`;
 *              `throw(MoleculerError(…))` and `throw Errors.MoleculerError(…)` are a ReferenceError and a TypeError
 *   amqplib    0.5, whose frames of 4 KiB RabbitMQ 4.1 and newer refuse, unless the URL says `?frameMax=8192`
 */
export interface QueueOptions {
  /**
   * What settles a message sent to this queue: the broker's `confirm`, which works with any worker; or the workers'
   * `receipt`, if all of them have the mixin.
   * @default "confirm"
   */
  settle: Settle;
  /** Messages a worker holds at once (prefetch). @default 1 */
  maxInFlight: number;
  /** @default the service's */
  handlerTimeoutMs: number;
  /** Recognise duplicates of messages that a receipt settles. @default the service's */
  inbox: boolean;
  /** Of the workers of messages that a receipt settles. @default the service's */
  breaker: boolean | Partial<BreakerOptions>;
}

export type QueuesOption = Record<string, Partial<QueueOptions>>;

/** Options of one `addAMQPJob`: those of an emit. */
export type JobOptions = Omit<EmitOptions, "groups">;

const QUEUE_RULES = {
  settle: { type: "enum", values: ["confirm", "receipt"] },
  maxInFlight: OPTIONS.maxInFlight.rule,
  handlerTimeoutMs: OPTIONS.handlerTimeoutMs.rule,
  inbox: { type: "boolean" },
  breaker: OPTIONS.breaker.rule
};

/** Throws RELIABLE_BAD_OPTION. */
export function checkQueues(queues: unknown = {}): QueuesOption {
  const isObject = (value: unknown) => typeof value === "object" && value !== null && !Array.isArray(value);
  if (!isObject(queues))
    throw new ReliableError(
      "RELIABLE_BAD_OPTION",
      "The option 'queues' must be an object: options by name of the queue.",
      { option: "queues" }
    );
  return Object.fromEntries(
    Object.entries(queues as object).map(([name, options]) => {
      if (!isObject(options))
        throw new ReliableError("RELIABLE_BAD_OPTION", `The option 'queues' must have an object for '${name}'.`, {
          option: "queues",
          queue: name
        });
      return [name, check(`queues['${name}'] of ReliableAmqpQueue()`, QUEUE_RULES, options as Record<string, unknown>)];
    })
  );
}

/** The emit options of a job. Throws RELIABLE_BAD_OPTION or RELIABLE_BAD_EVENT. */
export function emitOptionsOf(
  queue: string,
  options: JobOptions = {},
  queues: QueuesOption,
  namespace: string
): EmitOptions {
  checkQueue(queue, namespace);
  const bad = (why: string, option?: string) =>
    new ReliableError("RELIABLE_BAD_OPTION", `addAMQPJob('${queue}'): ${why}.`, { queue, option });
  if (typeof options !== "object" || options === null || Array.isArray(options))
    throw bad("its options must be an object");
  if ("groups" in options) throw bad("'groups' is not for jobs, which go to their queue", "groups");
  const { settle = "confirm" } = queues[queue] ?? {};
  return { ...options, groups: [queueGroup({ queue, settle })] };
}

function checkQueue(queue: unknown, namespace: string): asserts queue is string {
  const bad = (why: string) =>
    new ReliableError("RELIABLE_BAD_EVENT", `Not a queue for jobs: ${why}.`, {
      queue: typeof queue === "string" ? queue.slice(0, 300) : typeof queue
    });
  // The queue's name is the message's event, too.
  const fault = eventFault(queue);
  if (fault !== undefined || typeof queue !== "string") throw bad(`name ${fault}`);
  if (queue.startsWith("amq.")) throw bad(`RabbitMQ keeps names that begin with 'amq.' for itself`);
  if (queue.startsWith(`${prefixOf(namespace)}.`)) throw bad(`'${queue}' is the library's own`);
}

export interface QueueConsumer {
  queue: string;
  service: string;
  defaults: ServiceOptions;
  options: Partial<QueueOptions>;
  /** Bound to its service. */
  handler: QueueHandler;
}

/** Consumes a queue of moleculer-amqp-queue. Rejects as `Runtime.consume`. */
export function consumeQueue(
  runtime: Runtime,
  { queue, service, defaults, options, handler }: QueueConsumer
): Promise<Consumer> {
  checkQueue(queue, runtime.identity.namespace);
  const { maxInFlight = 1, handlerTimeoutMs = defaults.handlerTimeoutMs, inbox = defaults.inbox !== false } = options;
  const given = options.breaker === undefined ? {} : { breaker: options.breaker };
  const { breaker } = consumerOptions(`queues['${queue}']`, given, defaults);
  const { warnings, events, clock } = runtime;
  const { decode } = defaults;
  const manual = new ManualAck({ queue, maxInFlight, handlerTimeoutMs, handler, warnings, events, clock, decode });
  return runtime.consume({
    pattern: queue,
    group: queueGroup({ queue, settle: "receipt" }),
    queue,
    bindings: [],
    service,
    options: { maxInFlight, handlerTimeoutMs, inbox, breaker, deliveryLimit: defaults.deliveryLimit },
    handle: manual.handle.bind(manual),
    foreign: { plain: manual.plain.bind(manual), close: manual.close.bind(manual) }
  });
}
