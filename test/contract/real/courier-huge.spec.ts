import { randomUUID } from "node:crypto";
import type { Writable } from "node:stream";
import { afterEach, beforeEach, expect, test } from "vitest";
import { AckWindow } from "../../../src/consumer/ack-window";
import { AmqpCourier } from "../../../src/couriers/amqp/courier";
import type { Delivery } from "../../../src/couriers/courier";
import { systemClock } from "../../../src/platform/clock";
import { publication, recordingLogger, uniqueName } from "../../support/couriers";
import { atBroker } from "../../support/rabbitmq";
import { urls } from "../../support/servers";

const MIB = 1024 * 1024;
const HUGE = Buffer.alloc(16 * MIB);
const SMALL = Buffer.from("{}");
/** What a consumption may hold, and one message more. */
const BOUND = 48 * MIB + 64 * 1024;

let namespace: string;
let courier: AmqpCourier;
let queue: string;

beforeEach(async () => {
  namespace = uniqueName("huge");
  queue = `${namespace}.q`;
  courier = new AmqpCourier({
    urls: urls().amqp,
    namespace,
    nodeID: uniqueName("node"),
    logger: recordingLogger(),
    clock: systemClock
  });
  await courier.start();
  await courier.declare({ name: queue });
});

afterEach(async () => {
  await courier.close(0);
  await atBroker(async channel => {
    await channel.deleteQueue(queue);
    await channel.deleteExchange(`${namespace}.reliable.events`);
  });
});

async function fill(...runs: [count: number, body: Buffer][]): Promise<string[]> {
  const ids: string[] = [];
  for (const [count, body] of runs) {
    for (let i = 0; i < count; i++) {
      const id = randomUUID();
      ids.push(id);
      const { outcome } = await courier.publish(publication({ queue }, id, body));
      expect(outcome).toBe("confirmed");
    }
  }
  return ids;
}

/** Takes all that is in the queue and acks it, oldest first, one for each answer of the broker. */
async function consumeAll(count: number, prefetch: number) {
  const held: Delivery[] = [];
  const seen: Delivery[] = [];
  const window = new AckWindow();
  let bytes = 0;
  let most = 0;
  /** The largest number held at once, by how many had come. */
  const heldAt: number[] = [];
  const consumption = await courier.consume({
    queue: { name: queue },
    prefetch,
    onDelivery(delivery) {
      seen.push(delivery);
      held.push(delivery);
      bytes += delivery.body.length;
      most = Math.max(most, bytes);
      heldAt.push(held.length);
    }
  });
  const ids: (string | undefined)[] = [];
  while (ids.length < count) {
    await courier.depth(queue);
    const delivery = held.shift();
    if (!delivery) continue;
    ids.push(delivery.messageId);
    bytes -= delivery.body.length;
    window.settle([delivery]);
    expect(consumption.active).toBe(true);
  }
  await consumption.close();
  return { ids, most, heldAt, tags: seen.map(({ tag }) => tag), epochs: new Set(seen.map(({ epoch }) => epoch)) };
}

test("of huge messages few are held at a time; all come once, and small ones have the full prefetch again", async () => {
  const sent = await fill([30, SMALL], [7, HUGE], [30, SMALL], [5, HUGE], [350, SMALL]);
  const { ids, most, heldAt, tags, epochs } = await consumeAll(sent.length, 1000);
  expect(ids.toSorted()).toEqual(sent.toSorted());
  expect(most).toBeLessThanOrEqual(BOUND);
  expect(most).toBeGreaterThan(32 * MIB);
  expect(tags).toEqual(sent.map((_, i) => i + 1));
  expect(epochs.size).toBe(1);
  expect(Math.max(...heldAt.slice(-150))).toBeGreaterThan(50);
  expect(await courier.depth(queue)).toMatchObject({ ready: 0 });
});

test("a stop in between returns what is held", async () => {
  const sent = await fill([6, HUGE]);
  const taken: Delivery[] = [];
  let full: () => void = () => undefined;
  const tripped = new Promise<void>(resolve => (full = resolve));
  const consumption = await courier.consume({
    queue: { name: queue },
    prefetch: 10,
    onDelivery: delivery => {
      taken.push(delivery);
      if (taken.length === 3) full();
    }
  });
  await tripped;
  await consumption.close();
  expect(taken).toHaveLength(3);
  const { ids } = await consumeAll(sent.length, 10);
  expect(ids.toSorted()).toEqual(sent.toSorted());
});

test("messages of a middling size are taken as many at a time as fit", async () => {
  const sent = await fill([60, Buffer.alloc(MIB)]);
  const { ids, most, heldAt } = await consumeAll(sent.length, 1000);
  expect(ids.toSorted()).toEqual(sent.toSorted());
  expect(most).toBeLessThanOrEqual(33 * MIB + 64 * 1024);
  expect(Math.max(...heldAt.slice(-30))).toBeGreaterThan(5);
});

/** Frames written by hand, since amqplib cannot encode it either: `levels` tables in one another. */
async function sendDeep(levels: number): Promise<void> {
  const sized = (bytes: Buffer) => {
    const size = Buffer.alloc(4);
    size.writeUInt32BE(bytes.length);
    return Buffer.concat([size, bytes]);
  };
  const short = (text: string) => Buffer.concat([Buffer.from([text.length]), Buffer.from(text)]);
  const frame = (type: number, payload: Buffer) =>
    Buffer.concat([Buffer.from([type, 0, 1]), sized(payload), Buffer.from([206])]);
  let bytes = 0;
  const tables: Buffer[] = [];
  for (let i = 0; i < levels; i++) {
    const head = Buffer.from([1, 97, 70, 0, 0, 0, 0]);
    head.writeUInt32BE(bytes, 3);
    tables.unshift(head);
    bytes += head.length;
  }
  const publish = Buffer.concat([Buffer.from([0, 60, 0, 40, 0, 0]), short(""), short(queue), Buffer.from([0])]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64BE(4n);
  const header = Buffer.concat([
    Buffer.from([0, 60, 0, 0]),
    length,
    Buffer.from([0x20, 0]),
    sized(Buffer.concat(tables))
  ]);
  await atBroker(async channel => {
    const { stream } = (channel as unknown as { connection: { stream: Writable } }).connection;
    stream.write(Buffer.concat([frame(1, publish), frame(2, header), frame(3, Buffer.from("deep"))]));
    // The next answer comes after it.
    await channel.checkQueue(queue);
  });
}

test("a message whose headers amqplib cannot decode comes without them, and ends no connection", async () => {
  await sendDeep(15_000);
  await fill([1, SMALL]);
  const seen: Delivery[] = [];
  const both = new Promise<void>(resolve => {
    void courier.consume({
      queue: { name: queue },
      prefetch: 10,
      onDelivery: delivery => {
        seen.push(delivery);
        delivery.ack();
        if (seen.length === 2) resolve();
      }
    });
  });
  await both;
  expect(seen.map(({ body, epoch, redelivered }) => [body.toString(), epoch, redelivered])).toEqual([
    ["deep", 1, false],
    ["{}", 1, false]
  ]);
  const [{ messageId, headers }] = seen as [Delivery];
  expect(messageId).toBeUndefined();
  expect((headers["undecodable-properties"] as Buffer).length).toBeGreaterThan(100_000);
});
