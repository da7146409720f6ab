import { createRequire } from "node:module";
import { type BrokerOptions, ServiceBroker, type ServiceSchema } from "moleculer";
import { type AmqpQueueOptions, type QueueChannel, type QueueMessage, ReliableAmqpQueue } from "../../src";
import { onTold, tell } from "./parent";

/** What the parent wants of this node. */
export interface QueueNode {
  namespace: string;
  nodeID: string;
  /** Of moleculer-amqp-queue. */
  url: string;
  /** With the mixin; without, moleculer-amqp-queue has it all to itself. */
  options?: AmqpQueueOptions;
  queue: string;
}

/**
 * A service that consumes a queue and adds jobs to it; it never answers those with `hold`. Tells "started", "handled"
 * with the payload, and how each "add" ended.
 */
async function main(): Promise<void> {
  const { namespace, nodeID, url, options, queue } = JSON.parse(process.env["NODE"] ?? "{}") as QueueNode;
  const plain = createRequire(__filename)("moleculer-amqp-queue") as ServiceSchema;
  const broker = new ServiceBroker({
    namespace,
    nodeID,
    logger: { type: "Console", options: { level: "info" } }
  } as BrokerOptions);
  const service = broker.createService({
    name: "mail",
    mixins: options ? [plain, ReliableAmqpQueue(options)] : [plain],
    settings: { url },
    AMQPQueues: {
      async [queue](channel: QueueChannel, message: QueueMessage) {
        const payload = JSON.parse(message.content.toString()) as { hold?: boolean };
        await tell("handled", payload);
        if (!payload.hold) channel.ack(message);
      }
    }
  } as unknown as ServiceSchema) as unknown as {
    addAMQPJob(queue: string, payload: unknown): Promise<{ id: string } | undefined>;
  };
  onTold("add", payload => {
    service.addAMQPJob(queue, payload).then(
      result => void tell("added", result?.id ?? null),
      (error: Error) => void tell("refused", `${error.name}: ${error.message}`)
    );
  });
  await broker.start();
  await tell("started");
}

void main();
