import { Redis } from "ioredis";
import { MongoClient } from "mongodb";
import { expect, it, onTestFinished } from "vitest";
import { cluster, until } from "../support/brokers";
import { grown, node, rounds, startAndStop } from "../support/leaks";
import { proxied } from "../support/proxied";
import { channelsOf } from "../support/rabbitmq";
import { urls } from "../support/servers";
import { errorOf } from "../support/services";

it("starts and stops leave no connection to any server, not after a start that failed either", {
  timeout: 240_000
}, async () => {
  const { options, proxies } = await proxied();
  const made = cluster();
  for (let i = 0; i < 10; i++) await startAndStop(made, options);
  await until(
    () => proxies.map(({ open }) => open),
    open => open.every(count => count === 0),
    10_000
  );
  await until(
    () => channelsOf(`leaky-${made.namespace}`),
    connections => connections.length === 0
  );
  const opened = proxies.map(({ accepted }) => accepted);
  // They were used.
  expect(opened.every(count => count >= 10)).toBe(true);
  for (let i = 0; i < 5; i++) {
    const broker = node(made, { ...options, amqp: (options.amqp as string).replace("guest:guest", "guest:wrong") });
    expect((await errorOf(broker.start())).type).toBe("RELIABLE_ACCESS_REFUSED");
    await broker.stop().catch(() => undefined);
  }
  await until(
    () => proxies.map(({ open }) => open),
    open => open.every(count => count === 0),
    10_000
  );
});

it("starts and stops leave no listener on clients that were given", { timeout: 240_000 }, async () => {
  const mongo = new MongoClient(urls().mongo);
  const redis = new Redis(urls().redis);
  onTestFinished(async () => {
    await mongo.close();
    redis.disconnect();
  });
  const { before, after } = await rounds(cluster(), { mongo, redis }, [mongo, redis]);
  expect(grown(before, after)).toEqual([]);
  // Theirs, and not closed by us.
  expect([await redis.ping(), (await mongo.db("admin").command({ ping: 1 })).ok]).toEqual(["PONG", 1]);
});
