import { expect, it, vi } from "vitest";
import { Redeliveries } from "../../src/consumer/redeliveries";
import { cluster, until } from "../support/brokers";
import { uniqueName } from "../support/couriers";
import { proxied } from "../support/proxied";
import { closeConnectionsOf } from "../support/rabbitmq";
import { storeOf } from "../support/runtime";
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
