import { randomBytes } from "node:crypto";
import type { Context, ServiceBroker } from "moleculer";
import { expect, it, onTestFinished } from "vitest";
import { type Encode, type QueueChannel, type QueueMessage, ReliableAmqpQueue, type ReliableOptions } from "../../src";
import { backend, cluster, until } from "../support/brokers";
import { atBroker } from "../support/rabbitmq";
import { storeOf } from "../support/runtime";
import { consumer, emitter, emitterOf, errorOf, reaches, serviceOf, story, subscribed } from "../support/services";
import { asked, LADDER, localsOf, STRATEGIES, tap } from "../support/strategies";

const SECRET = "Ann Smith";
const payload = { order: 42, name: SECRET };

/** What an encryption looks like from outside: other bytes each time, and nothing of the payload to be seen. */
const seal = (value: unknown) => ({
  nonce: randomBytes(8).toString("hex"),
  sealed: Buffer.from(JSON.stringify(value)).toString("base64")
});
const open = (sealed: unknown) => JSON.parse(Buffer.from((sealed as { sealed: string }).sealed, "base64").toString());
const failing = (): never => {
  throw new Error("no key");
};
const HOOKS: ReliableOptions = { encode: seal, decode: open };

const bodyIn = async (broker: ServiceBroker, id: string) =>
  String((await storeOf(broker).messages.find([id]))[0]?.body);

it.each(STRATEGIES)(
  "$name: handlers see the payload; store, wire, `get` and every resend what it was encoded to",
  async ({ name: strategy }) => {
    const made = cluster();
    const seen: unknown[] = [];
    const of: unknown[] = [];
    const handler = (ctx: Context<never>) => {
      seen.push(ctx.params);
      if (localsOf(ctx).attempt === 1) throw new Error("not yet");
    };
    const encode = async (value: unknown, message: object) => {
      of.push(message);
      return seal(value);
    };
    const broker = await made.node("node-1", [
      emitter(made.mixin({ strategy, encode, decode: open, checkDelaysMs: LADDER })),
      consumer(made.mixin({ decode: open }), "mail", "order.created", handler, { params: { order: "number" } })
    ]);
    await subscribed(broker, 1);
    const published = tap(broker);
    const { id } = await emitterOf(broker)("order.created", payload);
    const told = await reaches(broker, id, "consumed");
    expect(seen).toEqual([payload, payload]);
    expect(of).toEqual([{ id, event: "order.created" }]);
    const events = published.filter(
      ({ messageId, headers }) => messageId === id && headers["x-reliable-round"] === undefined
    );
    expect(events.map(({ headers }) => headers["x-reliable-encoded"])).toEqual([true, true]);
    expect(events[1]?.body).toEqual(events[0]?.body);
    expect(String(events[0]?.body)).not.toContain("Ann");
    expect(await bodyIn(broker, id)).toBe(String(events[0]?.body));
    expect(told).toMatchObject({ encoded: true, payload: { sealed: expect.any(String) } });
  }
);

it("a payload that is not encoded is not decoded: from a producer without the hook, and of a plain emit", async () => {
  const made = cluster();
  const seen: unknown[] = [];
  const broker = await made.node("node-1", [
    emitter(made.mixin()),
    consumer(made.mixin(HOOKS), "mail", "order.created", ctx => void seen.push(ctx.params))
  ]);
  await subscribed(broker, 1);
  const { id } = await emitterOf(broker)("order.created", payload);
  await reaches(broker, id, "consumed");
  await broker.emit("order.created", { plain: true });
  expect(seen).toEqual([payload, { plain: true }]);
});

const BROKEN: [what: string, encode: Encode, type: string, text: string][] = [
  ["throws", failing, "RELIABLE_NOT_ENCODED", "no key"],
  ["rejects", async () => failing(), "RELIABLE_NOT_ENCODED", "no key"],
  ["never answers", () => new Promise(() => undefined), "RELIABLE_NOT_ENCODED", "within 50 ms"],
  ["returns what is no JSON", () => undefined, "RELIABLE_BAD_PAYLOAD", "what the hook 'encode' returned"],
  ["returns too much", () => "x".repeat(300_000), "RELIABLE_PAYLOAD_TOO_LARGE", "what the hook 'encode' returned"]
];

