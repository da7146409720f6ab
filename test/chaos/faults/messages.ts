import { type ConsumeMessage, connect } from "amqplib";
import { eventQueue, systemQueues } from "../../../src/wire/names";
import type { Fault, Run } from "../run";

const TEN_MINUTES = 600_000;

/** Takes receipts away from the trackers and gives them back later, twice, and in another order. */
const replay: Fault = {
  name: "receipts-replayed",
  title: "receipts held back, doubled and put in another order on their way to the tracker",
  async inject(run) {
    const connection = await connect(run.servers.nodes[0] as string);
    const channel = await connection.createConfirmChannel();
    await channel.prefetch(200);
    const { receipts, callbackReceipts } = systemQueues(run.namespace);
    const held: { queue: string; message: ConsumeMessage }[] = [];
    const tags: string[] = [];
    for (const queue of [receipts, callbackReceipts]) {
      const { consumerTag } = await channel.consume(queue, message => void (message && held.push({ queue, message })));
      tags.push(consumerTag);
    }
    let replayed = 0;
    for (let i = 0; i < 6; i++) {
      await run.sleep(1000);
      if (i === 5) for (const tag of tags) await channel.cancel(tag);
      const mine = held.splice(0);
      const twice = run.shuffled([...mine, ...mine]);
      for (const { queue, message } of twice)
        channel.sendToQueue(queue, message.content, { ...message.properties, persistent: true });
      await channel.waitForConfirms();
      for (const { message } of mine) channel.ack(message);
      replayed += mine.length;
    }
    run.progress(`${replayed} receipts doubled`);
    if (!replayed) throw new Error("No receipt came by.");
    await connection.close();
  }
};

/** What a stranger may put into the queues: each is parked, and nothing else is harmed. */
const foreign: Fault = {
  name: "foreign-messages",
  title: "poison (every 20th), unparsable, oversized and foreign messages mixed into every queue",
  shape: { poisonEvery: 20 },
  async inject(run) {
    const connection = await connect(run.servers.nodes[0] as string);
    const channel = await connection.createConfirmChannel();
    const system = systemQueues(run.namespace);
    const queues = [
      eventQueue(run.namespace, "off", "order.plain"),
      eventQueue(run.namespace, "on", "order.kept"),
      eventQueue(run.namespace, "tx", "order.ledger"),
      system.receipts,
      system.callbackReceipts,
      system.checks,
      system.announcements
    ];
    const bodies = [
      Buffer.from("not JSON"),
      Buffer.from("null"),
      Buffer.alloc(0),
      Buffer.from([0xff, 0xfe, 0x00]),
      Buffer.from('{"v":99}'),
      Buffer.alloc(3_000_000, 120)
    ];
    let sent = 0;
    for (const body of bodies) {
      for (const queue of run.shuffled(queues)) {
        channel.sendToQueue(queue, body, {
          persistent: true,
          messageId: `foreign-${sent++}`,
          headers: { "x-reliable-version": run.pick(["1", "7", "x"]) }
        });
        await run.sleep(run.int(10, 100));
      }
    }
    await channel.waitForConfirms();
    await connection.close();
    return sent;
  }
};

const clock = (node: string, what: string, ms: number): Fault => ({
  name: `clock-${node.replace(/\d/, "")}-${ms > 0 ? "ahead" : "behind"}`,
  title: `the clock of ${what} 10 minutes ${ms > 0 ? "ahead" : "behind"}, a consumer killed twice`,
  shape: { clockMs: { [node]: ms } },
  async inject(run) {
    for (let i = 0; i < 2; i++) await run.bounce(run.pick(["consumer1", "consumer2"]));
  }
});

export const messageFaults: Fault[] = [
  replay,
  foreign,
  clock("sweeper1", "a sweeper", TEN_MINUTES),
  clock("sweeper1", "a sweeper", -TEN_MINUTES),
  clock("producer1", "a producer", TEN_MINUTES),
  clock("producer1", "a producer", -TEN_MINUTES),
  clock("callback1", "the callback service", TEN_MINUTES),
  clock("consumer1", "a consumer", -TEN_MINUTES)
];

/** The run without a fault, to compare with. */
export const calm: Fault = {
  name: "calm",
  title: "no fault",
  inject: async (run: Run) => void (await run.sleep(1000))
};
