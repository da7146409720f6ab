import { expect, it, vi } from "vitest";
import { Redeliveries } from "../../src/consumer/redeliveries";
import { notSent, type PublishResult } from "../../src/couriers/courier";
import { cluster, until } from "../support/brokers";
import { uniqueName } from "../support/couriers";
import { proxied } from "../support/proxied";
import { closeConnectionsOf } from "../support/rabbitmq";
import { courierOf, storeOf } from "../support/runtime";
import { consumer, emitter, emitterOf, subscribed } from "../support/services";

it("what a lost connection had in hand is not handled by another node while its record is on the way", async () => {
  const made = cluster();
  const { options, proxies } = await proxied();
  const store = proxies[1];
  const name = uniqueName("first");
  const handled: string[] = [];
  const stock = (mongo: object, node: string, ended = () => {}) =>
    consumer(made.mixin(mongo), "stock", "order.created", () => {
      handled.push(node);
      ended();
    });
  const home = await made.node("home", [emitter(made.mixin())]);
  // What it writes after its handler does not arrive.
  await made.node(name, [stock({ mongo: options.mongo }, "first", () => store?.hold())]);
  await subscribed(home, 1);
  const { id } = await emitterOf(home)("order.created", {});
  await until(() => handled.length);
  const second = await made.node("second", [stock({}, "second")]);
  const waits = vi.spyOn(Redeliveries.prototype, "wait");
  expect(await closeConnectionsOf(name)).toBeGreaterThan(0);
  await until(() => waits.mock.calls.some(([{ redelivered }]) => redelivered));
  store?.release();
  await until(
    async () => (await storeOf(home).messages.find([id]))[0]?.status,
    status => status === "consumed"
  );
  // It looks, if it has not yet.
  await second.stop();
  expect(handled).toEqual(["first"]);
});

it.each<[what: string, answer: PublishResult, ms: number]>([
  ["no answer to a publish, which RabbitMQ may be about to deliver", { outcome: "unknown", reason: "lost" }, 3000],
  ["a publish that has not left the process", notSent("blocked"), 1000],
  ["a publish that RabbitMQ has not taken", { outcome: "nacked", reason: "full" }, 1000]
])("%s: due again after a pause that goes by what may have become of it", async (_, answer, ms) => {
  const made = cluster();
  const broker = await made.node("home", [emitter(made.mixin({ sweeper: false }))]);
  const store = storeOf(broker);
  courierOf(broker).publish = async () => answer;
  const postponed = vi.spyOn(store.messages, "postponed");
  const from = store.now().getTime();
  const { id } = await emitterOf(broker)("order.created", {});
  await until(() => postponed.mock.calls.length);
  const [ids, dueAt] = postponed.mock.calls[0] as [string[], Date];
  expect(ids).toEqual([id]);
  expect(dueAt.getTime() - ms).toBeGreaterThanOrEqual(from);
  expect(dueAt.getTime() - ms).toBeLessThanOrEqual(store.now().getTime());
});
