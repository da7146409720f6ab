import * as real from "@opentelemetry/api";
import * as lowest from "opentelemetry-api-lowest";
import { describe, expect, it, vi } from "vitest";
import type { Courier, Delivery } from "../../src/couriers/courier";
import { systemClock } from "../../src/platform/clock";
import type { Warnings } from "../../src/platform/warnings";
import { loadOpenTelemetry, type OpenTelemetryApi } from "../../src/telemetry/open-telemetry/api";
import { MessagingAttributes } from "../../src/telemetry/open-telemetry/attributes";
import { MessageSpans } from "../../src/telemetry/open-telemetry/message-spans";
import { carrierOf, read, traceOf, write } from "../../src/telemetry/open-telemetry/trace-context";
import { type Envelope, parseEnvelope } from "../../src/wire/envelope";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const SPAN = "b7ad6b7169203331";
const traceparent = `00-${TRACE}-${SPAN}-01`;

it("what is used of the API is there, as it is written down, in the lowest version that package.json admits too", () => {
  const apis: OpenTelemetryApi[] = [real, lowest, loadOpenTelemetry()];
  const shapeOf = (value: object, depth: number): object =>
    Object.fromEntries(
      Object.entries(value).map(([name, part]) => [
        name,
        depth && typeof part === "object" ? shapeOf(part as object, depth - 1) : typeof part
      ])
    );
  for (const api of apis) {
    const { context, propagation, trace } = api;
    const tracer = trace.getTracer("test", "1", { schemaUrl: "https://opentelemetry.io/schemas/1.44.0" });
    const span = tracer.startSpan("one", { kind: api.SpanKind.CLIENT, attributes: {} }, context.active());
    const carrier = {};
    const above = trace.setSpan(api.ROOT_CONTEXT, span);
    propagation.inject(above, carrier);
    const set = trace.setSpanContext(propagation.extract(api.ROOT_CONTEXT, carrier), span.spanContext());
    expect(trace.getSpanContext(set)).toEqual(span.spanContext());
    expect(api.isSpanContextValid(span.spanContext())).toBe(false);
    expect(context.with(above, () => 42)).toBe(42);
    span.setAttributes({ a: 1 });
    span.setStatus({ code: api.SpanStatusCode.ERROR, message: "no" });
    span.updateName("two");
    span.recordException({ name: "Error", message: "no" });
    span.end();
  }
  expect(shapeOf({ kinds: real.SpanKind, codes: real.SpanStatusCode }, 1)).toEqual(
    shapeOf({ kinds: lowest.SpanKind, codes: lowest.SpanStatusCode }, 1)
  );
});

describe("trace context", () => {
  it.each([
    [
      { traceparent, tracestate: "a=1,b=2" },
      { traceparent, tracestate: "a=1,b=2" }
    ],
    [{ traceparent, tracestate: "" }, { traceparent }],
    [{ traceparent, tracestate: "a=1\r\nx: y" }, { traceparent }],
    [{ traceparent, tracestate: `a=${"x".repeat(512)}` }, { traceparent }],
    [{ traceparent: "00-xyz", tracestate: "a=1" }, undefined],
    [{ b3: "1" }, undefined],
    [{}, undefined]
  ] as [Record<string, string>, object | undefined][])("of a propagator: %j → %j", (carrier, expected) => {
    expect(traceOf(carrier)).toEqual(expected);
  });

  it("is read as it is written", () => {
    const spanContext = { traceId: TRACE, spanId: SPAN, traceFlags: 1 };
    expect(write(spanContext)).toEqual({ traceparent });
    expect(read(write(spanContext))).toEqual({ ...spanContext, isRemote: true });
    expect(read({ traceparent: "00-xyz" })).toBeUndefined();
    expect(carrierOf({ tracestate: "a=1" })).toBeUndefined();
  });

  it.each([
    [{ traceparent, tracestate: "a=1" }, "a=1"],
    [{ tracestate: "a=1" }, undefined],
    ...["", 7, null, {}, "a=1\n", "x".repeat(513)].map(tracestate => [{ traceparent, tracestate }, undefined] as const)
  ] as [Record<string, unknown>, string | undefined][])(
    "of a message is left out where it cannot be read, and nothing is parked for it: %j",
    (own, expected) => {
      const headers = {
        ...{ "x-reliable-version": 1, "x-reliable-attempt": 1, "x-reliable-receipt": "q", "x-reliable-producer": "p" },
        ...own
      };
      const { origin } = parseEnvelope({ messageId: "1", type: "a", headers, body: Buffer.from("{}") });
      expect(origin.tracestate).toBe(expected);
    }
  );
});

