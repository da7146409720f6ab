import { randomBytes } from "node:crypto";
import { Redis } from "ioredis";
import type { ServiceBroker } from "moleculer";
import { MongoClient } from "mongodb";
import { expect, it, onTestFinished } from "vitest";
import { ReliableEmit, type ReliableOptions } from "../../src";
import { cluster, until } from "../support/brokers";
import { atBroker } from "../support/rabbitmq";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, errorOf, reaches, story, subscribed } from "../support/services";
import { type TcpProxy, tcpProxy } from "../support/tcp-proxy";

const PORTS = { amqp: 5672, mongo: 27017, redis: 6379 } as const;

/** The driver looks for a server for 5 s, else, before it says that there is none. */
const IMPATIENT = "serverSelectionTimeoutMS=200";

/** A proxy in front of one server, and the address that leads through it. */
async function through(server: keyof typeof PORTS): Promise<{ proxy: TcpProxy; url: string }> {
  const address = urls()[server];
  const [, host = "", port] = /^[a-z+]+:\/\/(?:[^@/]*@)?([^:/?]+)(?::(\d+))?/.exec(address) ?? [];
  const proxy = await tcpProxy({ host, port: Number(port ?? PORTS[server]) });
  onTestFinished(() => proxy.close());
  const target = port ? `${host}:${port}` : host;
  // The driver would go round the proxy to the member that the replica set names.
  const url = address
    .replace(target, `127.0.0.1:${proxy.port}`)
    .replace(/replicaSet=[^&]*/, `directConnection=true&${IMPATIENT}`);
  return { proxy, url };
}

it("one node holds three RabbitMQ connections, one MongoDB client and one Redis client, whatever the number of its services", async () => {
  const made = cluster();
  const [amqp, mongo, redis] = await Promise.all([through("amqp"), through("mongo"), through("redis")]);
  const own: ReliableOptions = { amqp: amqp.url, mongo: mongo.url, redis: redis.url };
  const names = Array.from({ length: 6 }, (_, n) => `service-${n}`);
  const broker = await made.node(
    "node-1",
    names.map(name => consumer(made.mixin(own), name, "order.created", () => undefined))
  );
  await subscribed(broker, names.length);
  await Promise.all(names.map(name => emitterOf(broker, name)("order.created", {}, { waitFor: "consumed" })));
  expect(amqp.proxy.accepted).toBe(3);
  expect(redis.proxy.accepted).toBe(1);

  // A client says so once; how many connections its pool has depends on the load.
  expect(made.logs.filter(line => line.includes("MongoDB is ready"))).toHaveLength(1);
});

it("live clients handed in are used, and not closed", async () => {
  const made = cluster();
  const mongo = await new MongoClient(urls().mongo).connect();
  const redis = new Redis(urls().redis);
  onTestFinished(async () => {
    await mongo.close();
    redis.disconnect();
  });
  const commands = new Set<string>();
  const sendCommand = redis.sendCommand.bind(redis);
  redis.sendCommand = ((command: { name: string }, ...rest: []) => {
    commands.add(command.name);
    return sendCommand(command as never, ...rest);
  }) as never;
  const broker = await made.node("node-1", [
    consumer(made.mixin({ mongo, redis }), "stock", "order.created", () => undefined)
  ]);
  const { id } = await emitterOf(broker, "stock")("order.created", {}, { waitFor: "consumed" });
  const lease = await until(
    () => broker.call<{ leaseHolders: string }, object>("reliable.health", {}),
    ({ leaseHolders }) => leaseHolders.includes("node-1")
  );
  expect(lease).toMatchObject({ ok: true, redis: "up (your client)" });
  expect(commands.size).toBeGreaterThan(0);
  await broker.stop();
  expect(await redis.ping()).toBe("PONG");
  const collection = mongo.db("reliable_test").collection<{ _id: string }>(`${made.namespace}.reliable.messages`);
  expect(await collection.countDocuments({ _id: id })).toBe(1);
});

async function node(
  made: ReturnType<typeof cluster>,
  own: ReliableOptions
): Promise<{ broker: ServiceBroker; seen: number[] }> {
  const seen: number[] = [];
  const broker = await made.node("node-1", [
    emitter(made.mixin(own)),
    consumer(made.mixin(own), "stock", "order.created", ctx => void seen.push((ctx.params as { n: number }).n))
  ]);
  return { broker, seen };
}

it("RabbitMQ down at the start: emits are stored, and arrive once it is there", async () => {
  const made = cluster();
  const { proxy, url } = await through("amqp");
  await proxy.down();
  const { broker, seen } = await node(made, { amqp: url });
  const emit = emitterOf(broker);
  const emitted = await Promise.all([1, 2, 3].map(n => emit("order.created", { n })));
  expect((await story(broker, emitted[0]?.id as string)).status).toBe("pending");
  await proxy.up();
  await Promise.all(emitted.map(({ id }) => reaches(broker, id, "consumed")));
  expect(seen.sort()).toEqual([1, 2, 3]);
  for (const { id } of emitted) expect(await story(broker, id)).toMatchObject({ attempts: 1 });
});

it("MongoDB down at the start: emits wait for it, within their time", async () => {
  const made = cluster();
  const { proxy, url } = await through("mongo");
  await proxy.down();
  const { broker, seen } = await node(made, { mongo: url });
  const emit = emitterOf(broker);
  expect(await errorOf(emit("order.created", { n: 0 }, { timeoutMs: 200 }))).toMatchObject({
    type: "RELIABLE_NOT_STORED",
    retryable: true,
    message: expect.stringContaining("nothing was stored")
  });
  const waiting = [1, 2, 3].map(n => emit("order.created", { n }, { timeoutMs: 25_000 }));
  await proxy.up();
  const emitted = await Promise.all(waiting);
  await Promise.all(emitted.map(({ id }) => reaches(broker, id, "consumed")));
  expect(seen.sort()).toEqual([1, 2, 3]);
});