it.each(BROKEN)("an encode that %s: nothing is stored, and the error says so", async (_, encode, type, text) => {
  const made = cluster();
  const broker = await made.node("node-1", [emitter(made.mixin({ encode }))]);
  const error = await errorOf(emitterOf(broker)("order.created", payload, { id: "x", timeoutMs: 50 }));
  expect(error).toMatchObject({ type, message: expect.stringContaining(text) });
  expect(await storeOf(broker).messages.find(["x"])).toEqual([]);
});

it("what cannot be decoded is tried again, and the handler does not see it", async () => {
  const made = cluster();
  const keys = { there: false };
  const seen: unknown[] = [];
  const decode = async (sealed: unknown) => {
    if (keys.there) return open(sealed);
    keys.there = true;
    throw new Error("key 2 is not known");
  };
  const broker = await made.node("node-1", [
    emitter(made.mixin(HOOKS)),
    consumer(made.mixin({ decode }), "mail", "order.created", ctx => void seen.push(ctx.params))
  ]);
  await subscribed(broker, 1);
  const { id } = await emitterOf(broker)("order.created", payload);
  const { timeline } = await reaches(broker, id, "consumed");
  expect(seen).toEqual([payload]);
  expect(timeline.map(({ what }) => what)).toContainEqual(
    expect.stringMatching(
      /attempt 1 failed in mail.*\(handler\).*is encoded, and the hook 'decode' has failed: key 2 is not known/
    )
  );
});

it("it is dead at once if the hook says so, and after its attempts where a group has no hook", async () => {
  const made = cluster();
  const decode = () => {
    throw Object.assign(new Error("forged"), { retryable: false });
  };
  const broker = await made.node("node-1", [
    emitter(made.mixin({ ...HOOKS, maxAttempts: 2 })),
    consumer(made.mixin({ decode }), "mail", "order.created", () => undefined),
    consumer(made.mixin(), "stock", "order.created", () => undefined)
  ]);
  await subscribed(broker, 2);
  const { id } = await emitterOf(broker)("order.created", payload);
  const { groups } = await until(
    () => story(broker, id),
    ({ groups }) => groups.every(({ state }) => state === "failed")
  );
  expect(groups.toSorted((a, b) => a.group.localeCompare(b.group))).toMatchObject([
    { group: "mail", attempts: 1, reason: expect.stringContaining("forged") },
    { group: "stock", attempts: 2, reason: expect.stringContaining("has no hook 'decode'") }
  ]);
});

it("the same id with the same payload is the same message, though it is encoded otherwise (law 1)", async () => {
  const made = cluster();
  const broker = await made.node("node-1", [
    emitter(made.mixin(HOOKS), "both"),
    emitter(made.mixin({ encode: seal }), "blind"),
    emitter(made.mixin(), "plain")
  ]);
  const emit = emitterOf(broker, "both");
  await emit("order.created", payload, { id: "x" });
  const first = await bodyIn(broker, "x");
  await emit("order.created", payload, { id: "x" });
  // Who cannot decode cannot tell.
  await emitterOf(broker, "blind")("order.created", payload, { id: "x" });
  await emitterOf(broker, "plain")("order.created", payload, { id: "x" });
  expect(await bodyIn(broker, "x")).toBe(first);
  expect(await errorOf(emit("order.created", { order: 43 }, { id: "x" }))).toMatchObject({
    type: "RELIABLE_DUPLICATE_ID"
  });
  expect(await errorOf(emit("order.paid", payload, { id: "x" }))).toMatchObject({ type: "RELIABLE_DUPLICATE_ID" });
});

