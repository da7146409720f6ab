import { context, propagation, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import type { SpanProcessor } from "@opentelemetry/sdk-trace-base";
import { describe, expect, it, vi } from "vitest";
import { backend, type Cluster, cluster, until } from "../support/brokers";
import { courierOf, foreignGroup, rowOf } from "../support/runtime";
import {
  consumer,
  emitter,
  emitterOf,
  errorOf,
  oneNode,
  reaches,
  serviceOf,
  story,
  subscribed
} from "../support/services";
import { idOf, linksOf, telemetry, told, traceOf } from "../support/telemetry";

const on = { openTelemetry: true };
/** As in a request that is traced. */
const within = <T>(name: string, work: () => Promise<T>): Promise<T> =>
  trace.getTracer("the user's own").startActiveSpan(name, span => work().finally(() => span.end()));

const stock = (made: Cluster, handler: () => unknown, options: object = {}) =>
  consumer(made.mixin({ ...on, ...options }), "stock", "order.created", handler);

/** On RabbitMQ a destination is exchange, routing key and queue; within one process there are neither of the first two. */
function destinations({ namespace }: Cluster) {
  const exchange = `${namespace}.reliable.events`;
  const queue = `${namespace}.reliable.on.stock/order.created`;
  const routed = backend === "real" ? `${exchange}:order.created:${queue}` : queue;
  return { exchange: `${exchange}:order.created`, queue, routed };
}

const system =
  backend === "real"
    ? { "messaging.system": "rabbitmq", "server.address": expect.any(String), "server.port": expect.any(Number) }
    : { "messaging.system": "moleculer-reliable-emit" };
const routingKey = (key: string) => (backend === "real" ? { "messaging.rabbitmq.destination.routing_key": key } : {});

const failing = (times: number) => () => {
  if (times-- > 0) throw new TypeError("out of stock");
};

describe("an emit", () => {
  it("is sent, processed and settled in the trace that it is made in, from node to node", async () => {
    const made = cluster();
    const { operation, spans } = telemetry();
    const consumers = await made.node("consumers", [stock(made, () => within("reserve", async () => undefined))]);
    await made.node("producers", [{ name: "orders", mixins: [made.mixin(on)] }]).then(async producers => {
      await subscribed(consumers, 1);
      const reliable = serviceOf(producers, "orders");
      await within("request", () =>
        reliable.reliableEmit("order.created", { a: 1 }, { id: "o-1", ctx: { id: "c", requestID: "r-1", meta: {} } })
      );
    });
    const [send] = await operation("send", 1);
    const [process] = await operation("process", 1);
    const [settle] = await operation("settle", 1);
    const named = (name: string) => spans().find(span => span.name === name);
    const { exchange, routed } = destinations(made);
    const common = {
      ...system,
      "messaging.message.id": "o-1",
      "messaging.message.conversation_id": "r-1",
      "messaging.message.body.size": 7,
      "reliable.event": "order.created",
      "reliable.strategy": "outbox",
      "reliable.attempt": 1
    };
    const operated = (type: string, destination: string) => ({
      "messaging.operation.type": type,
      "messaging.operation.name": type,
      "messaging.destination.name": destination
    });
    const status = { code: SpanStatusCode.UNSET };
    expect(told(send as never)).toEqual({
      ...{ name: `send ${exchange}`, kind: SpanKind.PRODUCER, status, events: [] },
      attributes: {
        ...{ ...common, ...operated("send", exchange), ...routingKey("order.created") },
        "reliable.outcome": "confirmed"
      }
    });
    const consumed = { ...common, ...routingKey("order.created"), "messaging.consumer.group.name": "stock" };
    expect(told(process as never)).toEqual({
      ...{ name: `process ${routed}`, kind: SpanKind.CONSUMER, status, events: [] },
      attributes: { ...consumed, ...operated("process", routed) }
    });
    expect(told(settle as never)).toEqual({
      ...{ name: `settle ${routed}`, kind: SpanKind.CLIENT, status, events: [] },
      attributes: { ...consumed, ...operated("settle", routed) }
    });
    const parents = [send, process, settle, named("reserve")].map(span => span?.parentSpanContext?.spanId);
    expect(parents).toEqual([idOf(named("request")), idOf(send), idOf(process), idOf(process)]);
    expect(new Set(spans().map(traceOf)).size).toBe(1);
    expect([send, process, settle].flatMap(linksOf)).toEqual([]);
  });

  it("keeps its context in the row, and in the headers of the message", async () => {
    const made = cluster();
    const { operation } = telemetry();
    const seen: unknown[] = [];
    const { broker, emit } = await oneNode(made, [
      consumer(made.mixin(on), "stock", "order.created", ctx => void seen.push(ctx.locals))
    ]);
    const { id } = await emit("order.created", {}, { waitFor: "consumed" });
    const [send] = await operation("send", 1);
    const traceparent = `00-${traceOf(send)}-${idOf(send)}-01`;
    expect((await rowOf(broker, id)).origin).toMatchObject({ traceparent });
    expect(seen).toMatchObject([{ reliable: { traceparent } }]);
  });

  it("brings a tracestate along, to every attempt and to consumers in other languages", async () => {
    const made = cluster();
    const { operation, spans } = telemetry();
    const { broker, emit } = await oneNode(made, [stock(made, failing(1))]);
    const { deliveries } = await foreignGroup(broker, "audit", "order.created");
    await subscribed(broker, 2);
    const request = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", tracestate: "vendor=1" };
    const { id } = await context.with(propagation.extract(ROOT_CONTEXT, request), () => emit("order.created", {}));
    const processes = await operation("process", 2);
    await until(() => deliveries.length);
    const send = spans().find(({ kind }) => kind === SpanKind.PRODUCER);
    const trace = { traceparent: `00-0af7651916cd43dd8448eb211c80319c-${idOf(send)}-01`, tracestate: "vendor=1" };
    expect(deliveries[0]?.headers).toMatchObject(trace);
    expect((await rowOf(broker, id)).origin).toMatchObject(trace);
    expect(processes.map(span => span.spanContext().traceState?.serialize())).toEqual(["vendor=1", "vendor=1"]);
    expect(await story(broker, id)).toMatchObject({ traceID: "0af7651916cd43dd8448eb211c80319c" });
  });

  it("is below the traceparent that came with its context, where no span is active", async () => {
    const made = cluster();
    const { operation, spans } = telemetry();
    const { emit } = await oneNode(made, [stock(made, () => undefined)]);
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    await emit("order.created", {}, { headers: { traceparent }, waitFor: "consumed" });
    const [send] = await operation("send", 1);
    const [process] = await operation("process", 1);
    expect(send?.parentSpanContext).toMatchObject({ spanId: "b7ad6b7169203331", isRemote: true });
    expect([traceOf(send), traceOf(process)]).toEqual(Array(2).fill("0af7651916cd43dd8448eb211c80319c"));
    await within("request", () => emit("order.created", {}, { headers: { traceparent } }));
    const [, below] = await operation("send", 2);
    const request = spans().find(({ name }) => name === "request");
    expect(below?.parentSpanContext?.spanId).toBe(idOf(request));
  });

  it("of a handler is below the handler", async () => {
    const made = cluster();
    const { operation } = telemetry();
    const relay = {
      ...stock(made, () => undefined),
      events: {
        "order.created": {
          reliable: true,
          handler(this: { reliableEmit(...args: unknown[]): Promise<unknown> }) {
            return this.reliableEmit("stock.reserved", {});
          }
        }
      }
    };
    const { broker, emit } = await oneNode(made, [
      relay,
      consumer(made.mixin(on), "mail", "stock.reserved", () => undefined)
    ]);
    await subscribed(broker, 2);
    await emit("order.created", {});
    const sends = await operation("send", 2);
    const processes = await operation("process", 2);
    const of = (found: typeof sends, event: string) => found.find(span => span.attributes["reliable.event"] === event);
    expect(of(sends, "stock.reserved")?.parentSpanContext?.spanId).toBe(idOf(of(processes, "order.created")));
    expect(new Set([...sends, ...processes].map(traceOf)).size).toBe(1);
  });

  it("of many at once is a span each", async () => {
    const made = cluster();
    const { operation } = telemetry();
    const { broker } = await oneNode(made, [stock(made, () => undefined)]);
    const items = ["o-1", "o-2", "o-3"].map(id => ({ event: "order.created", payload: {}, id }));
    await within("request", () => serviceOf(broker, "emitter").reliableEmitMany(items));
    const sends = await operation("send", 3);
    const processes = await operation("process", 3);
    const ids = (found: typeof sends) => found.map(({ attributes }) => attributes["messaging.message.id"]).toSorted();
    expect([ids(sends), ids(processes)]).toEqual([
      ["o-1", "o-2", "o-3"],
      ["o-1", "o-2", "o-3"]
    ]);
    expect(new Set(sends.map(span => span.parentSpanContext?.spanId)).size).toBe(1);
    expect(processes.map(span => span.parentSpanContext?.spanId).toSorted()).toEqual(sends.map(idOf).toSorted());
  });

  it("that is sent later is created now, and sent by a child that is linked to it", async () => {
    const made = cluster();
    const { operation } = telemetry();
    const { emit } = await oneNode(made, [stock(made, () => undefined)]);
    await within("request", () => emit("order.created", {}, { delayMs: 50 }));
    const [create] = await operation("create", 1);
    const [send] = await operation("send", 1);
    const [process] = await operation("process", 1);
    expect(create).toMatchObject({ name: `create ${destinations(made).exchange}`, kind: SpanKind.PRODUCER });
    expect([send?.kind, send?.parentSpanContext?.spanId, linksOf(send)]).toEqual([
      ...[SpanKind.CLIENT, idOf(create), [idOf(create)]]
    ]);
    expect(process?.parentSpanContext?.spanId).toBe(idOf(create));
  });

  it("with a business write is created with it, and sent after it", async () => {
    const made = cluster();
    const { operation } = telemetry();
    const mixin = made.mixin({ ...on, sources: ["orders.find"] });
    const orders = { name: "orders", mixins: [mixin], actions: { find: () => ({}) } };
    const broker = await made.node("node-1", [orders, stock(made, () => undefined)]);
    const commit = () => within("write", async () => undefined);
    await within("request", () =>
      serviceOf(broker, "orders").reliableEmit("order.created", {}, { commit, source: { action: "orders.find" } })
    );
    const [create] = await operation("create", 1);
    const [send] = await operation("send", 1);
    expect([send?.parentSpanContext?.spanId, linksOf(send)]).toEqual([idOf(create), [idOf(create)]]);
  });

  it("to several named groups is created, and sent to each of them", async () => {
    const made = cluster();
    const { operation } = telemetry();
    const { broker, emit } = await oneNode(made, [
      stock(made, () => undefined),
      consumer(made.mixin(on), "mail", "order.created", () => undefined)
    ]);
    await subscribed(broker, 2);
    await emit("order.created", {}, { groups: ["stock", "mail"] });
    const [create] = await operation("create", 1);
    const sends = await operation("send", 2);
    expect(sends.map(({ attributes }) => attributes["reliable.group"]).toSorted()).toEqual(["mail", "stock"]);
    expect(sends.map(span => span.parentSpanContext?.spanId)).toEqual(Array(2).fill(idOf(create)));
    expect(sends.flatMap(linksOf)).toEqual(Array(2).fill(idOf(create)));
  });

  it("that is refused, and one that no queue takes, have failed", async () => {
    const made = cluster();
    const { spans } = telemetry();
    const broker = await made.node("node-1", [emitter(made.mixin(on))]);
    const emit = emitterOf(broker);
    const error = { code: SpanStatusCode.ERROR, message: expect.any(String) };
    /** Not those of a sweep. */
    const emits = (count: number) =>
      until(
        () => spans().filter(({ kind }) => kind === SpanKind.PRODUCER),
        found => found.length === count
      );
    await emit("order.created", { a: 1 }, { id: "o-1" });
    const [returned] = await emits(1);
    expect(returned).toMatchObject({
      status: error,
      attributes: { "error.type": "returned", "reliable.outcome": "returned" }
    });
    await errorOf(emit("order.created", { a: 2 }, { id: "o-1" }));
    const [, refused] = await emits(2);
    expect(refused).toMatchObject({ status: error, attributes: { "error.type": "RELIABLE_DUPLICATE_ID" } });
    // It is there, so that nothing is sent.
    await emit("order.created", { a: 1 }, { id: "o-1" });
    const [, , again] = await emits(3);
    expect(again).toMatchObject({
      name: `create ${destinations(made).exchange}`,
      status: { code: SpanStatusCode.UNSET },
      attributes: { "messaging.operation.type": "create" }
    });
  });
});

describe("what is sent again", () => {
  it("after a failure is linked to the first, in a trace of its own; handlers stay in the emit's", async () => {
    const made = cluster();
    const { operation } = telemetry();
    const { broker, emit } = await oneNode(made, [stock(made, failing(1))]);
    const { id } = await within("request", () => emit("order.created", {}));
    await reaches(broker, id, "consumed");
    const [first, second] = await operation("send", 2);
    const [failed, handled] = await operation("process", 2);
    const settled = await operation("settle", 2);
    expect(second).toMatchObject({
      name: `send ${destinations(made).queue}`,
      kind: SpanKind.CLIENT,
      parentSpanContext: undefined,
      attributes: { "reliable.attempt": 2, "reliable.group": "stock", "reliable.outcome": "confirmed" }
    });
    expect(linksOf(second)).toEqual([idOf(first)]);
    expect(traceOf(second)).not.toBe(traceOf(first));
    expect(failed).toMatchObject({
      status: { code: SpanStatusCode.ERROR, message: "out of stock" },
      attributes: { "reliable.attempt": 1, "error.type": "TypeError" },
      events: [{ name: "exception", attributes: { "exception.message": "out of stock" } }]
    });
    expect(handled).toMatchObject({ status: { code: SpanStatusCode.UNSET }, attributes: { "reliable.attempt": 2 } });
    expect([failed, handled].map(span => span?.parentSpanContext?.spanId)).toEqual(Array(2).fill(idOf(first)));
    expect(settled.map(span => span.parentSpanContext?.spanId)).toEqual([failed, handled].map(idOf));
  });

  it("after its confirm was lost is linked to the first, which has failed", async () => {
    const made = cluster();
    const { operation } = telemetry();
    const { broker, emit } = await oneNode(made, [stock(made, () => undefined)]);
    vi.spyOn(courierOf(broker), "publish").mockResolvedValueOnce({ outcome: "unknown", reason: "connection lost" });
    const { id } = await emit("order.created", {});
    await reaches(broker, id, "consumed");
    const [first, second] = await operation("send", 2);
    expect(first).toMatchObject({
      status: { code: SpanStatusCode.ERROR, message: "connection lost" },
      attributes: { "error.type": "unknown" }
    });
    expect(linksOf(second)).toEqual([idOf(first)]);
  });

  it("by a human after its death is linked to the first", async () => {
    const made = cluster();
    const { operation } = telemetry();
    const mixin = made.mixin({ ...on, maxAttempts: 1 });
    const broker = await made.node("node-1", [
      emitter(mixin),
      consumer(mixin, "stock", "order.created", failing(1), { reliable: true })
    ]);
    const { id } = await emitterOf(broker)("order.created", {});
    await reaches(broker, id, "dead");
    await broker.call("reliable.retry", { id });
    await reaches(broker, id, "consumed");
    const [first, second] = await operation("send", 2);
    expect([linksOf(second), second?.attributes["reliable.attempt"]]).toEqual([[idOf(first)], 2]);
  });

  it("by its producer, of strategy callback, is linked to the first", async () => {
    const made = cluster();
    const { operation } = telemetry();
    const options = { strategy: "callback", checkDelaysMs: [300, 600, 1200] } as const;
    const { broker, emit } = await oneNode(made, [stock(made, failing(1), options)]);
    const { id } = await within("request", () => emit("order.created", {}, { strategy: "callback" }));
    await reaches(broker, id, "consumed", 60_000);
    const [first, second] = await operation("send", 2);
    const processes = await operation("process", 2);
    expect(first).toMatchObject({
      kind: SpanKind.PRODUCER,
      attributes: { "reliable.strategy": "callback", "reliable.round": 1 }
    });
    expect(second).toMatchObject({
      kind: SpanKind.CLIENT,
      parentSpanContext: undefined,
      attributes: { "reliable.strategy": "callback", "reliable.round": 2, "reliable.attempt": 2 }
    });
    expect(linksOf(second)).toEqual([idOf(first)]);
    expect(processes.map(span => span.parentSpanContext?.spanId)).toEqual(Array(2).fill(idOf(first)));
  });

  it("and was handled before is settled, and not processed again", async () => {
    const made = cluster();
    const { operation, spans } = telemetry();
    const { broker, emit } = await oneNode(made, [stock(made, () => undefined)]);
    const publish = vi.spyOn(courierOf(broker), "publish");
    await emit("order.created", {}, { waitFor: "consumed" });
    const [first] = publish.mock.calls.flatMap(([publication]) => ("event" in publication.to ? publication : []));
    await courierOf(broker).publish(first as never);
    const settled = await operation("settle", 2);
    const [send] = await operation("send", 1);
    const [process] = await operation("process", 1);
    expect(settled.map(span => span.parentSpanContext?.spanId)).toEqual([idOf(process), idOf(send)]);
    expect(spans()).toHaveLength(4);
  });
});

it("a handler that is late has failed when its time is up, and its end changes nothing", async () => {
  const made = cluster();
  const { operation } = telemetry();
  let finish = (): void => undefined;
  const finished = new Promise<void>(resolve => (finish = resolve));
  const slow = consumer(made.mixin(on), "stock", "order.created", () => finished, {
    reliable: { handlerTimeoutMs: 50, inbox: false }
  });
  const { broker, emit } = await oneNode(made, [slow]);
  const { id } = await emit("order.created", {}, { maxAttempts: 1 });
  const [late] = await operation("process", 1);
  expect(late).toMatchObject({
    status: { code: SpanStatusCode.ERROR },
    attributes: { "error.type": "RELIABLE_HANDLER_TIMEOUT" }
  });
  await operation("settle", 1);
  finish();
  await reaches(broker, id, "consumed");
  await operation("settle", 1);
});

describe("telemetry that fails", () => {
  const broken = () => {
    throw new Error("broken");
  };
  const quiet: SpanProcessor = {
    onStart: () => undefined,
    onEnd: () => undefined,
    forceFlush: async () => undefined,
    shutdown: async () => undefined
  };

  it.each([
    ["a propagator", "propagator", { propagator: { inject: broken, extract: broken, fields: () => [] } }],
    ["a processor that is told of a begin", "span", { processor: { ...quiet, onStart: broken } }],
    ["a processor that is told of an end", "span", { processor: { ...quiet, onEnd: broken } }],
    ["a sampler", "span", { sampler: { shouldSample: broken, toString: () => "broken" } }]
  ])("as %s harms no message, and is told once", async (_, what, setup) => {
    const made = cluster();
    telemetry(setup);
    const handled: unknown[] = [];
    const { broker, emit } = await oneNode(made, [
      consumer(made.mixin(on), "stock", "order.created", ctx => {
        handled.push(ctx.params);
        if (handled.length === 1) throw new Error("not yet");
      })
    ]);
    const emitted = await Promise.all([emit("order.created", { n: 1 }), emit("order.created", { n: 2 })]);
    for (const { id } of emitted) await reaches(broker, id, "consumed");
    expect(handled).toHaveLength(3);
    expect(made.logs.filter(line => line.includes("OpenTelemetry has failed"))).toEqual([
      expect.stringMatching(new RegExp(`^node-1 warn .*\\(${what}: broken\\)`))
    ]);
  });

  it("as a propagator leaves traces whole: the message has its context all the same", async () => {
    const made = cluster();
    const { operation } = telemetry({ propagator: { inject: broken, extract: broken, fields: () => [] } });
    const { broker, emit } = await oneNode(made, [stock(made, failing(1))]);
    const { id } = await emit("order.created", {});
    await reaches(broker, id, "consumed");
    const [first, second] = await operation("send", 2);
    const processes = await operation("process", 2);
    expect(linksOf(second)).toEqual([idOf(first)]);
    expect(processes.map(span => span.parentSpanContext?.spanId)).toEqual(Array(2).fill(idOf(first)));
  });
});

it("without the option there is no span, and a traceparent goes as it came", async () => {
  const made = cluster();
  const { spans } = telemetry();
  const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", () => undefined)]);
  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  const { id } = await emit("order.created", {}, { headers: { traceparent }, waitFor: "consumed" });
  expect((await rowOf(broker, id)).origin).toMatchObject({ traceparent });
  await until(() => broker.getLocalService("stock"));
  expect(spans()).toEqual([]);
});