it("Redis down at the start: nothing waits for it, and the lease is taken once it is there", async () => {
  const made = cluster();
  const { proxy, url } = await through("redis");
  await proxy.down();
  const { broker, seen } = await node(made, { redis: url });
  await emitterOf(broker)("order.created", { n: 1 }, { waitFor: "consumed" });
  expect(seen).toEqual([1]);
  expect(await broker.call("reliable.health", {})).toMatchObject({ ok: true, redis: "down" });
  await proxy.up();
  await until(
    () => broker.call<{ leaseHolders: string }, object>("reliable.health", {}),
    ({ leaseHolders }) => leaseHolders.includes("node-1")
  );
});

it("all of them down at the start: the broker starts and stops", async () => {
  const made = cluster();
  const all = await Promise.all((["amqp", "mongo", "redis"] as const).map(through));
  await Promise.all(all.map(({ proxy }) => proxy.down()));
  const [amqp, mongo, redis] = all.map(({ url }) => url);
  const { broker } = await node(made, { amqp, mongo, redis, drainTimeoutMs: 500 });
  await broker.stop();
});

const secret = `s3cret-${randomBytes(6).toString("hex")}`;
const withPassword = (url: string, user: string) => url.replace(/:\/\/(?:[^@/]*@)?/, `://${user}:${secret}@`);

it.each<[keyof typeof PORTS, () => Promise<void>]>([
  ["amqp", async () => undefined],
  [
    "redis",
    async () => {
      // The default user of a test Redis has no password, so a user with one is made.
      const redis = new Redis(urls().redis);
      await redis.acl("SETUSER", "reliable-test", "on", ">another", "~*", "+@all");
      onTestFinished(() => void redis.acl("DELUSER", "reliable-test").finally(() => redis.disconnect()));
    }
  ]
])(
  "%s: a wrong password ends the start with a plain message, told nowhere, and leaves nothing open",
  async (server, prepare) => {
    const made = cluster();
    await prepare();
    const [amqp, mongo, redis] = await Promise.all((["amqp", "mongo", "redis"] as const).map(through));
    const own = { amqp: amqp?.url, mongo: mongo?.url, redis: redis?.url };
    const error = await errorOf(
      node(made, {
        ...own,
        [server]: withPassword(own[server] as string, server === "redis" ? "reliable-test" : "nobody")
      })
    );
    expect(error).toMatchObject({ type: "RELIABLE_ACCESS_REFUSED", retryable: false });
    expect(error.message).toMatch(/refuse|credentials|password/i);
    expect(error.message).not.toContain(secret);
    expect(made.logs.filter(line => line.includes(secret))).toEqual([]);
    await until(
      () => [amqp, mongo, redis].map(way => way?.proxy.open),
      open => open.every(count => count === 0)
    );
    // Not an endless loop.
    expect({ amqp, mongo, redis }[server]?.proxy.accepted).toBeLessThanOrEqual(3);
  }
);

it("credentials reach neither published settings nor logs", async () => {
  const made = cluster();
  const { broker } = await node(made, {});
  const settings = {
    reliable: {
      amqp: withPassword("amqp://127.0.0.1:1", "user"),
      mongo: withPassword(`mongodb://127.0.0.1:1/?${IMPATIENT}`, "user"),
      redis: withPassword("redis://127.0.0.1:1", "user")
    }
  };
  const other = made.broker("node-2");
  other.createService({
    ...consumer(
      ReliableEmit({ emitTimeoutMs: 100, drainTimeoutMs: 100 }),
      "secretive",
      "order.created",
      () => undefined
    ),
    settings: { ...settings, open: "is published" }
  } as never);
  await other.start();
  await until(
    () => broker.call<{ name: string; settings: { open?: string } }[], object>("$node.services", {}),
    list => list.some(({ name }) => name === "secretive")
  );
  expect(await errorOf(emitterOf(other, "secretive")("order.created", {}))).toMatchObject({
    type: "RELIABLE_NOT_STORED"
  });
  const published = JSON.stringify([
    await broker.call("$node.services", {}),
    (other as unknown as { getLocalNodeInfo(): object }).getLocalNodeInfo(),
    await other.call("$node.services", {}),
    await other.call("reliable.health", {})
  ]);
  expect(published).toContain("is published");
  expect(published).not.toContain(secret);
  expect(made.logs.length).toBeGreaterThan(10);
  expect(made.logs.filter(line => line.includes(secret))).toEqual([]);
});

it("a node with RabbitMQ alone consumes, and says on emit that it has no store", async () => {
  const made = cluster();
  const seen: number[] = [];
  const producer = await made.node("producer", [emitter(made.mixin())]);
  const light = await made.node("light", [
    consumer(
      made.mixin({ mongo: undefined, redis: undefined }),
      "stock",
      "order.created",
      ctx => void seen.push((ctx.params as { n: number }).n)
    )
  ]);
  await subscribed(producer, 1);
  await emitterOf(producer)("order.created", { n: 1 }, { waitFor: "consumed" });
  expect(seen).toEqual([1]);
  expect(await errorOf(emitterOf(light, "stock")("order.created", {}))).toMatchObject({
    type: "RELIABLE_NO_STORE",
    message: expect.stringContaining("'mongo'")
  });
  expect(light.getLocalService("reliable")).toBeFalsy();
  await atBroker(channel => channel.checkQueue(`${made.namespace}.reliable.on.stock/order.created`));
});
