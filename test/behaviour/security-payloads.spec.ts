import type { Context } from "moleculer";
import { expect, it } from "vitest";
import type { Broker } from "../../mixins/broker";
import { nodeOf } from "../../mixins/node";
import { cluster, text, until } from "../support/brokers";
import { consumer, emitter, emitterOf, errorOf, reaches, subscribed } from "../support/services";

const MARK = "card-4111111111111111";
/** As it is, and as it travels in a receipt that brings the message back. */
const FORMS = [
  MARK,
  Buffer.from(MARK).toString("base64").slice(0, 16),
  Buffer.from(` ${MARK}`).toString("base64").slice(4, 20),
  Buffer.from(MARK).toString("hex").slice(0, 20)
];

const marked = (lines: string[]) =>
  lines.filter(line => FORMS.some(form => line.includes(form))).map(line => line.slice(0, 600));

it("a payload is in no log line, error, metric or event, however it fails", { timeout: 400_000 }, async () => {
  const made = cluster();
  const told: string[] = [];
  const mixin = made.mixin({
    maxAttempts: 2,
    maxPayloadBytes: 1000,
    handlerTimeoutMs: 200,
    sources: ["nowhere.asked"]
  });
  const broker = await made.node(
    "node-1",
    [
      emitter(mixin),
      consumer(mixin, "fails", "order.failed", () => {
        throw new Error("out of stock");
      }),
      consumer(mixin, "slow", "order.slow", () => new Promise(() => undefined)),
      consumer(mixin, "checks", "order.checked", () => undefined, { params: { card: "number", $$strict: true } }),
      consumer(mixin, "fine", "order.fine", () => undefined),
      {
        name: "ears",
        events: { "$reliable.**": (ctx: Context) => void told.push(`${ctx.eventName} ${text(ctx.params)}`) }
      }
    ],
    { metrics: true }
  );
  await subscribed(broker, 4);
  const emit = emitterOf(broker);
  const payload = { card: MARK };
  for (const strategy of ["outbox", "callback"] as const) {
    for (const event of ["order.failed", "order.slow", "order.checked"]) {
      const { id } = await emit(event, payload, {
        strategy,
        maxAttempts: 2,
        meta: { card: MARK },
        groups: { "order.failed": "fails", "order.slow": "slow" }[event] ?? "checks"
      });
      await reaches(broker, id, "dead");
    }
    await emit("order.fine", payload, { strategy, groups: "fine", waitFor: "consumed" });
  }
  const { id } = await emit("nobody.listens", payload, { groups: "nobody", unroutableMs: 0 });
  await reaches(broker, id, "dead");
  await emit("order.fine", payload, { id: "twice" });
  const circular: Record<string, unknown> = { card: MARK };
  circular.self = circular;
  const refused = [
    emit("order.fine", { card: MARK.repeat(100) }),
    emit("order.fine", { card: MARK, n: 1n }),
    emit("order.fine", circular),
    emit("order.fine", { ...payload, more: true }, { id: "twice" }),
    emit("order.fine", payload, { meta: { card: MARK.repeat(10_000) } }),
    emit("order.fine", payload, {
      groups: "fine",
      commit: () => {
        throw new Error("no");
      },
      source: { action: "nowhere.asked", params: payload }
    })
  ];
  for (const error of await Promise.all(refused.map(errorOf))) told.push(text(error));

  // What comes from the wire and cannot be read.
  const { courier, identity } = nodeOf(broker as Broker).runtime;
  const wire = (queue: string, body: string, headers: Record<string, unknown> = {}) =>
    courier?.publish({
      to: { queue: `${identity.namespace}.reliable.${queue}` },
      messageId: "foreign",
      type: "foreign",
      headers,
      body: Buffer.from(body)
    });
  const envelope = { "x-reliable-version": 1, "x-reliable-receipt": "nowhere", "x-reliable-attempt": 1 };
  const sent: [string, string, Record<string, unknown>?][] = [
    ["on.fine/order.fine", JSON.stringify(payload)],
    ["on.fine/order.fine", `{ "card": "${MARK}`, envelope],
    ["on.fine/order.fine", JSON.stringify(payload), { ...envelope, "x-reliable-version": MARK }],
    ["on.fine/order.fine", JSON.stringify(payload), { ...envelope, "x-reliable-attempt": MARK }],
    ["on.fine/order.fine", JSON.stringify(payload), { ...envelope, "x-reliable-meta": `{${MARK}` }],
    ["receipts.outbox", MARK],
    ["receipts.outbox", JSON.stringify({ v: payload })],
    ["receipts.callback", JSON.stringify({ v: MARK })],
    ["announcements", JSON.stringify({ v: MARK })],
    ["checks", JSON.stringify(payload)]
  ];
  for (const [queue, body, headers] of sent) await wire(queue, body, headers);
  await until(
    () => broker.call<{ total: number }, object>("reliable.parked", {}),
    ({ total }) => total >= sent.length
  );
  // What operators list; `get` and `parked` show payloads, that is what they are for.
  for (const action of ["list", "stats", "health", "subscriptions", "audits", "$node.metrics"])
    told.push(JSON.stringify(await broker.call(action.startsWith("$") ? action : `reliable.${action}`, {})));
  await broker.call("reliable.discard", { id, note: "x" });
  told.push(JSON.stringify(await broker.call("reliable.audits", {})));
  expect(made.logs.length).toBeGreaterThan(50);
  expect(told.length).toBeGreaterThan(10);
  // Moleculer's own validator is not ours: it logs what it refused with the value.
  expect(marked(made.logs.filter(line => !/VALIDATION_ERROR|ValidationError/.test(line)))).toEqual([]);
  expect(marked(told)).toEqual([]);
});
