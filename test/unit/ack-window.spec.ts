import { expect, it } from "vitest";
import { AckWindow } from "../../src/consumer/ack-window";
import type { Delivery } from "../../src/couriers/courier";

/** What the broker counts as acked: `epoch/tag`, each once. */
function channels() {
  const acked: string[] = [];
  const delivered: Record<number, number[]> = {};
  const deliver = (epoch: number): Delivery => {
    const tags = (delivered[epoch] ??= []);
    const tag = tags.push(tags.length + 1);
    const ack = (upTo: boolean) => () => {
      for (const each of tags.filter(each => each === tag || (upTo && each < tag)))
        if (!acked.includes(`${epoch}/${each}`)) acked.push(`${epoch}/${each}`);
      return true;
    };
    return { epoch, tag, ack: ack(false), ackUpTo: ack(true) } as unknown as Delivery;
  };
  return { acked, deliver };
}

it("while a consumption moves to another connection, what ends on either is acked there, and nothing else", () => {
  const { acked, deliver } = channels();
  const window = new AckWindow();
  const [a1, a2, a3, a4] = [deliver(1), deliver(1), deliver(1), deliver(1)];
  const [b1, b2] = [deliver(2), deliver(2)];
  window.settle([a2]);
  expect(acked).toEqual(["1/2"]);
  // In one batch, the first of the new connection after one of the old.
  window.settle([a3, b1]);
  expect(acked).toEqual(["1/2", "1/3", "2/1"]);
  window.settle([a1]);
  expect(acked).toEqual(["1/2", "1/3", "2/1", "1/1"]);
  window.settle([b2, a4]);
  expect(acked.toSorted()).toEqual(["1/1", "1/2", "1/3", "1/4", "2/1", "2/2"]);
});
