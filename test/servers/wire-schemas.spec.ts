import type { Context } from "moleculer";
import { MongoServerError } from "mongodb";
import { expect, it } from "vitest";
import type { ReliableLocals } from "../../mixins/reliable-context";
import { systemQueues } from "../../src/wire/names";
import { cluster, until } from "../support/brokers";
import { type Captured, capture } from "../support/capture";
import { addJobOf, jobQueue, queued } from "../support/queues";
import { atBroker } from "../support/rabbitmq";
import { foreignGroup, sendReceipt, sendsReceipts } from "../support/runtime";
import { asDocument, faults, type SchemaName } from "../support/schemas";
import { emitter, emitterOf, errorOf, reaches, serviceOf } from "../support/services";
import { asked, echoOf, LADDER, world } from "../support/strategies";

const header = ({ headers }: { headers: Record<string, unknown> }, name: string) => headers[`x-reliable-${name}`];

/** By the documents' schemas; and what is true of every message of ours, whatever its kind. */
function conforms(name: SchemaName, seen: Captured[]): void {
  for (const message of seen) {
    const document = asDocument(message);
    const json = ["receipt", "announcement", "withdrawal"].includes(name);
    expect(faults(name, json ? document["body"] : document), `${name} ${message.type} ${message.routingKey}`).toEqual(
      []
    );
    expect(message).toMatchObject({
      messageId: expect.any(String),
      deliveryMode: 2,
      timestamp: expect.any(Number),
      correlationId: expect.any(String),
      contentType: name === "parked" ? "application/octet-stream" : "application/json"
    });
    const plan = header(message, "echo");
    if (plan !== undefined) expect(faults("plan", JSON.parse(plan as string)), "plan").toEqual([]);
  }
}

/** Nobody tracks here: what is sent to those who would is the test's to look at. */
async function untracked() {
  const made = cluster();
  const jobs = jobQueue(made);
  await atBroker(channel => channel.assertQueue(jobs, { durable: true }));
  const handler = (ctx: Context<{ fail?: boolean }>) =>
    ctx.params.fail
      ? Promise.reject(Object.assign(new Error("no"), { code: 5, data: { why: "test" }, retryable: false }))
      : undefined;
  const events = {
    "order.created": { reliable: true, params: { n: "number", $$strict: false }, handler },
    "order.**": { reliable: true, handler }
  };
  const shop = {
    ...{ name: "shop", mixins: [made.mixin({ service: false, checkDelaysMs: LADDER, sources: ["asked.happened"] })] },
    actions: {
      emit(
        this: { reliableEmit(event: string, payload: unknown, options: object): unknown },
        ctx: Context<{ payload: unknown; options: object }>
      ) {
        return this.reliableEmit("order.created", ctx.params.payload, { ctx, ...ctx.params.options });
      }
    }
  };
  const broker = await made.node(
    "node-1",
    [
      shop,
      asked(() => ({ n: 1 })),
      { name: "stock", mixins: [made.mixin({ service: false })], events },
      queued(made, "worker", { service: false, queues: { [jobs]: { settle: "confirm" } } })
    ],
    { tracing: true }
  );
  sendsReceipts(broker);
  const system = systemQueues(made.namespace);
  const seen = await capture(made.namespace, [...Object.values(system), jobs]);
  const emit = (payload: object, options: object = {}, meta: object = {}) =>
    broker.call("shop.emit", { payload, options }, { meta, ...({ headers: { tenant: "a" } } as object) }) as Promise<{
      id: string;
    }>;
  const from = (queue: string, type?: RegExp) =>
    seen.filter(message => message.routingKey === queue && (!type || type.test(message.type as string)));
  return { made, broker, emit, seen, from, system, jobs };
}

