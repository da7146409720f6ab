import { createHash } from "node:crypto";
import type { Channel } from "amqplib";
import type { Context, ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import type { ReliableError } from "../../src";
import { delayQueueDeclaration } from "../../src/couriers/amqp/topology";
import { MAX_PARKED_BYTES } from "../../src/inbound/parked-messages";
import { systemQueues } from "../../src/wire/names";
import { cluster, until } from "../support/brokers";
import { atBroker } from "../support/rabbitmq";
import { storeOf } from "../support/runtime";
import { consumer, type Emit, oneNode, subscribed } from "../support/services";

/** RabbitMQ's largest. */
const LARGEST = 16 * 1024 * 1024;
const HUGE = Buffer.alloc(LARGEST, 'x"');
const SHA256 = createHash("sha256").update(HUGE).digest("hex");

/** Of every type of AMQP that amqplib can send, near to the limit of its frame. */
const HEADERS = {
  "$where.a": { "b.$c": [1, null, true, { d: 2 ** 60 }] },
  bytes: Buffer.alloc(40_000, 7),
  at: { "!": "timestamp", value: 1_700_000_000 },
  price: { "!": "decimal", value: { digits: 199, places: 2 } },
  long: "y".repeat(20_000)
};

interface ParkedRow {
  id: string;
  queue: string;
  bytes: number;
  sha256?: string;
  cut: boolean;
}

interface Told {
  error: ReliableError;
}

function parkedRows(broker: ServiceBroker, count: number): Promise<ParkedRow[]> {
  return until(
    () => broker.call<{ rows: ParkedRow[] }, object>("reliable.parked", { pageSize: 100 }),
    ({ rows }) => rows.length >= count
  ).then(({ rows }) => rows);
}

async function confirmed(channel: Channel): Promise<void> {
  await (channel as Channel & { waitForConfirms(): Promise<void> }).waitForConfirms();
}

/** One node that emits, consumes and tracks. */
async function started() {
  const made = cluster();
  const told: string[] = [];
  const seen: string[] = [];
  const watch = {
    name: "watch",
    events: { "$reliable.error": (ctx: Context<Told>) => void told.push(ctx.params.error.type) }
  };
  const { broker, emit } = await oneNode(made, [
    watch,
    consumer(made.mixin(), "stock", "order.created", (ctx: Context<{ n: string }>) => void seen.push(ctx.params.n))
  ]);
  await subscribed(broker, 1);
  return { made, broker, emit, told, seen, queues: systemQueues(made.namespace) };
}

/** Emits until it is stopped; then all of them must have been handled. */
function load(emit: Emit, seen: string[]) {
  const sent: string[] = [];
  let on = true;
  const running = (async () => {
    for (let n = 0; on; n++) {
      const strategy = n % 2 ? "outbox" : "callback";
      await emit("order.created", { n: String(n) }, { strategy });
      sent.push(String(n));
    }
  })();
  return async () => {
    on = false;
    await running;
    await until(
      () => new Set(seen),
      handled => sent.every(n => handled.has(n))
    );
    return sent;
  };
}

it("the largest that RabbitMQ carries is parked in every queue of ours, cut, while a load goes on", async () => {
  const { made, broker, emit, told, seen, queues } = await started();
  const stop = load(emit, seen);
  const group = `${made.namespace}.reliable.on.stock/order.created`;
  const delayed = delayQueueDeclaration(queues.checks, 100);
  const targets: string[] = [...Object.values(queues), group];
  await atBroker(async channel => {
    await channel.assertQueue(delayed.name, { durable: true, arguments: delayed.arguments });
    for (const queue of [...targets, delayed.name]) {
      channel.sendToQueue(queue, HUGE, { persistent: true, messageId: `for ${queue}`, headers: HEADERS });
      await confirmed(channel);
    }
  });
  // That of the delay queue is found where it has waited for.
  const found = [...targets, queues.checks].toSorted();
  const rows = await parkedRows(broker, found.length);
  expect(rows.map(({ queue }) => queue).toSorted()).toEqual(found);
  for (const row of rows) expect(row).toMatchObject({ bytes: LARGEST, sha256: SHA256, cut: true });
  const whole = await storeOf(broker).parked.find(rows.map(({ id }) => id));
  for (const { body, cut, headers } of whole) {
    expect(body.equals(HUGE.subarray(0, MAX_PARKED_BYTES))).toBe(true);
    expect(cut).toEqual({ bytes: LARGEST, sha256: SHA256 });
    expect(JSON.stringify(headers)).toContain("$where.a");
  }
  expect((await stop()).length).toBeGreaterThan(10);
  await until(
    () => atBroker(async channel => Promise.all([...targets, delayed.name].map(q => channel.checkQueue(q)))),
    depths => depths.every(({ messageCount }) => messageCount === 0)
  );
  expect(told).toEqual(found.map(() => "RELIABLE_PARKED"));
  expect(await broker.call("reliable.stats")).toMatchObject({ node: { parked: found.length } });
});
