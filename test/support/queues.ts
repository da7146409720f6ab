import { createRequire } from "node:module";
import type { ServiceBroker, ServiceSchema } from "moleculer";
import { onTestFinished } from "vitest";
import {
  type AmqpQueueOptions,
  type EmitResult,
  type JobOptions,
  type QueueChannel,
  type QueueMessage,
  ReliableAmqpQueue
} from "../../src";
import type { Cluster } from "./brokers";
import { atBroker } from "./rabbitmq";
import { urls } from "./servers";
import { serviceOf } from "./services";

/** The real moleculer-amqp-queue, on the Moleculer line of the test. */
export const plainMixin = createRequire(__filename)("moleculer-amqp-queue") as ServiceSchema;

/** Its amqplib 0.5 asks for frames that are too small for RabbitMQ 4.1 and newer. */
export function plainUrl(port?: number): string {
  const url = new URL(urls().amqp);
  url.searchParams.set("frameMax", "8192");
  if (port) url.host = `127.0.0.1:${port}`;
  return url.href;
}

/** The name of a queue for this test only, deleted when it ends. */
export function jobQueue({ namespace }: Cluster): string {
  const queue = `${namespace}.jobs.mail.send`;
  onTestFinished(async () => void (await atBroker(channel => channel.deleteQueue(queue))));
  return queue;
}

export type Handlers = Record<string, (channel: QueueChannel, message: QueueMessage) => unknown>;

/** An unmodified worker. Its package never closes a connection, so the test does. */
export async function plainNode(made: Cluster, nodeID: string, handlers: Handlers = {}): Promise<ServiceBroker> {
  const broker = await made.node(nodeID, [
    { name: "plain", mixins: [plainMixin], settings: { url: plainUrl() }, AMQPQueues: handlers }
  ]);
  const { AMQPConn } = serviceOf(broker, "plain") as unknown as { AMQPConn: { close(): Promise<void> } };
  onTestFinished(() => AMQPConn.close());
  return broker;
}

/** A service with both mixins. */
export function queued(
  made: Cluster,
  name: string,
  { queues, ...options }: AmqpQueueOptions = {},
  handlers?: Handlers
): object {
  return {
    name,
    mixins: [plainMixin, ReliableAmqpQueue({ ...made.options(options), ...(queues && { queues }) })],
    ...(handlers && { AMQPQueues: handlers })
  };
}

export type AddJob = (queue: string, payload: unknown, options?: JobOptions) => Promise<EmitResult>;

export function addJobOf(broker: ServiceBroker, name: string): AddJob {
  const service = serviceOf(broker, name) as unknown as { addAMQPJob: AddJob };
  return (queue, payload, options) => service.addAMQPJob(queue, payload, options);
}

export function payloadOf(message: QueueMessage): { n: number } {
  return JSON.parse(message.content.toString()) as { n: number };
}
