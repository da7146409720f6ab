import type { Context, ServiceBroker } from "moleculer";
import { describe, expect, inject, it, onTestFinished } from "vitest";
import type { BulkStory, ReliableOptions, ReplayBegun } from "../../src";
import { AmqpCourier } from "../../src/couriers/amqp/courier";
import type { Courier, Publication } from "../../src/couriers/courier";
import { MemoryCourier } from "../../src/couriers/memory/courier";
import { systemClock } from "../../src/platform/clock";
import { eventQueue, systemQueues } from "../../src/wire/names";
import { kindOf, signatureOf } from "../../src/wire/signature";
import { backend, cluster, until } from "../support/brokers";
import { silent } from "../support/messages";
import { consumer, emitter, emitterOf, errorOf, reaches, subscribed } from "../support/services";
import { localsOf } from "../support/strategies";

const KEY = "the-key-of-this-test-the-key-of-this-test";
const OTHER = "another-key-another-key-another-key";
const STRATEGIES = ["outbox", "callback"] as const;

const failsOnce = (seen: number[]) => (ctx: Context<{ n: number }>) => {
  const { attempt } = (ctx.locals as { reliable: { attempt: number } }).reliable;
  seen.push(attempt);
  if (attempt === 1) throw new Error("once");
};

const parkedOf = (broker: ServiceBroker) =>
  broker
    .call<{ rows: { queue: string; reason: string }[] }, object>("reliable.parked", { pageSize: 100 })
    .then(({ rows }) => rows);

describe.each(STRATEGIES)("strategy %s", strategy => {
  it("with signatures required a message makes its way, is sent again, and nothing is parked", async () => {
    const made = cluster();
    const signed: ReliableOptions = {
      signingKey: [KEY, OTHER],
      signing: "require",
      strategy,
      checkDelaysMs: [300, 600, 1200]
    };
    const seen: number[] = [];
    const broker = await made.node("node-1", [
      emitter(made.mixin(signed)),
      consumer(made.mixin(signed), "stock", "order.created", failsOnce(seen) as never)
    ]);
    await subscribed(broker, 1);
    const { id } = await emitterOf(broker)("order.created", { n: 1 });
    await reaches(broker, id, "consumed");
    expect(seen).toEqual([1, 2]);
    expect(await parkedOf(broker)).toEqual([]);
    expect(await broker.call("reliable.health", {})).toMatchObject({
      ok: true,
      signing: "required (last unsigned, parked: never)"
    });
  });
});

it("with signatures required whatever has none, or a wrong one, is parked, and nothing acts on it", async () => {
  const made = cluster();
  const signed = { signingKey: KEY, signing: "require" } as const;
  const seen: unknown[] = [];
  const broker = await made.node("node-1", [
    emitter(made.mixin(signed)),
    consumer(made.mixin(signed), "stock", "order.created", ctx => void seen.push(ctx.params))
  ]);
  await subscribed(broker, 1);
  const waiting = emitterOf(broker)("nobody.hears", {}, { id: "victim", groups: "ghost", maxAttempts: 50 });
  await waiting;
  const { receipts, callbackReceipts, checks, announcements, parked } = systemQueues(made.namespace);
  const queue = eventQueue(made.namespace, "stock", "order.created");
  const json = (value: object) => Buffer.from(JSON.stringify(value));
  const envelope = {
    "x-reliable-version": 1,
    "x-reliable-attempt": 1,
    "x-reliable-producer": "emitter",
    "x-reliable-receipt": receipts
  };
  const plan = JSON.stringify({
    ...{ v: 1, at: Date.now(), delays: [300], max: 1 },
    backoff: { initialMs: 1, maxMs: 1, jitter: "none" }
  });
  const item = { id: "victim", outcome: "handled", attempt: 1, durationMs: 1 };
  const forged: Publication[] = [
    { to: { queue }, messageId: "f1", type: "order.created", headers: envelope, body: json({ n: 1 }) },
    {
      ...{ to: { queue: receipts }, messageId: "f2", type: "reliable.receipt", headers: {} },
      body: json({ v: 1, group: "ghost", nodeID: "x", items: [item] })
    },
    {
      ...{ to: { queue: callbackReceipts }, messageId: "f3", type: "reliable.withdrawal", headers: {} },
      body: json({ v: 1, id: "victim", echo: { event: "nobody.hears", producer: "emitter", plan } })
    },
    {
      ...{ to: { queue: checks }, messageId: "f4", type: "order.created", body: json({ n: 2 }) },
      headers: { ...envelope, "x-reliable-receipt": callbackReceipts, "x-reliable-echo": plan, "x-reliable-round": 1 }
    },
    {
      ...{ to: { queue: announcements }, messageId: "f5", type: "reliable.announcement", headers: {} },
      body: json({ v: 1, pattern: "order.created", group: "evil", queue, nodeID: "x", service: "evil" })
    }
  ];
  // A courier signs what it publishes: a stranger's has no key, or another one.
  const stranger = await strangerIn(made.namespace);
  const wrong = (publication: Publication): Publication => ({
    ...publication,
    messageId: `${publication.messageId}-wrong`,
    headers: {
      ...publication.headers,
      "x-reliable-signature": signatureOf(kindOf(publication), publication, OTHER)
    }
  });
  for (const publication of [...forged, ...forged.map(wrong)])
    expect((await stranger.publish(publication)).outcome).toBe("confirmed");
  const rows = await until(
    () => parkedOf(broker),
    all => all.length >= 10
  );
  expect(rows.map(({ reason }) => reason.split(" ").slice(0, 3).join(" ")).sort()).toEqual(
    [
      ...["announcement", "check", "event", "receipt", "withdrawal"].flatMap(kind => [
        `${kind} whose signature`,
        `${kind} without a`
      ])
    ].sort()
  );
  expect(rows.every(row => row.queue !== parked)).toBe(true);
  expect(seen).toEqual([]);
  expect((await reaches(broker, "victim", "pending")).handled).toBe("");
  expect(await subscribed(broker, 1)).toHaveLength(1);
});

