import type { ServiceBroker } from "moleculer";
import { MongoClient } from "mongodb";
import { expect, it, onTestFinished } from "vitest";
import type { Message } from "../../src/message/message";
import { headersOf } from "../../src/wire/envelope";
import { systemQueues } from "../../src/wire/names";
import { type Cluster, cluster, until } from "../support/brokers";
import { proxied } from "../support/proxied";
import { courierOf, runtimeOf, storeOf } from "../support/runtime";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, subscribed } from "../support/services";
import type { TcpProxy } from "../support/tcp-proxy";

/** Two nodes of group `stock`; who tracked for them has stopped when the group was known. */
async function withoutTrackers(made: Cluster, handler: (node: string, id: string) => void) {
  const home = await made.node("home", [emitter(made.mixin(), "home")]);
  const node = (name: string) =>
    made.node(name, [
      emitter(made.mixin({ service: false })),
      // Moleculer 0.14 looks for the parameter's name.
      consumer(made.mixin({ service: false }), "stock", "order.created", ctx =>
        handler(name, (ctx.locals as { reliable: { id: string } }).reliable.id)
      )
    ]);
  const nodes = [await node("node-1"), await node("node-2")] as [ServiceBroker, ServiceBroker];
  await subscribed(home, 1);
  await home.stop();
  for (const broker of nodes) await runtimeOf(broker).storage?.subscriptions.refresh();
  return nodes;
}

const rowOf = async (broker: ServiceBroker, id: string) => (await storeOf(broker).messages.find([id]))[0] as Message;

const receiptsIn = async (broker: ServiceBroker) =>
  (await courierOf(broker).depth(systemQueues(broker.namespace).receipts))?.ready;

async function copyTo(broker: ServiceBroker, message: Message): Promise<void> {
  const { _id: messageId, event: type, body, producer: appId } = message;
  const store = runtimeOf(broker).storage?.ownStore.id;
  const headers = headersOf(message, 1, ["stock"], systemQueues(broker.namespace).receipts, { store });
  await courierOf(broker).publish({ to: { event: type }, messageId, type, body, headers, appId });
}

it("a consumer writes its receipt where the message lies: without a tracker, a receipt message or an inbox row", async () => {
  const made = cluster();
  const [broker] = await withoutTrackers(made, () => undefined);
  const { id } = await emitterOf(broker)("order.created", { n: 1 });
  const row = await until(
    () => rowOf(broker, id),
    ({ status }) => status === "consumed"
  );
  expect(row).toMatchObject({ waiting: [], receipts: { stock: { attempt: 1 } } });
  expect(await receiptsIn(broker)).toBe(0);
  const client = await new MongoClient(urls().mongo).connect();
  onTestFinished(() => client.close());
  expect(await client.db("reliable_test").collection(`${made.namespace}.reliable.inbox`).countDocuments()).toBe(0);
});

it("a copy that comes when the receipt has just been written, on any node, is recognised though every tracker is stopped", async () => {
  const made = cluster();
  const handled: string[] = [];
  const [one, two] = await withoutTrackers(made, (node, id) => void handled.push(`${node} ${id}`));
  const emit = emitterOf(one);
  const ids = await Promise.all(Array.from({ length: 20 }, async (_, n) => (await emit("order.created", { n })).id));
  // As soon as the row says it; each copy comes to either node.
  await Promise.all(
    ids.map(async id => {
      const row = await until(
        () => rowOf(one, id),
        ({ receipts }) => receipts.stock !== undefined
      );
      await Promise.all([copyTo(two, row), copyTo(two, row)]);
    })
  );
  // Answered by a message, since whoever sends a copy may not know of the receipt.
  await until(async () => (await receiptsIn(one)) !== 0);
  await until(() => [one, two].every(broker => [...runtimeOf(broker).consumers].every(({ held }) => !held)));
  expect(handled.map(text => text.split(" ")[1]).sort()).toEqual(ids.sort());
});

it("a message that lies in another store is answered by a message, and known by an inbox row", async () => {
  const made = cluster();
  const handled: string[] = [];
  const home = await made.node("home", [emitter(made.mixin())]);
  const elsewhere = made.mixin({ service: false, database: "reliable_test_other" });
  const far = await made.node("far", [
    consumer(
      elsewhere,
      "stock",
      "order.created",
      ctx => void handled.push((ctx.locals as { reliable: { id: string } }).reliable.id)
    )
  ]);
  onTestFinished(async () => {
    const client = await new MongoClient(urls().mongo).connect();
    await client.db("reliable_test_other").dropDatabase();
    await client.close();
  });
  await subscribed(home, 1);
  const { id } = await emitterOf(home)("order.created", { n: 1 }, { waitFor: "consumed" });
  expect(handled).toEqual([id]);
  expect(await storeOf(far).inbox.handled("stock", [id])).toEqual(new Set([id]));
});

it("while the store cannot be written the receipt goes as a message, and is not lost", async () => {
  const made = cluster();
  const { proxies, options } = await proxied();
  const proxy = proxies[1] as TcpProxy;
  const home = await made.node("home", [emitter(made.mixin())]);
  const far = await made.node("far", [
    consumer(
      made.mixin({ service: false, mongo: `${options.mongo}&serverSelectionTimeoutMS=200` }),
      "stock",
      "order.created",
      () => proxy.down()
    )
  ]);
  await subscribed(home, 1);
  const { id } = await emitterOf(home)("order.created", { n: 1 });
  const row = await until(
    () => rowOf(home, id),
    ({ status }) => status === "consumed"
  );
  expect(row.receipts.stock).toMatchObject({ nodeID: "far", attempt: 1 });
  await proxy.up();
  expect(runtimeOf(far).running).toBe(true);
});
