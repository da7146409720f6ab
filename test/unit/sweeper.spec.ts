import { expect, it, onTestFinished } from "vitest";
import { Deadline } from "../../src/async/deadline";
import { systemClock } from "../../src/platform/clock";
import type { SweepParts } from "../../src/sweeper/sweep-parts";
import { Sweeper } from "../../src/sweeper/sweeper";
import type { Turns } from "../../src/sweeper/turns";

/** A sweeper that sweeps once an hour, and whose passes are `pass`, which is told its number. */
function world(pass: (n: number) => Promise<void>) {
  const listeners = new Map<string, (_told: unknown) => void>();
  let passes = 0;
  const parts = {
    courier: { on: () => () => undefined, ready: true },
    store: { ready: true, features: {}, onReady: () => () => undefined },
    subscriptions: { refresh: () => pass(++passes) },
    events: {
      on: (name: string, listener: (_told: unknown) => void) => {
        listeners.set(name, listener);
        return () => undefined;
      },
      emit: () => undefined
    },
    logger: { debug: () => undefined },
    clock: systemClock
  } as unknown as SweepParts;
  const options = { works: true, everyMs: 3_600_000, partitions: 1, retainMs: 1000 };
  const sweeper = new Sweeper(parts, { look: async () => undefined } as unknown as Turns, undefined, options);
  return { sweeper, tell: (name: string, what: string) => listeners.get(name)?.(what) };
}

it("a stop gives up a pass that does not come to its end", async () => {
  let begun = () => {};
  const begins = new Promise<void>(resolve => (begun = resolve));
  const { sweeper } = world(() => {
    begun();
    // A frozen broker holds up a page for as long as its heartbeat.
    return new Promise<never>(() => undefined);
  });
  sweeper.start();
  await begins;
  await sweeper.stop(new Deadline(50));
  expect(sweeper.sweeping).toBe(false);
});

it("what it is told in the middle of a pass is looked for after it: the pass may have looked already", async () => {
  let told = () => {};
  const { sweeper, tell } = await new Promise<ReturnType<typeof world>>(begun => {
    const made = world(async n => {
      if (n > 1) return told();
      begun(made);
      await new Promise(resolve => (told = () => resolve(undefined)));
      throw new Error("the test's pass ends here");
    });
    made.sweeper.start();
  });
  onTestFinished(() => sweeper.stop(new Deadline(50)));
  tell("toDo", "due");
  // Timers of one length run out in their order: what it was told has been taken up.
  await systemClock.sleep(0);
  const again = new Promise<void>(resolve => {
    const end = told;
    told = resolve;
    end();
  });
  await again;
});
