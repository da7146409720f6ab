import type { ConfirmChannel } from "amqplib";
import type { ServiceBroker } from "moleculer";
import { describe, expect, it, vi } from "vitest";
import { type AmqpQueueOptions, type QueueChannel, type QueueMessage, ReliableAmqpQueue } from "../../src";
import { RECEIPT_TYPE } from "../../src/wire/receipt";
import { type Cluster, cluster, until } from "../support/brokers";
import {
  type AddJob,
  addJobOf,
  type Handlers,
  jobQueue,
  payloadOf,
  plainMixin,
  plainNode,
  plainUrl,
  queued
} from "../support/queues";
import { atBroker } from "../support/rabbitmq";
import { courierOf, rowOf } from "../support/runtime";
import { urls } from "../support/servers";
import { emitter, errorOf, reaches, serviceOf, story } from "../support/services";
import { tcpProxy } from "../support/tcp-proxy";

const STRATEGIES = ["outbox", "callback"] as const;
const ORDER = [
  ["before", (ours: object) => [ours, plainMixin]],
  ["after", (ours: object) => [plainMixin, ours]],
  ["in place of", (ours: object) => [ours]]
] as const;

function take(queue: string): Promise<QueueMessage | false> {
  return atBroker(channel => channel.get(queue, { noAck: true }) as unknown as Promise<QueueMessage | false>);
}

function depth(queue: string): Promise<number> {
  return atBroker(async channel => (await channel.checkQueue(queue)).messageCount);
}

/** As a plain producer would. */
function send(queue: string, payload: object): Promise<void> {
  return atBroker(channel => {
    channel.sendToQueue(queue, Buffer.from(JSON.stringify(payload)), { persistent: true });
    return (channel as ConfirmChannel).waitForConfirms();
  });
}

/** A node `shop` that adds jobs, and a node `worker` with the mixin whose handler the test gives. */
async function receipts(
  handler: Handlers[string],
  own: object = {},
  options: AmqpQueueOptions = {}
): Promise<{ made: Cluster; queue: string; shop: ServiceBroker; worker: ServiceBroker; add: AddJob }> {
  const made = cluster();
  const queue = jobQueue(made);
  const queues = { [queue]: { settle: "receipt" as const, ...own } };
  const worker = await made.node("worker", [queued(made, "mail", { ...options, queues }, { [queue]: handler })]);
  const shop = await made.node("shop", [queued(made, "orders", { queues })]);
  return { made, queue, shop, worker, add: addJobOf(shop, "orders") };
}

