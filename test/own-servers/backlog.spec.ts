import v8 from "node:v8";
import { expect, it } from "vitest";
import { cluster, until } from "../support/brokers";
import { ownServer } from "../support/own-servers";
import { runtimeOf, storeOf } from "../support/runtime";
import { consumer, emitter, emitterOf, subscribed } from "../support/services";

// A small bench:memory, with counts for the memory; alone, because it takes the whole machine for half a minute.
const MESSAGES = 20_000;
const PAGE = 200;
const IN_FLIGHT = 100;
const AT_ONCE = 500;

/**
 * Of what is in hand each message has some promises, and a consumption fetches up to a thousand ahead of its handlers:
 * that many are held, of however many messages there are. Bodies of messages and their like, and promises, that are reachable: with one per message kept they would be
 * MESSAGES more.
 */
const held = () => [Uint8Array, Promise].map(kind => v8.queryObjects(kind as never, { format: "count" }));

it("20,000 emits while the broker blocks, and the backlog drained: never more in hand than pages and windows", {
  timeout: 420_000
}, async () => {
  const made = cluster();
  const rabbit = await ownServer("rabbitmq");
  // A pass has to go on while there is something due: with a pause after each page this would take more than 8
  // minutes.
  const options = { amqp: rabbit.url, pageSize: PAGE, sweepEveryMs: 10_000, receiptTimeoutMs: 3_600_000 };
  const handled = new Set<number>();
  const node = await made.node("node", [
    emitter(made.mixin(options)),
    consumer(
      made.mixin(options),
      "stock",
      "order.created",
      ({ params: { n } }: { params: { n: number } }) => void handled.add(n),
      { reliable: { maxInFlight: IN_FLIGHT } }
    )
  ]);
  await subscribed(node, 1);
  const emit = emitterOf(node);
  const { courier } = runtimeOf(node);
  const store = storeOf(node);
  const status = () => courier?.status() ?? expect.fail("no courier");
  await emit("order.created", { n: MESSAGES }, { waitFor: "consumed" });
  await rabbit.ctl("-q", "set_vm_memory_high_watermark", "0");
  await emit("order.created", { n: MESSAGES + 1 });
  await until(() => status().blocked);
  await until(() => status().inFlight === 0, Boolean, 30_000);

  const before = held();
  for (let emitted = 0; emitted < MESSAGES; emitted += AT_ONCE)
    await Promise.all(
      Array.from({ length: AT_ONCE }, (_, i) => emit("order.created", { n: emitted + i, text: "x".repeat(500) }))
    );
  const blocked = held();
  expect((await store.messages.stats()).byStatus.pending).toBeGreaterThanOrEqual(MESSAGES);

  const claimed: number[] = [];
  const inFlight: number[] = [];
  const samples: number[][] = [];
  const claim = store.messages.claim.bind(store.messages);
  store.messages.claim = async query => {
    const page = await claim(query);
    claimed.push(page.length);
    inFlight.push(status().inFlight);
    if (claimed.length % 10 === 0) samples.push(held());
    return page;
  };
  await rabbit.ctl("-q", "set_vm_memory_high_watermark", "0.6");
  await until(
    () => handled.size,
    size => size === MESSAGES + 2,
    300_000
  );
  await until(
    () => store.messages.stats(),
    // Of consumed ones no more than 10,000 are counted.
    ({ byStatus: { pending, published, dead } }) => pending + published + dead === 0,
    30_000
  );

  expect(Math.max(...claimed)).toBeLessThanOrEqual(PAGE);
  // Full pages, each message once; but what the broker was asked for at the moment it came back may be taken again.
  expect(claimed.reduce((sum, n) => sum + n, 0) - MESSAGES).toBeLessThanOrEqual(2 * PAGE);
  expect(claimed.filter(count => count > 0).length - MESSAGES / PAGE).toBeLessThan(20);
  expect(Math.max(...inFlight)).toBeLessThanOrEqual(PAGE + IN_FLIGHT);
  const grown = [blocked, ...samples].map(sample => sample.map((count, i) => count - (before[i] ?? 0)));
  expect(samples.length).toBeGreaterThan(2);
  for (const counts of grown) expect(Math.max(...counts), JSON.stringify(grown)).toBeLessThan(MESSAGES / 4);
});
