import { type ConsumeMessage, connect } from "amqplib";
import { onTestFinished } from "vitest";
import { unpacked } from "../../src/couriers/amqp/headers";
import type { OnTheWire } from "./schemas";
import { urls } from "./servers";

export interface Captured extends OnTheWire {
  exchange: string;
  routingKey: string;
  /** Names of the headers as they came, packed ones as one. */
  sent: string[];
}

/**
 * What the broker hands out, seen from outside: copies of all events of a namespace, and the messages of these queues,
 * which only the test takes.
 */
export async function capture(namespace: string, queues: string[]): Promise<Captured[]> {
  const model = await connect(urls().amqp, { noDelay: true });
  model.on("error", () => undefined);
  onTestFinished(() => model.close().catch(() => undefined));
  const channel = await model.createChannel();
  const seen: Captured[] = [];
  const keep = (message: ConsumeMessage | null) => {
    if (!message) return;
    const { fields, content: body } = message;
    const { headers = {}, ...properties } = message.properties;
    // amqplib names every property, those that were not sent as undefined.
    const named = Object.fromEntries(Object.entries(properties).filter(([, value]) => value !== undefined));
    seen.push({
      ...named,
      sent: Object.keys(headers),
      headers: { ...unpacked(headers) },
      body,
      exchange: fields.exchange,
      routingKey: fields.routingKey
    });
  };
  const { queue: copies } = await channel.assertQueue("", { exclusive: true });
  await channel.bindQueue(copies, `${namespace}.reliable.events`, "#");
  for (const queue of [copies, ...queues]) await channel.consume(queue, keep, { noAck: true });
  return seen;
}
