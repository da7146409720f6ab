import { afterEach, beforeEach, expect, it, vi } from "vitest";
import type { Heard, Listener } from "../../src/couriers/courier";
import { SweepNews, type SweepNewsParts } from "../../src/inbound/sweep-news";
import { systemClock } from "../../src/platform/clock";
import { Events } from "../../src/telemetry/events";
import { CONTROL_TYPE, type Look, sweepNewsOf } from "../../src/wire/control";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

const heard = (body: Buffer, type: string = CONTROL_TYPE): Heard => {
  return { queue: "control", messageId: "m", type, appId: undefined, headers: {}, body };
};

function world() {
  const logger = { error: vi.fn(), warn: vi.fn(), info: vi.fn(), debug: vi.fn() };
  const events = new Events(logger);
  const listening: Listener[] = [];
  const listen = (_key: string, listener: Listener) => {
    listening.push(listener);
    return () => void listening.splice(0);
  };
  const parts = { courier: { control: { listen } }, signatures: undefined, events, logger, clock: systemClock };
  const news = new SweepNews(parts as unknown as SweepNewsParts);
  const told: Look[] = [];
  events.on("toDo", look => told.push(look));
  news.start();
  return { news, told, hear: (message?: Heard) => listening[0]?.(message) };
}

it("what was told before it heard is looked for when it begins to hear", () => {
  const { told, hear } = world();
  hear();
  expect(told).toEqual(["bulks"]);
});

it("news without end is a look of each kind in 250 ms", () => {
  const { told, hear } = world();
  for (let n = 0; n < 1000; n++) {
    hear(heard(sweepNewsOf("due")));
    hear(heard(sweepNewsOf("bulks")));
  }
  expect(told).toEqual(["due"]);
  vi.advanceTimersByTime(249);
  expect(told).toEqual(["due"]);
  vi.advanceTimersByTime(1);
  expect(told).toEqual(["due", "bulks", "due"]);
  vi.advanceTimersByTime(10_000);
  expect(told).toHaveLength(3);
});

it("what is no news of ours starts nothing, and nothing does after the stop", () => {
  const { news, told, hear } = world();
  for (const message of [heard(Buffer.from("[")), heard(sweepNewsOf("due"), "order.created")]) hear(message);
  news.stop();
  hear(heard(sweepNewsOf("due")));
  vi.advanceTimersByTime(1000);
  expect(told).toEqual([]);
});
