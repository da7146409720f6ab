import { expect, it, vi } from "vitest";
import { z } from "zod";
import { fastestValidatorSchema } from "../../src";
import { cluster } from "../support/brokers";
import { storeOf } from "../support/runtime";
import { consumer, emitter, emitterOf, errorOf, reaches, serviceOf, subscribed } from "../support/services";

const schemas = {
  "order.created": z.object({ id: z.string().trim(), count: z.number().default(1) }),
  "order.paid": z.object({ id: z.string().refine(async id => id !== "unknown") })
};

async function shop() {
  const made = cluster();
  const seen: unknown[] = [];
  const stock = consumer(made.mixin(), "stock", "order.*", ctx => void seen.push((ctx as { params: unknown }).params));
  const broker = await made.node("node-1", [emitter(made.mixin({ schemas })), stock]);
  await subscribed(broker, 1);
  return { broker, emit: emitterOf(broker), many: serviceOf(broker, "emitter").reliableEmitMany, seen };
}

it.each(["outbox", "callback"] as const)(
  "with %s what the schema makes of a payload is stored, sent and compared; other events are not looked at",
  async strategy => {
    const { broker, emit, seen } = await shop();
    const { id } = await emit("order.created", { id: " o1 " }, { id: "m1", strategy });
    await reaches(broker, id, "consumed");
    expect(seen).toEqual([{ id: "o1", count: 1 }]);
    // The same message, written in another way; `callback` keeps no payload to compare.
    if (strategy === "outbox")
      expect(await emit("order.created", { id: "o1", count: 1 }, { id })).toMatchObject({ id });
    expect(await emit("order.shipped", { id: 5 })).toMatchObject({ groups: ["stock:order.*"] });
  }
);

it("what a schema refuses is not stored, whoever emits it; an asynchronous one is asked, too", async () => {
  const { broker, emit, many } = await shop();
  const insert = vi.spyOn(storeOf(broker).messages, "insert");
  expect(await errorOf(emit("order.created", { id: 5 }))).toMatchObject({
    type: "RELIABLE_BAD_PAYLOAD",
    message: expect.stringMatching(/payload\.id: .*string/)
  });
  expect((await errorOf(emit("order.paid", { id: "unknown" }))).type).toBe("RELIABLE_BAD_PAYLOAD");
  expect(await many([{ event: "order.paid", payload: { id: "unknown" } }])).toMatchObject([
    { status: "rejected", reason: { type: "RELIABLE_BAD_PAYLOAD" } }
  ]);
  expect(insert).not.toHaveBeenCalled();
  expect(await emit("order.paid", { id: "o1" }, { waitFor: "consumed" })).toMatchObject({ status: "consumed" });
});

it("the mixin twice in one service: the same schemas are one, others are refused", async () => {
  const made = cluster();
  const twice = (second: object) => {
    const mixins = [made.mixin({ schemas }), made.mixin({ schemas: second as never })];
    return made.node("twice", [{ name: "twice", mixins }]);
  };
  await (await twice({ ...schemas })).stop();
  const other = { ...schemas, "order.paid": fastestValidatorSchema({ id: "number" }) };
  expect(await errorOf(twice(other))).toMatchObject({ type: "RELIABLE_BAD_OPTION", data: { option: "schemas" } });
});

it("an option that is no schema is refused where it is written", async () => {
  const { mixin } = cluster();
  expect(await errorOf(() => mixin({ schemas: { "order.created": { id: "string" } } as never }))).toMatchObject({
    type: "RELIABLE_BAD_OPTION",
    data: { option: "schemas", event: "order.created" }
  });
});
