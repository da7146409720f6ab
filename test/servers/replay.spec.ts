import type { BrokerOptions, Context, ServiceBroker } from "moleculer";
import { expect, inject, it } from "vitest";
import type { BulkBegun, BulkStory, ReliableOptions } from "../../src";
import type { Bulk } from "../../src/message/bulk";
import { replayId } from "../../src/message/replay";
import type { Collections } from "../../src/stores/documents/collection";
import { type Cluster, cluster, until } from "../support/brokers";
import type { BulkNode } from "../support/bulk-node";
import { startNode } from "../support/child";
import { finalOf, receiptOf } from "../support/messages";
import { storeOf } from "../support/runtime";
import { consumer, emitter, subscribed } from "../support/services";
import { localsOf } from "../support/strategies";

const bulkOf = (broker: ServiceBroker, id: string) => broker.call<BulkStory, object>("reliable.bulks", { id });

/** A node of its own process, `victim`, and one here, `heir`, with the group `stock` and `count` messages to be sent to it. */
async function twoNodes(made: Cluster, count: number, options: ReliableOptions) {
  const { redis } = inject("servers");
  const own = { nodeID: "victim", options: made.options(options), transporter: redis };
  const node: BulkNode = { namespace: made.namespace, ...own };
  const victim = await startNode("test/support/bulk-node.ts", { env: { NODE: JSON.stringify(node) } });
  await victim.next("started");
  const handled: string[] = [];
  // Moleculer 0.14 tells a handler of contexts by the name of its argument.
  const take = (ctx: Context<never>) => void handled.push(localsOf(ctx).id);
  const heir = await made.node(
    "heir",
    [emitter(made.mixin(options)), consumer(made.mixin({ ...options }), "stock", "order.created", take)],
    { transporter: redis } as BrokerOptions
  );
  await subscribed(heir, 1);
  const start = Date.now() - 3_600_000;
  const rows = Array.from({ length: count }, (_, n) => {
    const at = new Date(start + Math.floor(n / 10));
    return finalOf("consumed", at, { createdAt: at, receipts: { mail: receiptOf() } });
  });
  await storeOf(heir).messages.insert(rows);
  return { victim, heir, handled, ids: rows.map(({ _id }) => _id), start };
}

/** Each message was sent once, and handled once, in one audit record. */
async function sentOnce(heir: ServiceBroker, id: string, ids: string[], handled: string[]): Promise<void> {
  const count = ids.length;
  const story = await until(
    () => bulkOf(heir, id),
    ({ state, handled }) => state === "done" && handled === count,
    60_000
  );
  expect(story).toMatchObject({ done: count, skipped: 0, notReplayable: 0, refused: 0, failedAgain: 0 });
  expect(handled.sort()).toEqual(ids.toSorted());
  const own = await storeOf(heir).messages.find(ids.map(original => replayId(id, original)));
  expect(own.map(({ status }) => status)).toEqual(ids.map(() => "consumed"));
  const { rows: audits } = await storeOf(heir).audits.list(0, 10);
  expect(audits).toMatchObject([{ _id: id, act: "replay", by: "emma", state: "done", counts: { done: count } }]);
}

it("a replay outlives its node: each message is sent and handled once", { timeout: 400_000 }, async () => {
  const { victim, heir, handled, ids, start } = await twoNodes(cluster(), 1500, { leaseMs: 2000, claimMs: 3000 });
  victim.tell("replay", { group: "stock", fromAt: start, perSecond: 400, by: "emma" });
  const { id = "", matched } = await victim.next<BulkBegun>("begun");
  expect(matched).toBe(1500);
  await until(
    () => bulkOf(heir, id),
    ({ done, nodeID }) => done >= 400 && nodeID === "victim"
  );
  await victim.kill("SIGKILL");
  await sentOnce(heir, id, ids, handled);
});

it.each(["SIGKILL", "SIGTERM"] as const)(
  "two sweeping nodes send the same page at once, and one ends by %s: the other goes on, each message once",
  { timeout: 400_000 },
  async signal => {
    // Each has a partition of its own.
    const quick = { leaseMs: 2000, claimMs: 3000, partitions: 2 };
    const { victim, heir, handled, ids, start } = await twoNodes(cluster(), 1200, quick);
    await until(
      () => heir.call<{ sweeping: string }>("reliable.health"),
      ({ sweeping }) => sweeping === "held"
    );
    victim.tell("replay", { group: "stock", fromAt: start, perSecond: 150, by: "emma" });
    const { id = "" } = await victim.next<BulkBegun>("begun");
    const { bulks } = (storeOf(heir) as unknown as { db: { collections: Pick<Collections, "bulks"> } }).db.collections;
    const documentOf = async () => (await bulks.find({ _id: id }))[0] as unknown as Bulk;
    const has = ({ claim }: Bulk, node: string) => claim?.startsWith(`${node}#`) === true;
    const inPage = (node: string) => until(documentOf, bulk => bulk.page !== undefined && has(bulk, node));
    /** The claim is taken away in the middle of a page: both send it. */
    const takenOver = (from: string, to: string, look: () => Promise<unknown>) =>
      until(
        async () => {
          const { claim } = await inPage(from);
          await bulks.update({ _id: id, claim }, { $set: { until: new Date(0) } });
          await look();
          return documentOf();
        },
        bulk => has(bulk, to)
      );
    await takenOver("victim", "heir", () => heir.call("reliable.bulkLook"));
    await takenOver("heir", "victim", () => {
      victim.tell("look");
      return victim.next("looked");
    });
    const { done } = await inPage("victim");
    expect(done).toBeLessThan(ids.length);
    await victim.kill(signal);
    await sentOnce(heir, id, ids, handled);
  }
);
