import type { Context } from "moleculer";
import { describe, expect, it } from "vitest";
import type { ReliableOptions } from "../../src";
import { cluster, until } from "./brokers";
import { startNode } from "./child";
import { ownServer } from "./own-servers";

export const drainTimeoutMs = 5000;
/**
 * Two seconds are the library's, for closes without an answer (CLOSE_MS); the rest is for Moleculer and the end of the
 * process, on a busy machine.
 */
export const LIMIT_MS = drainTimeoutMs + 4000;

/**
 * SIGTERM into a producer and consumer under load, `disturb`ed before it; afterwards an heir must have handled all that
 * was promised.
 */
async function stopUnderLoad(
  own: ReliableOptions,
  disturb = async () => {},
  heal = async () => {}
): Promise<{ output: string; refused: Set<unknown> }> {
  const { namespace, node, mixin, options } = cluster();
  // A page that a sweeper had claimed when it was stopped comes due after claimMs.
  const timing = {
    receiptTimeoutMs: 2000,
    claimMs: 5000,

    checkDelaysMs: [2000, 4000, 8000, 16_000, 32_000],
    ...own
  };
  const busy = await startNode("test/support/busy-node.ts", {
    env: { NODE: JSON.stringify({ namespace, options: options({ drainTimeoutMs, ...timing }) }) }
  });
  await busy.next("started");
  // Well under way: a few hundred are handled, more are in every stage between.
  const seen: number[] = [];
  await until(
    () => seen.push(...busy.all<number>("handled")),
    count => count > 300,
    30_000
  );
  await disturb();
  const told = performance.now();
  await busy.kill("SIGTERM");
  expect(await busy.exited).toEqual({ code: 0, signal: null });
  const took = performance.now() - told;
  expect(took).toBeLessThan(LIMIT_MS);
  expect(busy.output).not.toContain("unhandled rejection");
  await heal();

  const promised = busy.all<number>("promised");
  const handled = new Set([...seen, ...busy.all<number>("handled")]);
  expect(promised.length).toBeGreaterThan(300);
  await node("heir", [
    {
      name: "stock",
      mixins: [mixin(timing)],
      events: {
        "order.created": { reliable: true, handler: (ctx: Context<{ n: number }>) => void handled.add(ctx.params.n) }
      }
    },
    // Of strategy `callback` only the producer's own service sends again.
    { name: "orders", mixins: [mixin(timing)] }
  ]);
  await until(
    () => promised.filter(n => !handled.has(n)).length,
    missing => missing === 0,
    90_000
  );
  return { output: busy.output, refused: new Set(busy.all("refused")) };
}

/** Each way to be disturbed while it stops. */
export function stopsUnderLoad(strategy: NonNullable<ReliableOptions["strategy"]>): void {
  describe(`SIGTERM under load, strategy ${strategy}: in time, with exit code 0, and nothing promised is lost`, () => {
    it("with all servers well", { timeout: 120_000 }, async () => {
      const { refused } = await stopUnderLoad({ strategy });
      expect(refused).toEqual(new Set(["RELIABLE_STOPPED"]));
    });

    it("with RabbitMQ down", { timeout: 180_000 }, async () => {
      const rabbitmq = await ownServer("rabbitmq");
      await stopUnderLoad({ strategy, amqp: rabbitmq.url }, rabbitmq.kill, rabbitmq.start);
    });

    it("with RabbitMQ frozen", { timeout: 180_000 }, async () => {
      const rabbitmq = await ownServer("rabbitmq");
      await stopUnderLoad({ strategy, amqp: rabbitmq.url }, rabbitmq.freeze, rabbitmq.thaw);
    });

    it("with the store down", { timeout: 180_000 }, async () => {
      const mongo = await ownServer("mongo");
      await stopUnderLoad({ strategy, mongo: mongo.url }, mongo.kill, mongo.start);
    });

    it("with the store frozen", { timeout: 180_000 }, async () => {
      const mongo = await ownServer("mongo");
      await stopUnderLoad({ strategy, mongo: mongo.url }, mongo.freeze, mongo.thaw);
    });

    it("with Redis down", { timeout: 180_000 }, async () => {
      const redis = await ownServer("redis");
      await stopUnderLoad({ strategy, redis: redis.url }, redis.kill, redis.start);
    });

    it("with Redis frozen", { timeout: 180_000 }, async () => {
      const redis = await ownServer("redis");
      await stopUnderLoad({ strategy, redis: redis.url }, redis.freeze, redis.thaw);
    });
  });
}
