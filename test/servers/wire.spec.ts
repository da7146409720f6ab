import type { Options } from "amqplib";
import type { Context } from "moleculer";
import { expect, it } from "vitest";
import type { ReliableError } from "../../src";
import { systemQueues } from "../../src/wire/names";
import { cluster, until } from "../support/brokers";
import { atBroker } from "../support/rabbitmq";
import { storeOf } from "../support/runtime";
import { faults } from "../support/schemas";
import { consumer, errorOf, oneNode, reaches, story, subscribed } from "../support/services";

interface ParkedRow {
  id: string;
  queue: string;
  reason: string;
  bytes: number;
  body: string;
}

const GOOD = {
  "x-reliable-version": 1,
  "x-reliable-attempt": 1,
  "x-reliable-strategy": "outbox",
  "x-reliable-producer": "elsewhere"
};

interface Told {
  error: ReliableError;
  module: string;
  type: string;
}

/** One node that emits, consumes `order.created` in group `stock`, and tracks. */
async function started() {
  const made = cluster();
  const seen: unknown[] = [];
  const told: Told[] = [];
  const watch = { name: "watch", events: { "$reliable.error": (ctx: Context<Told>) => void told.push(ctx.params) } };
  const { broker, emit } = await oneNode(made, [
    watch,
    consumer(made.mixin({ maxInFlight: 2 }), "stock", "order.created", ctx => void seen.push(ctx.params))
  ]);
  await subscribed(broker, 1);
  const queue = `${made.namespace}.reliable.on.stock/order.created`;
  const receipts = `${made.namespace}.reliable.receipts.outbox`;
  const announcements = `${made.namespace}.reliable.announcements`;
  const send = (to: string, body: Buffer | string | object, properties: Options.Publish = {}) =>
    atBroker(
      channel =>
        new Promise<void>((resolve, reject) => {
          const bytes = Buffer.isBuffer(body)
            ? body
            : Buffer.from(typeof body === "string" ? body : JSON.stringify(body));
          channel.sendToQueue(to, bytes, { persistent: true, ...properties });
          (channel as typeof channel & { waitForConfirms(): Promise<void> }).waitForConfirms().then(resolve, reject);
        })
    );
  const parked = (count: number) =>
    until(
      () => broker.call<{ rows: ParkedRow[] }, object>("reliable.parked", { pageSize: 100 }),
      ({ rows }) => rows.length === count
    ).then(({ rows }) => rows);
  return { made, broker, emit, seen, told, send, parked, queue, receipts, announcements };
}

