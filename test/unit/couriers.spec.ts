import { describe, expect, test } from "vitest";
import { parseAddresses } from "../../src/couriers/amqp/addresses";
import { delayQueueDeclaration, delayStepMs, eventsExchange, queueDeclaration } from "../../src/couriers/amqp/topology";
import { MemoryCourier, type MemoryCourierOptions } from "../../src/couriers/memory/courier";
import { systemClock } from "../../src/platform/clock";
import { collect, outcomes, publication, recordingLogger, uniqueName } from "../support/couriers";

describe("AMQP topology", () => {
  test.each([
    ["", "reliable.events"],
    ["shop", "shop.reliable.events"]
  ])("namespace %j has exchange %s", (namespace, name) => {
    expect(eventsExchange(namespace)).toEqual({ name, type: "topic" });
  });

  test("a plain queue is quorum and never drops: a finite limit that is never reached", () => {
    expect(queueDeclaration({ name: "q", bindings: ["a.*"] })).toEqual({
      name: "q",
      bindings: ["a.*"],
      arguments: { "x-queue-type": "quorum", "x-delivery-limit": 2_147_483_647 }
    });
    expect(queueDeclaration({ name: "q", deliveryLimit: 3 }).arguments["x-delivery-limit"]).toBe(2_147_483_647);
  });

  test("a queue with deadLetterTo dead-letters at least once", () => {
    const dead = {
      "x-dead-letter-exchange": "",
      "x-dead-letter-routing-key": "parked",
      "x-dead-letter-strategy": "at-least-once",
      "x-overflow": "reject-publish"
    };
    expect(queueDeclaration({ name: "q", deadLetterTo: "parked" }).arguments).toEqual({
      "x-queue-type": "quorum",
      "x-delivery-limit": 20,
      ...dead
    });
    expect(queueDeclaration({ name: "q", deadLetterTo: "parked", deliveryLimit: 3 }).arguments).toEqual({
      "x-queue-type": "quorum",
      "x-delivery-limit": 3,
      ...dead
    });
  });

  test("a delay bucket", () => {
    expect(delayQueueDeclaration("q", 5_000)).toEqual({
      name: "q.delay.5000",
      bindings: [],
      arguments: {
        "x-queue-type": "quorum",
        "x-delivery-limit": 2_147_483_647,
        "x-message-ttl": 5_000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": "q",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish"
      }
    });
  });

  test.each([
    [0.2, 1],
    [7, 7],
    [99.5, 100],
    [101, 110],
    [1_000, 1_000],
    [1_001, 1_100],
    [15_000, 15_000],
    [31_234, 32_000],
    [99_001, 100_000],
    [10_000_000_000, 4_294_967_295]
  ])("a delay of %d ms waits in the bucket of %d ms", (delay, bucket) => {
    expect(delayStepMs(delay)).toBe(bucket);
  });
});

describe("AMQP addresses", () => {
  test.each<[string, string | string[], string[]]>([
    ["one", "amqp://localhost", ["localhost:5672"]],
    ["a list", ["amqp://a:1", "amqps://b"], ["a:1", "b:5671"]],
    ["semicolons", "amqp://a; amqp://b:2/vhost ;amqp://c;", ["a:5672", "b:2", "c:5672"]],
    ["commas", "amqp://u:p@a,amqps://u:p@b", ["a:5672", "b:5671"]],
    ["a comma in the password", "amqp://u:p,q@a", ["a:5672"]]
  ])("%s", (_, given, labels) => {
    expect(parseAddresses(given, 10).map(({ label }) => label)).toEqual(labels);
  });

  test("a heartbeat is added unless the address has one; credentials and vhost stay as they are", () => {
    const [added] = parseAddresses("amqp://us%40er:p%2Fw@host/v%2Fh", 7);
    expect(added.url).toBe("amqp://us%40er:p%2Fw@host/v%2Fh?heartbeat=7");
    expect(parseAddresses("amqp://host?heartbeat=3", 7)[0].url).toBe("amqp://host?heartbeat=3");
  });
});

describe("memory courier", () => {
  const create = (namespace: string, options: Partial<MemoryCourierOptions> = {}) =>
    new MemoryCourier({ namespace, logger: recordingLogger(), clock: systemClock, ...options });

  test("couriers of a namespace share one broker, which goes with the last of them", async () => {
    const namespace = uniqueName();
    const [a, b] = [create(namespace), create(namespace)];
    await Promise.all([a.start(), b.start()]);
    await a.declare({ name: "q" });
    await b.publish(publication({ queue: "q" }));
    await a.close();
    expect(await b.depth("q")).toEqual({ ready: 1, consumers: 0 });
    await Promise.all([b.close(), b.close()]);
    const c = create(namespace);
    await c.start();
    expect(await c.depth("q")).toBeUndefined();
    await c.close();
  });

  test("what the producer does with its objects afterwards does not reach the consumers", async () => {
    const courier = create(uniqueName());
    await courier.start();
    const { until } = await collect(courier, { name: "q" });
    const message = { ...publication({ queue: "q" }, "m1", Buffer.from("before")), headers: { nested: { a: 1 } } };
    const published = courier.publish(message);
    message.body.fill("x");
    message.headers.nested.a = 2;
    await published;
    const [{ body, headers }] = await until(1);
    expect([body.toString(), headers]).toEqual(["before", { nested: { a: 1 } }]);
    await courier.close();
  });

  test("a bound of messages and of bytes: full is not writable and nacks, until something is acked", async () => {
    const courier = create(uniqueName(), { maxMessages: 3, maxBytes: 100 });
    await courier.start();
    await courier.declare({ name: "q" });
    const publish = (bytes: number) => courier.publish(publication({ queue: "q" }, undefined, Buffer.alloc(bytes)));
    expect(outcomes([await publish(1), await publish(1), await publish(1), await publish(1)])).toEqual({
      confirmed: 3,
      nacked: 1
    });
    expect(courier.writable).toBe(false);
    const { until, consumption } = await collect(courier, { name: "q" }, { ack: true });
    await until(3);
    await consumption.close();
    expect(courier.writable).toBe(true);
    expect(outcomes([await publish(100), await publish(1)])).toEqual({ confirmed: 1, nacked: 1 });
    await courier.remove("q");
    expect(courier.writable).toBe(true);
    await courier.close();
  });

  test("closing a consumer in peace does not count against the delivery limit", async () => {
    const courier = create(uniqueName());
    await courier.start();
    const spec = { name: "q", deliveryLimit: 1, deadLetterTo: "parked" };
    await courier.declare(spec);
    await courier.publish(publication({ queue: "q" }));
    for (let life = 0; life < 4; life++) {
      const { until, consumption } = await collect(courier, spec);
      await until(1);
      await consumption.close();
    }
    expect(await courier.depth("q")).toEqual({ ready: 1, consumers: 0 });
    await courier.close();
  });

  test("dead letters wait for their queue to be declared", async () => {
    const courier = create(uniqueName());
    await courier.start();
    const spec = { name: "q", deliveryLimit: 0, deadLetterTo: "parked" };
    await courier.declare(spec);
    await courier.publish(publication({ queue: "q" }, "m1"));
    const namespace = courier["options"].namespace;
    const victim = create(namespace);
    await victim.start();
    await (await collect(victim, spec)).until(1);
    await victim.close();
    const { until } = await collect(courier, { name: "parked" });
    expect((await until(1))[0].messageId).toBe("m1");
    await courier.close();
  });
});
