import { expect, it } from "vitest";
import { cluster } from "../support/brokers";
import { proxied } from "../support/proxied";
import { foreignGroup } from "../support/runtime";
import { emitter, emitterOf } from "../support/services";
import type { TcpProxy } from "../support/tcp-proxy";

const BYTES = 200_000;
const EMITS = 600;

it("when more wait for RabbitMQ than the line holds, the rest is told that nothing was sent; what waits goes out", {
  timeout: 400_000
}, async () => {
  const { proxies, options } = await proxied();
  const proxy = proxies[0] as TcpProxy;
  const { amqp } = options;
  const made = cluster();
  const home = await made.node("home", [emitter(made.mixin({ strategy: "callback" }))]);
  const producer = await made.node("producer", [
    emitter(
      made.mixin({ amqp, strategy: "callback", service: false, emitTimeoutMs: 40_000, confirmTimeoutMs: 40_000 }),
      "producer"
    )
  ]);
  const { deliveries } = await foreignGroup(home, "stock", "order.created");
  const emit = emitterOf(producer, "producer");
  await emit("order.created", { first: true });
  proxy.hold();
  const payload = { text: "x".repeat(BYTES) };
  const refused: string[] = [];
  const emits = Array.from({ length: EMITS }, () =>
    emit("order.created", payload).then(
      ({ id }) => id,
      (error: { type: string }) => void refused.push(error.type)
    )
  );
  await expect.poll(() => refused.length, { timeout: 10_000 }).toBeGreaterThan(0);
  proxy.release();
  const promised = (await Promise.all(emits)).filter(id => id !== undefined);
  expect(new Set(refused)).toEqual(new Set(["RELIABLE_NOT_STORED"]));
  expect(promised.length + refused.length).toBe(EMITS);
  expect(promised.length * BYTES).toBeGreaterThan(32e6);
  await expect
    .poll(() => new Set(deliveries.map(({ messageId }) => messageId)).size, { timeout: 20_000 })
    .toBe(promised.length + 1);
});