it("parks what it cannot read with its raw bytes, counts it, and goes on", async () => {
  const { broker, emit, seen, told, send, parked, queue, receipts } = await started();
  const good = { ...GOOD, "x-reliable-receipt": receipts };
  const bad: [reason: string, body: Buffer | string | object, properties: Options.Publish][] = [
    ["foreign message: no x-reliable-version header", "hello", {}],
    [
      "foreign message: no x-reliable-version header",
      Buffer.from([0, 255, 254, 1]),
      { headers: { something: "else", when: { "!": "timestamp", value: 1 } } }
    ],
    ["no messageId", {}, { type: "order.created", headers: good }],
    ["no type (event name)", {}, { messageId: "m", headers: good }],
    [
      "unknown x-reliable-version 2",
      {},
      { messageId: "m", type: "order.created", headers: { ...good, "x-reliable-version": 2 } }
    ],
    ["no x-reliable-receipt header", {}, { messageId: "m", type: "order.created", headers: GOOD }],
    [
      "no x-reliable-producer header",
      {},
      { messageId: "m", type: "order.created", headers: { ...good, "x-reliable-producer": undefined } }
    ],
    [
      "unknown x-reliable-version string",
      {},
      { messageId: "m", type: "order.created", headers: { ...good, "x-reliable-version": "1" } }
    ],
    [
      "bad x-reliable-meta 5",
      {},
      { messageId: "m", type: "order.created", headers: { ...good, "x-reliable-meta": 5 } }
    ],
    [
      "bad x-reliable-level string",
      {},
      { messageId: "m", type: "order.created", headers: { ...good, "x-reliable-level": "deep" } }
    ],
    [
      "bad x-reliable-attempt string",
      {},
      { messageId: "m", type: "order.created", headers: { ...good, "x-reliable-attempt": "first" } }
    ],
    ["body is not JSON", "{not json", { messageId: "m", type: "order.created", headers: good }],
    ["body is not JSON", "", { messageId: "m", type: "order.created", headers: good }],
    [
      "x-reliable-meta is not JSON",
      {},
      { messageId: "m", type: "order.created", headers: { ...good, "x-reliable-meta": "{" } }
    ],
    [
      "x-reliable-meta is not an object",
      {},
      { messageId: "m", type: "order.created", headers: { ...good, "x-reliable-meta": "[1]" } }
    ],
    ["foreign message: no x-reliable-version header", "giant", { headers: { giant: "x".repeat(64_000) } }],
    [
      "foreign message: no x-reliable-version header",
      "giant, of more bytes than characters",
      { headers: { giant: "€".repeat(21_800) } }
    ],
    [
      "foreign message: no x-reliable-version header",
      "many",
      { headers: Object.fromEntries(Array.from({ length: 1400 }, (_, n) => [`header-${n}`, "x".repeat(20)])) }
    ],
    ["foreign message: no x-reliable-version header", Buffer.alloc(3 * 1024 * 1024, 7), {}]
  ];
  for (const [, body, properties] of bad) await send(queue, body, properties);
  const rows = await parked(bad.length);
  expect(rows.map(({ reason }) => reason).sort()).toEqual(bad.map(([reason]) => reason).sort());
  expect(rows.every(row => row.queue === queue)).toBe(true);
  expect(rows.map(({ bytes }) => bytes)).toContain(3 * 1024 * 1024);
  expect(rows.map(({ body }) => body)).toEqual(expect.arrayContaining(["hello", "{not json", "giant"]));
  expect(
    told.map(({ error, module, type }) => [error.type, error.retryable, module, type, error.data.reason]).toSorted()
  ).toEqual(bad.map(([reason]) => ["RELIABLE_PARKED", false, "consumer", "reliableConsumerError", reason]).toSorted());

  // The consumer holds two at a time: had it kept one of them, nothing would pass any more.
  await Promise.all([1, 2, 3, 4].map(n => emit("order.created", { n }, { waitFor: "consumed" })));
  expect(seen).toHaveLength(4);
  const stats = await broker.call<{ parkedMessages: number; node: Record<string, number> }, object>(
    "reliable.stats",
    {}
  );
  expect(stats).toMatchObject({ parkedMessages: bad.length });
  expect(stats.node.parked).toBe(bad.length);
});

it("parks an event that an exact pattern does not name, and acks what only a wildcard's wide binding brought", async () => {
  const { made, broker, send, parked, queue, receipts, told } = await started();
  const wide: unknown[] = [];
  // A `?` may stand for a dot, so everything is bound to it.
  await made.node("node-2", [consumer(made.mixin(), "wide", "order.?aid", ctx => void wide.push(ctx.params))]);
  await subscribed(broker, 2);
  const headers = { ...GOOD, "x-reliable-receipt": receipts };
  const wideQueue = `${made.namespace}.reliable.on.wide/order.?aid`;
  await send(wideQueue, { n: 1 }, { messageId: "w-1", type: "order.created", headers });
  await send(wideQueue, { n: 2 }, { messageId: "w-2", type: "order.paid", headers });
  await send(queue, { n: 3 }, { messageId: "e-1", type: "order.creatd", headers });
  const reason = "its type is 'order.creatd', and this queue is for 'order.created' alone";
  // Beside the receipt for what the wildcard's group has handled.
  const rows = await parked(2);
  expect(rows.find(row => row.queue === queue)).toMatchObject({ reason, body: '{"n":3}', encoding: "utf8" });
  expect(rows.map(row => row.queue).sort()).toEqual([queue, receipts].sort());
  expect(wide).toEqual([{ n: 2 }]);
  expect(told.map(({ error }) => [error.type, error.data.reason])).toContainEqual(["RELIABLE_PARKED", reason]);
});

