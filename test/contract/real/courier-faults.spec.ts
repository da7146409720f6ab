import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { parseAddresses } from "../../../src/couriers/amqp/addresses";
import { AmqpConnection } from "../../../src/couriers/amqp/connection";
import { AmqpCourier, type AmqpCourierOptions } from "../../../src/couriers/amqp/courier";
import { Hosts } from "../../../src/couriers/amqp/hosts";
import { systemClock } from "../../../src/platform/clock";
import {
  collect,
  eventually,
  next,
  outcomes,
  publication,
  type RecordingLogger,
  recordingLogger,
  repairedByHand,
  uniqueName
} from "../../support/couriers";
import { atBroker, closeConnectionsOf, deleteExchange, versionOf } from "../../support/rabbitmq";
import { urls } from "../../support/servers";
import { type TcpProxy, tcpProxy } from "../../support/tcp-proxy";

let namespace: string;
let nodeID: string;
let logger: RecordingLogger;
let proxies: TcpProxy[];
let couriers: AmqpCourier[];
let queues: Set<string>;

beforeEach(() => {
  namespace = uniqueName("fault");
  nodeID = uniqueName("node");
  logger = recordingLogger();
  proxies = [];
  couriers = [];
  queues = new Set();
});

afterEach(async () => {
  for (const proxy of proxies) proxy.release();
  await Promise.all(couriers.map(courier => courier.close(0)));
  await Promise.all(proxies.map(proxy => proxy.close()));
  await atBroker(async channel => {
    for (const queue of queues) await channel.deleteQueue(queue);
    await channel.deleteExchange(`${namespace}.reliable.events`);
  });
  expect(logger.lines.join("\n")).not.toContain("guest:guest");
});

function queue(suffix: string): string {
  const name = `${namespace}.${suffix}`;
  queues.add(name);
  return name;
}

async function proxy(): Promise<TcpProxy> {
  const { hostname, port } = new URL(urls().amqp);
  const made = await tcpProxy({ host: hostname, port: Number(port) });
  proxies.push(made);
  return made;
}

function through({ port }: TcpProxy): string {
  const url = new URL(urls().amqp);
  url.host = `127.0.0.1:${port}`;
  return url.href;
}

function create(urls: string | string[], options: Partial<AmqpCourierOptions> = {}): AmqpCourier {
  const courier = new AmqpCourier({ urls, namespace, nodeID, logger, clock: systemClock, ...options });
  couriers.push(courier);
  return courier;
}

async function started(urls: string | string[], options?: Partial<AmqpCourierOptions>): Promise<AmqpCourier> {
  const courier = create(urls, options);
  await courier.start();
  return courier;
}

