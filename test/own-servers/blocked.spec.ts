import { afterEach, beforeEach, expect, test } from "vitest";
import { AmqpCourier } from "../../src/couriers/amqp/courier";
import { systemClock } from "../../src/platform/clock";
import { collect, eventually, next, outcomes, publication, recordingLogger, uniqueName } from "../support/couriers";
import { type OwnServer, ownServer } from "../support/own-servers";

let rabbit: OwnServer;
let namespace: string;
let courier: AmqpCourier;

/** The memory alarm stops the publishers of the whole broker, so it must not be one that other tests use. */
const block = () => rabbit.ctl("-q", "set_vm_memory_high_watermark", "0");

beforeEach(async () => {
  rabbit = await ownServer("rabbitmq");
  namespace = uniqueName("blocked");
  courier = new AmqpCourier({
    urls: rabbit.url,
    namespace,
    nodeID: uniqueName("node"),
    logger: recordingLogger(),
    clock: systemClock,
    confirmTimeoutMs: 2_000
  });
  await courier.start();
});

afterEach(() => courier.close(0));

test("a broker that blocks publishers: unknown at once, consumers go on, and it comes back", async () => {
  const name = `${namespace}.q`;
  const { until, deliveries } = await collect(courier, { name });
  expect((await courier.publish(publication({ queue: name }, "m1"))).outcome).toBe("confirmed");
  await until(1);
  await block();
  const down = next(courier, "down");
  // The broker says that it blocks only after the first publish.
  const first = courier.publish(publication({ queue: name }, "m2"));
  await down;
  expect(courier.status()).toMatchObject({
    blocked: true,
    blockedReason: expect.any(String),
    publish: { connected: true }
  });
  const before = performance.now();
  const results = await Promise.all(Array.from({ length: 1_000 }, () => courier.publish(publication({ queue: name }))));
  expect(performance.now() - before).toBeLessThan(1_000);
  expect(outcomes(results)).toEqual({ unknown: 1_000 });
  expect(results[0].reason).toContain("blocks publishers");
  expect((await first).reason).toContain("no confirm within");
  expect(deliveries[0].ack()).toBe(true);
  expect(await courier.depth(name)).toEqual({ ready: 0, consumers: 1 });
  const ready = next(courier, "ready");
  await rabbit.ctl("-q", "set_vm_memory_high_watermark", "0.6");
  await ready;
  expect((await courier.publish(publication({ queue: name }, "m3"))).outcome).toBe("confirmed");
  await eventually(() => deliveries.some(({ messageId }) => messageId === "m3"));
  expect(courier.status()).toMatchObject({ blocked: false, reconnects: 0 });
  expect(courier.status().blockedMs).toBeGreaterThan(0);
});

test("closing while blocked ends in time", async () => {
  await courier.declare({ name: `${namespace}.q` });
  await block();
  const down = next(courier, "down");
  const inFlight = courier.publish(publication({ queue: `${namespace}.q` }));
  await down;
  const before = performance.now();
  await courier.close(200);
  expect(performance.now() - before).toBeLessThan(5_000);
  expect((await inFlight).outcome).toBe("unknown");
});
