import type { ServiceBroker } from "moleculer";
import { expect, it, onTestFinished, vi } from "vitest";
import type { Publication } from "../../src/couriers/courier";
import { HEADER } from "../../src/wire/envelope";
import { cluster, until } from "../support/brokers";
import { proxied } from "../support/proxied";
import { courierOf, foreignGroup } from "../support/runtime";
import { emitter, emitterOf } from "../support/services";
import type { TcpProxy } from "../support/tcp-proxy";

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

/** What a node publishes into the checks' queue. */
function checksOf(broker: ServiceBroker): Publication[] {
  const courier = courierOf(broker);
  const publish = courier.publish.bind(courier);
  const seen: Publication[] = [];
  const spy = vi.spyOn(courier, "publish").mockImplementation(publication => {
    const { to } = publication;
    if ("queue" in to && to.queue.endsWith(".checks")) seen.push(publication);
    return publish(publication);
  });
  onTestFinished(() => spy.mockRestore());
  return seen;
}

it("a confirm that is lost: every emit whose check was in the message is told that it is not known", {
  timeout: 400_000
}, async () => {
  const { proxies, options } = await proxied();
  const proxy = proxies[0] as TcpProxy;
  const { amqp } = options;
  const made = cluster();
  const home = await made.node("home", [emitter(made.mixin())]);
  const shop = await made.node("shop", [
    emitter(made.mixin({ amqp, service: false, strategy: "callback", checkDelaysMs: [60_000] }), "shop")
  ]);
  await foreignGroup(home, "far", "order.created");
  const emit = emitterOf(shop, "shop");
  await emit("order.created", { first: true });
  const sent = checksOf(shop);
  proxy.hold();
  const ends = numbers(40).map(n =>
    emit("order.created", { n }).then(
      () => "promised",
      (error: { type: string }) => error.type
    )
  );
  await until(() => sent.length > 0);
  proxy.reset();
  expect(new Set(await Promise.all(ends))).toEqual(new Set(["RELIABLE_OUTCOME_UNKNOWN"]));
  expect(sent.map(({ headers }) => headers[HEADER.count])).toEqual([40]);
});