describe("jobs for workers that know nothing of it", () => {
  it.each(STRATEGIES)("are settled by the broker's confirm and handled once (%s)", async strategy => {
    const made = cluster();
    const queue = jobQueue(made);
    const seen: number[] = [];
    await plainNode(made, "old", {
      [queue]: (channel, message) => {
        seen.push(payloadOf(message).n);
        return channel.ack(message);
      }
    });
    const shop = await made.node("shop", [queued(made, "orders", { strategy, checkDelaysMs: [500, 1000] })]);
    const ids = await Promise.all([1, 2, 3].map(async n => (await addJobOf(shop, "orders")(queue, { n })).id));
    for (const id of ids) {
      const { timeline, ...told } = await reaches(shop, id, "consumed");
      expect(told).toMatchObject({ event: queue, queue, settle: "confirm", attempts: 1, waiting: "", strategy });
      expect(timeline.map(({ what }) => what)).toEqual(
        expect.arrayContaining([
          expect.stringContaining(`for queue ${queue}, settled by the broker's confirm`),
          `taken by queue ${queue} (attempt 1): settled by the broker's confirm`
        ])
      );
    }
    await until(() => seen.length === 3);
    expect(seen.toSorted()).toEqual([1, 2, 3]);
    expect(await shop.call("reliable.list", { status: "consumed" })).toMatchObject({ total: 3 });
    expect(await depth(queue)).toBe(0);
  });

  it("have the bytes that moleculer-amqp-queue sends, persistent", async () => {
    const made = cluster();
    const queue = jobQueue(made);
    const old = await plainNode(made, "old");
    const shop = await made.node("shop", [queued(made, "orders")]);
    for (const payload of [
      { to: "a@b.c", text: 'ü\u2028"', at: new Date(0), nothing: undefined, deep: { list: [1, null, 1e21] } },
      "text",
      5,
      null,
      [],
      ""
    ]) {
      await addJobOf(old, "plain")(queue, payload);
      await addJobOf(shop, "orders")(queue, payload, { waitFor: "confirmed" });
      const [theirs, ours] = [await until(() => take(queue)), await until(() => take(queue))] as QueueMessage[];
      expect(ours?.content.equals(theirs?.content as Buffer), JSON.stringify(payload)).toBe(true);
      expect([ours?.properties["deliveryMode"], ours?.fields.exchange, ours?.fields.routingKey]).toEqual([
        2,
        "",
        queue
      ]);
      expect(Object.keys(ours?.properties.headers ?? {})).not.toContain("x-reliable-receipt");
    }
  });

  it("wait in the store while RabbitMQ is away; the queue is made as moleculer-amqp-queue makes it", async () => {
    const made = cluster();
    const queue = jobQueue(made);
    const { hostname, port } = new URL(urls().amqp);
    const net = await tcpProxy({ host: hostname, port: Number(port) });
    const shop = await made.node("shop", [
      queued(made, "orders", { amqp: urls().amqp.replace(/@.*$/, `@127.0.0.1:${net.port}`) })
    ]);
    await net.down();
    const { id, status, groups } = await addJobOf(shop, "orders")(queue, { n: 1 });
    expect({ status, groups }).toEqual({ status: "pending", groups: [`queue-confirm/${queue}`] });
    expect(await story(shop, id)).toMatchObject({ status: "pending", attempts: 0 });
    await net.up();
    await reaches(shop, id, "consumed");
    // It would be refused, were there any other argument.
    await atBroker(channel => channel.assertQueue(queue, { durable: true }));
    expect(await depth(queue)).toBe(1);
    await shop.stop();
    await net.close();
  });

  it("are not done again when only the record of the confirm was lost", async () => {
    const made = cluster();
    const queue = jobQueue(made);
    const shop = await made.node("shop", [queued(made, "orders", { receiptTimeoutMs: 300 })]);
    const courier = courierOf(shop);
    const publish = courier.publish.bind(courier);
    let lost = 0;
    courier.publish = publication =>
      publication.type === RECEIPT_TYPE && ++lost === 1
        ? Promise.resolve({ outcome: "unknown", reason: "lost by the test" })
        : publish(publication);
    const { id } = await addJobOf(shop, "orders")(queue, { n: 1 });
    await until(
      () => rowOf(shop, id),
      ({ publishedAt }) => publishedAt !== undefined
    );
    await reaches(shop, id, "consumed");
    expect([lost, await depth(queue)]).toEqual([2, 1]);
  });

  it("a queue with arguments keeps them, for the producer and for the worker", async () => {
    const made = cluster();
    const queue = jobQueue(made);
    const args = { durable: true, arguments: { "x-max-priority": 5, "x-message-ttl": 600_000, "x-max-length": 1000 } };
    await atBroker(channel => channel.assertQueue(queue, args));
    const seen: number[] = [];
    const node = await made.node("node", [
      queued(
        made,
        "orders",
        {},
        {
          [queue]: (channel, message) => {
            seen.push(payloadOf(message).n);
            return channel.ack(message);
          }
        }
      )
    ]);
    const { id } = await addJobOf(node, "orders")(queue, { n: 1 });
    await reaches(node, id, "consumed");
    await until(() => seen.length === 1);
    await atBroker(channel => channel.assertQueue(queue, args));
    expect(made.logs.filter(line => /PRECONDITION|MISMATCH/.test(line))).toEqual([]);
  });
});

