import type { ChannelModel } from "amqplib";
import { expect, it } from "vitest";
import type { AmqpConnection } from "../../src/couriers/amqp/connection";
import { Declarations, type DeclarationsParts } from "../../src/couriers/amqp/declarations";
import { inspectQueue } from "../../src/couriers/amqp/declare";
import { eventsExchange } from "../../src/couriers/amqp/topology";
import { type Clock, systemClock } from "../../src/platform/clock";

const DOWN = "NOT_FOUND - home node 'rabbit@b' of durable queue 'q' in vhost '/' is down or inaccessible";
const MISSING = "NOT_FOUND - no queue 'q' in vhost '/'";
const refusal = (text: string, code = 404) =>
  Object.assign(new Error(`Operation failed: QueueDeclare; ${code} (NOT-FOUND) with message "${text}"`), { code });

/** A broker whose answers no single server here gives: a queue whose node is away for some declares. */
function answering(answers: (Error | undefined)[]): { model: ChannelModel; asked: string[] } {
  const asked: string[] = [];
  const declare = async (name: string) => {
    asked.push(name);
    const answer = answers.shift();
    if (answer) throw answer;
    return { queue: name, messageCount: 0, consumerCount: 0 };
  };
  const channel = {
    on: () => undefined,
    close: async () => undefined,
    assertExchange: async () => undefined,
    bindQueue: async () => undefined,
    assertQueue: declare,
    checkQueue: declare
  };
  return { model: { createChannel: async () => channel } as unknown as ChannelModel, asked };
}

const slept: number[] = [];
const told: Error[] = [];
const clock: Clock = { ...systemClock, sleep: async ms => void slept.push(ms) };

function declarations(model: ChannelModel): Declarations {
  const connection = { model } as unknown as AmqpConnection;
  const logger = { error: () => undefined, warn: () => undefined, info: () => undefined, debug: () => undefined };
  const listeners = { emit: (_: string, error: Error) => void told.push(error) };
  const parts = { exchange: eventsExchange("ns"), connection, logger, clock, listeners };
  return new Declarations(parts as unknown as DeclarationsParts);
}

it("a queue that cannot be reached for a moment is declared again: the start goes on", async () => {
  const { model, asked } = answering([refusal(DOWN), refusal(DOWN)]);
  slept.length = 0;
  await declarations(model).declare({ name: "q" });
  expect(asked).toEqual(["q", "q", "q"]);
  expect(slept).toHaveLength(2);
});

it("one that stays away is told as unavailable, after some seconds, and the start goes on without it", async () => {
  const { model, asked } = answering(Array.from({ length: 20 }, () => refusal(DOWN)));
  slept.length = 0;
  told.length = 0;
  expect(await declarations(model).declare({ name: "q" })).toBe(false);
  expect(told).toEqual([expect.objectContaining({ type: "RELIABLE_UNAVAILABLE", retryable: true })]);
  expect(asked).toHaveLength(8);
  expect(slept.reduce((sum, ms) => sum + ms, 0)).toBeLessThan(10_000);
});

it("other refusals are told at once", async () => {
  const { model, asked } = answering([refusal("PRECONDITION_FAILED - inequivalent arg", 406)]);
  await expect(declarations(model).declare({ name: "q" })).rejects.toMatchObject({ type: "RELIABLE_QUEUE_MISMATCH" });
  expect(asked).toHaveLength(1);
});

it("a queue that cannot be reached is not taken for one that is not there", async () => {
  await expect(inspectQueue(answering([refusal(DOWN)]).model, "q")).rejects.toMatchObject({
    type: "RELIABLE_UNAVAILABLE"
  });
  expect(await inspectQueue(answering([refusal(MISSING)]).model, "q")).toBeUndefined();
});
