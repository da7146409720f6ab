import { expect, it, vi } from "vitest";
import type { EmitOptions, EmitOutcome } from "../../src";
import { MAX_ITEMS } from "../../src/emit/many";
import { cluster } from "../support/brokers";
import { storeOf } from "../support/runtime";
import { consumer, errorOf, oneNode, reaches, serviceOf, story, subscribed } from "../support/services";

async function shop() {
  const made = cluster();
  const handled: unknown[] = [];
  const stock = consumer(
    made.mixin(),
    "stock",
    "order.*",
    ctx => void handled.push((ctx as { params: unknown }).params)
  );
  const { broker } = await oneNode(made, [stock]);
  await subscribed(broker, 1);
  const { reliableEmitMany } = serviceOf(broker, "emitter");
  return { broker, many: reliableEmitMany, handled };
}

const idsOf = (outcomes: EmitOutcome[]) =>
  outcomes.map(each => (each.status === "fulfilled" ? each.value.id : undefined));

it("several go in one command, with an outcome each, in their order", async () => {
  const { broker, many, handled } = await shop();
  const insert = vi.spyOn(storeOf(broker).messages, "insert");
  const items = Array.from({ length: 50 }, (_, n) => ({
    event: n % 2 ? "order.paid" : "order.created",
    payload: { n }
  }));
  const outcomes = await many(items);
  expect(insert).toHaveBeenCalledOnce();
  expect(outcomes.every(({ status }) => status === "fulfilled")).toBe(true);
  const ids = idsOf(outcomes) as string[];
  for (const id of ids) await reaches(broker, id, "consumed");
  expect((await story(broker, ids[7] as string)).payload).toEqual({ n: 7 });
  expect(handled).toHaveLength(50);
});

it("what is wrong with one harms no other; options of its own come before those of all", async () => {
  const { broker, many } = await shop();
  const outcomes = await many(
    [
      { event: "order.created", payload: { n: 1 }, id: "o1" },
      { event: "order.created", payload: () => 1 },
      { event: "order.created", payload: { n: 3 }, keys: { order: 3 }, maxAttempts: 9 },
      { event: "order.created", payload: { n: 4 }, id: "o1" },
      { event: "", payload: {} },
      { event: "order.created", payload: {}, delayMs: 3_600_000 }
    ],
    { ctx: { meta: { tenant: "north" } }, maxAttempts: 5, keys: { order: 1 } }
  );
  expect(outcomes).toMatchObject([
    { status: "fulfilled", value: { id: "o1", status: "pending" } },
    { status: "rejected", reason: { type: "RELIABLE_BAD_PAYLOAD" } },
    { status: "fulfilled" },
    { status: "rejected", reason: { type: "RELIABLE_DUPLICATE_ID", data: { id: "o1" } } },
    { status: "rejected", reason: { type: "RELIABLE_BAD_EVENT" } },
    { status: "fulfilled", value: { status: "scheduled" } }
  ]);
  const [first, , third] = idsOf(outcomes) as string[];
  expect(await story(broker, first as string)).toMatchObject({
    keys: "order=1",
    maxAttempts: 5,
    meta: { tenant: "north" }
  });
  expect(await story(broker, third as string)).toMatchObject({ keys: "order=3", maxAttempts: 9 });
});

it.each<[what: string, items: unknown, text: RegExp, options?: EmitOptions]>([
  ["no list", { event: "a", payload: 1 }, /a list of \{ event, payload/],
  [
    "too many",
    Array.from({ length: MAX_ITEMS + 1 }, () => ({ event: "a", payload: 1 })),
    /at most 1000 items, not 1001/
  ],
  ["an item that is none", [{ event: "a", payload: 1 }, null], /item 1 is not/],
  ["a session of one item", [{ event: "a", payload: 1, session: {} }], /the 'session' for all items/],
  ["one id for all", [{ event: "a", payload: 1 }], /the 'id' of each item/, { id: "order-1" }]
])("%s is refused as a whole, and nothing is stored", async (_, items, text, options) => {
  const { broker, many } = await shop();
  const insert = vi.spyOn(storeOf(broker).messages, "insert");
  const error = await errorOf(many(items as never, options));
  expect(error).toMatchObject({ type: "RELIABLE_BAD_OPTION", data: { option: "items" } });
  expect(error.message).toMatch(text);
  expect(insert).not.toHaveBeenCalled();
});

it("none are no mistake; on a node that does not run all are refused", async () => {
  const { broker, many } = await shop();
  expect(await many([])).toEqual([]);
  await broker.stop();
  expect((await errorOf(many([{ event: "a", payload: 1 }]))).type).toBe("RELIABLE_STOPPED");
});