describe("lost connections", () => {
  test("a reset makes in flight unknown, then both directions come back", async () => {
    const net = await proxy();
    const courier = await started(through(net));
    const { until, deliveries } = await collect(courier, { name: queue("q"), bindings: ["a"] });
    await courier.publish(publication({ event: "a" }, "m1"));
    await until(1);
    net.hold();
    const inFlight = courier.publish(publication({ event: "a" }, "m2"));
    const down = next(courier, "down");
    net.reset();
    await down;
    expect(await inFlight).toEqual({ outcome: "unknown", reason: expect.stringContaining("connection lost") });
    expect((await courier.publish(publication({ event: "a" }))).reason).toContain("not sent");
    await eventually(() => !courier.status().consume.connected);
    expect(deliveries[0].ack()).toBe(false);
    net.release();
    await next(courier, "ready");
    expect((await courier.publish(publication({ event: "a" }, "m3"))).outcome).toBe("confirmed");
    await eventually(() => deliveries.some(({ messageId }) => messageId === "m3"));
    const again = deliveries.find(({ messageId, epoch }) => messageId === "m1" && epoch > deliveries[0].epoch);
    expect(again?.redelivered).toBe(true);
    expect(deliveries[0].ack()).toBe(false);
    expect(again?.ack()).toBe(true);
    expect(courier.status()).toMatchObject({
      reconnects: 2,
      publish: { connected: true },
      consume: { connected: true }
    });
  });

  test("a consumption that takes nothing takes nothing after it either, until it is told to", async () => {
    const net = await proxy();
    const courier = await started(through(net));
    const { consumption, until, deliveries } = await collect(courier, { name: queue("q") }, { prefetch: 10 });
    consumption.limit(0);
    for (let n = 0; n < 3; n++) await courier.publish(publication({ queue: queue("q") }));
    const [down, ready] = [next(courier, "down"), next(courier, "ready")];
    net.reset();
    await down;
    await ready;
    await eventually(async () => JSON.stringify(await courier.depth(queue("q"))) === '{"ready":3,"consumers":0}');
    await eventually(() => courier.status().reconnects === 2 && consumption.active);
    expect(courier.status().idle).toEqual([]);
    consumption.limit(1);
    await until(1);
    await eventually(async () => JSON.stringify(await courier.depth(queue("q"))) === '{"ready":2,"consumers":1}');
    expect(deliveries).toHaveLength(1);
  });

  test("closed by the broker", async () => {
    const courier = await started(urls().amqp);
    const { until } = await collect(courier, { name: queue("q") }, { ack: true });
    const ready = next(courier, "ready");
    expect(await closeConnectionsOf(nodeID)).toBe(3);
    await ready;
    expect((await courier.publish(publication({ queue: queue("q") }, "m1"))).outcome).toBe("confirmed");
    expect((await until(1))[0].messageId).toBe("m1");
  });

  test("10 000 publishes over a network that resets again and again: no id is missing", async () => {
    const net = await proxy();
    const courier = await started(through(net), { window: 200 });
    const received = new Set<string | undefined>();
    await collect(
      courier,
      { name: queue("q"), bindings: ["a"] },
      { prefetch: 200, ack: true, onDelivery: ({ messageId }) => void received.add(messageId) }
    );
    const ids = new Set(Array.from({ length: 10_000 }, (_, i) => `m${i}`));
    const open = new Set(ids);
    let resets = 0;
    let unknown = 0;
    // What the sweeper does: whatever was not confirmed goes again under its own id.
    while (open.size > 0) {
      if (!courier.ready) await next(courier, "ready");
      const batch = [...open].slice(0, 1_000);
      const results = batch.map(async id => ({ id, ...(await courier.publish(publication({ event: "a" }, id))) }));
      if (resets < 5) {
        await results[100];
        resets++;
        net.reset();
      }
      for (const { id, outcome } of await Promise.all(results)) {
        if (outcome === "confirmed") open.delete(id);
        else if (outcome === "unknown") unknown++;
        else throw new Error(`${id} ${outcome}`);
      }
    }
    await eventually(() => received.size === ids.size);
    expect(new Set([...ids].filter(id => !received.has(id)))).toEqual(new Set());
    expect(unknown).toBeGreaterThan(0);
  });

  test("a black hole is noticed by the heartbeat", async () => {
    const net = await proxy();
    const courier = await started(through(net), { heartbeatS: 1 });
    await courier.declare({ name: queue("q") });
    const down = next(courier, "down");
    net.hold();
    const inFlight = courier.publish(publication({ queue: queue("q") }));
    await down;
    expect((await inFlight).outcome).toBe("unknown");
    const ready = next(courier, "ready");
    net.release();
    await ready;
    expect((await courier.publish(publication({ queue: queue("q") }))).outcome).toBe("confirmed");
  });

  test("queues declared while the broker is away are there when it comes back; one that mismatches is told and keeps nobody", async () => {
    const net = await proxy();
    const courier = await started(through(net));
    await courier.declare({ name: queue("changed"), bindings: ["a"] });
    const errors: Error[] = [];
    courier.on("error", error => void errors.push(error));
    const down = next(courier, "down");
    await net.down();
    await down;
    await atBroker(async channel => {
      await channel.deleteQueue(queue("changed"));
      await channel.assertQueue(queue("changed"), { durable: true, arguments: { "x-queue-type": "classic" } });
    });
    await courier.declare({ name: queue("new"), bindings: ["b"] });
    const ready = next(courier, "ready");
    await net.up();
    await ready;
    expect((await courier.publish(publication({ event: "b" }))).outcome).toBe("confirmed");
    expect(errors).toContainEqual(
      expect.objectContaining({ type: "RELIABLE_QUEUE_MISMATCH", message: expect.stringContaining(queue("changed")) })
    );
  });
});