const courier = (address?: string) =>
  ({
    features: { shared: true, durable: true },
    status: () => ({ publish: { address }, consume: { address } })
  }) as unknown as Courier;
const delivery = { queue: "q", body: Buffer.from("{}") } as Delivery;
const envelope = { id: "1", event: "e", attempt: 1, strategy: "outbox", origin: {} } as Envelope;

it.each([
  ["rabbit.test:5671", { "server.address": "rabbit.test", "server.port": 5671 }],
  ["[::1]:5672", { "server.address": "::1", "server.port": 5672 }],
  [undefined, {}]
])("the server of %s", (address, expected) => {
  const attributes = new MessagingAttributes(courier(address), "ex", systemClock).ofDelivery(
    ...(["process", envelope, delivery, "g"] as const)
  );
  const server = Object.fromEntries(Object.entries(attributes).filter(([name]) => name.startsWith("server.")));
  expect(server).toEqual(expected);
});

it.each([
  [{ exchange: "ex", routingKey: "e" }, "ex:e:q"],
  [{ exchange: "", routingKey: "q" }, "q"],
  [undefined, "q"]
])("the destination of a delivery by %j is %s", (fields, expected) => {
  const attributes = new MessagingAttributes(courier(), "ex", systemClock).ofDelivery(
    ...(["process", envelope, { ...delivery, original: fields && { fields } }, "g"] as const)
  );
  expect(attributes["messaging.destination.name"]).toBe(expected);
});

it("a span ends once: what comes after a stop changes nothing", () => {
  const end = vi.fn();
  const span = { setAttributes: vi.fn(), setStatus: vi.fn(), recordException: vi.fn(), end };
  const api = { ...(real as OpenTelemetryApi), trace: { ...real.trace, getTracer: () => ({ startSpan: () => span }) } };
  const parts = { courier: courier(), exchange: "ex", warnings: { warn: vi.fn() } as unknown as Warnings };
  const open = new MessageSpans({ ...parts, clock: systemClock, api: api as never }).settle(envelope, delivery, "g");
  open?.end(new Error("stopped"));
  open?.end();
  expect(end).toHaveBeenCalledTimes(1);
});

describe("a context manager that fails", () => {
  const failing = (order: "before" | "after"): OpenTelemetryApi => ({
    ...(real as OpenTelemetryApi),
    context: {
      active: () => real.ROOT_CONTEXT,
      with: (_, work) => {
        if (order === "after") work();
        throw new Error("broken");
      }
    }
  });
  const spansOf = (order: "before" | "after") => {
    const warn = vi.fn();
    const parts = { courier: courier(), exchange: "ex", warnings: { warn } as unknown as Warnings, clock: systemClock };
    return { span: new MessageSpans({ ...parts, api: failing(order) }).process(envelope, delivery, "g"), warn };
  };

  it.each(["before", "after"] as const)("%s the handler neither hides what it returns nor runs it twice", order => {
    const { span, warn } = spansOf(order);
    const work = vi.fn(() => 42);
    expect(span?.run(work)).toBe(42);
    expect(work).toHaveBeenCalledTimes(1);
    expect(warn).toHaveBeenCalledTimes(1);
  });

  it.each(["before", "after"] as const)("%s the handler leaves its error as it is", order => {
    const { span } = spansOf(order);
    const work = vi.fn(() => {
      throw new Error("mine");
    });
    expect(() => span?.run(work)).toThrow("mine");
    expect(work).toHaveBeenCalledTimes(1);
  });
});
