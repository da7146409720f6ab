import { ServiceBroker } from "moleculer";
import { expect, it, onTestFinished } from "vitest";
import type { ReliableOptions } from "../../src";
import { CLOSE_MS } from "../../src/async/deadline";
import { backend, Capture, type Cluster, cluster, until } from "../support/brokers";
import { proxied } from "../support/proxied";
import { runtimeOf } from "../support/runtime";
import { consumer, emitter, emitterOf, errorOf } from "../support/services";

/** Instants of a start at which it is stopped, spread over its length and a little beyond. */
const INSTANTS = 30;

function node(made: Cluster, options: ReliableOptions): ServiceBroker {
  // Without the pause of Moleculer's own before the services are told to stop, in which a start would come to its end.
  const broker = new ServiceBroker({
    nodeID: "restless",
    namespace: made.namespace,
    logger: new Capture("restless", made.logs) as never,
    registry: { stopDelay: 0 } as never
  });
  broker.createService(emitter(made.mixin(options)));
  broker.createService(consumer(made.mixin(options), "stock", "order.created", () => undefined));
  broker.createService(consumer(made.mixin(options), "mail", "order.*", () => undefined));
  return broker;
}

const pause = (ms: number) => new Promise(resolve => setTimeout(resolve, ms));

it("a stop at any moment of a start: the start ends without an error, nothing is said about it, nothing stays open, and the next start is as good as the first", {
  timeout: 400_000
}, async () => {
  const { options, proxies } = await proxied();
  const made = cluster();
  let length = 0;
  // The first one declares all queues; those that follow are quicker.
  for (let i = 0; i < 3; i++) {
    const whole = node(made, options);
    const from = performance.now();
    await whole.start();
    length = performance.now() - from;
    await whole.stop();
  }

  let overtaken = 0;
  for (let i = 0; i < INSTANTS; i++) {
    const broker = node(made, options);
    let started = false;
    const starting = broker.start().then(() => (started = true));
    await pause((length * 1.2 * i) / INSTANTS);
    if (!started) overtaken++;
    await broker.stop();
    await starting;
    expect((await errorOf(emitterOf(broker)("order.created", {}))).type).toMatch(/^RELIABLE_(STOPPED|NOT_STARTED)$/);
    expect(runtimeOf(broker).consumers.size).toBe(0);
  }
  expect(made.logs.filter(line => /^\S+ (warn|error|fatal) RELIABLE/i.test(line))).toEqual([]);
  // On a busy machine most starts are over before their stop.
  expect(overtaken).toBeGreaterThan(0);
  await until(
    () => proxies.map(({ open }) => open),
    open => open.every(count => count === 0),
    10_000
  );

  const last = node(made, options);
  onTestFinished(() => last.stop());
  await last.start();
  expect((await emitterOf(last)("order.created", {}, { groups: ["stock", "mail"], waitFor: "consumed" })).status).toBe(
    "consumed"
  );
});

if (backend === "real") {
  it.each([
    ["RabbitMQ", 0],
    ["MongoDB", 1],
    ["Redis", 2]
  ] as const)(
    "a stop while the start waits for a frozen %s: both end in time, and nothing stays open",
    { timeout: 400_000 },
    async (_, server) => {
      const { options, proxies } = await proxied();
      const proxy = proxies[server];
      proxy?.hold();
      const drainTimeoutMs = 1000;
      const broker = node(cluster(), { ...options, drainTimeoutMs });
      const starting = broker.start();
      await until(
        () => proxy?.accepted,
        accepted => Number(accepted) > 0
      );
      const told = performance.now();
      await broker.stop();
      expect(performance.now() - told).toBeLessThan(drainTimeoutMs + CLOSE_MS + 10_000);
      await starting;
      // It does not notice a close while it holds.
      proxy?.release();
      await until(
        () => proxies.map(({ open }) => open),
        open => open.every(count => count === 0),
        10_000
      );
    }
  );
}
