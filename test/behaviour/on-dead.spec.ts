import type { Service, ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import type { DeadNews, ReliableOptions } from "../../src";
import { cluster, until } from "../support/brokers";
import { consumer, emitterOf, errorOf, oneNode, reaches, subscribed } from "../support/services";

const failing = () => {
  throw Object.assign(new Error("mailbox unknown"), { retryable: false });
};

/** Errors in the background, as a node tells them. */
function errorsOf(broker: ServiceBroker): { error: Error; module: string }[] {
  const told: { error: Error; module: string }[] = [];
  broker.localBus.on("$reliable.error", (data: { error: Error; module: string }) => told.push(data));
  return told;
}

const shop = (mixin: object, version?: number) => ({ name: "shop", ...(version && { version }), mixins: [mixin] });

it("is called once per group and message, on one instance of the producer, wherever the death was written", async () => {
  const made = cluster();
  const news: (DeadNews & { on: string })[] = [];
  const options: ReliableOptions = {
    onDead(this: Service, message: DeadNews) {
      news.push({ ...message, on: this.broker.nodeID });
    }
  };
  const brokers = [];
  // A producer on two nodes, neither of which writes deaths down.
  for (const nodeID of ["shop-1", "shop-2"])
    brokers.push(await made.node(nodeID, [shop(made.mixin({ ...options, service: false }), 2)]));
  const keeper = await made.node("keeper", [
    consumer(made.mixin(), "mail", "order.created", failing),
    consumer(made.mixin(), "stock", "order.created", failing)
  ]);
  await subscribed(keeper, 2);
  const [first] = brokers as [ServiceBroker];
  const { id } = await emitterOf(first, "v2.shop")("order.created", { order: 1 }, { groups: ["mail", "stock"] });
  await until(() => news.length === 2);
  await reaches(keeper, id, "dead");
  expect(news.map(({ group }) => group).toSorted()).toEqual(["mail", "stock"]);
  expect(news[0]).toMatchObject({
    id,
    event: "order.created",
    cause: "handler",
    reason: expect.stringContaining("mailbox unknown"),
    on: expect.stringMatching(/^shop-/)
  });
  expect(new Date(news[0]?.diedAt as string) >= new Date(news[0]?.createdAt as string)).toBe(true);
});

it("tells when the hook fails, and changes nothing", async () => {
  const made = cluster();
  const onDead = async () => Promise.reject(new Error("the pager is down"));
  const { broker } = await oneNode(made, [
    shop(made.mixin({ onDead })),
    consumer(made.mixin(), "mail", "order.created", failing)
  ]);
  const told = errorsOf(broker);
  await subscribed(broker, 1);
  const { id } = await emitterOf(broker, "shop")("order.created", {});
  await until(() => told.some(({ module }) => module === "onDead"));
  expect(told).toMatchObject([{ module: "onDead", error: { message: "the pager is down" } }]);
  expect(made.logs.some(line => line.includes(`the hook has failed for ${id}`))).toBe(true);
  expect((await reaches(broker, id, "dead")).failed).toBe("mail");
});

it("is not called for what others have emitted, nor for what died before", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "mail", "order.created", failing)]);
  await subscribed(broker, 1);
  const first = await emit("order.created", {});
  await reaches(broker, first.id, "dead");
  const news: DeadNews[] = [];
  const late = broker.createService(shop(made.mixin({ onDead: message => void news.push(message) })) as never);
  await broker.waitForServices([late.name]);
  await emit("order.created", {});
  const own = await emitterOf(broker, "shop")("order.created", {});
  await until(() => news.length);
  expect(news.map(({ id }) => id)).toEqual([own.id]);
});

it("takes nothing but news of a death", async () => {
  const made = cluster();
  const { broker } = await oneNode(made, [shop(made.mixin({ onDead: () => undefined }))]);
  expect(await errorOf(broker.call("shop.reliableDead", { id: "x", anything: true }))).toMatchObject({
    type: "VALIDATION_ERROR"
  });
  expect(await errorOf(broker.call("emitter.reliableDead", {}))).toMatchObject({ type: "SERVICE_NOT_FOUND" });
});
