import { expect, it, vi } from "vitest";
import { ReceiptSender } from "../../src/consumer/receipt-sender";
import type { Courier, Delivery, Publication } from "../../src/couriers/courier";
import { BatchConsumer } from "../../src/inbound/batch-consumer";
import type { Parked } from "../../src/message/records";
import { MessagePublisher } from "../../src/outbound/message-publisher";
import { systemClock } from "../../src/platform/clock";
import type { Store } from "../../src/stores/store";
import { Events } from "../../src/telemetry/events";
import { Metrics } from "../../src/telemetry/metrics";
import { systemQueues } from "../../src/wire/names";
import { messageOf } from "../support/messages";

const logger = { error: vi.fn(), warn: vi.fn(), info: vi.fn(), debug: vi.fn() };

function node() {
  return { metrics: new Metrics(), events: new Events(logger), clock: systemClock, nodeID: "node-1", logger };
}

function deliveries(count: number, acked: number[]): Delivery[] {
  return Array.from(
    { length: count },
    (_, i) =>
      ({
        tag: i + 1,
        epoch: 1,
        messageId: `m${i + 1}`,
        ackUpTo: () => acked.push(i + 1) > 0,
        headers: {},
        body: Buffer.alloc(0),
        ack: () => true
      }) as unknown as Delivery
  );
}

/** A courier that hands over what it is given when the intake starts. */
function courierOf(given: Delivery[]): Courier {
  return {
    ready: true,
    declare: async () => undefined,
    consume: async (spec: { onDelivery(delivery: Delivery): void }) => {
      given.forEach(spec.onDelivery);
      return { cancel: async () => undefined, close: async () => undefined, active: true };
    }
  } as unknown as Courier;
}

it("a delivery that can never be handled is parked, and those beside it are handled", async () => {
  const acked: number[] = [];
  const handled: (string | undefined)[] = [];
  const parked: [unknown, string][] = [];
  const add = async (records: Parked[]) => {
    for (const { properties, reason } of records) parked.push([properties["messageId"], reason]);
  };
  const handle = async (batch: Delivery[]) => {
    if (batch.some(({ messageId }) => messageId === "m2")) throw new Error("no such type");
    handled.push(...batch.map(({ messageId }) => messageId));
  };
  const intake = new BatchConsumer("q", {
    ...node(),
    queues: systemQueues("ns"),
    handle,
    courier: courierOf(deliveries(3, acked)),
    store: { ready: true, parked: { add } } as unknown as Store
  });
  await intake.start();
  await vi.waitFor(() => expect(acked).toEqual([3]));
  expect(handled).toEqual(["m1", "m3"]);
  expect(parked).toEqual([["m2", "it could not be handled: no such type"]]);
});

it("what the store may take later is held and repeated, not parked", async () => {
  const acked: number[] = [];
  let tries = 0;
  const add = vi.fn();
  const handle = async () => {
    if (++tries < 3) throw Object.assign(new Error("down"), { retryable: true });
  };
  const intake = new BatchConsumer("q", {
    ...node(),
    queues: systemQueues("ns"),
    handle,
    courier: courierOf(deliveries(2, acked)),
    store: { ready: true, parked: { add } } as unknown as Store
  });
  await intake.start();
  await vi.waitFor(() => expect(acked).toEqual([2]), 5000);
  expect(add).not.toHaveBeenCalled();
});

it("a message the courier refuses to send counts as refused, so that it ends and is seen", async () => {
  const courier = {
    publish: () => Promise.reject(new Error("the headers take more than 64 KiB"))
  } as unknown as Courier;
  const publisher = new MessagePublisher(courier, undefined, systemQueues("ns"), "node-1", new Metrics(), systemClock);
  expect(await publisher.toAll(messageOf({}), 1)).toEqual({
    outcome: "refused",
    reason: "the headers take more than 64 KiB"
  });
});

it("a receipt queue that was deleted is declared again; receipts for the other one do not wait for it", async () => {
  const queues = systemQueues("ns");
  const sent: { queue: string; items: string[] }[] = [];
  let there = false;
  const publish = ({ to, body }: Publication) => {
    const { queue } = to as { queue: string };
    if (queue === queues.callbackReceipts && !there)
      return Promise.resolve({ outcome: "returned", reason: "312 NO_ROUTE" });
    sent.push({ queue, items: (JSON.parse(body.toString()) as { items: { id: string }[] }).items.map(({ id }) => id) });
    return Promise.resolve({ outcome: "confirmed" });
  };
  const declare = vi.fn().mockResolvedValue(undefined).mockRejectedValueOnce(new Error("not now"));
  const receipts = new ReceiptSender(
    {
      courier: { publish, declare, ready: true } as unknown as Courier,
      queues,
      nodeID: "node-1",
      logger,
      clock: systemClock
    },
    "stock"
  );
  const acked: number[] = [];
  const item = (id: string) => ({ id, outcome: "handled", attempt: 1, durationMs: 0 }) as const;
  const [first, second] = deliveries(2, acked).map(delivery =>
    Object.assign(delivery, { ack: () => acked.push(delivery.tag) > 0 })
  ) as [Delivery, Delivery];
  receipts.send({ address: queues.callbackReceipts, item: item("a"), delivery: first });
  receipts.send({ address: queues.receipts, item: item("b"), delivery: second });
  await vi.waitFor(() => expect(acked).toEqual([2]), 5000);
  there = true;
  await vi.waitFor(() => expect(acked).toEqual([2, 1]), 5000);
  expect(sent.map(({ queue, items: [id] }) => [queue, id])).toEqual([
    [queues.receipts, "b"],
    [queues.callbackReceipts, "a"]
  ]);
  expect(declare).toHaveBeenCalledWith(expect.objectContaining({ name: queues.callbackReceipts }));
  await receipts.idle();
});
