import { createHash } from "node:crypto";
import { expect, it, onTestFinished, vi } from "vitest";
import { Consumer } from "../../src/consumer/consumer";
import type { ConsumerSpec } from "../../src/consumer/consumer-parts";
import { ReceiptSender } from "../../src/consumer/receipt-sender";
import type { Courier, Delivery, Publication } from "../../src/couriers/courier";
import type { ReliableError } from "../../src/errors";
import { BatchConsumer } from "../../src/inbound/batch-consumer";
import { MAX_PARKED_BYTES } from "../../src/inbound/parked-messages";
import type { Parked } from "../../src/message/records";
import { MessagePublisher } from "../../src/outbound/message-publisher";
import { systemClock } from "../../src/platform/clock";
import { Warnings } from "../../src/platform/warnings";
import type { Store } from "../../src/stores/store";
import { Events } from "../../src/telemetry/events";
import { Metrics } from "../../src/telemetry/metrics";
import { PARKED_TYPE } from "../../src/wire/envelope";
import { systemQueues } from "../../src/wire/names";
import { messageOf } from "../support/messages";

const logger = { error: vi.fn(), warn: vi.fn(), info: vi.fn(), debug: vi.fn() };

function node() {
  const telling = { metrics: new Metrics(), events: new Events(logger), warnings: new Warnings(logger), logger };
  return { ...telling, clock: systemClock, nodeID: "node-1" };
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
    control: { listen: () => () => undefined },
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
    return records.map(() => true);
  };
  const handle = async (batch: Delivery[]) => {
    if (batch.some(({ messageId }) => messageId === "m2")) throw new Error("no such type");
    handled.push(...batch.map(({ messageId }) => messageId));
    return [];
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

it("what the store refuses to keep is kept short, told once, and holds up nothing", async () => {
  const acked: number[] = [];
  const added: Parked[] = [];
  const add = async (records: Parked[]) => {
    if (records.some(({ body }) => body.length > 2000)) throw new Error("too large");
    added.push(...records);
    return records.map(() => true);
  };
  const parts = node();
  const told: string[] = [];
  parts.events.on("error", error => void told.push((error as ReliableError).data?.messageId as string));
  const given = deliveries(3, acked);
  const body = Buffer.alloc(3000, "b");
  Object.assign(given[1] as Delivery, { body, headers: { h: 1n } });
  const intake = new BatchConsumer("q", {
    ...parts,
    queues: systemQueues("ns"),
    handle: async batch => batch.map(delivery => [delivery, "it is none of ours"]),
    courier: courierOf(given),
    store: { ready: true, parked: { add } } as unknown as Store
  });
  await intake.start();
  await vi.waitFor(() => expect(acked).toEqual([3]));
  expect(told.toSorted()).toEqual(["m1", "m2", "m3"]);
  expect(added.map(({ properties, body: { length }, cut, reason }) => [properties, length, cut, reason])).toEqual(
    expect.arrayContaining([
      [
        {},
        1024,
        { bytes: 3000, sha256: createHash("sha256").update(body).digest("hex") },
        "it is none of ours; kept short, since the store refused it: too large"
      ]
    ])
  );
});

it("what the store refuses in any form stays unacked and is tried again; the others are acked", async () => {
  vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout"] });
  onTestFinished(() => void vi.useRealTimers());
  const acked: number[] = [];
  let refuses = true;
  const add = async (records: Parked[]) => {
    if (refuses && records.some(({ _id }) => _id.includes("m2"))) throw new Error("a validator");
    return records.map(() => true);
  };
  const parts = node();
  const told: string[] = [];
  parts.events.on("error", error => void told.push((error as ReliableError).type as string));
  const given = deliveries(4, acked).map(delivery =>
    Object.assign(delivery, { live: true, queue: "q", ack: () => acked.push(delivery.tag) > 0 })
  );
  const [last] = given.splice(3);
  let give: (_delivery: Delivery) => void = () => undefined;
  const courier = {
    ready: true,
    declare: async () => undefined,
    consume: async ({ onDelivery }: { onDelivery(delivery: Delivery): void }) => {
      give = onDelivery;
      return { cancel: async () => undefined, close: async () => undefined, active: true };
    }
  } as unknown as Courier;
  const intake = new BatchConsumer("q", {
    ...parts,
    queues: systemQueues("ns"),
    handle: async batch => batch.filter(({ tag }) => tag < 4).map(delivery => [delivery, "it is none of ours"]),
    courier,
    store: { ready: true, parked: { add } } as unknown as Store
  });
  await intake.start();
  given.forEach(give);
  await vi.advanceTimersByTimeAsync(100);
  give(last as Delivery);
  await vi.advanceTimersByTimeAsync(100);
  expect(acked).toEqual([1, 3, 4]);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(acked).toEqual([1, 3, 4]);
  const once = ["RELIABLE_PARKED", "RELIABLE_PARKED", "RELIABLE_STORE_REFUSED"];
  expect(told.toSorted()).toEqual(once);
  refuses = false;
  await vi.advanceTimersByTimeAsync(11_000);
  expect(acked).toEqual([1, 3, 4, 2]);
  expect(told.toSorted()).toEqual(["RELIABLE_PARKED", ...once]);
});

it.each([
  ["its answer was lost: told when it is known to be there", true, ["m1"]],
  ["it was there when it came again: whoever stored it has told it", false, []]
])("a message that is parked twice is told once: %s", async (_, lost, expected) => {
  const acked: number[] = [];
  let tries = 0;
  const add = async (records: Parked[]) => {
    if (lost && ++tries === 1) throw Object.assign(new Error("no answer"), { retryable: true });
    return records.map(() => false);
  };
  const parts = node();
  const told: unknown[] = [];
  parts.events.on("error", error => void told.push((error as ReliableError).data?.messageId));
  const intake = new BatchConsumer("q", {
    ...parts,
    queues: systemQueues("ns"),
    handle: async batch => batch.map(delivery => [delivery, "it is none of ours"]),
    courier: courierOf(deliveries(1, acked).map(delivery => Object.assign(delivery, { redelivered: true }))),
    store: { ready: true, parked: { add } } as unknown as Store
  });
  await intake.start();
  await vi.waitFor(() => expect(acked).toEqual([1]), 5000);
  expect(told.filter(id => id !== undefined)).toEqual(expected);
});

it("what the store may take later is held and repeated, not parked", async () => {
  const acked: number[] = [];
  let tries = 0;
  const add = vi.fn();
  const handle = async () => {
    if (++tries < 3) throw Object.assign(new Error("down"), { retryable: true });
    return [];
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

it("what the broker refuses to park is parked short, and told when it is; a queue that is missing is made again", async () => {
  const queues = systemQueues("ns");
  const sent: Publication[] = [];
  const answers: (() => unknown)[] = [
    () => ({ outcome: "unknown", reason: "not connected" }),
    () => ({ outcome: "returned", reason: "312 NO_ROUTE" }),
    () => Promise.reject(new Error("the headers take more than 64 KiB"))
  ];
  const toldAt: number[] = [];
  const parts = node();
  parts.events.on("error", () => void toldAt.push(sent.length));
  const acked: number[] = [];
  const body = Buffer.alloc(5_000_000, "b");
  const given = deliveries(1, acked).map(delivery =>
    Object.assign(delivery, { queue: "q", body, headers: { h: "x" }, ackUpTo: () => acked.push(delivery.tag) > 0 })
  );
  const declare = vi.fn().mockResolvedValue(true);
  const courier = {
    ...courierOf(given),
    declare,
    on: () => () => undefined,
    publish: async (publication: Publication) => {
      if (publication.type !== PARKED_TYPE) return { outcome: "confirmed" };
      sent.push(publication);
      return answers.shift()?.() ?? { outcome: "confirmed" };
    }
  } as unknown as Courier;
  const spec = {
    ...{ pattern: "e", group: "g", queue: "q", bindings: [], service: "s" },
    options: { maxInFlight: 1 },
    handle: () => Promise.reject(new Error("not for a handler"))
  } as unknown as ConsumerSpec;
  const consumer = new Consumer(spec, { ...parts, courier, queues, namespace: "ns", inbox: undefined });
  await consumer.start();
  declare.mockClear();
  await vi.waitFor(() => expect(acked).toEqual([1]), 10_000);
  expect(sent.map(message => message.body.length)).toEqual([
    MAX_PARKED_BYTES,
    MAX_PARKED_BYTES,
    MAX_PARKED_BYTES,
    1024
  ]);
  expect(new Set(sent.map(({ messageId }) => messageId)).size).toBe(1);
  expect(sent[3]?.headers).toMatchObject({ "x-reliable-bytes": 5_000_000, "x-reliable-headers": "{}" });
  expect(declare).toHaveBeenCalledWith(expect.objectContaining({ name: queues.parked }));
  expect(toldAt).toEqual([4]);
  await consumer.stop({ left: 0, toClose: 0 } as never);
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
      warnings: new Warnings(logger),
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