describe("workers with the mixin", () => {
  it.each(ORDER)("the mixin may stand %s moleculer-amqp-queue's", async (_, mixins) => {
    const made = cluster();
    const queue = jobQueue(made);
    const ours = ReliableAmqpQueue({ ...made.options(), queues: { [queue]: { settle: "receipt" } } });
    const seen: unknown[] = [];
    const service = {
      name: "mail",
      mixins: mixins(ours),
      settings: { url: "amqp://nobody:secret@127.0.0.1:1" },
      AMQPQueues: {
        [queue](this: unknown, channel: QueueChannel, message: QueueMessage) {
          seen.push(this, payloadOf(message));
          channel.ack(message);
        }
      }
    };
    const node = await made.node("node", [service]);
    const { id } = await addJobOf(node, "mail")(queue, { n: 7 });
    expect(await reaches(node, id, "consumed")).toMatchObject({ queue, settle: "receipt", handled: `queue/${queue}` });
    expect(seen).toEqual([serviceOf(node, "mail"), { n: 7 }]);
    expect((serviceOf(node, "mail") as unknown as { AMQPConn?: unknown }).AMQPConn ?? null).toBeNull();
    expect(JSON.stringify(await node.call("$node.services", { withActions: false }))).not.toContain("secret");
  });

  const GOOD: [string, Handlers[string]][] = [
    ["in its turn", (channel, message) => channel.ack(message)],
    ["after its promise", (channel, message) => void setImmediate(() => channel.ack(message))],
    ["a copy of the message", (channel, message) => channel.ack({ ...message })]
  ];
  it.each(GOOD)("handled: acks %s", async (_, handler) => {
    const { shop, queue, add } = await receipts(handler);
    const { id } = await add(queue, {}, { waitFor: "consumed" });
    const { timeline } = await story(shop, id);
    expect(timeline.map(({ what }) => what)).toContainEqual(
      expect.stringMatching(/^handled by queue\/.* on node worker in \d+ ms \(attempt 1\)$/)
    );
    expect(await depth(queue)).toBe(0);
  });

  const BAD: [string, Handlers[string], RegExp, number?][] = [
    ["nacks", (channel, message) => channel.nack(message), /answered with a nack\.$/],
    ["rejects", (channel, message) => channel.reject(message), /answered with a nack\.$/],
    [
      "throws",
      () => {
        throw new Error("mail server down");
      },
      /mail server down/
    ],
    [
      "ends in a rejection",
      async () => {
        await new Promise(setImmediate);
        throw new Error("later");
      },
      /later/
    ],
    ["never answers", () => undefined, /did not answer within 200 ms/],
    [
      "uses a channel method that is not there",
      channel => (channel as unknown as { sendToQueue(): void }).sendToQueue(),
      /sendToQueue\(\) is not there/,
      1
    ],
    [
      "answers for a delivery it never got",
      (channel, message) => channel.ack({ ...message, fields: { ...message.fields, deliveryTag: 4711 } }),
      /was not delivered here/,
      1
    ]
  ];
  // A mistake in the code says that it is not retryable.
  it.each(BAD)(
    "failed: %s, is tried again where that can help, dead in the end, and a human's retry finds it",
    async (_, bad, text, tries = 3) => {
      let healthy = false;
      const attempts: unknown[] = [];
      const { shop, queue, add } = await receipts(
        (channel, message) => {
          attempts.push(message.properties.headers?.["x-reliable-attempt"]);
          return healthy ? channel.ack(message) : bad(channel, message);
        },
        { handlerTimeoutMs: 200 }
      );
      const { id } = await add(queue, {});
      const { timeline, reason } = await reaches(shop, id, "dead");
      expect(attempts).toEqual([1, 2, 3].slice(0, tries));
      expect(reason).toMatch(text);
      expect(
        timeline.filter(({ what }) => /^attempt \d failed in queue\/.* on node worker \(handler\)/.test(what))
      ).toHaveLength(tries);
      expect(await depth(queue)).toBe(0);
      healthy = true;
      await shop.call("reliable.retry", { id, note: "mail server is back" });
      await reaches(shop, id, "consumed");
      expect(attempts).toHaveLength(tries + 1);
    }
  );

  it("a nack without requeue is the last word", async () => {
    const { shop, queue, add } = await receipts((channel, message) => channel.nack(message, false, false));
    const { id } = await add(queue, {});
    expect(await reaches(shop, id, "dead")).toMatchObject({
      attempts: 1,
      reason: expect.stringContaining("without requeue")
    });
  });

  it("an answer after handlerTimeoutMs still counts", async () => {
    let late: (() => void) | undefined;
    const { shop, queue, add } = await receipts((channel, message) => void (late ??= () => channel.ack(message)), {
      handlerTimeoutMs: 100
    });
    const { id } = await add(queue, {}, { maxAttempts: 1 });
    await reaches(shop, id, "dead");
    late?.();
    await reaches(shop, id, "consumed");
  });

  it("strategy callback: a failed job is sent again by its producer, and the receipt ends it", async () => {
    const made = cluster();
    const queue = jobQueue(made);
    const options = { queues: { [queue]: { settle: "receipt" as const } }, checkDelaysMs: [500, 1000, 2000] };
    const attempts: unknown[] = [];
    await made.node("worker", [
      queued(made, "mail", options, {
        [queue]: (channel, message) =>
          attempts.push(message.properties.headers?.["x-reliable-attempt"]) === 1
            ? channel.nack(message)
            : channel.ack(message)
      })
    ]);
    // One more ReliableEmit, of a mixin that wants it too, changes nothing.
    const orders = queued(made, "orders", { ...options, strategy: "callback" }) as { mixins: object[] };
    const shop = await made.node("shop", [
      {
        ...orders,
        mixins: [made.mixin({ strategy: "callback", checkDelaysMs: options.checkDelaysMs }), ...orders.mixins]
      }
    ]);
    const { id } = await addJobOf(shop, "orders")(queue, { n: 1 });
    expect(await reaches(shop, id, "consumed")).toMatchObject({ strategy: "callback", queue, settle: "receipt" });
    expect(attempts).toEqual([1, 2]);
  });
});

