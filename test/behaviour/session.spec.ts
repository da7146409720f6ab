import { expect, it } from "vitest";
import { backend, cluster } from "../support/brokers";
import { storeOf } from "../support/runtime";
import { errorOf, oneNode } from "../support/services";

it("a session the store cannot join is refused, and nothing is stored", async () => {
  const { broker, emit } = await oneNode(cluster(), []);
  const error = await errorOf(emit("order.created", {}, { id: "o1", session: { inTransaction: () => true } }));
  expect(error).toMatchObject({ type: "RELIABLE_BAD_SESSION", retryable: false });
  expect(error.message).toMatch(
    backend === "real" ? /no ClientSession/ : /needs MongoDB: the embedded store has no transactions/
  );
  expect(await storeOf(broker).messages.find(["o1"])).toEqual([]);
});
