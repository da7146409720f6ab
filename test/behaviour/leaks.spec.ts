import { expect, it } from "vitest";
import { backend, cluster, until } from "../support/brokers";
import { grown, held, ROUNDS, rounds, WARM_UP } from "../support/leaks";
import { channelsOf } from "../support/rabbitmq";
import { consumer, emitter, emitterOf } from "../support/services";

it("50 starts and stops leave no timer, listener, broker or handle behind", { timeout: 240_000 }, async () => {
  const { before, after } = await rounds(cluster(), { retainMs: 60_000 });
  expect(grown(before, after)).toEqual([]);
});

it("50 services that come and go on a node that stays leave no channel, timer or listener behind", {
  timeout: 240_000
}, async () => {
  const made = cluster();
  const nodeID = `staying-${made.namespace}`;
  const broker = await made.node(nodeID, [emitter(made.mixin())]);
  const comeAndGo = async () => {
    const service = broker.createService(consumer(made.mixin(), "stock", "order.created", () => undefined));
    await broker.waitForServices("stock", 30_000, 5);
    await emitterOf(broker)("order.created", {}, { groups: ["stock"], waitFor: "consumed" });
    await broker.destroyService(service);
  };
  const channels = () => (backend === "real" ? channelsOf(nodeID) : []);
  for (let i = 0; i < WARM_UP; i++) await comeAndGo();
  const [before, open] = [held([process]), await channels()];
  for (let i = 0; i < ROUNDS; i++) await comeAndGo();
  let after = before;
  await until(
    () => (after = held([process])),
    seen => grown(before, seen).length === 0,
    10_000
  ).catch(() => undefined);
  expect(grown(before, after)).toEqual([]);
  if (backend === "real") expect(open).toHaveLength(3);
  // Channels for one declare come and go.
  await until(channels, now => now.length === open.length && now.every((count, i) => count <= Number(open[i]) + 2));
});