it("nobody can have a service without the mixin send to any queue", async () => {
  const made = cluster();
  const queue = jobQueue(made);
  const node = await made.node("node", [queued(made, "orders", { strategy: "callback" }), emitter(made.mixin())]);
  const courier = courierOf(node);
  const publish = courier.publish.bind(courier);
  let headers: object = {};
  courier.publish = publication => {
    if (publication.type === queue && "x-reliable-echo" in publication.headers) headers = publication.headers;
    return publish(publication);
  };
  const { id } = await addJobOf(node, "orders")(queue, {});
  const request = {
    id,
    event: queue,
    headers,
    body: Buffer.from("{}").toString("base64"),
    steps: [{ group: `queue/${queue}`, attempt: 2, queue }]
  };
  expect(await node.call("emitter.reliableResend", request)).toMatchObject({
    answer: "sent",
    results: [{ outcome: "returned", reason: expect.stringContaining("is no group's queue") }]
  });
  expect(await node.call("orders.reliableResend", request)).toMatchObject({
    answer: "sent",
    results: [{ outcome: "confirmed" }]
  });
  expect(
    await node.call("orders.reliableResend", {
      ...request,
      steps: [{ group: `queue/${queue}`, attempt: 2, queue: `${made.namespace}.reliable.parked` }]
    })
  ).toMatchObject({ results: [{ outcome: "returned" }] });
});

it("dead jobs are resolved and discarded as any message", async () => {
  const { shop, queue, add } = await receipts((channel, message) => channel.reject(message, false));
  const [first, second] = [(await add(queue, {})).id, (await add(queue, {})).id];
  for (const id of [first, second]) await reaches(shop, id, "dead");
  expect(await shop.call("reliable.list", { status: "dead", group: `queue/${queue}`, event: queue })).toMatchObject({
    total: 2
  });
  await shop.call("reliable.resolve", { id: first, note: "phoned the customer" });
  expect(await story(shop, first)).toMatchObject({ status: "resolved", queue });
  expect(await shop.call("reliable.discard", { id: second, note: "spam" })).toMatchObject({ done: 1 });
  expect(await errorOf(story(shop, second))).toMatchObject({ type: "RELIABLE_NOT_FOUND" });
});

describe("answers that are none", () => {
  it("a second ack throws RELIABLE_BAD_ACK; the first counts, and the next message comes", async () => {
    const errors: unknown[] = [];
    const { made, shop, queue, add } = await receipts((channel, message) => {
      channel.ack(message);
      for (const again of [() => channel.ack(message), () => channel.nack(message)]) {
        try {
          again();
        } catch (error) {
          errors.push((error as { type: string }).type);
        }
      }
      throw new Error("after the answer");
    });
    for (const n of [1, 2]) await reaches(shop, (await add(queue, { n })).id, "consumed");
    expect(errors).toEqual(Array(4).fill("RELIABLE_BAD_ACK"));
    // One line a minute, not one per message.
    expect(made.logs.filter(line => line.includes("after the answer")).length).toBe(1);
    expect(await shop.call("reliable.stats")).toMatchObject({ parkedMessages: 0, dead: 0 });
  });

  it("the ack of another message that is open counts for that one", async () => {
    const held: QueueMessage[] = [];
    const { shop, queue, add } = await receipts(
      (channel, message) => {
        held.push(message);
        if (held.length === 2) for (const each of held.toReversed()) channel.ack(each);
      },
      { maxInFlight: 2 }
    );
    const ids = await Promise.all([1, 2].map(async n => (await add(queue, { n })).id));
    for (const id of ids) await reaches(shop, id, "consumed");
    expect(held).toHaveLength(2);
  });

  it("after the worker has stopped: RELIABLE_BAD_ACK, and the message is delivered again elsewhere", async () => {
    let held: (() => void) | undefined;
    const { made, shop, worker, queue, add } = await receipts(
      (channel, message) => void (held = () => channel.ack(message)),
      {},
      { drainTimeoutMs: 100 }
    );
    const { id } = await add(queue, {});
    await until(() => held);
    await worker.stop();
    const told = vi.spyOn(worker, "broadcastLocal");
    expect(await errorOf(() => held?.())).toMatchObject({
      type: "RELIABLE_BAD_ACK",
      message: expect.stringContaining("is gone")
    });
    await made.node("worker-2", [queued(made, "mail", {}, { [queue]: (channel, message) => channel.ack(message) })]);
    await reaches(shop, id, "consumed");
    // And not that the store is closed, which is no news after a stop.
    expect(
      (told.mock.calls as unknown as [string, { error: { type: string } }][]).map(([, { error }]) => error.type)
    ).toEqual(["RELIABLE_BAD_ACK"]);
  });
});

