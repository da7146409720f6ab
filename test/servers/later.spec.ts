import { expect, it } from "vitest";
import { cluster, until } from "../support/brokers";
import { runtimeOf, storeOf } from "../support/runtime";
import { consumer, emitter, emitterOf, errorOf, reaches, serviceOf } from "../support/services";
import { AMQP_ONLY } from "../support/strategies";

it("a node without a store can neither keep what is to be sent later nor call it off, and says so", async () => {
  const made = cluster();
  const broker = await made.node("shop", [emitter(made.mixin({ ...AMQP_ONLY, strategy: "callback" }))]);
  const { reliableEmit, reliableCancel } = serviceOf(broker, "emitter");
  for (const work of [() => reliableEmit("order.created", {}, { delayMs: 5 }), () => reliableCancel("o1")])
    expect(await errorOf(work)).toMatchObject({ type: "RELIABLE_NO_STORE", retryable: false });
});

it("one that was emitted for groups that nobody knows yet waits for them from its instant on, as any other", async () => {
  const made = cluster();
  const broker = await made.node("home", [emitter(made.mixin())]);
  const { id } = await emitterOf(broker)("order.created", {}, { delayMs: 100 });
  await until(
    async () => (await storeOf(broker).messages.find([id]))[0],
    row => row?.status === "pending" && Object.keys(row.unroutable).length > 0
  );
  await made.node("late", [consumer(made.mixin(), "stock", "order.created", () => undefined)]);
  await reaches(broker, id, "consumed");
  expect(runtimeOf(broker).consumers.size).toBe(0);
});
