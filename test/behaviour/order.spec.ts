import type { Context } from "moleculer";
import { expect, it } from "vitest";
import type { EmitOptions } from "../../src";
import { cluster, until } from "../support/brokers";
import { consumer, oneNode, reaches } from "../support/services";

type Params = { n: number; key?: string };

interface Seen {
  key: string;
  n: number;
  turn: number;
}

/** What handlers have done, in order; and whether two of one key and group ran at once. */
function journal() {
  const seen: Seen[] = [];
  const running = new Map<string, number>();
  const overlaps: string[] = [];
  return {
    seen,
    overlaps,
    of: (key: string) => seen.filter(each => each.key === key).map(({ n }) => n),
    async run(ctx: Context, work: () => Promise<void> | void = () => undefined) {
      const { order } = (ctx as never as { locals: { reliable: { order: { key: string; turn: number } } } }).locals
        .reliable;
      const at = running.get(order.key);
      if (at !== undefined) overlaps.push(`${order.key}: ${at} and ${(ctx.params as Params).n}`);
      running.set(order.key, (ctx.params as Params).n);
      try {
        await work();
        seen.push({ key: order.key, n: (ctx.params as Params).n, turn: order.turn });
      } finally {
        running.delete(order.key);
      }
    }
  };
}

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

it("messages of one key reach a group in the order of their emits, one at a time; other keys are not held up", async () => {
  const log = journal();
  const made = cluster();
  const { broker, emit } = await oneNode(made, [
    consumer(made.mixin(), "stock", "order.created", ctx => log.run(ctx as never))
  ]);
  const emits = numbers(20).flatMap(n =>
    ["a", "b", "c"].map(key => emit("order.created", { n }, { orderKey: key } as EmitOptions))
  );
  await Promise.all(emits);
  await until(
    () => log.seen.length,
    count => count === 60,
    60_000
  );
  for (const key of ["a", "b", "c"]) expect(log.of(key)).toEqual(numbers(20));
  expect(log.overlaps).toEqual([]);
  const turns = log.seen.filter(({ key }) => key === "a").map(({ turn }) => turn);
  expect(turns).toEqual([...turns].sort((a, b) => a - b));
  for (const { id } of await Promise.all(emits)) await reaches(broker, id, "consumed");
});