describe("starting", () => {
  test.each([
    [
      "a wrong password",
      "RELIABLE_ACCESS_REFUSED",
      (url: URL) => (url.password = "s3cret"),
      /refused user or password/
    ],
    ["a wrong user", "RELIABLE_ACCESS_REFUSED", (url: URL) => (url.username = "s3cret"), /refused user or password/],
    ["a wrong vhost", "RELIABLE_ACCESS_REFUSED", (url: URL) => (url.pathname = "/nowhere"), /vhost/]
  ])("%s rejects, in plain words", async (_, type, change, text) => {
    const url = new URL(urls().amqp);
    change(url);
    const thrown = await create(url.href)
      .start()
      .catch((error: unknown) => error as Error);
    expect(thrown).toMatchObject({ type, message: expect.stringMatching(text) });
    expect(JSON.stringify(thrown) + (thrown as Error).message + logger.lines.join()).not.toContain("s3cret");
  });

  test("a RabbitMQ that is too old is named", async () => {
    const net = await proxy();
    const version = await versionOf();
    const old = "3.9.".padEnd(version.length, "9");
    net.replace(version, old);
    await expect(create(through(net)).start()).rejects.toMatchObject({
      type: "RELIABLE_WRONG_VERSION",
      message: expect.stringContaining(`is ${old}; 3.10 is the oldest`),
      data: { option: "amqp", version: old }
    });
  });

  test.each([
    ["nothing", ""],
    ["no scheme", "user:s3cret@host"],
    ["another scheme", "http://user:s3cret@host"],
    ["a slash in the password", "amqp://user:s3c/ret@host"],
    ["a broken percent", "amqp://user:s3cret%@host"],
    ["one bad among good ones", ["amqp://localhost", "user:s3cret@host"]]
  ])("an address with %s is a bad option", (_, given) => {
    const thrown = (() => {
      try {
        return create(given);
      } catch (error) {
        return error;
      }
    })();
    expect(thrown).toMatchObject({ type: "RELIABLE_BAD_OPTION", message: expect.stringContaining("amqp://") });
    expect((thrown as Error).message).not.toContain("s3c");
  });

  test("an unreachable broker is waited for, and told once", async () => {
    const net = await proxy();
    await net.down();
    const courier = await started(through(net));
    expect([courier.ready, courier.status().publish]).toEqual([
      false,
      { connected: false, address: undefined, since: undefined, lastError: expect.stringContaining("ECONNREFUSED") }
    ]);
    const { until } = await collect(courier, { name: queue("q"), bindings: ["a"] });
    const ready = next(courier, "ready");
    // Two more rounds fail at least.
    await eventually(() => logger.lines.filter(line => line.startsWith("debug RabbitMQ publish")).length >= 2);
    await net.up();
    await ready;
    expect(logger.lines.filter(line => line.startsWith("warn RabbitMQ publish")).length).toBe(1);
    expect((await courier.publish(publication({ event: "a" }, "m1"))).outcome).toBe("confirmed");
    expect((await until(1))[0].messageId).toBe("m1");
  });

  test("a host that accepts and says nothing does not hold the start for ever", async () => {
    const net = await proxy();
    net.hold();
    const courier = await started(through(net), { socket: { timeout: 200 } });
    expect(courier.status().publish.lastError).toContain("ETIMEDOUT");
    net.release();
    await next(courier, "ready");
  });

  test("closing while it connects or cannot connect ends at once", async () => {
    const [dead, hole] = [await proxy(), await proxy()];
    await dead.down();
    hole.hold();
    const waiting = await started(through(dead));
    const connecting = create(through(hole));
    const starting = connecting.start();
    await eventually(() => hole.accepted === 3);
    const before = performance.now();
    await Promise.all([waiting.close(30_000), connecting.close(30_000)]);
    await starting;
    expect(performance.now() - before).toBeLessThan(20_000);
  });

  test("closing while it opens its channels ends with a handshake, and nothing of that is told", async () => {
    let closed: Promise<void> | undefined;
    let failure: unknown;
    const connection = new AmqpConnection({
      purpose: "publish",
      hosts: new Hosts(parseAddresses(urls().amqp, 10), nodeID),
      ...{ nodeID, logger, clock: systemClock },
      onUp: async model => {
        closed = connection.close();
        await model.createChannel().catch(thrown => {
          failure = thrown;
          throw thrown;
        });
      },
      onDown: reason => expect(reason).toBe("connection closed"),
      onBlocked: () => undefined,
      onFailure: error => expect.unreachable(error.message)
    });
    await connection.start();
    await closed;
    expect(failure).toMatchObject({ message: expect.stringMatching(/closing/i) });
    expect(logger.lines).toEqual([]);
  });

  test("several hosts: the next one is taken when one is down, has other passwords, or goes away", async () => {
    const [a, b] = [await proxy(), await proxy()];
    const wrong = new URL(through(a));
    wrong.password = "wrong";
    await b.down();
    const courier = await started(`${through(b)}; ${wrong.href},${through(a)}`);
    await courier.declare({ name: queue("q") });
    expect(courier.status().publish.address).toBe(`127.0.0.1:${a.port}`);
    await b.up();
    const ready = next(courier, "ready");
    await a.down();
    await ready;
    expect(courier.status().publish.address).toBe(`127.0.0.1:${b.port}`);
    expect((await courier.publish(publication({ queue: queue("q") }))).outcome).toBe("confirmed");
  });

  test("an exchange of another kind in our place is a mismatch", async () => {
    await atBroker(channel => channel.assertExchange(`${namespace}.reliable.events`, "fanout", { durable: true }));
    await expect(create(urls().amqp).start()).rejects.toMatchObject({
      type: "RELIABLE_QUEUE_MISMATCH",
      message: expect.stringContaining(`${namespace}.reliable.events`)
    });
  });
});

