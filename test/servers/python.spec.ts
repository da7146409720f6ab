import { expect, inject, it, onTestFinished } from "vitest";
import { queueDeclaration } from "../../src/couriers/amqp/topology";
import { systemQueue } from "../../src/couriers/courier";
import { systemQueues } from "../../src/wire/names";
import { type Cluster, cluster, until } from "../support/brokers";
import { capture } from "../support/capture";
import { startNode } from "../support/child";
import { python, startPython } from "../support/python";
import { atBroker } from "../support/rabbitmq";
import { asDocument, faults, type SchemaName } from "../support/schemas";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, oneNode, reaches, story, subscribed } from "../support/services";
import { tcpProxy } from "../support/tcp-proxy";

const DELAYS_MS = [300, 600];

function envOf({ namespace }: Cluster, amqp = urls().amqp): Record<string, string> {
  return { AMQP_URL: amqp, NAMESPACE: namespace, CHECK_DELAYS_MS: DELAYS_MS.join() };
}

/** Its queues of delays are not known to the cluster's cleaning unless a service names them. */
function made(): Cluster {
  const cluster_ = cluster();
  cluster_.options({ checkDelaysMs: DELAYS_MS });
  return cluster_;
}

it("examples/python: both directions, both strategies, killed in the middle on either side, and nothing is lost", {
  timeout: 400_000
}, async () => {
  const { amqp, mongo, redis } = inject("servers");
  const node = await startNode("examples/python/run.js", {
    env: { AMQP_URL: amqp, MONGO_URL: mongo, REDIS_URL: redis, PYTHON: python() }
  });
  const { code } = await node.exited;
  expect(node.output).toMatch(
    /order-2, from orders: consumed[\s\S]*emitted by orders for invoices[\s\S]*attempt 1 failed in invoices on node python-.*RuntimeError: the printer is out of paper[\s\S]*handled by invoices on node python-.*attempt 2[\s\S]*consumed/
  );
  expect(node.output).toMatch(
    /order-3, from orders: dead[\s\S]*dead in invoices: handler in group invoices at attempt 1: an order needs a number/
  );
  expect(node.output).toMatch(
    /printing the invoice of order 4[\s\S]*printing the invoice of order 4[\s\S]*printed the invoice of order 4[\s\S]*order-4, from orders: consumed/
  );
  expect(node.output).toMatch(/order 1 is paid \(attempt 1\)[\s\S]*payment-1, from billing: consumed/);
  expect(node.output).toMatch(
    /ended with SIGKILL[\s\S]*order 2 is paid \(attempt 2\)[\s\S]*payment-2, from billing: consumed/
  );
  expect(node.output).toMatch(/printed the invoice of order 5[\s\S]*consumer.py ended with 0/);
  expect(node.output).toContain("Nothing was lost.");
  expect(code).toBe(0);
});

it("all that the two scripts send is as the schemas say", async () => {
  const world = made();
  const { namespace } = world;
  const system = systemQueues(namespace);
  const queue = `${namespace}.reliable.on.invoices/order.created`;
  onTestFinished(async () => void (await atBroker(channel => channel.deleteQueue(queue))));
  await atBroker(async channel => {
    for (const name of Object.values(system))
      await channel.assertQueue(name, {
        durable: true,
        arguments: queueDeclaration(systemQueue(name, system)).arguments
      });
  });
  const consuming = startPython(["consumer.py"], envOf(world));
  await consuming.says("consuming");
  const seen = await capture(namespace, Object.values(system));
  for (const payload of [{ order: 1 }, { order: 2, fails: 9 }, { nothing: "ü€😀" }]) {
    const producing = startPython(["producer.py", "order.created", JSON.stringify(payload)], envOf(world));
    expect(await producing.ended).toBe(0);
  }
  await atBroker(async channel => {
    channel.sendToQueue(queue, Buffer.from([0, 255]));
    await (channel as typeof channel & { waitForConfirms(): Promise<void> }).waitForConfirms();
  });
  const from = (name: string) => seen.filter(({ routingKey }) => routingKey === name);
  await until(
    () =>
      from(system.announcements).length >= 1 &&
      from(system.callbackReceipts).length === 3 &&
      from(system.checks).length === 3 &&
      from(system.parked).length === 1
  );
  const events = seen.filter(({ exchange }) => exchange === `${namespace}.reliable.events`);
  const all: [SchemaName, typeof seen][] = [
    ["announcement", from(system.announcements)],
    ["receipt", from(system.callbackReceipts)],
    ["check", from(system.checks)],
    ["envelope", events]
  ];
  for (const [name, messages] of all) {
    for (const message of messages) {
      const document = asDocument(message);
      expect(faults(name, name === "envelope" || name === "check" ? document : document["body"]), name).toEqual([]);
      expect(message).toMatchObject({
        messageId: expect.any(String),
        deliveryMode: 2,
        contentType: "application/json"
      });
    }
  }
  expect(events).toHaveLength(3);
  const items = from(system.callbackReceipts).flatMap(
    ({ body }) => (JSON.parse(body.toString()) as { items: { outcome: string; retryable?: boolean }[] }).items
  );
  expect(items.map(({ outcome, retryable }) => `${outcome} ${retryable}`).toSorted()).toEqual([
    "failed false",
    "failed true",
    "handled undefined"
  ]);
  expect(from(system.parked)[0]?.body).toEqual(Buffer.from([0, 255]));
  consuming.kill("SIGTERM");
  expect(await consuming.ended).toBe(0);
});

