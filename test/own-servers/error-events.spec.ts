import type { Context } from "moleculer";
import { expect, it } from "vitest";
import type { ReliableOptions } from "../../src";
import { type Cluster, cluster, until } from "../support/brokers";
import { ownServer } from "../support/own-servers";
import { consumer, emitter, subscribed } from "../support/services";

interface Told {
  error: Error;
  module: string;
  type: string;
}

/** A node, and what a listener for Moleculer's own error events hears on it. */
async function node(made: Cluster, options: ReliableOptions): Promise<Told[]> {
  const told: Told[] = [];
  const watch = { name: "watch", events: { "$**.error": (ctx: Context<Told>) => void told.push(ctx.params) } };
  const broker = await made.node("node-1", [
    watch,
    emitter(made.mixin(options)),
    consumer(made.mixin(options), "stock", "order.created", () => undefined)
  ]);
  await subscribed(broker, 1);
  expect(told).toEqual([]);
  return told;
}

it.each([
  ["rabbitmq", "amqp", "courier", "reliableCourierError"],
  ["mongo", "mongo", "store", "reliableStoreError"],
  ["redis", "redis", "redis", "reliableRedisError"]
] as const)(
  "$reliable.error tells that %s has crashed, once, and not its address",
  { timeout: 400_000 },
  async (name, option, module, type) => {
    const server = await ownServer(name);
    const made = cluster();
    const told = await node(made, { [option]: server.url });
    await server.kill();
    const mine = await until(
      () => told.filter(entry => entry.module === module),
      found => found.length > 0,
      30_000
    );
    expect(mine[0]).toMatchObject({ module, type, error: expect.any(Error) });
    expect(mine[0]?.error.message).not.toMatch(/guest:guest|@/);
    await server.start();
  }
);
