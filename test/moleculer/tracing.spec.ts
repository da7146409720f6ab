import type { ReadableSpan } from "@opentelemetry/sdk-trace-base";
import { type Context, type Span, TracerExporters } from "moleculer";
import { describe, expect, it } from "vitest";
import { type Cluster, cluster, until } from "../support/brokers";
import { consumer, emitter, emitterOf, errorOf, subscribed } from "../support/services";
import { telemetry, traceOf } from "../support/telemetry";

const line = process.env["MOLECULER_LINE"];
const TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/** Keeps finished spans, as Zipkin or Jaeger would get them. */
class Keeper extends (TracerExporters.Base as unknown as new (options: object) => object) {
  constructor(readonly spans: Span[]) {
    super({});
  }

  spanStarted(): void {}

  spanFinished(span: Span): void {
    this.spans.push(span);
  }

  stop(): Promise<void> {
    return Promise.resolve();
  }
}

function tracing(spans: Span[]): object {
  return { tracing: { enabled: true, events: true, exporter: new Keeper(spans) } };
}

const orders = (made: Cluster) => ({
  name: "orders",
  mixins: [made.mixin()],
  actions: {
    async create(this: { reliableEmit(...args: unknown[]): Promise<unknown> }, ctx: Context<{ events: string[] }>) {
      await Promise.all(
        ctx.params.events.map(event => this.reliableEmit(event, { secret: "payload" }, { ctx, waitFor: "consumed" }))
      );
      return ctx.requestID;
    }
  }
});

describe("Moleculer's tracer", () => {
  it("sees one trace from the emit to the handlers on another node, retries included", async () => {
    const made = cluster();
    const spans: Span[] = [];
    let failures = 1;
    const handler = () => {
      if (failures-- > 0) throw new Error("not yet");
    };
    const consumers = await made.node(
      "consumers",
      [
        consumer(made.mixin(), "stock", "order.created", handler),
        consumer(made.mixin(), "mail", "order.paid", () => undefined)
      ],
      tracing(spans)
    );
    const producers = await made.node("producers", [orders(made)], tracing(spans));
    await subscribed(consumers, 2);
    const requestID = await producers.call<string, object>("orders.create", {
      events: ["order.created", "order.paid"]
    });

    const named = (name: string) => spans.filter(span => span.name === name);
    const [action] = named("action 'orders.create'");
    // Two emits at a time are brothers, not one within the other.
    for (const [event, group, attempts] of [
      ["order.created", "stock", 2],
      ["order.paid", "mail", 1]
    ] as const) {
      const [emit] = await until(
        () => named(`reliable emit '${event}'`),
        found => found.length === 1
      );
      const handled = await until(
        () => named(`event '${event}' in '${group}'`),
        found => found.length === attempts
      );
      expect(emit).toMatchObject({
        traceID: requestID,
        parentID: action?.id,
        sampled: true,
        service: { fullName: "orders" },
        tags: { eventName: event, waitFor: "consumed", status: "consumed", id: expect.any(String) }
      });
      expect(handled.map(({ traceID, parentID }) => [traceID, parentID])).toEqual(
        Array(attempts).fill([requestID, emit?.id])
      );
      expect(JSON.stringify(emit?.tags)).not.toContain("payload");
    }
  });

  it("gets a trace of its own for an emit without a context", async () => {
    const made = cluster();
    const spans: Span[] = [];
    const broker = await made.node(
      "node-1",
      [emitter(made.mixin()), consumer(made.mixin(), "stock", "order.created", () => undefined)],
      tracing(spans)
    );
    await emitterOf(broker)("order.created", {}, { waitFor: "consumed" });
    const [emit] = spans.filter(({ name }) => name === "reliable emit 'order.created'");
    const [handled] = await until(
      () => spans.filter(({ name }) => name.startsWith("event 'order.created'")),
      found => found.length === 1
    );
    expect(emit?.parentID).toBeUndefined();
    expect(handled).toMatchObject({ traceID: emit?.traceID, parentID: emit?.id });
  });

  it("sees the error of an emit that was refused, and nothing of a trace that is not sampled", async () => {
    const made = cluster();
    const spans: Span[] = [];
    const broker = await made.node(
      "node-1",
      [emitter(made.mixin()), consumer(made.mixin(), "stock", "order.created", () => undefined)],
      tracing(spans)
    );
    const error = await errorOf(emitterOf(broker)("$bad", {}));
    expect(spans).toMatchObject([{ name: "reliable emit '$bad'", error: { type: error.type } }]);
    const ctx = { id: "ctx-1", requestID: "request-1", tracing: false, level: 1, meta: {} };
    const emitted = await emitterOf(broker)("order.created", {}, { ctx, waitFor: "consumed" });
    expect(emitted.status).toBe("consumed");
    expect(spans).toHaveLength(1);
  });
});

