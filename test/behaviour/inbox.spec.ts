import type { Context, ServiceBroker } from "moleculer";
import { type ClientSession, MongoClient } from "mongodb";
import { describe, expect, it, onTestFinished } from "vitest";
import type { ReliableLocals } from "../../mixins/reliable-context";
import type { Message } from "../../src/message/message";
import { headersOf } from "../../src/wire/envelope";
import { prefixOf, systemQueues } from "../../src/wire/names";
import { backend, cluster, until } from "../support/brokers";
import { startNode } from "../support/child";
import { messageOf } from "../support/messages";
import { courierOf, rowOf, runtimeOf, storeOf } from "../support/runtime";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, errorOf, reaches, subscribed } from "../support/services";
import type { StockNode } from "../support/stock-node";

const localsOf = (ctx: Context<never>) => (ctx.locals as { reliable: ReliableLocals }).reliable;

/** Sends the very envelope again, as a broker's redelivery or a compensation resend would. */
async function publishAgain(broker: ServiceBroker, message: Message, attempt = 1): Promise<void> {
  const { _id: messageId, event: type, body, producer: appId } = message;
  const headers = headersOf(message, attempt, [], systemQueues(broker.namespace).receipts);
  expect(await courierOf(broker).publish({ to: { event: type }, messageId, type, body, headers, appId })).toEqual({
    outcome: "confirmed"
  });
}

const duplicatesOn = async (broker: ServiceBroker) =>
  (await broker.call<{ node: Record<string, number> }, object>("reliable.stats", {})).node["duplicates"] ?? 0;

/** Stored, and in nobody's hands yet. */
async function stored(broker: ServiceBroker, fields: Partial<Message> = {}): Promise<Message> {
  const message = messageOf({ dueAt: new Date(Date.now() + 3_600_000), createdAt: new Date(), ...fields });
  await storeOf(broker).messages.insert([message]);
  return message;
}

it("answers a duplicate again without handling it again", async () => {
  const made = cluster();
  const handled: string[] = [];
  const broker = await made.node("node-1", [
    emitter(made.mixin()),
    consumer(made.mixin(), "stock", "order.created", ctx => void handled.push(localsOf(ctx).id))
  ]);
  await subscribed(broker, 1);
  const { id } = await emitterOf(broker)("order.created", { n: 1 }, { waitFor: "consumed" });
  const row = await rowOf(broker, id);
  await publishAgain(broker, row);
  await publishAgain(broker, row, 2);
  await until(
    () => duplicatesOn(broker),
    count => count === 2
  );
  expect(handled).toEqual([id]);
  // Answered: a message that had lost its receipt would be consumed by the answer to a duplicate.
  const lost = await stored(broker, { _id: `${id}-lost` });
  await storeOf(broker).inbox.add("stock", [lost._id], new Date());
  await publishAgain(broker, lost);
  await reaches(broker, lost._id, "consumed");
  expect(handled).toEqual([id]);
});

it("handles concurrent duplicates in one process once", async () => {
  const made = cluster();
  const handled: string[] = [];
  let release: () => void = () => undefined;
  const held = new Promise<void>(resolve => (release = resolve));
  const broker = await made.node("node-1", [
    emitter(made.mixin()),
    consumer(made.mixin({ maxInFlight: 10 }), "stock", "order.created", ctx => {
      handled.push(localsOf(ctx).id);
      return held;
    })
  ]);
  await subscribed(broker, 1);
  const message = await stored(broker);
  for (let n = 0; n < 5; n++) await publishAgain(broker, message);
  // All five are in the consumer's hands.
  await until(() => [...runtimeOf(broker).consumers].every(({ held }) => held === 5));
  expect(handled).toEqual([message._id]);
  release();
  await reaches(broker, message._id, "consumed");
  await until(
    () => duplicatesOn(broker),
    count => count === 4
  );
  expect(handled).toEqual([message._id]);
});

it("a copy that failed does not stand in the way of the next", async () => {
  const made = cluster();
  const seen: number[] = [];
  const handler = (ctx: Context<never>) => {
    seen.push(localsOf(ctx).attempt);
    if (localsOf(ctx).attempt === 1) throw new Error("first");
  };
  const broker = await made.node("node-1", [
    emitter(made.mixin()),
    consumer(made.mixin(), "stock", "order.created", handler)
  ]);
  await subscribed(broker, 1);
  const message = await stored(broker);
  await Promise.all([publishAgain(broker, message, 1), publishAgain(broker, message, 2)]);
  await reaches(broker, message._id, "consumed");
  expect(seen).toEqual([1, 2]);
});