it("shows a parked message whole, and lets go of it by a human's act alone", async () => {
  const { broker, send, parked, queue } = await started();
  await send(queue, Buffer.from([0, 255, 254, 1]), {
    headers: { something: "else" },
    messageId: "stranger",
    contentType: "image/png"
  });
  await send(queue, "keep me");
  const rows = await parked(2);
  const { id } = rows.find(row => row.bytes === 4) as ParkedRow;
  expect(await broker.call("reliable.parked", { id })).toMatchObject({
    id,
    queue,
    bytes: 4,
    body: "AP/+AQ==",
    encoding: "base64",
    headers: { something: "else" },
    properties: { messageId: "stranger", contentType: "image/png" }
  });
  const refused: [params: object, type: string][] = [
    [{ parked: id }, "RELIABLE_BAD_OPTION"],
    [{ parked: id, note: " " }, "RELIABLE_BAD_OPTION"],
    [{ parked: id, note: "spam", status: "dead" }, "RELIABLE_BAD_OPTION"],
    [{ parked: id, note: "spam", id: "m" }, "RELIABLE_BAD_OPTION"],
    [{ parked: "nope", note: "spam" }, "RELIABLE_NOT_FOUND"],
    [{ parked: { $gt: "" }, note: "spam" }, "VALIDATION_ERROR"],
    [{ parked: [], note: "spam" }, "VALIDATION_ERROR"]
  ];
  for (const [params, type] of refused)
    expect(await errorOf(broker.call("reliable.discard", params)), JSON.stringify(params)).toMatchObject({ type });
  expect(await errorOf(broker.call("reliable.resolve", { parked: id }))).toMatchObject({ type: "VALIDATION_ERROR" });
  expect(await errorOf(broker.call("reliable.parked", { id: "nope" }))).toMatchObject({ type: "RELIABLE_NOT_FOUND" });
  expect(await broker.call("reliable.discard", { parked: id, dryRun: true })).toMatchObject({
    matched: 1,
    done: 0,
    dryRun: true
  });
  await parked(2);
  expect(await broker.call("reliable.discard", { parked: [id, id], note: "a picture", by: "emma" })).toMatchObject({
    matched: 1,
    done: 1,
    ids: [id]
  });
  expect((await parked(1))[0]).toMatchObject({ body: "keep me" });
  const act = { act: "discard", by: "emma", note: "a picture", id, parked: true, queue };
  expect(await broker.call("reliable.audits", {})).toMatchObject({
    rows: [{ ...act, reason: "foreign message: no x-reliable-version header" }],
    total: 1
  });
});

it("takes a message of a service in another language, and answers to the queue it names", async () => {
  const { seen, send, parked, queue, receipts } = await started();
  await send(
    queue,
    { from: "elsewhere" },
    { messageId: "theirs-1", type: "order.created", headers: { ...GOOD, "x-reliable-receipt": receipts } }
  );
  await until(() => seen.length === 1);
  expect(seen).toEqual([{ from: "elsewhere" }]);
  // Its receipt reaches our tracker, which knows no such message.
  expect((await parked(1))[0]).toMatchObject({
    queue: receipts,
    reason: "receipt for an id that is not in the store: theirs-1"
  });
});

