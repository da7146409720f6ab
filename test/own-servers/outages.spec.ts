import type { Context, ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import type { ReliableOptions } from "../../src";
import { type Cluster, cluster, until } from "../support/brokers";
import { ownServer } from "../support/own-servers";

type Emit = (event: string, payload: unknown, options?: object) => Promise<{ id: string; status: string }>;

/** A producer and a consumer; the consumer keeps what it has handled, by number. */
async function orders(
  { node, mixin }: Cluster,
  options: ReliableOptions
): Promise<{ consumers: ServiceBroker; emit: Emit; handled: Map<number, number> }> {
  const handled = new Map<number, number>();
  const handler = (ctx: Context<{ n: number }>) => void handled.set(ctx.params.n, (handled.get(ctx.params.n) ?? 0) + 1);
  const consumers = await node("consumers", [
    {
      name: "stock",
      mixins: [mixin(options)],
      events: { "order.created": { reliable: { maxInFlight: 200 }, handler } }
    }
  ]);
  const producers = await node("producers", [{ name: "orders", mixins: [mixin(options)] }]);
  const service = producers.getLocalService("orders") as unknown as { reliableEmit: Emit };
  await until(
    () => consumers.call<object[], object>("reliable.subscriptions", {}),
    rows => rows.length === 1
  );
  return { consumers, emit: (event, payload, own) => service.reliableEmit(event, payload, own), handled };
}

const missing = (promised: Iterable<number>, handled: Map<number, number>) =>
  [...promised].filter(n => !handled.has(n));

const allFinal = (broker: ServiceBroker) =>
  until(
    () => broker.call<Record<string, number>, object>("reliable.stats", {}),
    ({ pending, published, intended }) => pending === 0 && published === 0 && intended === 0,
    90_000
  );

it("loses nothing when RabbitMQ crashes and comes back during 10,000 emits", { timeout: 400_000 }, async () => {
  const rabbitmq = await ownServer("rabbitmq");
  const { consumers, emit, handled } = await orders(cluster(), {
    amqp: rabbitmq.url,
    receiptTimeoutMs: 3000,
    sweepEveryMs: 200
  });
  const promised = new Set<number>();
  let outage: Promise<void> | undefined;
  for (let wave = 0; wave < 100; wave++) {
    if (wave === 30) outage = rabbitmq.kill().then(() => rabbitmq.start());
    // Emits go on during the outage: they are stored.
    await Promise.all(
      Array.from({ length: 100 }, (_, i) => wave * 100 + i).map(n =>
        emit("order.created", { n }).then(() => promised.add(n))
      )
    );
  }
  await outage;
  expect(promised.size).toBe(10_000);
  await until(
    () => missing(promised, handled).length,
    left => left === 0,
    90_000
  );
  const stats = await allFinal(consumers);
  // So many finished ones are not counted, but estimated.
  expect(stats).toMatchObject({ pending: 0, published: 0, dead: 0 });
  // The inbox keeps redeliveries from the handler.
  expect([...handled.values()].filter(times => times > 1)).toEqual([]);
});

it("keeps emits waiting while the store is away, stores them when it is back, and loses nothing", {
  timeout: 400_000
}, async () => {
  const mongo = await ownServer("mongo");
  const { consumers, emit, handled } = await orders(cluster(), {
    mongo: mongo.url,
    receiptTimeoutMs: 3000,
    sweepEveryMs: 200
  });
  await emit("order.created", { n: 0 });
  await mongo.kill();
  const waiting = Array.from({ length: 500 }, (_, i) => emit("order.created", { n: i + 1 }));
  const health = await until(
    () => consumers.call<{ ok: boolean; store: string }, object>("reliable.health", {}),
    ({ ok }) => !ok
  );
  expect(health.store).toMatch(/^down/);
  await mongo.start();
  expect(new Set((await Promise.all(waiting)).map(({ id }) => id)).size).toBe(500);
  await until(
    () => missing(Array(501).keys(), handled).length,
    left => left === 0,
    60_000
  );
  expect(await allFinal(consumers)).toMatchObject({ consumed: 501, dead: 0 });
});

it("says that nothing was stored, or that it does not know, when the store stays away", {
  timeout: 400_000
}, async () => {
  const mongo = await ownServer("mongo");
  const { emit } = await orders(cluster(), { mongo: mongo.url });
  await mongo.freeze();
  const frozen = await emit("order.created", { n: 1 }, { timeoutMs: 500, id: "frozen" }).catch((error: Error) => error);
  expect(frozen).toMatchObject({ type: "RELIABLE_OUTCOME_UNKNOWN", retryable: true, data: { id: "frozen" } });
  await mongo.thaw();
  // Emitting it again with its id is safe, whatever became of the first.
  expect(await emit("order.created", { n: 1 }, { id: "frozen", waitFor: "consumed", timeoutMs: 30_000 })).toMatchObject(
    { status: "consumed" }
  );
});

it("sweeps on without Redis, and takes the lease again when it is back", { timeout: 400_000 }, async () => {
  const redis = await ownServer("redis");
  const { consumers, emit } = await orders(cluster(), { redis: redis.url, leaseMs: 900 });
  const sweeping = (mode: RegExp) =>
    until(
      () => consumers.call<{ sweeping: string }, object>("reliable.health", {}),
      health => mode.test(health.sweeping),
      30_000
    );
  await sweeping(/held|standby/);
  await redis.kill();
  await sweeping(/unlocked/);
  // Nobody is subscribed to it, so only a sweep can bring it to its end.
  await expect(
    emit("nobody.listens", {}, { waitFor: "consumed", unroutableMs: 0, maxAttempts: 2, timeoutMs: 30_000 })
  ).rejects.toMatchObject({ type: "RELIABLE_DEAD" });
  await redis.start();
  await sweeping(/held|standby/);
});
