import type { Context } from "moleculer";
import { expect, it } from "vitest";
import { cluster, until } from "../support/brokers";

type Orders = {
  reliableEmit(event: string, payload: unknown, options?: object): Promise<{ id: string; status: string }>;
};

it("an emit that knows no group yet waits for all that turn out to be there, the failing one too", async () => {
  const { node, mixin } = cluster();
  let mails = 0;
  const mail = () => {
    if (++mails < 3) throw new Error("not yet");
  };
  const events = (handler: () => void) => ({ "order.created": { reliable: true, handler } });
  // This node reads its groups once, before there are any, and not again.
  const producers = await node("producers", [
    { name: "orders", mixins: [mixin({ refreshMs: 3_600_000, service: false })] }
  ]);
  const consumers = await node("consumers", [
    { name: "stock", mixins: [mixin()], events: events(() => undefined) },
    { name: "mail", mixins: [mixin()], events: events(mail) }
  ]);
  await until(
    () => consumers.call<object[], object>("reliable.subscriptions", {}),
    rows => rows.length === 2
  );
  const orders = producers.getLocalService("orders") as unknown as Orders;
  const { id, status } = await orders.reliableEmit("order.created", { n: 1 }, { waitFor: "consumed" });
  expect(status).toBe("consumed");
  expect(mails).toBe(3);
  expect(await consumers.call<object, object>("reliable.get", { id } satisfies Context["params"])).toMatchObject({
    status: "consumed",
    waiting: ""
  });
});