it("parks receipts it can do nothing with, and goes on tracking", async () => {
  const { emit, send, parked, receipts, broker, told } = await started();
  const item = { id: "nobody", outcome: "handled", attempt: 1, durationMs: 5 };
  const bad: (Buffer | string | object)[] = [
    "garbage",
    Buffer.from([0, 1, 2, 255]),
    "",
    "null",
    "[]",
    { v: 2, group: "stock", nodeID: "x", items: [item] },
    { v: 1, nodeID: "x", items: [item] },
    { v: 1, group: "", nodeID: "x", items: [item] },
    { v: 1, group: "*", nodeID: "x", items: [item] },
    { v: 1, group: "stock", nodeID: "", items: [item] },
    { v: 1, group: "stock", nodeID: "x", items: [] },
    { v: 1, group: "stock", nodeID: "x", items: "all" },
    { v: 1, group: "stock", nodeID: "x", items: [null] },
    { v: 1, group: "stock", nodeID: "x", items: [{ ...item, outcome: "eaten" }] },
    { v: 1, group: "stock", nodeID: "x", items: [{ ...item, attempt: 0 }] },
    { v: 1, group: "stock", nodeID: "x", items: [{ ...item, error: "text" }] },
    { v: 1, group: "stock", nodeID: "x", items: [item] },
    {
      v: 1,
      group: "stock",
      nodeID: "x",
      items: [{ ...item, id: "nobody-2", outcome: "failed", error: { name: "E", message: "m" } }]
    },
    { v: 1, group: "stock", nodeID: "x", items: [{ ...item, id: "$where" }] }
  ];
  // All but the last three, which are about messages that are not there.
  for (const body of bad.slice(0, -3))
    if (typeof body === "object" && !Buffer.isBuffer(body))
      expect(faults("receipt", body), JSON.stringify(body)).not.toEqual([]);
  // Whoever writes garbage may give all of it the same id.
  for (const body of bad) await send(receipts, body, { messageId: "the same" });
  const rows = await parked(bad.length);
  expect(rows.every(row => row.queue === receipts)).toBe(true);
  expect(
    rows
      .filter(({ reason }) => reason.includes("not in the store"))
      .map(({ reason }) => reason.split(": ")[1])
      .sort()
  ).toEqual(["$where", "nobody", "nobody-2"]);
  expect((await emit("order.created", {}, { waitFor: "consumed" })).status).toBe("consumed");
  expect(await broker.call("reliable.stats", {})).toMatchObject({
    parkedMessages: bad.length,
    node: { parked: bad.length }
  });
  expect(told.map(({ error, type }) => [error.type, type, error.data.queue])).toEqual(
    bad.map(() => ["RELIABLE_PARKED", "reliableTrackerError", receipts])
  );
});

it("parks a receipt message once, however many of its items find no message, and one of too many unread", async () => {
  const { emit, send, parked, receipts, told } = await started();
  const items = (n: number) =>
    Array.from({ length: n }, (_, i) => ({ id: `nobody-${i}`, outcome: "handled", attempt: 1, durationMs: 5 }));
  await send(receipts, { v: 1, group: "stock", nodeID: "x", items: items(1000) });
  await send(receipts, { v: 1, group: "stock", nodeID: "x", items: items(1001) });
  await send(receipts, { v: 1, group: "g".repeat(801), nodeID: "x", items: items(1) });
  const rows = await parked(3);
  expect(rows.map(({ reason }) => reason).sort()).toEqual([
    expect.stringMatching(/^receipt for an id that is not in the store: nobody-0; .*nobody-2; and 997 more$/),
    "receipt of a group whose name is longer than 800 bytes",
    "receipt with 1001 items, more than 1000"
  ]);
  expect(told).toHaveLength(3);
  expect((await emit("order.created", {}, { waitFor: "consumed" })).status).toBe("consumed");
});

it("one item that cannot be read does not cost the others of its receipt their answer", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, []);
  const ids = [];
  for (let n = 0; n < 3; n++) ids.push((await emit("order.created", { n }, { groups: "far" })).id);
  const item = (id: string | undefined) => ({ id, outcome: "handled", attempt: 1, durationMs: 1 });
  const body = {
    v: 1,
    group: "far",
    nodeID: "x",
    items: [
      item(ids[0]),
      { ...item(ids[1]), durationMs: -1 },
      item(undefined),
      { ...item(ids[1]), runs: 0 },
      item(ids[2])
    ]
  };
  await atBroker(async channel => {
    channel.sendToQueue(`${made.namespace}.reliable.receipts.outbox`, Buffer.from(JSON.stringify(body)), {
      persistent: true
    });
    await (channel as typeof channel & { waitForConfirms(): Promise<void> }).waitForConfirms();
  });
  await reaches(broker, ids[0] as string, "consumed");
  await reaches(broker, ids[2] as string, "consumed");
  expect(await story(broker, ids[1] as string)).toMatchObject({ waiting: "far", handled: "" });
  const { rows } = await until(
    () => broker.call<{ rows: ParkedRow[] }, object>("reliable.parked", {}),
    ({ rows }) => rows.length > 0
  );
  expect(rows).toHaveLength(1);
  expect(rows[0]).toMatchObject({
    reason: "receipt item 1: bad durationMs -1; receipt item 2: no id; receipt item 3: bad runs 0",
    bytes: JSON.stringify(body).length
  });
  const [raw] = await storeOf(broker).parked.find([String(rows[0]?.id)]);
  expect(raw?.body.toString()).toBe(JSON.stringify(body));
});

