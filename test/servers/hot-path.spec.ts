import { MongoClient } from "mongodb";
import { expect, it, onTestFinished, vi } from "vitest";
import type { Courier } from "../../src/couriers/courier";
import { cluster, until } from "../support/brokers";
import { atBroker } from "../support/rabbitmq";
import { courierOf } from "../support/runtime";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, subscribed } from "../support/services";

const WRITES = ["insert", "update", "delete", "findAndModify", "bulkWrite"];
const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

/** The client library's own publish, of whichever channel. */
async function spyOnPublishes() {
  const prototype = await atBroker(
    async channel => Object.getPrototypeOf(channel) as { publish(...args: unknown[]): boolean }
  );
  const publish = vi.spyOn(prototype, "publish");
  onTestFinished(() => publish.mockRestore());
  return publish;
}

function countConfirmed(courier: Courier): () => number {
  const publish = courier.publish.bind(courier);
  let confirmed = 0;
  courier.publish = async publication => {
    const result = await publish(publication);
    if (result.outcome === "confirmed") confirmed++;
    return result;
  };
  return () => confirmed;
}

/** A producer alone in the world: its group's queue exists, and whoever reads it, or tracks, is gone. */
async function producer(strategy: "outbox" | "callback") {
  const made = cluster();
  const home = await made.node("home", [consumer(made.mixin(), "stock", "order.created", () => undefined)]);
  await subscribed(home, 1);
  await home.stop();
  const client = await new MongoClient(urls().mongo, { monitorCommands: true }).connect();
  onTestFinished(() => client.close());
  const shop = await made.node("shop", [
    emitter(
      made.mixin({
        mongo: client,
        redis: undefined,
        strategy,
        service: false,
        refreshMs: 3_600_000,
        sources: ["asked.happened"]
      }),
      "shop"
    )
  ]);
  const writes: string[] = [];
  const others: string[] = [];
  client.on("commandStarted", ({ commandName, command }) => {
    const collection = String(command[commandName]);
    // One insert per node and minute, whenever that ends; no emit waits for it.
    if (collection.endsWith(".history")) return;
    (WRITES.includes(commandName) ? writes : others).push(`${commandName} ${collection}`);
  });
  const publish = await spyOnPublishes();
  const confirmed = countConfirmed(courierOf(shop));
  return {
    emit: emitterOf(shop, "shop"),
    writes,
    others,
    publish,
    confirmed,
    collection: `${made.namespace}.reliable.messages`
  };
}

it("`callback` costs the producer no store write and two broker round trips", async () => {
  const { emit, writes, others, publish, confirmed } = await producer("callback");
  await emit("order.created", { n: 1 });
  expect([publish.mock.calls.length, confirmed()]).toEqual([2, 2]);
  await Promise.all(numbers(200).map(n => emit("order.created", { n })));
  // Their checks have gone together.
  const publishes = publish.mock.calls.length;
  expect(publishes).toBeGreaterThan(202);
  expect(publishes).toBeLessThan(210);
  expect(confirmed()).toBe(publishes);
  expect(writes).toEqual([]);
  expect(others.filter(command => /^(find|aggregate|count|getMore)/.test(command))).toEqual([]);
});

it("`outbox` costs one insert, amortised, and one publish", async () => {
  const { emit, writes, publish, confirmed, collection } = await producer("outbox");
  const count = (name: string) => writes.filter(write => write === `${name} ${collection}`).length;
  await emit("order.created", { n: 1 });
  await until(() => count("update"));
  // Stored, published, and recorded as published: the last is no part of what the emit waits for.
  expect([count("insert"), count("update"), publish.mock.calls.length]).toEqual([1, 1, 1]);
  await Promise.all(numbers(400).map(n => emit("order.created", { n })));
  await until(() => confirmed() === 401);
  expect(publish).toHaveBeenCalledTimes(401);
  expect(count("insert")).toBeLessThan(20);
  expect(writes.length).toBeLessThan(100);
});

it("an intent costs one write more in `outbox`, and nothing in `callback`", async () => {
  const source = { action: "asked.happened" };
  const callback = await producer("callback");
  await callback.emit("order.created", {}, { source, commit: () => undefined });
  expect([callback.writes, callback.publish.mock.calls.length]).toEqual([[], 2]);
  callback.publish.mockRestore();
  const outbox = await producer("outbox");
  await outbox.emit("order.created", {}, { source, commit: () => undefined, waitFor: "confirmed" });
  await until(() => outbox.writes.length === 3);
  expect(outbox.writes.map(write => write.split(" ")[0])).toEqual(["insert", "update", "update"]);
  expect(outbox.publish).toHaveBeenCalledTimes(1);
});