describe("messages of plain producers", () => {
  it("are acked and nacked as they always were, without receipts", async () => {
    const made = cluster();
    const queue = jobQueue(made);
    const seen: string[] = [];
    const handler = (channel: QueueChannel, message: QueueMessage) => {
      const { n } = payloadOf(message);
      seen.push(`${n}${message.fields.redelivered ? " again" : ""}`);
      if (n === 1 || message.fields.redelivered) return channel.ack(message);
      if (n === 2) return channel.nack(message);
      if (n === 3) return channel.reject(message, false);
      throw new Error("as it happens");
    };
    const worker = await made.node("worker", [queued(made, "mail", {}, { [queue]: handler })]);
    const old = await plainNode(made, "old");
    for (const n of [1, 2, 3, 4]) await addJobOf(old, "plain")(queue, { n });
    await until(() => seen.length >= 6);
    expect(seen.toSorted()).toEqual(["1", "2", "2 again", "3", "4", "4 again"]);
    await until(
      () => depth(queue),
      left => left === 0
    );
    expect(await worker.call("reliable.stats")).toMatchObject({ parkedMessages: 0 });
  });

  it("a refused one goes where its queue sends the refused, and one that is never answered stays", async () => {
    const made = cluster();
    const queue = jobQueue(made);
    const dead = `${queue}.dead`;
    await atBroker(async channel => {
      await channel.assertQueue(dead, { durable: true });
      await channel.assertQueue(queue, {
        durable: true,
        arguments: { "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead }
      });
    });
    const handler = (channel: QueueChannel, message: QueueMessage) =>
      payloadOf(message).n === 1 ? channel.nack(message, false, false) : undefined;
    const worker = await made.node("worker", [
      queued(
        made,
        "mail",
        { drainTimeoutMs: 100, queues: { [queue]: { handlerTimeoutMs: 100 } } },
        { [queue]: handler }
      )
    ]);
    await send(queue, { n: 1 });
    await send(queue, { n: 2 });
    await until(
      () => depth(dead),
      count => count === 1
    );
    await until(() => made.logs.some(line => line.includes("has not answered within 100 ms")));
    await worker.stop();
    await until(
      () => depth(queue),
      count => count === 1
    );
    await atBroker(channel => channel.deleteQueue(dead));
  });

  it("an ack after their connection is gone: RELIABLE_BAD_ACK, and the message comes again", async () => {
    const made = cluster();
    const queue = jobQueue(made);
    const { hostname, port } = new URL(urls().amqp);
    const net = await tcpProxy({ host: hostname, port: Number(port) });
    const held: (() => void)[] = [];
    const worker = await made.node("worker", [
      queued(
        made,
        "mail",
        { amqp: urls().amqp.replace(/@.*$/, `@127.0.0.1:${net.port}`) },
        { [queue]: (channel, message) => void held.push(() => channel.ack(message)) }
      )
    ]);
    await send(queue, {});
    await until(() => held.length === 1);
    net.reset();
    await until(() => held.length === 2);
    expect(await errorOf(() => held[0]?.())).toMatchObject({ type: "RELIABLE_BAD_ACK", retryable: false });
    held[1]?.();
    await until(
      () => depth(queue),
      count => count === 0
    );
    await worker.stop();
    await net.close();
  });
});

describe("bad input", () => {
  it("addAMQPJob: before the start, and what no job can be; nothing is stored", async () => {
    const made = cluster();
    const queue = jobQueue(made);
    const broker = made.broker("node");
    broker.createService(queued(made, "orders") as never);
    const add = addJobOf(broker, "orders");
    expect(await errorOf(add(queue, {}))).toMatchObject({ type: "RELIABLE_NOT_STARTED" });
    await broker.start();
    const circular: Record<string, unknown> = {};
    circular["self"] = circular;
    for (const payload of [undefined, circular, 1n, () => undefined, Symbol("s"), { at: { n: 1n } }])
      expect(await errorOf(add(queue, payload))).toMatchObject({
        type: "RELIABLE_BAD_PAYLOAD",
        message: expect.stringContaining(queue)
      });
    for (const name of ["", undefined, 5, "a*b", "x".repeat(300), "$local", `${made.namespace}.reliable.parked`])
      expect(await errorOf(add(name as string, {}))).toMatchObject({
        type: "RELIABLE_BAD_EVENT",
        message: expect.stringMatching(/^Not a queue for jobs: (name|')/)
      });
    expect(await errorOf(add(queue, {}, { groups: "stock" } as object))).toMatchObject({ type: "RELIABLE_BAD_OPTION" });
    expect(await errorOf(add(queue, {}, { priority: 5 } as object))).toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      message: expect.stringContaining("'priority'")
    });
    expect(await errorOf(add(queue, {}, 5 as never))).toMatchObject({ type: "RELIABLE_BAD_OPTION" });
    expect(
      await errorOf(
        (serviceOf(broker, "orders") as unknown as { getAMQPQueue(name: string): Promise<never> }).getAMQPQueue(queue)
      )
    ).toMatchObject({ type: "RELIABLE_UNSUPPORTED" });
    expect(await broker.call("reliable.list", {})).toMatchObject({ total: 0 });
    expect((await add(queue, { n: 1 }, { waitFor: "confirmed" })).status).toMatch(/published|consumed/);
  });

  it("options and handlers are checked where they are written", async () => {
    const made = cluster();
    const create = (service: object) => errorOf(() => made.broker("node").createService(service as never));
    expect(await errorOf(() => ReliableAmqpQueue({ queues: { a: { setle: "confirm" } as object } }))).toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      message: expect.stringContaining("Did you mean 'settle'?")
    });
    expect(await errorOf(() => ReliableAmqpQueue({ queues: { a: { settle: "never" as "confirm" } } }))).toMatchObject({
      type: "RELIABLE_BAD_OPTION"
    });
    for (const queues of [[], null, { a: true }])
      expect(await errorOf(() => ReliableAmqpQueue({ queues: queues as never }))).toMatchObject({
        type: "RELIABLE_BAD_OPTION"
      });
    expect(await create({ ...queued(made, "mail"), AMQPQueues: { a: "handler" } })).toMatchObject({
      type: "RELIABLE_BAD_CONSUMER",
      message: expect.stringContaining("AMQPQueues['a']")
    });
    expect(await create({ ...queued(made, "mail"), AMQPQueues: "all" })).toMatchObject({
      type: "RELIABLE_BAD_CONSUMER"
    });
    expect(
      await create({ name: "mail", mixins: [{ ...plainMixin, name: "mine" }, ReliableAmqpQueue(made.options())] })
    ).toMatchObject({ type: "RELIABLE_BAD_OPTION", message: expect.stringContaining("as it is") });
    expect(
      await create({
        name: "mail",
        mixins: [plainMixin, ReliableAmqpQueue(made.options())],
        methods: { addAMQPJob() {} }
      })
    ).toMatchObject({ type: "RELIABLE_BAD_OPTION", message: expect.stringContaining("addAMQPJob() of its own") });
  });

  it("without `amqp` the service's own address counts", async () => {
    const made = cluster();
    const queue = jobQueue(made);
    const { amqp: _, ...options } = made.options();
    const node = await made.node("node", [
      { name: "orders", mixins: [plainMixin, ReliableAmqpQueue(options)], settings: { url: plainUrl() } }
    ]);
    await reaches(node, (await addJobOf(node, "orders")(queue, {})).id, "consumed");
    expect(await depth(queue)).toBe(1);
  });
});
