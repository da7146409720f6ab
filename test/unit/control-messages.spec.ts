import { expect, it } from "vitest";
import type { Courier, Outcome } from "../../src/couriers/courier";
import { hasProcess } from "../../src/outbound/control-messages";
import { type Clock, systemClock } from "../../src/platform/clock";

/** A courier whose publishes end so, one after the other, the last one for ever; and how long was waited. */
function answering(...outcomes: Outcome[]) {
  let now = 0;
  const clock: Clock = {
    ...systemClock,
    monotonic: () => now,
    sleep: async ms => {
      now += ms;
    }
  };
  const left = [...outcomes];
  const publish = async () => ({ outcome: (left.length > 1 ? left.shift() : left[0]) as Outcome });
  return { courier: { publish } as unknown as Courier, clock, waited: () => now };
}

const SUBSCRIPTION = { group: "stock", queue: "reliable.on.stock/order.created" };

it.each<[what: string, outcomes: Outcome[], lives: boolean | undefined]>([
  ["heard", ["confirmed"], true],
  ["heard by nobody", ["returned"], false],
  ["a queue that is just going: nacked, and then not there", ["nacked", "nacked", "returned"], false],
  ["a queue that takes nothing for a moment", ["nacked", "confirmed"], true],
  ["no answer", ["unknown", "confirmed"], undefined]
])("whether a process lives: %s", async (_, outcomes, lives) => {
  const { courier, clock } = answering(...outcomes);
  expect(await hasProcess(courier, SUBSCRIPTION, clock)).toBe(lives);
});

it("nacked for longer than a queue takes to go, it is not told, after about a second", async () => {
  const { courier, clock, waited } = answering("nacked");
  expect(await hasProcess(courier, SUBSCRIPTION, clock)).toBeUndefined();
  expect(waited()).toBe(1000);
});