it("Moleculer's tracer and OpenTelemetry are beside each other: each has its own spans, as without the other", async () => {
  const made = cluster();
  const { operation } = telemetry();
  const spans: Span[] = [];
  const mixin = made.mixin({ openTelemetry: true });
  const broker = await made.node(
    "node-1",
    [emitter(mixin), consumer(mixin, "stock", "order.created", () => undefined)],
    tracing(spans)
  );
  await emitterOf(broker)("order.created", {}, { waitFor: "consumed" });
  await operation("settle", 1);
  const [emit] = spans.filter(({ name }) => name === "reliable emit 'order.created'");
  const [handled] = await until(
    () => spans.filter(({ name }) => name.startsWith("event 'order.created'")),
    found => found.length === 1
  );
  expect(handled).toMatchObject({ traceID: emit?.traceID, parentID: emit?.id });
  const [send] = await operation("send", 1);
  const [process] = await operation("process", 1);
  for (const { attributes } of [send, process] as ReadableSpan[])
    expect(attributes["messaging.message.conversation_id"]).toBe(emit?.traceID);
  expect(process?.parentSpanContext?.spanId).toBe(send?.spanContext().spanId);
  expect(traceOf(send)).not.toBe(emit?.traceID);
});

describe("W3C traceparent", () => {
  interface Seen {
    locals: string | undefined;
    headers: unknown;
  }

  const look = (ctx: Context<never>): Seen => ({
    locals: (ctx.locals as { reliable: { traceparent?: string } }).reliable.traceparent,
    headers: (ctx as { headers?: { traceparent?: unknown } }).headers?.traceparent
  });

  it.each([
    ["the emit's headers", { headers: { traceparent: TRACEPARENT } }],
    ["the context's headers", { ctx: { id: "1", meta: {}, headers: { traceparent: TRACEPARENT } } }],
    ["the context's meta", { ctx: { id: "1", meta: { traceparent: TRACEPARENT } } }]
  ])("travels from %s to the handler, and on from its context", async (_, options) => {
    const made = cluster();
    const seen: Seen[] = [];
    const relay = {
      ...consumer(made.mixin(), "stock", "order.created", () => undefined),
      events: {
        "order.created": {
          reliable: true,
          async handler(this: { reliableEmit(...args: unknown[]): Promise<unknown> }, ctx: Context<never>) {
            seen.push(look(ctx));
            await this.reliableEmit("stock.reserved", {}, { ctx });
          }
        }
      }
    };
    const broker = await made.node("node-1", [
      emitter(made.mixin()),
      relay,
      consumer(made.mixin(), "mail", "stock.reserved", ctx => void seen.push(look(ctx)))
    ]);
    await subscribed(broker, 2);
    await emitterOf(broker)("order.created", {}, options);
    await until(
      () => seen.length,
      count => count === 2
    );
    expect(seen).toEqual(Array(2).fill({ locals: TRACEPARENT, headers: line === "0.15" ? TRACEPARENT : undefined }));
  });

  it("of another shape does not travel", async () => {
    const made = cluster();
    const seen: Seen[] = [];
    const broker = await made.node("node-1", [
      emitter(made.mixin()),
      consumer(made.mixin(), "stock", "order.created", ctx => void seen.push(look(ctx)))
    ]);
    for (const traceparent of ["00-xyz", { deep: true }, `${TRACEPARENT}\r\nx: y`])
      await emitterOf(broker)("order.created", {}, { ctx: { id: "1", meta: { traceparent } }, waitFor: "consumed" });
    expect(seen).toEqual(Array(3).fill({ locals: undefined, headers: undefined }));
  });
});