describe("at the broker", () => {
  test("a deleted exchange costs what is in flight; channel, exchange and bindings come back on the same connection", async () => {
    const courier = await started(urls().amqp);
    await courier.declare({ name: queue("q"), bindings: ["a"] });
    await atBroker(channel => channel.deleteExchange(`${namespace}.reliable.events`));
    const ready = next(courier, "ready");
    expect(await courier.publish(publication({ event: "a" }))).toEqual({
      outcome: "unknown",
      reason: expect.stringContaining("404")
    });
    await ready;
    expect((await courier.publish(publication({ event: "a" }))).outcome).toBe("confirmed");
    expect(courier.status().reconnects).toBe(0);
  });

  test("a queue deleted under its consumer is made anew, without a ghost of the old consumer", async () => {
    const courier = await started(urls().amqp);
    const { until, deliveries } = await collect(courier, { name: queue("q"), bindings: ["a"] });
    await courier.publish(publication({ event: "a" }, "m1"));
    await until(1);
    await atBroker(channel => channel.deleteQueue(queue("q")));
    await eventually(async () => (await courier.depth(queue("q")))?.consumers === 1);
    expect(deliveries[0].ack()).toBe(false);
    const ids = Array.from({ length: 50 }, (_, i) => `n${i}`);
    expect(outcomes(await Promise.all(ids.map(id => courier.publish(publication({ event: "a" }, id)))))).toEqual({
      confirmed: 50
    });
    await until(51);
    expect(deliveries.slice(1).map(({ messageId }) => messageId)).toEqual(ids);
    expect(deliveries.slice(1).every(delivery => delivery.ack())).toBe(true);
  });

  test("closing a consumer in peace does not count against the delivery limit, since RabbitMQ 4.3", async () => {
    const version = await atBroker(async channel => channel.connection.serverProperties.version);
    const [major, minor] = version.split(".").map(Number);
    const spec = { name: queue("q"), deliveryLimit: 1, deadLetterTo: queue("parked") };
    const courier = await started(urls().amqp);
    await courier.declare({ name: spec.deadLetterTo });
    await courier.declare(spec);
    await courier.publish(publication({ queue: spec.name }));
    const lives = major > 4 || (major === 4 && minor >= 3) ? 4 : 2;
    for (let life = 0; life < lives; life++) {
      const { until, consumption } = await collect(courier, spec);
      await until(1);
      await consumption.close();
    }
    await eventually(async () => (await courier.depth(lives === 4 ? spec.name : spec.deadLetterTo))?.ready === 1);
  });

  test("a deleted delay bucket is found out and made anew", async () => {
    const courier = await started(urls().amqp);
    const { until } = await collect(courier, { name: queue("q") });
    const bucket = queue("q.delay.200");
    expect((await courier.publish(publication({ queue: queue("q"), delayMs: 200 }, "m1"))).outcome).toBe("confirmed");
    await until(1);
    await atBroker(channel => channel.deleteQueue(bucket));
    expect((await courier.publish(publication({ queue: queue("q"), delayMs: 200 }, "m2"))).outcome).toBe("returned");
    expect((await courier.publish(publication({ queue: queue("q"), delayMs: 200 }, "m3"))).outcome).toBe("confirmed");
    expect((await until(2))[1].messageId).toBe("m3");
  });

  test("a classic queue in our place is a mismatch that says what to do", async () => {
    await atBroker(channel =>
      channel.assertQueue(queue("q"), { durable: true, arguments: { "x-queue-type": "classic" } })
    );
    const courier = await started(urls().amqp);
    await expect(courier.declare({ name: queue("q") })).rejects.toMatchObject({
      type: "RELIABLE_QUEUE_MISMATCH",
      message: expect.stringMatching(/x-queue-type.*classic.*shovel.*delete it, start, .*; or rename the group/s),
      data: { queue: queue("q") }
    });
  });

  test("a full queue nacks", async () => {
    await atBroker(channel =>
      channel.assertQueue(queue("full"), {
        durable: true,
        arguments: { "x-max-length": 1, "x-overflow": "reject-publish" }
      })
    );
    const courier = await started(urls().amqp);
    const results = [];
    for (let i = 0; i < 5; i++) results.push(await courier.publish(publication({ queue: queue("full") })));
    expect(results).toContainEqual({ outcome: "nacked", reason: expect.any(String) });
  });

  test("a body beyond the broker's limit is refused and harms no other", async () => {
    const courier = await started(urls().amqp);
    await courier.declare({ name: queue("q") });
    const results = await Promise.all([
      courier.publish(publication({ queue: queue("q") })),
      courier.publish(publication({ queue: queue("q") }, "huge", Buffer.alloc(16 * 1024 * 1024 + 1))),
      courier.publish(publication({ queue: queue("q") }))
    ]);
    expect(results.map(({ outcome }) => outcome)).toEqual(["confirmed", "refused", "confirmed"]);
  });
});

