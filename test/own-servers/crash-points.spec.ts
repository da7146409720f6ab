import { execFileSync } from "node:child_process";
import path from "node:path";
import type { ServiceBroker } from "moleculer";
import { MongoClient } from "mongodb";
import { describe, expect, it } from "vitest";
import { delayQueueName } from "../../src/couriers/amqp/topology";
import { prefixOf, systemQueues } from "../../src/wire/names";
import { type Cluster, cluster, until } from "../support/brokers";
import { startNode, type TestNode } from "../support/child";
import { courierOf, storeOf } from "../support/runtime";
import { urls } from "../support/servers";
import { consumer } from "../support/services";
import { type Bond, DATABASE, type ShopNode, shop } from "../support/shop";

const preload = path.resolve("test/support/crash-preload.cjs");
const DELAYS = [500, 1000, 2000, 4000];
/** Processes at once; they mostly start up, which takes a core. */
const AT_ONCE = 3;

type Strategy = "outbox" | "callback";

interface Shop {
  made: Cluster;
  start(id: string, env?: Record<string, string>): Promise<TestNode>;
  /**
   * What lives on after the crash: a new instance of the producer, a consumer, a node with callback service and
   * sweeper.
   */
  home(): Promise<ServiceBroker>;
  handled: string[];
  orders(): Promise<string[]>;
}

async function newShop(strategy: Strategy, bond: Bond): Promise<Shop> {
  const made = cluster();
  const { namespace } = made;
  const { mongo } = urls();
  const handled: string[] = [];
  const options = made.options({ strategy, checkDelaysMs: DELAYS, confirmTimeoutMs: 1000 });
  const stock = () =>
    consumer(
      made.mixin({ confirmTimeoutMs: 1000, mongo: undefined }),
      "stock",
      "order.created",
      ctx => void handled.push((ctx as { params: { id: string } }).params.id)
    );
  const node = async (nodeID: string) => {
    const { schema, client } = shop({ namespace, mongo, options });
    await client.connect();
    return made.node(nodeID, [schema, stock()]);
  };
  // The group is known and its queue is there, and then nobody is home.
  const before = await node("before");
  await until(async () => (await storeOf(before).subscriptions.list()).length === 1);
  await before.stop();
  return {
    made,
    handled,
    start: (id, env) => {
      const spec: ShopNode = { namespace, mongo, id, bond, options: { ...options, service: false } };
      return startNode("test/support/shop-node.ts", {
        env: { SHOP: JSON.stringify(spec), NODE_OPTIONS: `--require ${preload}`, ...env }
      });
    },
    home: () => node("home"),
    async orders() {
      const client = await new MongoClient(mongo).connect();
      const rows = await client
        .db(DATABASE)
        .collection(`${prefixOf(namespace)}.orders`)
        .find()
        .toArray();
      await client.close();
      return rows.map(({ _id }) => String(_id)).sort();
    }
  };
}

