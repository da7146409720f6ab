import type { Context } from "moleculer";
import { expect, it } from "vitest";
import { cluster, until } from "../support/brokers";

it("leads an event through every step to consumed, once per group", async () => {
  const { node, mixin } = cluster();
  const seen: string[] = [];
  const handler = (name: string) => ({
    name,
    mixins: [mixin()],
    events: {
      "order.created": {
        reliable: true,
        handler: (ctx: Context<{ n: number }>) => void seen.push(`${name}:${ctx.params.n}`)
      }
    }
  });
  const consumers = await node("consumers", [handler("stock"), handler("mail")]);
  const producers = await node("producers", [
    {
      name: "orders",
      mixins: [mixin()],
      actions: {
        create(this: { reliableEmit(e: string, p: unknown, o: object): unknown }, ctx: Context<object>) {
          return this.reliableEmit("order.created", ctx.params, { ctx, waitFor: "consumed" });
        }
      }
    }
  ]);
  await until(
    () => consumers.call<object[], object>("reliable.subscriptions", {}),
    rows => rows.length === 2
  );

  const emitted = await producers.call<{ id: string; status: string }, object>("orders.create", { n: 1 });
  expect(emitted.status).toBe("consumed");
  expect(seen.sort()).toEqual(["mail:1", "stock:1"]);
  const story = await producers.call<{ status: string; timeline: { what: string }[] }, object>("reliable.get", {
    id: emitted.id
  });
  expect(story.status).toBe("consumed");
  expect(story.timeline.map(entry => entry.what.split(" ")[0])).toEqual(
    expect.arrayContaining(["stored", "handled", "consumed:"])
  );
});