it("what a consumer rejects is parked, or a failed attempt of its group where it can be read", async () => {
  const made = cluster();
  const { broker, emit } = await oneNode(made, []);
  const queue = `${made.namespace}.reliable.on.far/order.created`;
  const announcement = { v: 1, pattern: "order.created", group: "far", queue, nodeID: "x", service: "far" };
  const dead = {
    "x-dead-letter-exchange": "",
    "x-dead-letter-routing-key": `${made.namespace}.reliable.parked`,
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish"
  };
  await atBroker(async channel => {
    await channel.assertQueue(queue, {
      durable: true,
      arguments: { "x-queue-type": "quorum", "x-delivery-limit": 20, ...dead }
    });
    await channel.bindQueue(queue, `${made.namespace}.reliable.events`, "order.created");
    channel.sendToQueue(`${made.namespace}.reliable.announcements`, Buffer.from(JSON.stringify(announcement)), {
      persistent: true
    });
    await (channel as typeof channel & { waitForConfirms(): Promise<void> }).waitForConfirms();
    await subscribed(broker, 1);
    const { id } = await emit("order.created", {}, { groups: "far", maxAttempts: 1, waitFor: "confirmed" });
    channel.sendToQueue(queue, Buffer.from("what is this"), { persistent: true });
    let rejected = 0;
    await channel.consume(queue, message => {
      if (!message) return;
      rejected++;
      channel.reject(message, false);
    });
    expect((await reaches(broker, id, "dead")).reason).toBe(
      "crash-loop in group far at attempt 1: its consumer rejected it (basic.reject without requeue) instead of answering with a receipt"
    );
    await until(() => rejected === 2);
  });
  const { rows } = await until(
    () => broker.call<{ rows: ParkedRow[] }, object>("reliable.parked", {}),
    ({ rows }) => rows.length > 0
  );
  expect(rows).toMatchObject([{ reason: `its consumer rejected it in ${queue}`, body: "what is this" }]);
});

it("the receipt of a group that owes none changes nothing for those that do", async () => {
  const made = cluster();
  let open: () => void = () => undefined;
  const gate = new Promise<void>(resolve => (open = resolve));
  const { broker, emit } = await oneNode(made, [consumer(made.mixin(), "stock", "order.created", () => gate)]);
  await subscribed(broker, 1);
  const { id } = await emit("order.created", {}, { waitFor: "confirmed" });
  const names = ["ghost", "a.b$c/ü", "x".repeat(300)];
  const noNames = ["__proto__", "constructor"];
  for (const group of [...names, ...noNames]) {
    await atBroker(async channel => {
      channel.sendToQueue(
        `${made.namespace}.reliable.receipts.outbox`,
        Buffer.from(
          JSON.stringify({ v: 1, group, nodeID: "x", items: [{ id, attempt: 1, durationMs: 1, outcome: "handled" }] })
        )
      );
      await (channel as typeof channel & { waitForConfirms(): Promise<void> }).waitForConfirms();
    });
  }
  await until(
    () => story(broker, id),
    ({ handled }) => handled.split(", ").length === names.length
  );
  const parked = () => broker.call<{ total: number }, object>("reliable.parked", {});
  await until(async () => (await parked()).total === noNames.length);
  expect(await story(broker, id)).toMatchObject({ status: "published", waiting: "stock" });
  open();
  await reaches(broker, id, "consumed");
});

it("learns of groups and patterns that share a queue and are announced in one breath; of two queues of a group the last one counts", async () => {
  const { made, broker, announcements } = await started();
  const queues = [`${made.namespace}.q`, `${made.namespace}.q2`] as const;
  const all = { v: 1, pattern: "order.created", group: "b", queue: queues[0], nodeID: "c", service: "d" };
  await atBroker(async channel => {
    for (const queue of queues) await channel.assertQueue(queue, { durable: true });
    for (const more of [{ queue: queues[1] }, { pattern: "order.paid" }, { group: "c" }, {}])
      channel.sendToQueue(announcements, Buffer.from(JSON.stringify({ ...all, ...more })), { persistent: true });
    await (channel as typeof channel & { waitForConfirms(): Promise<void> }).waitForConfirms();
  });
  await subscribed(broker, 4);
  const learnt = async () =>
    (await storeOf(broker).subscriptions.list())
      .filter(({ group }) => group !== "stock")
      .map(({ group, pattern, queue }) => `${group} ${pattern} ${queue}`);
  await until(async () => (await learnt()).includes(`b order.created ${queues[0]}`));
  expect(await learnt()).toEqual(
    ["b order.created", "b order.paid", "c order.created"].map(name => `${name} ${queues[0]}`)
  );
  await atBroker(async channel => {
    for (const queue of queues) await channel.deleteQueue(queue);
  });
});

