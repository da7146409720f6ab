import { expect, test } from "vitest";
import { Fifo } from "../../src/async/fifo";
import { MemoryCourier } from "../../src/couriers/memory/courier";
import { systemClock } from "../../src/platform/clock";
import { publication, recordingLogger, uniqueName } from "../support/couriers";

test("a fifo keeps order through any mix of pushes, shifts and put-backs", () => {
  const line = new Fifo<number>();
  const model: number[] = [];
  // A fixed pseudo-random walk, long enough to pass the compaction.
  let seed = 1;
  for (let i = 0; i < 100_000; i++) {
    seed = (seed * 48_271) % 2_147_483_647;
    if (seed % 5 < 3) {
      line.push(i);
      model.push(i);
    } else if (seed % 5 === 3) expect(line.shift()).toBe(model.shift());
    else {
      const taken = [line.shift(), line.shift()].filter(item => item !== undefined);
      line.putBack(taken);
    }
    if (line.length !== model.length || line.peek() !== model[0]) throw new Error(`differs at ${i}`);
  }
  expect(line.drain()).toEqual(model);
  expect(line.length).toBe(0);
});

test("memory courier: a backlog of 200 000 is worked off in one go", async () => {
  const courier = new MemoryCourier({ namespace: uniqueName(), logger: recordingLogger(), clock: systemClock });
  await courier.start();
  await courier.declare({ name: "q", bindings: ["#"] });
  const count = 200_000;
  let last: Promise<unknown> = Promise.resolve();
  for (let i = 0; i < count; i++) last = courier.publish(publication({ event: "e" }, `m${i}`, Buffer.from("{}")));
  await last;
  let next = 0;
  await new Promise<void>(resolve => {
    void courier.consume({
      queue: { name: "q", bindings: ["#"] },
      prefetch: 100,
      onDelivery(delivery) {
        if (delivery.messageId !== `m${next}`) throw new Error(`expected m${next}, got ${delivery.messageId}`);
        delivery.ack();
        if (++next === count) resolve();
      }
    });
  });
  expect(await courier.depth("q")).toMatchObject({ ready: 0 });
  await courier.close();
});