describe("a broker that does not answer", () => {
  test("no confirm in time is unknown, and its connection goes, with that of the consumers", async () => {
    const net = await proxy();
    const courier = await started(through(net), { confirmTimeoutMs: 2000, heartbeatS: 60 });
    await courier.declare({ name: queue("q") });
    net.hold();
    const results = await Promise.all(
      Array.from({ length: 20 }, () => courier.publish(publication({ queue: queue("q") })))
    );
    expect(outcomes(results)).toEqual({ unknown: 20 });
    expect(results[0].reason).toContain("no confirm within 2000 ms");
    expect([courier.status().inFlight, courier.ready]).toEqual([0, false]);
    const ready = next(courier, "ready");
    net.release();
    await ready;
    expect((await courier.publish(publication({ queue: queue("q") }))).outcome).toBe("confirmed");
    await eventually(() => courier.status().reconnects === 2);
  });

  test("what is in flight and waiting is bounded, and drains in order", async () => {
    const net = await proxy();
    const courier = await started(through(net), { window: 100, heartbeatS: 60 });
    await courier.declare({ name: queue("q") });
    net.hold();
    const ids = Array.from({ length: 20_200 }, (_, i) => `m${i}`);
    const results = ids.map(id => courier.publish(publication({ queue: queue("q") }, id)));
    expect([courier.status().inFlight, courier.writable]).toEqual([100, false]);
    expect(await results[20_199]).toEqual({
      outcome: "unknown",
      reason: expect.stringContaining("too many"),
      sent: false
    });
    net.release();
    expect(outcomes(await Promise.all(results))).toEqual({ confirmed: 20_100, unknown: 100 });
    expect(courier.writable).toBe(true);
    const collected = await collect(courier, { name: queue("q") }, { ack: true });
    await collected.until(20_100);
    expect(collected.ids()).toEqual(ids.slice(0, 20_100));
  });

  test("large bodies are bounded by bytes", async () => {
    const net = await proxy();
    const courier = await started(through(net), { heartbeatS: 60 });
    await courier.declare({ name: queue("q") });
    net.hold();
    const body = Buffer.alloc(1024 * 1024);
    const results = Array.from({ length: 92 }, (_, i) =>
      courier.publish(publication({ queue: queue("q") }, `m${i}`, body))
    );
    expect([courier.status().inFlight, courier.writable]).toEqual([16, false]);
    net.release();
    expect(outcomes(await Promise.all(results))).toEqual({ confirmed: 80, unknown: 12 });
  });

  test("closing does not wait for it", async () => {
    const net = await proxy();
    const courier = await started(through(net), { heartbeatS: 60 });
    const { consumption } = await collect(courier, { name: queue("q") });
    net.hold();
    const inFlight = courier.publish(publication({ queue: queue("q") }));
    const before = performance.now();
    await courier.close(100);
    expect(performance.now() - before).toBeLessThan(20_000);
    expect((await inFlight).outcome).toBe("unknown");
    await consumption.close();
  });
});

describe("what somebody deletes at the broker", () => {
  test("a binding and the exchange come back, and so does the traffic", async () => {
    const { clock, repair } = repairedByHand();
    const consuming = await started(urls().amqp, { clock });
    const publishing = await started(urls().amqp);
    const { until } = await collect(consuming, { name: queue("q"), bindings: ["a"] });
    const taken = () =>
      eventually(async () => {
        repair();
        return (await publishing.publish(publication({ event: "a" }))).outcome === "confirmed";
      });
    await atBroker(channel => channel.unbindQueue(`${namespace}.q`, `${namespace}.reliable.events`, "a"));
    await taken();
    await until(1);
    await deleteExchange(`${namespace}.reliable.events`);
    await taken();
    await until(2);
  });
});
