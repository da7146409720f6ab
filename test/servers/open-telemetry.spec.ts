import { SpanKind, trace } from "@opentelemetry/api";
import { type ClientSession, MongoClient, MongoServerError } from "mongodb";
import { expect, it, onTestFinished } from "vitest";
import { prefixOf } from "../../src/wire/names";
import { cluster } from "../support/brokers";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, reaches, subscribed } from "../support/services";
import { idOf, linksOf, telemetry, traceOf } from "../support/telemetry";

const on = { openTelemetry: true };

/** By it the first run of a handler is undone. */
const conflict = () => new MongoServerError({ message: "WriteConflict", errorLabels: ["TransientTransactionError"] });

async function client(): Promise<MongoClient> {
  const made = await new MongoClient(urls().mongo).connect();
  onTestFinished(() => made.close());
  return made;
}

it("an emit in a transaction is created in it, and sent after its commit by a child that is linked to it", async () => {
  const made = cluster();
  const { operation, spans } = telemetry();
  const mongo = await client();
  const mixin = made.mixin({ ...on, mongo });
  const broker = await made.node("node-1", [
    emitter(mixin),
    consumer(mixin, "stock", "order.created", () => undefined)
  ]);
  await subscribed(broker, 1);
  await trace.getTracer("the user's own").startActiveSpan("request", async request => {
    await mongo.withSession(session =>
      session.withTransaction(() => emitterOf(broker)("order.created", {}, { id: "o-1", session }))
    );
    request.end();
  });
  await reaches(broker, "o-1", "consumed");
  const [create] = await operation("create", 1);
  const [send] = await operation("send", 1);
  const [process] = await operation("process", 1);
  const request = spans().find(({ name }) => name === "request");
  expect([create, send, process].map(span => span?.kind)).toEqual([
    ...[SpanKind.PRODUCER, SpanKind.CLIENT, SpanKind.CONSUMER]
  ]);
  expect([create, send, process].map(span => span?.parentSpanContext?.spanId)).toEqual([
    ...[idOf(request), idOf(create), idOf(create)]
  ]);
  expect(linksOf(send)).toEqual([idOf(create)]);
});

it("a handler in a transaction is one span, whatever its runs; what it emits is created below it", async () => {
  const made = cluster();
  const { operation } = telemetry();
  const mongo = await client();
  const rows = mongo.db("reliable_test").collection<{ _id: string; n: number }>(`${prefixOf(made.namespace)}.stock`);
  await rows.insertOne({ _id: "sku-1", n: 0 });
  const mixin = made.mixin({ ...on, mongo });
  let runs = 0;
  const relay = {
    name: "stock",
    mixins: [mixin],
    events: {
      "order.created": {
        reliable: { inbox: "transaction" },
        async handler(this: { reliableEmit(...args: unknown[]): Promise<unknown> }, ctx: { locals: object }) {
          const { session } = (ctx.locals as { reliable: { session: ClientSession } }).reliable;
          await rows.updateOne({ _id: "sku-1" }, { $inc: { n: 1 } }, { session });
          await this.reliableEmit("stock.reserved", {}, { ctx });
          if (++runs === 1) throw conflict();
        }
      }
    }
  };
  const broker = await made.node("node-1", [
    emitter(mixin),
    relay,
    consumer(mixin, "mail", "stock.reserved", () => undefined)
  ]);
  await subscribed(broker, 2);
  const { id } = await emitterOf(broker)("order.created", {});
  await reaches(broker, id, "consumed");
  const processes = await operation("process", 2);
  const creates = await operation("create", 2);
  const handled = processes.find(({ attributes }) => attributes["reliable.event"] === "order.created");
  expect(creates.map(span => span.parentSpanContext?.spanId)).toEqual(creates.map(() => idOf(handled)));
  expect(new Set([...processes, ...creates].map(traceOf)).size).toBe(1);
});

it("what another node sends later, from the store, is in the emit's trace", async () => {
  const made = cluster();
  const { operation } = telemetry();
  const consumers = await made.node("consumers", [consumer(made.mixin(on), "stock", "order.created", () => undefined)]);
  const producers = await made.node("producers", [emitter(made.mixin({ ...on, service: false }))]);
  await subscribed(consumers, 1);
  const { id } = await emitterOf(producers)("order.created", {}, { delayMs: 500 });
  await producers.stop();
  await reaches(consumers, id, "consumed");
  const [create] = await operation("create", 1);
  const [send] = await operation("send", 1);
  const [process] = await operation("process", 1);
  expect([send, process].map(span => span?.parentSpanContext)).toMatchObject(
    Array(2).fill({ spanId: idOf(create), isRemote: true })
  );
  expect(linksOf(send)).toEqual([idOf(create)]);
});