it("parks announcements it cannot read, and does not learn from them", async () => {
  const { made, broker, emit, told, send, parked, announcements } = await started();
  const all = { v: 1, pattern: "order.created", group: "b", queue: "q", nodeID: "c", service: "d" };
  const bad = [
    ...["garbage", "null", { v: 9 }, { ...all, queue: "" }, { ...all, pattern: 5 }, { ...all, service: undefined }],
    // Each of these would have stood in the way of every later emit of the event.
    ...[
      { ...all, pattern: "order.(*", group: "b:order.(*" },
      { ...all, queue: "q".repeat(256) },
      { ...all, group: "*" },
      { ...all, group: "queue/b" },
      { ...all, group: "a,b" }
    ],
    ...[
      { ...all, group: "b:order.created" },
      { ...all, pattern: "order.*" },
      { ...all, pattern: "$order" },
      { ...all, pattern: `order.${"x".repeat(120)}` }
    ]
  ];
  // What the group fails would be sent to these, and read as something else there.
  bad.push(...Object.values(systemQueues(made.namespace)).map(name => ({ ...all, queue: name })), {
    ...all,
    queue: `${systemQueues(made.namespace).checks}.delay.1000`
  });
  for (const body of bad) await send(announcements, body);
  expect((await parked(bad.length)).every(row => row.queue === announcements)).toBe(true);
  expect(await subscribed(broker, 1)).toHaveLength(1);
  expect(told.map(({ error, module }) => [error.type, module])).toEqual(bad.map(() => ["RELIABLE_PARKED", "tracker"]));
  expect((await emit("order.created", {}, { waitFor: "consumed" })).status).toBe("consumed");
  // One with something new in it is taken, once its queue is there.
  const there = `${made.namespace}.there`;
  await atBroker(channel => channel.assertQueue(there, { durable: true }));
  await send(announcements, { ...all, queue: there, colour: "green" });
  await subscribed(broker, 2);
  await atBroker(channel => channel.deleteQueue(there));
});

it("parks the announcement of a queue that another connection has for itself; the next one is taken", async () => {
  const { made, broker, send, parked, announcements } = await started();
  const all = { v: 1, pattern: "order.created", group: "b", nodeID: "c", service: "d" };
  const [locked, open] = [`${made.namespace}.locked`, `${made.namespace}.open`];
  await atBroker(async channel => {
    await channel.assertQueue(locked, { exclusive: true });
    await channel.assertQueue(open, { durable: true });
    await send(announcements, { ...all, queue: locked });
    await send(announcements, { ...all, queue: open });
    expect((await parked(1))[0]?.reason).toMatch(/^announcement of the queue '.*\.locked': .*RESOURCE_LOCKED/);
    await subscribed(broker, 2);
    await channel.deleteQueue(open);
  });
});

it.each([
  ["a classic queue", { "x-queue-type": "classic" }],
  ["another delivery limit", { "x-queue-type": "quorum", "x-delivery-limit": 3 }]
])("%s in the place of a group's queue is RELIABLE_QUEUE_MISMATCH, naming it and the way out", async (_, args) => {
  const made = cluster();
  const queue = `${made.namespace}.reliable.on.stock/order.created`;
  await atBroker(channel => channel.assertQueue(queue, { durable: true, arguments: args }));
  try {
    const error = await errorOf(oneNode(made, [consumer(made.mixin(), "stock", "order.created", () => undefined)]));
    expect(error).toMatchObject({ type: "RELIABLE_QUEUE_MISMATCH", retryable: false, data: { queue } });
    expect(error.message).toContain(queue);
    expect(error.message).toMatch(/To migrate: .*delete/);
  } finally {
    await atBroker(channel => channel.deleteQueue(queue));
  }
});
