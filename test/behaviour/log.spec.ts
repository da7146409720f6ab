import { expect, it } from "vitest";
import { cluster, until } from "../support/brokers";
import { courierOf } from "../support/runtime";
import { consumer, emitter, emitterOf, subscribed } from "../support/services";

const MANY = 30;

it("many dead and many parked messages are a line each, with their number at the end; each one is told as an event", async () => {
  const made = cluster();
  const told: string[] = [];
  const watch = {
    name: "watch",
    events: {
      "$reliable.dead": () => void told.push("dead"),
      "$reliable.error": () => void told.push("error")
    }
  };
  const broker = await made.node("node-1", [
    emitter(made.mixin({ maxAttempts: 1 })),
    consumer(made.mixin({ breaker: false }), "stock", "order.created", () => Promise.reject(new Error("boom"))),
    watch
  ]);
  await subscribed(broker, 1);
  const emit = emitterOf(broker);
  await Promise.all(Array.from({ length: MANY }, (_, n) => emit("order.created", { n })));
  const item = { outcome: "handled", attempt: 1, durationMs: 1 };
  for (let n = 0; n < MANY; n++) {
    const body = JSON.stringify({ v: 1, group: "stock", nodeID: "n", items: [{ ...item, id: `nobody-${n}` }] });
    await courierOf(broker).publish({
      to: { queue: `${made.namespace}.reliable.receipts.outbox` },
      messageId: `receipt-${n}`,
      type: "reliable.receipt",
      headers: {},
      body: Buffer.from(body)
    });
  }
  await until(
    () => told.length,
    count => count === 2 * MANY
  );
  const lines = (pattern: RegExp) => made.logs.filter(line => / warn /.test(line) && pattern.test(line));
  expect(lines(/is dead/)).toHaveLength(1);
  expect(lines(/Parked a message/)).toHaveLength(1);
  await broker.stop();
  const last = new RegExp(`\\(and ${MANY - 2} more like it in the last minute\\)$`);
  expect(lines(/is dead/).map(line => last.test(line))).toEqual([false, true]);
  expect(lines(/Parked a message/).map(line => last.test(line))).toEqual([false, true]);
});