it("announcements, events, receipts, checks, withdrawals and parked messages are as their schemas say", {
  timeout: 400_000
}, async () => {
  const { made, broker, emit, seen, from, system } = await untracked();
  await until(() => from(system.announcements).length === 2);
  conforms("announcement", from(system.announcements));
  expect(
    from(system.announcements)
      .map(({ body }) => (JSON.parse(body.toString()) as { group: string }).group)
      .toSorted()
  ).toEqual(["stock", "stock:order.**"]);

  const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  await emit({ n: 1 });
  await emit(
    { n: 2, text: "ü€😀", nothing: null },
    { meta: { a: 1 }, headers: { b: 2, traceparent } },
    { user: { id: 7 } }
  );
  await emit({ n: 3, fail: true });
  await emit({ refused: "by params" });
  await emit({ n: 4 }, { strategy: "callback" });
  await emit({ n: 5, fail: true }, { strategy: "callback", groups: "stock" });
  await emit({ n: 6 }, { strategy: "callback", source: { action: "asked.happened", params: { id: 6 } } });
  await serviceOf(broker, "shop").reliableEmit(
    "order.created",
    { n: 7 },
    { strategy: "callback", commit: () => undefined, source: { action: "asked.happened" } }
  );
  await errorOf(
    serviceOf(broker, "shop").reliableEmit(
      "order.created",
      { n: 8 },
      { strategy: "callback", commit: () => Promise.reject(new Error("rolled back")), barrier: true }
    )
  );
  await atBroker(async channel => {
    channel.sendToQueue(`${made.namespace}.reliable.on.stock/order.created`, Buffer.from([0, 255]), {
      headers: { odd: true }
    });
    await (channel as typeof channel & { waitForConfirms(): Promise<void> }).waitForConfirms();
  });

  // Eight events for two groups each; the ninth was withdrawn.
  const items = (queue: string) =>
    from(queue, /receipt/).flatMap(
      ({ body }) =>
        (JSON.parse(body.toString()) as { items: { outcome: string; rejected?: boolean; echo?: object }[] }).items
    );
  await until(
    () =>
      items(system.receipts).length === 8 &&
      items(system.callbackReceipts).length === 8 &&
      from(system.checks).length === 5 &&
      from(system.callbackReceipts, /withdrawal/).length === 1 &&
      from(system.parked).length === 1
  );
  const events = seen.filter(({ exchange }) => exchange === `${made.namespace}.reliable.events`);
  expect(events).toHaveLength(8);
  conforms("envelope", events);
  conforms("receipt", [...from(system.receipts), ...from(system.callbackReceipts, /receipt/)]);
  conforms("check", from(system.checks));
  conforms("withdrawal", from(system.callbackReceipts, /withdrawal/));
  conforms("parked", from(system.parked));

  // Nothing that the documents name is left out of this test.
  const named = new Set(events.flatMap(({ headers }) => Object.keys(headers)));
  for (const name of [
    "version",
    "strategy",
    "attempt",
    "receipt",
    "store",
    "producer",
    "echo",
    "request-id",
    "parent-id",
    "level",
    "tracing",
    "node",
    "meta",
    "headers",
    "only"
  ])
    expect(named).toContain(`x-reliable-${name}`);
  expect(named).toContain("traceparent");
  // Each costs a message some µs.
  expect(new Set(events.flatMap(({ sent }) => sent))).toEqual(
    new Set(["x-reliable", "x-reliable-echo", "x-reliable-meta", "x-reliable-headers", "traceparent"])
  );
  expect(
    items(system.receipts)
      .map(({ outcome, rejected }) => `${outcome}${rejected ? ", rejected" : ""}`)
      .toSorted()
  ).toEqual(["failed", "failed", "failed, rejected", ...Array<string>(5).fill("handled")]);
  expect(
    items(system.callbackReceipts).filter(({ outcome, echo }) => outcome === "failed" && echo && "body" in echo)
  ).toHaveLength(2);
  expect(
    from(system.checks)
      .map(check => header(check, "intent") ?? "no intent")
      .toSorted()
  ).toEqual(["barrier", "no intent", "no intent", "no intent", "source"]);
  expect(from(system.checks).filter(({ body }) => !body.length)).toHaveLength(2);
  expect(new Set(from(system.parked).map(({ body }) => [...body].join()))).toEqual(new Set(["0,255"]));
});