it("with signatures required what one node replays is taken on another, and sent again; nothing is parked", async () => {
  const made = cluster();
  // One key takes the place of the other: each node signs with its own first.
  const here = made.mixin({ signingKey: [KEY, OTHER], signing: "require" });
  const desk = await made.node("desk", [emitter(here), consumer(here, "mail", "order.created", () => undefined)]);
  await subscribed(desk, 1);
  const fromAt = Date.now();
  const emitted = await Promise.all([1, 2, 3].map(n => emitterOf(desk)("order.created", { n })));
  for (const { id } of emitted) await reaches(desk, id, "consumed");
  const seen: { id: string; attempt: number; replay: string | undefined }[] = [];
  const take = (ctx: Context<never>) => {
    const { id, attempt, replay } = localsOf(ctx);
    seen.push({ id, attempt, replay: replay?.id });
    if (attempt === 1) throw new Error("once");
  };
  const there = made.mixin({ signingKey: [OTHER, KEY], signing: "require", sweeper: false });
  const far = await made.node("far", [consumer(there, "invoices", "order.created", take)]);
  await subscribed(far, 2);
  const params = { group: "invoices", fromAt, perSecond: 10_000 };
  const { id: replay = "" } = await desk.call<ReplayBegun, object>("reliable.replay", params);
  const story = await until(
    () => desk.call<BulkStory, object>("reliable.bulks", { id: replay }),
    ({ endedAt, handled, failedAgain = 0 }) => endedAt !== undefined && (handled === 3 || failedAgain > 0)
  );
  expect(story).toMatchObject({ state: "done", done: 3, handled: 3, failedAgain: 0 });
  const wanted = emitted.flatMap(({ id }) => [1, 2].map(attempt => ({ id, attempt, replay })));
  expect(seen).toHaveLength(wanted.length);
  expect(seen).toEqual(expect.arrayContaining(wanted));
  expect(await parkedOf(desk)).toEqual([]);
  for (const node of [desk, far])
    expect(await node.call("reliable.health", {}, { nodeID: node.nodeID })).toMatchObject({
      signing: "required (last unsigned, parked: never)"
    });
});

it("signing without a key is a bad option", async () => {
  const made = cluster();
  expect(await errorOf(made.node("node-1", [emitter(made.mixin({ signing: "require" }))]))).toMatchObject({
    type: "RELIABLE_BAD_OPTION",
    data: { option: "signing" }
  });
});

/** Publishes as another program would, with no key. */
async function strangerIn(namespace: string): Promise<Courier> {
  const common = { namespace, logger: silent, clock: systemClock };
  const courier =
    backend === "real"
      ? new AmqpCourier({ ...common, urls: inject("servers").amqp, nodeID: "stranger" })
      : new MemoryCourier(common);
  await courier.start();
  onTestFinished(() => courier.close(0));
  return courier;
}
