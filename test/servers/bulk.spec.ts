import type { ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import type { BulkBegun, BulkStory } from "../../src";
import type { Message } from "../../src/message/message";
import { cluster, until } from "../support/brokers";
import type { BulkNode } from "../support/bulk-node";
import { startNode } from "../support/child";
import { at, deadOf } from "../support/messages";
import { storeOf } from "../support/runtime";
import { consumer, emitter, subscribed } from "../support/services";

const COUNT = 1500;

const bulkOf = (broker: ServiceBroker, id: string) => broker.call<BulkStory, object>("reliable.bulks", { id });
const begin = (broker: ServiceBroker, params: object) => broker.call<BulkBegun, object>("reliable.bulk", params);
const sweeping = async (broker: ServiceBroker) =>
  (await broker.call<{ sweeping: string }, object>("reliable.health", {}, { nodeID: broker.nodeID })).sweeping;

async function dead(broker: ServiceBroker, count: number): Promise<Message[]> {
  const rows = Array.from({ length: count }, (_, n) => deadOf({ at: at(Math.floor(n / 10)) }));
  await storeOf(broker).messages.insert(rows);
  return rows;
}

it("a bulk act outlives its node: each message is acted on once, in one audit record", {
  timeout: 400_000
}, async () => {
  const made = cluster();
  // What the victim's sweep has claimed is the heir's soon.
  const quick = { leaseMs: 2000, claimMs: 3000 };
  const node: BulkNode = { namespace: made.namespace, nodeID: "victim", options: made.options(quick) };
  const victim = await startNode("test/support/bulk-node.ts", { env: { NODE: JSON.stringify(node) } });
  await victim.next("started");
  const handled: string[] = [];
  const take = (ctx: { locals: { reliable: { id: string } } }) => void handled.push(ctx.locals.reliable.id);
  const heir = await made.node("heir", [
    emitter(made.mixin(quick)),
    consumer(made.mixin(quick), "stock", "order.created", take as never)
  ]);
  await subscribed(heir, 1);
  const rows = await dead(heir, COUNT);
  victim.tell("begin", { act: "retry", event: "order.created", perSecond: 400, by: "emma" });
  const { id = "" } = await victim.next<BulkBegun>("begun");
  await until(
    () => bulkOf(heir, id),
    ({ done, nodeID }) => done >= 400 && nodeID === "victim"
  );
  await victim.kill("SIGKILL");
  expect(await bulkOf(heir, id)).toMatchObject({ state: "running" });
  const story = await until(
    () => bulkOf(heir, id),
    ({ state, handled }) => state === "done" && handled === COUNT,
    100_000
  );
  expect(story).toMatchObject({ matched: COUNT, done: COUNT, overtaken: 0, refused: 0, failedAgain: 0 });
  expect(new Set(handled)).toEqual(new Set(rows.map(({ _id }) => _id)));
  for (const { notes } of await storeOf(heir).messages.find(rows.map(({ _id }) => _id)))
    expect(notes.map(({ act, bulk }) => [act, bulk])).toEqual([["retry", id]]);
  const { rows: audits } = await storeOf(heir).audits.list(0, 10);
  expect(audits).toMatchObject([
    { _id: id, act: "retry", by: "emma", state: "done", counts: { done: COUNT, lost: 0 } }
  ]);
});

it("the node that sweeps works at it, whichever node was asked; one that stops hands it over at once", async () => {
  const made = cluster();
  const a = await made.node("a", [emitter(made.mixin())]);
  const b = await made.node("b", [emitter(made.mixin())]);
  await until(
    async () => [await sweeping(a), await sweeping(b)],
    ([first, second]) => first === "held" && second === "standby"
  );
  await dead(b, 40);
  const { id = "" } = await b
    .call<BulkBegun, object>(
      "reliable.bulk",
      { act: "resolve", status: "dead", note: "x", perSecond: 4 },
      { nodeID: "b" }
    )
    .then(begun => begun);
  await until(
    () => bulkOf(b, id),
    ({ nodeID, done }) => nodeID === "a" && done > 0
  );
  await a.stop();
  const stopped = performance.now();
  await until(
    () => bulkOf(b, id),
    ({ nodeID }) => nodeID === "b"
  );
  // Not by the end of its claim.
  expect(performance.now() - stopped).toBeLessThan(10_000);
  await b.call("reliable.bulkChange", { id, change: "rate", perSecond: 1000 });
  const story = await until(
    () => bulkOf(b, id),
    ({ state }) => state === "done"
  );
  expect(story).toMatchObject({ matched: 40, done: 40, overtaken: 0 });
});

it("two nodes that work at one bulk act at once act once on each message", async () => {
  const made = cluster();
  const a = await made.node("a", [emitter(made.mixin({ sweeper: false }))]);
  const b = await made.node("b", [emitter(made.mixin({ sweeper: false }))]);
  const rows = await dead(a, 300);
  const { id = "" } = await begin(a, { act: "retry", status: "dead", perSecond: 50 });
  // Its claim is taken away under its hands, again and again.
  const seen = new Set<string>();
  const story = await until(
    async () => {
      const now = new Date();
      const past = new Date(now.getTime() - 1);
      const { bulks } = (
        storeOf(b) as unknown as {
          db: { collections: Record<"bulks", { update: (filter: object, change: object) => Promise<number> }> };
        }
      ).db.collections;
      await bulks.update({ _id: id, state: "running" }, { $set: { until: past } });
      await Promise.all([a, b].map(node => node.call("reliable.bulkLook", {}, { nodeID: node.nodeID })));
      const found = await bulkOf(b, id);
      if (found.nodeID) seen.add(found.nodeID);
      return found;
    },
    ({ state }) => state === "done",
    60_000
  );
  expect(seen.size).toBe(2);
  expect(story).toMatchObject({ matched: 300, done: 300, overtaken: 0, refused: 0 });
  for (const { notes } of await storeOf(a).messages.find(rows.map(({ _id }) => _id)))
    expect(notes.filter(({ act }) => act === "retry")).toHaveLength(1);
});
