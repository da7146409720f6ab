import { expect, it } from "vitest";
import { Deadline } from "../../src/async/deadline";
import { systemClock } from "../../src/platform/clock";
import type { SweepParts } from "../../src/sweeper/sweep-parts";
import { Sweeper } from "../../src/sweeper/sweeper";

it("a stop gives up a pass that does not come to its end", async () => {
  let begun = () => {};
  const begins = new Promise<void>(resolve => (begun = resolve));
  const hangs = new Promise<never>(() => undefined);
  // A frozen broker holds up a page for as long as its heartbeat.
  const refresh = () => {
    begun();
    return hangs;
  };
  const parts = {
    courier: { on: () => () => undefined, ready: true },
    store: { ready: true, features: {}, onReady: () => () => undefined },
    subscriptions: { refresh },
    events: { on: () => () => undefined },
    clock: systemClock
  } as unknown as SweepParts;
  const sweeper = new Sweeper(parts, undefined, { works: true, everyMs: 1000, partitions: 1, retainMs: 1000 });
  await sweeper.start();
  await begins;
  await sweeper.stop(new Deadline(50));
  expect(sweeper.sweeping).toBe(false);
});
