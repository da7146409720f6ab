import type { ServiceBroker } from "moleculer";
import type { Broker } from "../../mixins/broker";
import { nodeOf } from "../../mixins/node";
import type { Courier, Delivery } from "../../src/couriers/courier";
import type { Message } from "../../src/message/message";
import type { Runtime } from "../../src/runtime/runtime";
import type { Store } from "../../src/stores/store";
import { eventQueue, systemQueues } from "../../src/wire/names";
import { RECEIPT_TYPE, type ReceiptItem } from "../../src/wire/receipt";

/** What a started node is made of: for tests that make rows already old, or speak on the wire themselves. */
export function runtimeOf(broker: ServiceBroker): Runtime {
  return nodeOf(broker as Broker).runtime;
}

export function storeOf(broker: ServiceBroker): Store {
  return runtimeOf(broker).needStorage().store;
}

/** Receipts of this node's consumers go as messages, as if its messages lay in another store. */
export function sendsReceipts(broker: ServiceBroker): void {
  const { ownRows } = runtimeOf(broker).needStorage();
  ownRows.handled = async (_, items) => new Set(items.map(({ id }) => id));
}

export function courierOf(broker: ServiceBroker): Courier {
  return runtimeOf(broker).courier as Courier;
}

/** The row itself. */
export async function rowOf(broker: ServiceBroker, id: string): Promise<Message> {
  const [row] = await storeOf(broker).messages.find([id]);
  if (!row) throw new Error(`No row ${id}.`);
  return row;
}

/** A group in some other language: takes deliveries, acks them, and says nothing unless the test does. */
export async function foreignGroup(
  broker: ServiceBroker,
  group: string,
  event: string,
  onDelivery: (delivery: Delivery) => void = delivery => void delivery.ack()
): Promise<{ queue: string; deliveries: Delivery[] }> {
  const queue = eventQueue(broker.namespace, group, event);
  const deliveries: Delivery[] = [];
  await courierOf(broker).consume({
    queue: { name: queue, bindings: [event] },
    prefetch: 100,
    onDelivery: delivery => {
      deliveries.push(delivery);
      return onDelivery(delivery);
    }
  });
  const now = new Date();
  await storeOf(broker).subscriptions.announce([
    { pattern: event, group, queue, nodeID: "elsewhere", service: group, firstSeenAt: now, seenAt: now }
  ]);
  await runtimeOf(broker).needStorage().subscriptions.refresh();
  return { queue, deliveries };
}

export async function sendReceipt(
  broker: ServiceBroker,
  group: string,
  item: Partial<ReceiptItem> & { id: string },
  more: object = {}
): Promise<void> {
  const body = {
    v: 1,
    group,
    nodeID: "elsewhere",
    items: [{ outcome: "handled", attempt: 1, durationMs: 1, ...item }],
    ...more
  };
  const publication = {
    to: { queue: systemQueues(broker.namespace).receipts },
    messageId: `receipt of ${item.id}`,
    type: RECEIPT_TYPE,
    headers: {},
    body: Buffer.from(JSON.stringify(body))
  };
  const { outcome } = await courierOf(broker).publish(publication);
  if (outcome !== "confirmed") throw new Error(`The receipt was ${outcome}.`);
}
