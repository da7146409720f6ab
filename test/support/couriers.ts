import { randomUUID } from "node:crypto";
import { expect } from "vitest";
import type { Consumption, Courier, Delivery, Publication, PublishResult, QueueSpec } from "../../src/couriers/courier";
import { type Clock, systemClock } from "../../src/platform/clock";
import type { Logger } from "../../src/platform/logger";

export function uniqueName(prefix = "t"): string {
  return `${prefix}-${randomUUID().slice(0, 13)}`;
}

export interface RecordingLogger extends Logger {
  lines: string[];
}

export function recordingLogger(): RecordingLogger {
  const lines: string[] = [];
  const at =
    (level: string) =>
    (...args: unknown[]) =>
      void lines.push(`${level} ${args.map(String).join(" ")}`);
  return { lines, error: at("error"), warn: at("warn"), info: at("info"), debug: at("debug") };
}

export function publication(
  to: Publication["to"],
  messageId: string = randomUUID(),
  body: unknown = { messageId }
): Publication {
  const type = "event" in to ? to.event : "test";
  return { to, messageId, type, body: Buffer.isBuffer(body) ? body : Buffer.from(JSON.stringify(body)), headers: {} };
}

export interface Collected {
  deliveries: Delivery[];
  ids: () => (string | undefined)[];
  /** Resolves when that many have come in all. */
  until(count: number): Promise<Delivery[]>;
  consumption: Consumption;
}

/** Consumes into an array. */
export async function collect(
  courier: Courier,
  queue: QueueSpec,
  {
    prefetch = 100,
    ack = false,
    marks,
    onDelivery
  }: { prefetch?: number; ack?: boolean; marks?: string[]; onDelivery?: (delivery: Delivery) => void } = {}
): Promise<Collected> {
  const deliveries: Delivery[] = [];
  let waiters: { count: number; resolve: () => void }[] = [];
  const consumption = await courier.consume({
    queue,
    prefetch,
    ...(marks && { marks }),
    onDelivery(delivery) {
      deliveries.push(delivery);
      if (ack) delivery.ack();
      const due = waiters.filter(({ count }) => deliveries.length >= count);
      waiters = waiters.filter(({ count }) => deliveries.length < count);
      for (const { resolve } of due) resolve();
      onDelivery?.(delivery);
    }
  });
  return {
    deliveries,
    consumption,
    ids: () => deliveries.map(({ messageId }) => messageId),
    async until(count) {
      if (deliveries.length < count) await new Promise<void>(resolve => waiters.push({ count, resolve }));
      return deliveries;
    }
  };
}

/** A clock that repairs what is declared when the test says so, not from time to time. */
export function repairedByHand(): { clock: Clock; repair(): void } {
  const rounds: (() => void)[] = [];
  const every = (_ms: number, run: () => void) => {
    rounds.push(run);
    return { stop: () => undefined };
  };
  return { clock: { ...systemClock, every }, repair: () => void rounds.map(run => run()) };
}

export function next(courier: Courier, event: "ready" | "down"): Promise<void> {
  return new Promise(resolve => {
    const off = courier.on(event, () => {
      off();
      resolve();
    });
  });
}

export function outcomes(results: PublishResult[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const { outcome } of results) counts[outcome] = (counts[outcome] ?? 0) + 1;
  return counts;
}

/** For what no event tells, such as counters at the broker. */
export async function eventually(check: () => unknown): Promise<void> {
  await expect.poll(async () => (await check()) === true, { timeout: 15_000, interval: 20 }).toBe(true);
}