it("with `callback` too: the second check is not taken for another message", async () => {
  const made = cluster();
  const handled: string[] = [];
  const broker = await made.node("node-1", [
    emitter(made.mixin({ ...HOOKS, strategy: "callback", checkDelaysMs: LADDER })),
    consumer(made.mixin(HOOKS), "mail", "order.created", ctx => void handled.push(localsOf(ctx).id))
  ]);
  await subscribed(broker, 1);
  const emit = emitterOf(broker);
  await emit("order.created", payload, { id: "x" });
  await emit("order.created", payload, { id: "x" });
  const last = await emit("order.created", payload);
  await reaches(broker, last.id, "consumed");
  const checks = tap(broker);
  // Its check comes after those of x.
  const { id } = await emit("order.created", payload, { groups: ["nobody"] });
  await until(
    () => checks.filter(({ messageId, headers }) => messageId === id && headers["x-reliable-round"]).length > 1
  );
  expect(await broker.call("reliable.parked")).toMatchObject({ total: 0 });
  expect(handled.filter(each => each === "x")).toHaveLength(1);
});

it.each(STRATEGIES)("$name: what a source answers is encoded as well", async ({ name: strategy }) => {
  const made = cluster();
  const seen: unknown[] = [];
  const handler = (ctx: Context<never>) => {
    seen.push(ctx.params);
    if (localsOf(ctx).attempt === 1) throw new Error("not yet");
  };
  const broker = await made.node("node-1", [
    asked(() => payload),
    emitter(made.mixin({ ...HOOKS, strategy, sources: ["asked.happened"], checkDelaysMs: LADDER })),
    consumer(made.mixin(HOOKS), "mail", "order.created", handler)
  ]);
  await subscribed(broker, 1);
  const published = tap(broker);
  const { id } = await emitterOf(broker)("order.created", payload, { source: { action: "asked.happened" } });
  await reaches(broker, id, "consumed");
  expect(seen).toEqual([payload, payload]);
  for (const { body } of published.filter(({ messageId }) => messageId === id))
    expect(String(body)).not.toContain("Ann");
});

it("an intent whose producer has died is sent with the source's answer, encoded", async () => {
  const made = cluster();
  const seen: unknown[] = [];
  const broker = await made.node("node-1", [
    asked(() => payload),
    emitter(made.mixin({ ...HOOKS, sources: ["asked.happened"], checkDelaysMs: [100] })),
    consumer(made.mixin(HOOKS), "mail", "order.created", ctx => void seen.push(ctx.params))
  ]);
  await subscribed(broker, 1);
  const stays = new Promise(() => undefined);
  const source = { action: "asked.happened" };
  void emitterOf(broker)("order.created", payload, { id: "x", source, commit: () => stays }).catch(() => undefined);
  await reaches(broker, "x", "consumed");
  expect(seen).toEqual([payload]);
  expect(await bodyIn(broker, "x")).not.toContain("Ann");
});

it.each(["confirm", "receipt"] as const)("jobs that a %s settles: a worker with the hook reads them", async settle => {
  const made = cluster();
  const seen: string[] = [];
  const queue = `${made.namespace}.jobs`;
  if (backend === "real") onTestFinished(async () => void (await atBroker(channel => channel.deleteQueue(queue))));
  const queues = { [queue]: { settle } };
  const broker = await made.node("node-1", [
    { name: "sender", mixins: [ReliableAmqpQueue({ ...made.options(), ...HOOKS, queues })] },
    {
      name: "worker",
      mixins: [ReliableAmqpQueue({ ...made.options(), ...HOOKS, queues })],
      AMQPQueues: {
        [queue](channel: QueueChannel, message: QueueMessage) {
          seen.push(String(message.content));
          channel.ack(message);
        }
      }
    }
  ]);
  const { id } = await serviceOf(broker, "sender").addAMQPJob(queue, payload);
  await reaches(broker, id, "consumed");
  await until(() => seen.length);
  expect(seen).toEqual([JSON.stringify(payload)]);
});
