import { expect, it } from "vitest";
import { parseAnnouncement } from "../../src/wire/announcement";
import { parseReceipts } from "../../src/wire/receipt";
import { cluster } from "../support/brokers";
import { storeOf } from "../support/runtime";
import { consumer, emitter, emitterOf, errorOf, story, subscribed } from "../support/services";

it("two namespaces on the same servers never meet", async () => {
  const sides = await Promise.all(
    ["left", "right"].map(async side => {
      const made = cluster();
      const seen: unknown[] = [];
      // Same node, service, group, event and ids on both sides.
      const broker = await made.node("node-1", [
        emitter(made.mixin()),
        consumer(made.mixin(), "stock", "order.created", ctx => void seen.push(ctx.params))
      ]);
      return { side, made, broker, seen };
    })
  );
  await Promise.all(sides.map(({ broker }) => subscribed(broker, 1)));
  await Promise.all(
    sides.flatMap(({ side, broker }) =>
      [1, 2, 3].map(n => emitterOf(broker)("order.created", { side, n }, { id: `order-${n}`, waitFor: "consumed" }))
    )
  );
  for (const { side, seen, broker } of sides) {
    expect(seen.sort((a, b) => (a as { n: number }).n - (b as { n: number }).n)).toEqual(
      [1, 2, 3].map(n => ({ side, n }))
    );
    const { messages } = storeOf(broker);
    const ids = (await messages.list({}, 10)).rows.map(({ _id }) => _id);
    expect(
      (await messages.find(ids)).map(({ body }) => (JSON.parse(body.toString()) as { side: string }).side)
    ).toEqual([side, side, side]);
  }

  const [left, right] = sides.map(({ broker }) => broker);
  if (!left || !right) throw new Error("unreachable");
  // What an operator does on one side does nothing on the other.
  await emitterOf(left)(
    "left.only",
    {},
    { id: "only", groups: "nobody", unroutableMs: 0, maxAttempts: 1, waitFor: "consumed" }
  ).catch(() => undefined);
  expect((await story(left, "only")).status).toBe("dead");
  expect(await errorOf(story(right, "only"))).toMatchObject({ type: "RELIABLE_NOT_FOUND" });
  expect(await errorOf(right.call("reliable.discard", { id: "only", note: "x" }))).toMatchObject({
    type: "RELIABLE_NOT_FOUND"
  });
  expect(await right.call("reliable.retry", { status: "dead" })).toMatchObject({ matched: 0 });
  expect(await errorOf(right.call("reliable.forget", { group: "nobody", note: "x" }))).toMatchObject({
    type: "RELIABLE_NOT_FOUND"
  });
  expect((await storeOf(left).subscriptions.list()).length).toBe(1);
  expect((await story(left, "only")).status).toBe("dead");
  const leases = await Promise.all(
    [left, right].map(broker => broker.call<{ ok: boolean; sweeping: string }, object>("reliable.health", {}))
  );
  expect(leases.map(({ ok, sweeping }) => [ok, ["held", "unlocked"].includes(sweeping)])).toEqual([
    [true, true],
    [true, true]
  ]);
});

it.each([
  ["with a line end", (namespace: string) => `${namespace}\n`],
  ["with half a character", (namespace: string) => `${namespace}\ud83d`]
])("a namespace %s ends the start with an error that names it", async (_, named) => {
  const made = cluster();
  const error = await errorOf(made.node("node-1", [emitter(made.mixin())], { namespace: named(made.namespace) }));
  expect(error).toMatchObject({ type: "RELIABLE_BAD_OPTION", data: { option: "namespace" } });
});

it.each(["constructor", "__proto__", "toString"])("no group has the name %s, which every object has", async group => {
  const made = cluster();
  const handler = consumer(made.mixin(), "stock", "order.created", () => undefined, { group });
  expect(await errorOf(() => made.broker("node-1").createService(handler))).toMatchObject({
    type: "RELIABLE_BAD_CONSUMER",
    message: expect.stringContaining(`'${group}'`)
  });
  const announcement = { v: 1, pattern: "order.created", group, queue: "q", nodeID: "n", service: "s" };
  expect(() => parseAnnouncement(Buffer.from(JSON.stringify(announcement)), "reliable")).toThrow("group");
  const receipt = { v: 1, group, nodeID: "n", items: [] };
  expect(() => parseReceipts(Buffer.from(JSON.stringify(receipt)))).toThrow("which is none");
});

it("a handler whose queue's name would be too long with the namespace is refused where its service is made", async () => {
  const made = cluster();
  const handler = consumer(made.mixin(), "stock", "p".repeat(120), () => undefined, { group: "g".repeat(60) });
  const creation = (bytes: number) => made.broker("node-1", { namespace: "n".repeat(bytes) }).createService(handler);
  creation(61);
  expect(await errorOf(() => creation(62))).toMatchObject({
    type: "RELIABLE_BAD_CONSUMER",
    message: expect.stringContaining("256 bytes")
  });
});
