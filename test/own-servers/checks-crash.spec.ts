import path from "node:path";
import type { BrokerOptions, ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import { HEADER } from "../../src/wire/envelope";
import { cluster, until } from "../support/brokers";
import { startNode } from "../support/child";
import { foreignGroup, sendReceipt, storeOf } from "../support/runtime";
import { urls } from "../support/servers";
import { emitter, emitterOf, reaches } from "../support/services";
import type { StockNode } from "../support/stock-node";
import { echoOf, tap } from "../support/strategies";

const COUNT = 60;

it.each(["after find in messages", "after bulkWrite of messages", "before call", "after call", "before ack"])(
  "a callback service that dies %s, in the middle of a message of checks: the next one sends each again, once",
  { timeout: 400_000 },
  async at => {
    const made = cluster();
    const transporter = urls().redis;
    const keeping = { sweepEveryMs: 60_000, claimMs: 1000, checkDelaysMs: [1000, 60_000] };
    const node: StockNode = {
      namespace: made.namespace,
      nodeID: "keeper",
      options: made.options(keeping),
      transporter
    };
    const keeper = await startNode("test/support/stock-node.ts", {
      env: { NODE: JSON.stringify(node), CRASH_POINTS: "all", CRASH_AT: at },
      execArgv: ["--require", path.resolve("test/support/crash-preload.cjs")]
    });
    await keeper.next("started");
    // With the store, which its group needs; it tracks nothing.
    const [shop, heir] = ["shop", "heir"].map(name => {
      const broker = made.broker(name, { transporter } as BrokerOptions);
      const own = name === "shop" ? { service: false, strategy: "callback" as const } : {};
      broker.createService(emitter(made.mixin({ ...keeping, ...own }), name));
      return broker;
    }) as [ServiceBroker, ServiceBroker];
    await shop.start();
    const { deliveries } = await foreignGroup(shop, "far", "order.created");
    const emit = emitterOf(shop, "shop");
    const sent = tap(shop);
    const emitted = await Promise.all(Array.from({ length: COUNT }, (_, n) => emit("order.created", { n })));
    const ids = emitted.map(({ id }) => id);
    expect(sent.some(({ headers }) => Number(headers[HEADER.count]) > COUNT / 2)).toBe(true);
    expect((await keeper.exited).signal).toBe("SIGKILL");
    await heir.start();
    const of = (id: string) => deliveries.filter(({ messageId }) => messageId === id);
    await until(() => ids.every(id => of(id).length > 1), Boolean, 60_000);
    for (const id of ids)
      await sendReceipt(shop, "far", { id, attempt: 2, echo: echoOf(of(id).at(-1) as (typeof deliveries)[number]) });
    for (const id of ids) await reaches(heir, id, "consumed");
    const seen = ids.map(id => of(id).map(({ headers }) => headers["x-reliable-attempt"]));
    // One whose second attempt was sent, and whose record died with the process, is sent once more as the same attempt.
    expect(new Set(seen.flat())).toEqual(new Set([1, 2]));
    expect(seen.filter(each => each.length > 3)).toEqual([]);
    expect((await storeOf(heir).parked.list(0, 10)).rows).toEqual([]);
  }
);
