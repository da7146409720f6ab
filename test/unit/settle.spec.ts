import { Errors } from "moleculer";
import { describe, expect, it } from "vitest";
import { settle } from "../../src/consumer/settle";
import { handlerNotReached } from "../../src/errors";
import { describeError } from "../../src/message/failure-text";
import type { Envelope } from "../../src/wire/envelope";

const envelope: Envelope = {
  id: "m1",
  event: "order.created",
  payload: {},
  strategy: "outbox",
  attempt: 2,
  receipt: "q",
  producer: "orders",
  meta: {},
  headers: {},
  origin: {},
  handledAs: "m1"
};

it("answers handled with the delivery's own attempt", () => {
  expect(settle(envelope, {}, 12.6)).toEqual({ id: "m1", outcome: "handled", attempt: 2, durationMs: 13 });
});

it("tells how often the handler ran where that is more than once", () => {
  expect(settle(envelope, {}, 5, 3)).toEqual({ id: "m1", outcome: "handled", attempt: 2, durationMs: 5, runs: 3 });
  expect(settle(envelope, { error: new Error("x") }, 5, 8)).toMatchObject({ outcome: "failed", runs: 8 });
  for (const runs of [0, 1]) expect(settle(envelope, {}, 5, runs)).not.toHaveProperty("runs");
});

it("never tells a negative duration", () => {
  expect(settle(envelope, {}, -3).durationMs).toBe(0);
});

describe("whether a failure is worth another attempt", () => {
  const table: [what: string, error: unknown, rejected: boolean, retryable: boolean][] = [
    ["a plain Error says nothing", new Error("x"), false, true],
    ["a string that was thrown", "x", false, true],
    ["null that was thrown", null, false, true],
    ["Moleculer's retryable error", new Errors.MoleculerRetryableError("x"), false, true],
    ["Moleculer's client error", new Errors.MoleculerClientError("x"), false, false],
    ["a validation error of the handler's own", new Errors.ValidationError("x", "T", {}), false, false],
    ["retryable: false on a plain Error", Object.assign(new Error("x"), { retryable: false }), false, false],
    ["retryable that is no boolean says nothing", Object.assign(new Error("x"), { retryable: "no" }), false, true],
    ["refused before the handler", new Error("x"), true, false],
    ["refused by validation", new Errors.ValidationError("x", "T", {}), true, false],
    ["refused by an overload that passes", new Errors.QueueIsFullError({ action: "x", nodeID: "n" }), true, true],
    ["answered by a middleware", handlerNotReached("order.created", "stock"), true, false]
  ];
  it.each(table)("%s (rejected %#: %s)", (_, error, rejected, retryable) => {
    const item = settle(envelope, { error, rejected }, 1);
    expect(item).toMatchObject({ outcome: "failed", retryable });
    expect(item.rejected).toBe(rejected || undefined);
  });
});

describe("errors travel bounded", () => {
  it("keeps name, message, code, type, stack and data", () => {
    const error = new Errors.MoleculerError("boom", 511, "BOOM", { order: 7 });
    expect(describeError(error)).toEqual({
      name: "MoleculerError",
      message: "boom",
      code: 511,
      type: "BOOM",
      stack: expect.stringContaining("MoleculerError: boom"),
      data: '{"order":7}'
    });
  });

  it("cuts every field", () => {
    const long = "x".repeat(100_000);
    const error = Object.assign(new Error(long), { name: long, code: long, type: long, stack: long, data: { long } });
    const described = describeError(error);
    for (const [field, value] of Object.entries(described))
      expect(String(value).length, field).toBeLessThanOrEqual(4000);
    expect(JSON.stringify(described).length).toBeLessThan(8000);
  });

  it.each([
    ["message", (error: Error) => error.message],
    ["stack", (error: Error) => error.stack]
  ])("masks credentials in the %s", field => {
    const described = describeError(new Error("cannot reach amqp://me:secret@host"));
    expect(described[field as "message" | "stack"]).toContain("amqp://***@host");
    expect(JSON.stringify(described)).not.toContain("secret");
  });

  const odd: [what: string, thrown: unknown][] = [
    ["a string", "boom"],
    ["a number", 7],
    ["null", null],
    ["an object without anything", {}],
    ["an object without a prototype", Object.create(null)],
    ["a message that cannot become text", { message: Object.create(null), name: Symbol("x") }],
    [
      "a message that throws",
      Object.defineProperty({}, "message", {
        get: () => {
          throw new Error("gotcha");
        }
      })
    ],
    [
      "circular data",
      (() => {
        const data: { self?: unknown } = {};
        data.self = data;
        return { message: "m", data };
      })()
    ],
    ["data with a BigInt", { message: "m", data: { n: 1n } }]
  ];
  it.each(odd)("copes with %s", (_, thrown) => {
    const described = describeError(thrown);
    expect(typeof described.name).toBe("string");
    expect(typeof described.message).toBe("string");
    JSON.stringify(described);
  });
});
