import { expect, it, vi } from "vitest";
import type { Clock } from "../../src/platform/clock";
import type { Store } from "../../src/stores/store";
import { HistoryFold } from "../../src/sweeper/history-fold";

const HOUR = 3_600_000;

it("folds and drops all that is old, once an hour, and the first time a while after the start", async () => {
  let now = 0;
  let left = 3;
  const history = { fold: vi.fn(async () => left-- > 0), drop: vi.fn(async () => false) };
  const store = { now: () => new Date(100 * 24 * HOUR + now), history } as unknown as Store;
  const fold = new HistoryFold(store, { monotonic: () => now } as Clock);
  const run = () => fold.run(() => true);
  await run();
  expect(history.fold).not.toHaveBeenCalled();
  now = 300_000;
  await run();
  expect(history.fold.mock.calls).toHaveLength(4);
  expect(history.fold).toHaveBeenLastCalledWith(new Date(99 * 24 * HOUR + now));
  expect(history.drop).toHaveBeenLastCalledWith(new Date(70 * 24 * HOUR + now), 1000);
  now += HOUR - 1;
  await run();
  expect(history.fold.mock.calls).toHaveLength(4);
  now += 1;
  await run();
  expect(history.fold.mock.calls).toHaveLength(5);
});

it("stops with its node, and goes on where it was", async () => {
  const history = { fold: vi.fn(async () => true), drop: vi.fn() };
  const store = { now: () => new Date(), history } as unknown as Store;
  let now = 0;
  const fold = new HistoryFold(store, { monotonic: () => now } as Clock);
  now = 300_000;
  await fold.run(() => history.fold.mock.calls.length < 2);
  expect(history.fold.mock.calls).toHaveLength(2);
  await fold.run(() => history.fold.mock.calls.length < 3);
  expect(history.fold.mock.calls).toHaveLength(3);
});
