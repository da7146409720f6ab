import type { ServiceSchema } from "moleculer";
import { expect, it, onTestFinished } from "vitest";
import { cluster, until } from "../support/brokers";
import { mongoSet } from "../support/mongo-set";
import { urls } from "../support/servers";

type Emits = { reliableEmit(event: string, payload: object, options: object): Promise<{ id: string }> };

const ELECTIONS = 4;
const AT_ONCE = 20;

it("loses nothing while the members of the set change roles under load", { timeout: 400_000 }, async () => {
  const set = await mongoSet(urls().mongo);
  onTestFinished(() => set.close());
  const { mixin, node } = cluster();
  const mixed = mixin({ mongo: set.url });
  const handled = new Set<number>();
  const stock: ServiceSchema = {
    name: "stock",
    mixins: [mixed],
    events: {
      "order.created": { reliable: true, handler: (ctx: { params: { n: number } }) => void handled.add(ctx.params.n) }
    }
  };
  const consumer = await node("stock-1", [stock]);
  await consumer.waitForServices("reliable");
  const broker = await node("orders-1", [{ name: "orders", mixins: [mixed] }]);
  const orders = broker.getLocalService("orders") as unknown as Emits;

  const promised = new Set<number>();
  const refused = new Set<unknown>();
  let emitted = 0;
  let over = false;
  const load = async () => {
    while (!over) {
      const n = emitted++;
      // A name of one's own: what is not known is emitted again, until it is.
      const emit = () => orders.reliableEmit("order.created", { n }, { id: `order-${n}`, timeoutMs: 10_000 });
      await emit()
        .catch(error => {
          refused.add(error.type);
          return emit();
        })
        .then(() => promised.add(n));
    }
  };
  const loads = Array.from({ length: AT_ONCE }, load);
  for (let i = 0; i < ELECTIONS; i++) {
    const before = promised.size;
    await until(
      () => promised.size,
      size => size >= before + 50,
      30_000
    );
    await set.elect();
  }
  const before = promised.size;
  await until(
    () => promised.size,
    size => size >= before + 50,
    30_000
  );
  over = true;
  await Promise.all(loads);

  expect(set.refused).toBeGreaterThan(0);
  await until(
    () => [...promised].filter(n => !handled.has(n)).length,
    missing => missing === 0,
    60_000
  );
  const stats = () => broker.call<Record<string, number>>("reliable.stats");
  await until(stats, ({ consumed }) => consumed === emitted, 60_000);
  expect([...refused].filter(type => type !== "RELIABLE_OUTCOME_UNKNOWN")).toEqual([]);
});