it("a receipt tells how often its handler ran, where that is more than once", async () => {
  const made = cluster();
  const events = {
    "order.created": {
      reliable: true,
      handler(ctx: Context<{ n: number }>) {
        const { run } = (ctx.locals as { reliable: ReliableLocals }).reliable;
        if (run === ctx.params.n) return;
        throw new MongoServerError({ message: "WriteConflict", errorLabels: ["TransientTransactionError"] });
      }
    }
  };
  const stock = { name: "stock", mixins: [made.mixin({ service: false, inbox: "transaction" })], events };
  const broker = await made.node("node-1", [emitter(made.mixin({ service: false })), stock]);
  sendsReceipts(broker);
  const { receipts } = systemQueues(made.namespace);
  const captured = await capture(made.namespace, [receipts]);
  const seen = () => captured.filter(({ routingKey }) => routingKey === receipts);
  for (const n of [1, 3, 99]) await emitterOf(broker)("order.created", { n }, { id: `of ${n}` });
  type Items = { items: { id: string; outcome: string; runs?: number }[] };
  const items = () => seen().flatMap(({ body }) => (JSON.parse(body.toString()) as Items).items);
  await until(() => items().length === 3);
  conforms("receipt", seen());
  expect(new Map(items().map(({ id, outcome, runs }) => [id, [outcome, runs]]))).toEqual(
    new Map([
      ["of 1", ["handled", undefined]],
      ["of 3", ["handled", 3]],
      ["of 99", ["failed", 8]]
    ])
  );
});

it("a job to a queue that is nobody's group is as its schema says, and so is the receipt its sender gives itself", async () => {
  const { broker, from, jobs, system } = await untracked();
  await addJobOf(broker, "worker")(jobs, { to: "a" }, { strategy: "callback" });
  await until(() => from(jobs).length === 1 && from(system.callbackReceipts).length === 1);
  conforms("job", from(jobs));
  conforms("receipt", from(system.callbackReceipts));
});

it.each(["outbox", "callback"] as const)("%s: what is sent again is as its schema says", async strategy => {
  const { made, broker, emit } = await world(strategy, {});
  const far = await foreignGroup(broker, "far", "order.created");
  const { id } = await emit("order.created", { n: 1 });
  await until(() => far.deliveries.length === 1);
  const address =
    strategy === "callback" ? systemQueues(made.namespace).callbackReceipts : systemQueues(made.namespace).receipts;
  const [first] = far.deliveries;
  const echo =
    strategy === "callback"
      ? { echo: { ...echoOf(first as never), headers: first?.headers, body: first?.body.toString("base64") } }
      : {};
  const failed = {
    id,
    outcome: "failed" as const,
    retryable: true,
    error: { name: "Error", message: "not yet" },
    attempt: 1,
    durationMs: 1,
    ...echo
  };
  expect(faults("receipt", { v: 1, group: "far", nodeID: "elsewhere", items: [failed] })).toEqual([]);
  expect(header(first as never, "receipt")).toBe(address);
  await sendReceipt(broker, "far", failed);
  const [, again] = await until(
    () => far.deliveries,
    deliveries => deliveries.length === 2
  );
  expect(again?.headers).toMatchObject({ "x-reliable-attempt": 2, "x-reliable-groups": "far" });
  const { messageId, type, headers, body } = again as NonNullable<typeof again>;
  expect(faults("envelope", asDocument({ messageId, type, headers, body }))).toEqual([]);
  await sendReceipt(broker, "far", {
    id,
    attempt: 2,
    ...(strategy === "callback" && { echo: echoOf(again as never) })
  });
  await reaches(broker, id, "consumed");
});