it("with a signing key that is required both scripts sign what they send, and an unsigned event is rejected", async () => {
  const world = made();
  const key = "the-key-of-this-test-the-key-of-this-test";
  const signed = { signingKey: key, signing: "require" } as const;
  const seen: unknown[] = [];
  const broker = await world.node("node-1", [
    emitter(world.mixin(signed)),
    consumer(world.mixin(signed), "bills", "order.paid", ctx => void seen.push(ctx.params))
  ]);
  const consuming = startPython(["consumer.py"], { ...envOf(world), SIGNING_KEY: key });
  await subscribed(broker, 2);
  const { id } = await emitterOf(broker)("order.created", { order: 1 }, { waitFor: "consumed", timeoutMs: 10_000 });
  expect((await reaches(broker, id, "consumed")).handled).toBe("invoices");
  const producing = startPython(["producer.py", "order.paid", '{"order":1}', "paid-1"], {
    ...envOf(world),
    SIGNING_KEY: key
  });
  expect(await producing.ended).toBe(0);
  await reaches(broker, "paid-1", "consumed");
  expect(seen).toEqual([{ order: 1 }]);
  const rows = () => broker.call<{ rows: { reason: string }[] }, object>("reliable.parked", {}).then(page => page.rows);
  expect(await rows()).toEqual([]);
  await atBroker(async channel => {
    const queue = `${world.namespace}.reliable.on.invoices/order.created`;
    channel.sendToQueue(queue, Buffer.from("{}"), { messageId: "forged", type: "order.created" });
    await (channel as typeof channel & { waitForConfirms(): Promise<void> }).waitForConfirms();
  });
  await until(async () => (await rows()).length === 1);
  consuming.kill("SIGTERM");
  expect(await consuming.ended).toBe(0);
});

it("consumer.py rejects what breaks the contract before it handles it, and handles the good one behind", async () => {
  const world = made();
  const { broker, emit } = await oneNode(world, []);
  const consuming = startPython(["consumer.py"], envOf(world));
  await subscribed(broker, 1);
  const { namespace } = world;
  const good = {
    "x-reliable-version": 1,
    "x-reliable-attempt": 1,
    "x-reliable-producer": "elsewhere",
    "x-reliable-receipt": systemQueues(namespace).receipts
  };
  const bad: [what: string, headers: Record<string, unknown>, body?: string][] = [
    ["no producer, with an echo", { "x-reliable-producer": undefined, "x-reliable-echo": "{}" }],
    ["no producer", { "x-reliable-producer": undefined }],
    ["groups that are a number", { "x-reliable-only": 5 }],
    ["an echo that is a number", { "x-reliable-echo": 5 }],
    ["meta that is a list", { "x-reliable-meta": "[]" }],
    ["meta nested too deeply", { "x-reliable-meta": "[".repeat(50_000) }],
    ["a trace that is a number", { "x-reliable-tracing": 1 }],
    ["an attempt that is none", { "x-reliable-attempt": 0 }],
    ["a version that is true", { "x-reliable-version": true }],
    ["nested too deeply", {}, `{"order":${"[".repeat(100_000)}${"]".repeat(100_000)}}`],
    ["no number", {}, '{"order":NaN}'],
    ["packed headers that are a list", { "x-reliable": "[]" }],
    ["packed headers nested too deeply", { "x-reliable": "[".repeat(50_000) }],
    ["packed headers with a number that is none", { "x-reliable": '{"level":NaN}' }],
    ["packed headers that are a number", { "x-reliable": 5 }],
    ["a receipt for a queue that is not there", { "x-reliable-receipt": `${namespace}.reliable.receipts.nowhere` }],
    ["a receipt for a queue that is none of receipts", { "x-reliable-receipt": systemQueues(namespace).announcements }]
  ];
  await atBroker(async channel => {
    for (const [what, headers, body = '{"order":666}'] of bad) {
      const given = Object.fromEntries(
        Object.entries({ ...good, ...headers }).filter(([, value]) => value !== undefined)
      );
      channel.publish(`${namespace}.reliable.events`, "order.created", Buffer.from(body), {
        messageId: what,
        type: "order.created",
        headers: given
      });
    }
    await (channel as typeof channel & { waitForConfirms(): Promise<void> }).waitForConfirms();
  });
  expect(await reaches(broker, (await emit("order.created", { order: 1 })).id, "consumed")).toMatchObject({
    attempts: 1
  });
  const { rows } = await until(
    () => broker.call<{ rows: { id: string; reason: string }[] }, object>("reliable.parked", { pageSize: 100 }),
    ({ rows }) => rows.length === bad.length
  );
  expect(bad.filter(([what]) => !rows.some(({ id }) => id.includes(`/${what}#`)))).toEqual([]);
  for (const { reason } of rows) expect(reason).toMatch(/its consumer rejected it/);
  expect(consuming.output).not.toContain("order 666");
  expect(consuming.output).not.toContain("lost RabbitMQ");
  consuming.kill("SIGTERM");
  expect(await consuming.ended).toBe(0);
});