it("inbox: false handles every copy", async () => {
  const made = cluster();
  const handled: string[] = [];
  const broker = await made.node("node-1", [
    emitter(made.mixin()),
    consumer(made.mixin({ inbox: false }), "stock", "order.created", ctx => void handled.push(localsOf(ctx).id))
  ]);
  await subscribed(broker, 1);
  const { id } = await emitterOf(broker)("order.created", {}, { waitFor: "consumed" });
  await publishAgain(broker, await rowOf(broker, id));
  await until(
    () => handled.length,
    count => count === 2
  );
  expect((await rowOf(broker, id)).status).toBe("consumed");
});

if (backend === "embedded") {
  it('inbox: "transaction" needs MongoDB, and says so at start', async () => {
    const made = cluster();
    const error = await errorOf(
      made.node("node-1", [consumer(made.mixin({ inbox: "transaction" }), "stock", "order.created", () => undefined)])
    );
    expect(error).toMatchObject({
      type: "RELIABLE_BAD_CONSUMER",
      data: { option: "inbox", event: "order.created", group: "stock" }
    });
    expect(error.message).toMatch(/inbox: "transaction".*needs MongoDB/);
  });
} else {
  it("a consumer killed between its handler and the ack: delivered again, not handled twice", async () => {
    const made = cluster();
    const broker = await made.node("survivor", [emitter(made.mixin())]);
    const node: StockNode = {
      namespace: made.namespace,
      nodeID: "victim",
      options: made.options({ sweeper: false }),
      event: "order.created",
      holdAcks: true
    };
    const victim = await startNode("test/support/stock-node.ts", { env: { NODE: JSON.stringify(node) } });
    await victim.next("started");
    await subscribed(broker, 1);
    const { id } = await emitterOf(broker)("order.created", { n: 1 }, { waitFor: "confirmed" });
    expect(await victim.next("handled")).toBe(id);
    await reaches(broker, id, "consumed");
    await victim.kill("SIGKILL");

    const again: string[] = [];
    const heir = await made.node("heir", [
      consumer(made.mixin(), "stock", "order.created", ctx => void again.push(localsOf(ctx).id))
    ]);
    await until(
      () => duplicatesOn(heir),
      count => count === 1
    );
    expect(again).toEqual([]);
    expect((await rowOf(broker, id)).receipts["stock"]).toMatchObject({ nodeID: "victim", attempt: 1 });
  });

  describe('inbox: "transaction"', () => {
    /** A node whose handler writes an order in the inbox's transaction, and then does what the test wants. */
    async function transactional(then: (ctx: Context<never>) => void) {
      const made = cluster();
      const client = await new MongoClient(urls().mongo).connect();
      onTestFinished(() => client.close());
      const orders = client
        .db("reliable_test")
        .collection<{ _id: string; attempt: number }>(`${prefixOf(made.namespace)}.orders`);
      await orders.insertOne({ _id: "first", attempt: 0 });
      const handler = async (ctx: Context<never>) => {
        const { id, attempt, session } = localsOf(ctx);
        await orders.insertOne({ _id: `${id} at ${attempt}`, attempt }, { session: session as ClientSession });
        then(ctx);
      };
      const mixin = made.mixin({ mongo: client, inbox: "transaction" });
      const broker = await made.node("node-1", [emitter(mixin), consumer(mixin, "stock", "order.created", handler)]);
      await subscribed(broker, 1);
      const found = async () => (await orders.find({ attempt: { $gt: 0 } }).toArray()).map(({ _id }) => _id);
      return { broker, emit: emitterOf(broker), found };
    }

    it("commits the handler's writes with the inbox row, and runs nothing for a duplicate", async () => {
      let runs = 0;
      const { broker, emit, found } = await transactional(() => void runs++);
      const { id } = await emit("order.created", { n: 1 }, { waitFor: "consumed" });
      expect(await found()).toEqual([`${id} at 1`]);
      expect(await storeOf(broker).inbox.handled("stock", [id])).toEqual(new Set([id]));
      await publishAgain(broker, await rowOf(broker, id), 2);
      await until(
        () => duplicatesOn(broker),
        count => count === 1
      );
      expect([runs, await found()]).toEqual([1, [`${id} at 1`]]);
    });

    it("leaves nothing of a handler that throws", async () => {
      const { broker, emit, found } = await transactional(ctx => {
        if (localsOf(ctx).attempt < 3) throw new Error("not yet");
      });
      const { id } = await emit("order.created", {}, { maxAttempts: 2 });
      await reaches(broker, id, "dead");
      expect(await found()).toEqual([]);
      expect(await storeOf(broker).inbox.handled("stock", [id])).toEqual(new Set());
      expect((await rowOf(broker, id)).failures.map(({ cause, error }) => [cause, error.message])).toEqual(
        [1, 2].map(() => ["handler", "not yet"])
      );
      await broker.call("reliable.retry", { id });
      await reaches(broker, id, "consumed");
      expect(await found()).toEqual([`${id} at 3`]);
    });
  });
}
