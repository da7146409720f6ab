import type { Context } from "moleculer";
import { expect, it, vi } from "vitest";
import { cluster, until } from "../support/brokers";
import { messageOf } from "../support/messages";
import { storeOf } from "../support/runtime";
import { consumer, emitter, subscribed } from "../support/services";

const COUNT = 560;
const KIB_250 = Buffer.from(JSON.stringify({ text: "x".repeat(250 * 1024) }));

it("560 due messages of 250 KiB drain with the default page, which is bounded by bytes too", {
  timeout: 400_000
}, async () => {
  const { mixin, node } = cluster();
  const handled = new Set<string>();
  const handler = (ctx: Context<object, { id: string }>) => void handled.add(ctx.meta.id);
  const broker = await node("node-1", [
    emitter(mixin()),
    consumer(mixin(), "stock", "order.created", handler as never)
  ]);
  await subscribed(broker, 1);
  const { messages } = storeOf(broker);
  const claimed: number[] = [];
  const claim = messages.claim.bind(messages);
  messages.claim = async query => {
    const page = await claim(query);
    claimed.push(page.reduce((sum, { body }) => sum + body.length, 0));
    return page;
  };
  const due = new Date(Date.now() - 60_000);
  const ids = Array.from({ length: COUNT }, (_, n) => `order ${n}`);
  for (let n = 0; n < COUNT; n += 40)
    await messages.insert(
      ids.slice(n, n + 40).map(_id =>
        messageOf({
          _id,
          body: KIB_250,
          meta: { id: _id },
          producer: "emitter",
          dueAt: due,
          createdAt: due,
          backoff: { initialMs: 1000, maxMs: 300_000, jitter: "half" }
        })
      )
    );
  await until(
    async () => (await messages.stats()).byStatus.consumed,
    consumed => consumed === COUNT,
    60_000
  );
  expect(handled).toEqual(new Set(ids));
  expect(Math.max(...claimed)).toBeLessThanOrEqual(8 * 1024 * 1024);
  // Emits that wait ask for all of them at once, twice a second.
  const whole = vi.spyOn(messages, "find");
  const states = await broker.call<{ status: string }[], object>("reliable.statuses", { ids });
  expect(states.map(({ status }) => status)).toEqual(ids.map(() => "consumed"));
  expect(whole).not.toHaveBeenCalled();
});