it("what RabbitMQ cannot route is no success: producer.py says so, and the message does not disappear", async () => {
  const world = made();
  const { broker } = await oneNode(world, []);
  const producing = startPython(["producer.py", "nobody.listens", "{}", "id-1"], envOf(world));
  expect(await producing.ended).toBe(1);
  expect(producing.output).toContain("OutcomeUnknown: the message id-1: UnroutableError");
  const { reason } = await until(
    () => reaches(broker, "id-1", "pending"),
    seen => seen.reason !== undefined
  );
  expect(reason).toMatch(/^unroutable since .*no group is known for 'nobody\.listens'/);
});

it("emitted again with its id it is handled once, and with another payload it is parked", async () => {
  const world = made();
  let handled = 0;
  const { broker } = await oneNode(world, [
    // What is not kept cannot be told from another.
    consumer(world.mixin({ keepCallbackBodies: true }), "orders", "invoice.paid", () => void handled++)
  ]);
  await subscribed(broker, 1);
  for (const payload of ['{"order":1}', '{"order":1}', '{"order":2}'])
    expect(await startPython(["producer.py", "invoice.paid", payload, "payment-1"], envOf(world)).ended).toBe(0);
  await reaches(broker, "payment-1", "consumed");
  const { rows } = await until(
    () => broker.call<{ rows: { reason: string }[] }, object>("reliable.parked", {}),
    ({ rows }) => rows.length > 0
  );
  expect(rows[0]?.reason).toMatch(/id 'payment-1' was emitted before with another event or payload/);
  expect(handled).toBe(1);
  expect(await story(broker, "payment-1")).toMatchObject({
    payload: { order: 1 },
    producer: "billing",
    strategy: "callback"
  });
});

it("consumer.py comes back when its connection is lost, and what it was about to answer is answered", async () => {
  const world = made();
  const { broker, emit } = await oneNode(world, []);
  const { hostname: host, port } = new URL(urls().amqp);
  const proxy = await tcpProxy({ host, port: Number(port) });
  onTestFinished(() => proxy.close());
  const consuming = startPython(["consumer.py"], envOf(world, urls().amqp.replace(`:${port}`, `:${proxy.port}`)));
  await subscribed(broker, 1);
  const { id } = await emit("order.created", { order: 1, takesMs: 300 });
  await consuming.says("printing the invoice of order 1");
  proxy.reset();
  await consuming.says("lost RabbitMQ");
  expect(await reaches(broker, id, "consumed")).toMatchObject({ handled: "invoices", waiting: "" });
  expect((await reaches(broker, (await emit("order.created", { order: 2 })).id, "consumed")).attempts).toBe(1);
});

it("messages with an order key reach it one after the other, a retry before the next one, without a pause between them", async () => {
  const world = made();
  const { broker, emit } = await oneNode(world, []);
  const consuming = startPython(["consumer.py"], envOf(world));
  await subscribed(broker, 1);
  const numbers = Array.from({ length: 8 }, (_, n) => n + 1);
  const options = { orderKey: "customer-7", backoff: { initialMs: 50, jitter: "none" as const } };
  const emitted = await Promise.all(
    numbers.map(order => emit("order.created", { order, fails: order === 3 ? 1 : 0 }, options))
  );
  // Without its key in the receipts each would wait for the look at its lane.
  for (const { id } of emitted) await reaches(broker, id, "consumed");
  const printed = [...consuming.output.matchAll(/printed the invoice of order (\d+)/g)].map(([, order]) =>
    Number(order)
  );
  expect(printed).toEqual(numbers);
  consuming.kill("SIGTERM");
  await consuming.ended;
});
