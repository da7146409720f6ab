import type { ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import { delayQueueName } from "../../src/couriers/amqp/topology";
import { systemQueues } from "../../src/wire/names";
import { cluster, until } from "../support/brokers";
import { atBroker } from "../support/rabbitmq";
import { courierOf, foreignGroup, rowOf, sendReceipt } from "../support/runtime";
import { consumer, emitter, emitterOf, reaches, subscribed } from "../support/services";
import { AMQP_ONLY, asked, countingResends, echoOf, localsOf, makeDue } from "../support/strategies";

/** The groups are known to the store, and nobody is there to read receipts and checks until `home` comes again. */
async function parts(ladder: number[], { consuming = true, more = [] as object[] } = {}) {
  const made = cluster();
  const attempts: number[] = [];
  const home = (nodeID: string) => made.node(nodeID, [emitter(made.mixin(), `of-${nodeID}`)]);
  const consume = (nodeID: string) =>
    made.node(nodeID, [
      consumer(made.mixin(AMQP_ONLY), "stock", "order.created", ctx => void attempts.push(localsOf(ctx).attempt))
    ]);
  const counting = countingResends();
  const first = await home("home-1");
  const stock = await consume("stock-1");
  const shop = await made.node(
    "shop",
    [
      emitter(
        made.mixin({ ...AMQP_ONLY, strategy: "callback", checkDelaysMs: ladder, sources: ["asked.happened"] }),
        "shop"
      ),
      ...more
    ],
    { middlewares: [counting.middleware] }
  );
  await subscribed(first, 1);
  if (!consuming) await stock.stop();
  const queues = systemQueues(made.namespace);
  return {
    made,
    first,
    home,
    consume,
    attempts,
    emit: emitterOf(shop, "shop"),
    shop,
    asked: counting.asked,
    queues,
    ladder
  };
}

/** Loses what waits in a queue, once something does. */
async function lose(broker: ServiceBroker, queue: string): Promise<void> {
  await until(
    () => courierOf(broker).depth(queue),
    depth => (depth?.ready ?? 0) > 0
  );
  expect(await atBroker(channel => channel.purgeQueue(queue))).toEqual({ messageCount: 1 });
}

it("the receipt lost: the check finds none, the producer sends again, and the second receipt counts", async () => {
  const { first, home, attempts, emit, shop, asked, queues } = await parts([400, 800]);
  await first.stop();
  const { id } = await emit("order.created", { n: 1 });
  await lose(shop, queues.callbackReceipts);
  expect(attempts).toEqual([1]);
  const second = await home("home-2");
  expect(await reaches(second, id, "consumed")).toMatchObject({ attempts: 2 });
  // The group has no store, so no inbox either: it handles it twice.
  expect(attempts).toEqual([1, 2]);
  expect(asked).toEqual([id]);
  expect((await rowOf(second, id)).failures).toMatchObject([{ cause: "silence", group: "stock", attempt: 1 }]);
});

it("the message lost in its queue: the check has the producer send it again", async () => {
  const { first, consume, attempts, emit, asked } = await parts([1500, 3000], { consuming: false });
  const { id } = await emit("order.created", { n: 1 });
  await lose(first, `${first.namespace}.reliable.on.stock/order.created`);
  await consume("stock-2");
  expect(await reaches(first, id, "consumed")).toMatchObject({ attempts: 2, payload: { n: 1 } });
  expect(attempts).toEqual([2]);
  expect(asked).toEqual([id]);
});

it("the check lost, after the receipt: it is consumed all the same", async () => {
  const { first, emit, shop, queues, asked } = await parts([20_000]);
  const { id } = await emit("order.created", { n: 1 });
  await lose(shop, delayQueueName(queues.checks, 20_000));
  expect(await reaches(first, id, "consumed")).toMatchObject({ attempts: 1 });
  expect(asked).toEqual([]);
});

it("the check lost, and one group silent: the sweeper finishes it by the source", async () => {
  const { first, emit, shop, queues } = await parts([20_000, 30_000], { more: [asked(params => params)] });
  const far = await foreignGroup(first, "far", "order.created");
  const { id } = await emit("order.created", { n: 7 }, { source: { action: "asked.happened", params: { n: 7 } } });
  await lose(shop, delayQueueName(queues.checks, 20_000));
  await until(async () => (await rowOf(first, id).catch(() => undefined))?.receipts["stock"]);
  await makeDue(first, id);
  const [, again] = await until(
    () => far.deliveries,
    deliveries => deliveries.length === 2
  );
  expect(JSON.parse(String(again?.body))).toEqual({ n: 7 });
  await sendReceipt(first, "far", { id, attempt: 2, echo: echoOf(again as never) });
  await reaches(first, id, "consumed");
});

it("the check lost, one group silent, and no source: dead with that reason, since nobody has the payload any more", async () => {
  const { first, emit, shop, queues } = await parts([20_000, 30_000]);
  await foreignGroup(first, "far", "order.created");
  const { id } = await emit("order.created", { n: 7 });
  await lose(shop, delayQueueName(queues.checks, 20_000));
  await until(async () => (await rowOf(first, id).catch(() => undefined))?.receipts["stock"]);
  await makeDue(first, id);
  expect((await reaches(first, id, "dead")).reason).toMatch(
    /^source in group far at attempt 2: neither a payload nor a source is known/
  );
});

it("the second check lost: the sweeper goes on with the round", async () => {
  const { first, emit, shop, queues } = await parts([300, 20_000, 30_000]);
  const far = await foreignGroup(first, "far", "order.created");
  const { id } = await emit("order.created", { n: 7 });
  await until(
    () => far.deliveries.length,
    count => count === 2
  );
  await lose(shop, delayQueueName(queues.checks, 20_000));
  await until(
    () => rowOf(first, id),
    ({ claim, round }) => claim === undefined && round === 2
  );
  await makeDue(first, id);
  // Silence burns an attempt, and the next round goes out at once.
  const [, , third] = await until(
    () => far.deliveries,
    deliveries => deliveries.length === 3
  );
  expect(third?.headers["x-reliable-attempt"]).toBe(3);
  await sendReceipt(first, "far", { id, attempt: 3 });
  await reaches(first, id, "consumed");
});