/** Work in the order given, so many at once. */
async function inBatches(work: (() => Promise<void>)[]): Promise<void> {
  const left = [...work];
  const worker = async () => {
    for (let next = left.shift(); next; next = left.shift()) await next();
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

/** Nothing is open in the store, and no check is on its way. */
async function quiet(home: ServiceBroker): Promise<void> {
  const { checks } = systemQueues(home.namespace);
  const queues = [checks, ...DELAYS.map(delay => delayQueueName(checks, delay))];
  await until(
    async () => {
      const { byStatus } = await storeOf(home).messages.stats();
      const depths = await Promise.all(queues.map(queue => courierOf(home).depth(queue)));
      return { ...byStatus, checks: depths.reduce((sum, depth) => sum + (depth?.ready ?? 0), 0) };
    },
    ({ intended, pending, published, checks: under }) => intended + pending + published + under === 0,
    60_000
  );
}

/** One bond: its points are found by a run without harm, then a process is killed at each. */
async function crashes(
  strategy: Strategy,
  bond: Bond
): Promise<{ kills: (() => Promise<void>)[]; judge(): Promise<void> }> {
  const { start, home, handled, orders } = await newShop(strategy, bond);
  const unharmed = await start("unharmed");
  const points = await unharmed.next<string[]>("points");
  const chosen = points.map((what, i) => ({ at: i + 1, id: `${String(i + 1).padStart(2, "0")} ${what}` }));
  const promised = ["unharmed"];
  const killed: string[] = [];
  const refused: string[] = [];
  const kills = chosen.map(({ at, id }) => async () => {
    const node = await start(id, { CRASH_AT: String(at) });
    if ((await node.exited).signal === "SIGKILL") killed.push(id);
    if (node.all("promised").length) promised.push(id);
    refused.push(...node.all<string>("refused").map(type => `${id} (${type})`));
  });
  const judge = async () => {
    const broker = await home();
    const committed = await orders();
    // A check in the hands of its callback service is in no queue and in no row, so that rest alone would not tell.
    const owed = bond === "plain" ? promised : committed;
    await until(
      () => handled,
      ids => owed.every(id => ids.includes(id)),
      60_000
    );
    await quiet(broker);
    console.log(
      `${strategy}, ${bond}: killed at ${killed.length} of ${points.length} points, ${committed.length} committed, ${promised.length} promised, ${handled.length} handled\n  ${points.join("\n  ")}`
    );
    // Without a bond between the two, an order may be stored and its emit not begun.
    if (bond === "plain") expect(handled.filter(id => !committed.includes(id))).toEqual([]);
    else expect([...handled].sort()).toEqual(committed);
    expect(new Set(handled).size).toBe(handled.length);
    expect((await storeOf(broker).messages.stats()).byStatus).toMatchObject({
      intended: 0,
      pending: 0,
      published: 0,
      dead: 0
    });
    // The last write of an emit may be overtaken by its end.
    expect(
      chosen.length - killed.length,
      `not killed: ${chosen
        .map(({ id }) => id)
        .filter(id => !killed.includes(id))
        .join(", ")}; refused: ${refused.join(", ")}`
    ).toBeLessThanOrEqual(1);
  };
  return { kills, judge };
}

const BONDS: Record<Strategy, Bond[]> = {
  outbox: ["plain", "session", "barrier", "source"],
  callback: ["plain", "barrier", "source"]
};
const STRATEGIES = Object.keys(BONDS) as Strategy[];

describe.each(STRATEGIES)("a producer of strategy %s", strategy => {
  it("killed between any two steps of an emit: what was committed is consumed, and nothing else", async () => {
    const all = await Promise.all(BONDS[strategy].map(bond => crashes(strategy, bond)));
    await inBatches(all.flatMap(({ kills }) => kills));
    await Promise.all(all.map(({ judge }) => judge()));
  }, 600_000);

  it("that commits after it was asked cannot: the fence was there first", async () => {
    const { start, home, handled, orders } = await newShop(strategy, "barrier");
    const node = await start("late", { CRASH_AT: "before insertOne of barriers", CRASH_SIGNAL: "SIGSTOP" });
    await stopped(node);
    const broker = await home();
    await until(
      async () => (await storeOf(broker).messages.find(["late"]))[0]?.status,
      status => status === "withdrawn"
    );
    await node.kill("SIGCONT");
    expect(await node.next("refused")).toBe("RELIABLE_WITHDRAWN");
    await quiet(broker);
    expect(await orders()).toEqual([]);
    expect(handled).toEqual([]);
  }, 600_000);

  it("that is asked in the middle of its commit makes the question wait, and what it commits is consumed", async () => {
    const { start, home, handled, orders } = await newShop(strategy, "barrier");
    const node = await start("slow", { CRASH_AT: "before commitTransaction", CRASH_SIGNAL: "SIGSTOP" });
    await stopped(node);
    const broker = await home();
    await until(async () => (await storeOf(broker).messages.find(["slow"]))[0]?.claim);
    await node.kill("SIGCONT");
    await node.next("promised");
    await until(
      () => handled,
      ids => ids.length > 0
    );
    await quiet(broker);
    expect([handled, await orders()]).toEqual([["slow"], ["slow"]]);
  }, 600_000);

  it("whose commit throws after it was committed: the error is the caller's, and the order is consumed", async () => {
    const { home, handled, orders } = await newShop(strategy, "torn");
    const broker = await home();
    await expect(broker.call("shop.place", { id: "torn", bond: "torn" })).rejects.toThrow("the answer was lost");
    await until(
      () => handled,
      ids => ids.length > 0
    );
    await quiet(broker);
    expect([handled, await orders()]).toEqual([["torn"], ["torn"]]);
  }, 600_000);
});

/** Its process is there and does nothing. */
function stopped({ pid }: TestNode): Promise<string> {
  return until(
    () => execFileSync("ps", ["-o", "stat=", "-p", String(pid)], { encoding: "utf8" }),
    state => state.startsWith("T"),
    30_000
  );
}
