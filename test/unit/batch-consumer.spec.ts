import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { Courier, Delivery } from "../../src/couriers/courier";
import { BatchConsumer } from "../../src/inbound/batch-consumer";
import { systemClock } from "../../src/platform/clock";
import { Warnings } from "../../src/platform/warnings";
import type { Store } from "../../src/stores/store";
import { Events } from "../../src/telemetry/events";
import { Metrics } from "../../src/telemetry/metrics";
import { systemQueues } from "../../src/wire/names";

const logger = { error: vi.fn(), warn: vi.fn(), info: vi.fn(), debug: vi.fn() };

beforeEach(() => void vi.useFakeTimers({ toFake: ["setTimeout", "clearTimeout", "performance"] }));
afterEach(() => void vi.useRealTimers());

/** An intake whose batches end at once, and what gives it messages. */
async function started({ awaited = false } = {}) {
  let tags = 0;
  let give: (_delivery: Delivery) => void = () => undefined;
  const courier = {
    ready: true,
    declare: async () => undefined,
    consume: async ({ onDelivery }: { onDelivery(delivery: Delivery): void }) => {
      give = onDelivery;
      return { cancel: async () => undefined, close: async () => undefined, active: true };
    }
  } as unknown as Courier;
  const sizes: number[] = [];
  const acked: number[] = [];
  const intake = new BatchConsumer("q", {
    handle: async batch => {
      sizes.push(batch.length);
      return [];
    },
    awaiting: { waiting: awaited },
    courier,
    queues: systemQueues("ns"),
    store: { ready: true } as Store,
    metrics: new Metrics(),
    events: new Events(logger),
    clock: systemClock,
    nodeID: "node-1",
    logger,
    warnings: new Warnings(logger)
  });
  await intake.start();
  const deliver = async (count: number) => {
    for (let i = 0; i < count; i++) {
      const tag = ++tags;
      give({ tag, epoch: 1, body: Buffer.alloc(0), ackUpTo: () => acked.push(tag) > 0 } as unknown as Delivery);
    }
    await vi.advanceTimersByTimeAsync(0);
  };
  return { intake, deliver, sizes, acked };
}

it("who comes alone is handled at once; of those that follow soon after, many together", async () => {
  const { deliver, sizes, acked } = await started();
  const after = async (ms: number) => void (await vi.advanceTimersByTimeAsync(ms));
  await deliver(1);
  expect(sizes).toEqual([1]);
  for (let i = 0; i < 3; i++) await deliver(1);
  expect(sizes).toEqual([1]);
  await after(20);
  expect(sizes).toEqual([1, 3]);
  expect(acked).toEqual([1, 4]);
  // After many it takes longer, until few come again.
  await deliver(1);
  await after(49);
  expect(sizes).toEqual([1, 3]);
  await after(1);
  await deliver(1);
  await after(20);
  expect(sizes).toEqual([1, 3, 1, 1]);
  await after(20);
  await deliver(1);
  expect(sizes).toEqual([1, 3, 1, 1, 1]);
});

it("a full batch waits for nothing", async () => {
  const { deliver, sizes } = await started();
  await deliver(1);
  await deliver(199);
  expect(sizes).toEqual([1]);
  await deliver(1);
  expect(sizes).toEqual([1, 200]);
  await deliver(250);
  expect(sizes).toEqual([1, 200, 200]);
});

it("what somebody waits for is handled at once", async () => {
  const { deliver, sizes } = await started({ awaited: true });
  for (let i = 0; i < 3; i++) await deliver(1);
  expect(sizes).toEqual([1, 1, 1]);
});

it("what waits for its batch is handled by a stop before it ends", async () => {
  const { intake, deliver, sizes, acked } = await started();
  await deliver(1);
  await deliver(2);
  const stopped = intake.stop({ left: 5000, toClose: 1000 } as never);
  await vi.advanceTimersByTimeAsync(50);
  await stopped;
  expect([sizes, acked]).toEqual([
    [1, 2],
    [1, 3]
  ]);
});
