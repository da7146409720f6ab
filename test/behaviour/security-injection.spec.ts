import { inspect } from "node:util";
import type { ServiceBroker } from "moleculer";
import { expect, it } from "vitest";
import type { Broker } from "../../mixins/broker";
import { nodeOf } from "../../mixins/node";
import { cluster } from "../support/brokers";
import { consumer, emitter, emitterOf, errorOf, reaches, subscribed } from "../support/services";

const HUGE = "x".repeat(1_000_000);
/** What reaches a filter as it is would match more than a text of its own. */
const QUERIES: unknown[] = [
  { $ne: null },
  { $gt: "" },
  { $in: ["dead-1"] },
  { $exists: true },
  { $regex: ".*" },
  { $where: "true" },
  { $or: [{}] },
  { toString: "dead-1" },
  JSON.parse('{ "__proto__": { "status": "dead" } }'),
  { constructor: { prototype: { dryRun: false } } },
  /.*/,
  new Date(0),
  Buffer.from("dead-1"),
  [{ $ne: null }],
  [["dead-1"]],
  [null],
  HUGE,
  true,
  null
];
const FILTER = [
  ...["status", "event", "group", "producer", "olderThanMs", "youngerThanMs", "idPrefix", "requestID", "key"],
  ...["errorType", "cause", "errorText", "deadFromAt", "deadToAt"]
];
const ACT = ["id", "ids", ...FILTER, "note", "by", "limit", "dryRun"];
const PARAMS: Record<string, string[]> = {
  list: [...FILTER, "cursor", "pageSize"],
  causes: FILTER,
  get: ["id"],
  statuses: ["ids"],
  parked: ["page", "pageSize"],
  retry: ACT,
  resolve: ACT,
  discard: ACT,
  forget: ["group", "pattern", "note", "by", "force", "dryRun"],
  stats: [],
  health: [],
  subscriptions: [],
  audits: ["id", "page", "pageSize"],
  sweep: ["note", "by"],
  bulk: ["act", ...FILTER, "note", "by", "perSecond", "dryRun"],
  bulks: ["id", "page", "pageSize"],
  bulkChange: ["id", "change", "perSecond", "note", "by"],
  bulkLook: []
};
/** A wrong value of another param must not do what a right one of these asks for. */
const BESIDE: Record<string, object> = {
  retry: { id: "dead-1" },
  resolve: { id: "dead-1", note: "x" },
  discard: { id: "dead-1", note: "x" },
  forget: { group: "nobody", note: "x", force: true },
  bulk: { act: "retry" },
  bulkChange: { id: "nobody", change: "stop" }
};

/**
 * All that an attack could change, as it is stored. Pauses of the sweeper are no change: nothing here is due; nor is that
 * a group announces itself again.
 */
async function everything(broker: ServiceBroker): Promise<string> {
  const { store } = nodeOf(broker as Broker).runtime.needStorage();
  const { rows } = await store.messages.list({}, 100);
  return JSON.stringify(
    [
      rows,
      (await store.subscriptions.list()).map(({ seenAt: _, ...row }) => row),
      (await store.audits.list(0, 500)).rows,
      (await store.parked.list(0, 100)).total
    ],
    (_, value) => value,
    1
  );
}

async function stage(): Promise<{ broker: ServiceBroker; before: string }> {
  const made = cluster();
  const options = { maxAttempts: 1, sweepEveryMs: 3_600_000, refreshMs: 3_600_000 };
  const broker = await made.node("node-1", [
    emitter(made.mixin(options)),
    consumer(made.mixin(options), "stock", "order.created", () => undefined)
  ]);
  await subscribed(broker, 1);
  const emit = emitterOf(broker);
  for (const id of ["dead-1", "dead-2"]) {
    await emit("nobody.listens", { id }, { groups: "nobody", unroutableMs: 0, id });
    await reaches(broker, id, "dead");
  }
  await emit("order.created", { n: 1 }, { id: "consumed-1", waitFor: "consumed" });
  return { broker, before: await everything(broker) };
}

it("a query in place of a value does nothing, through every param of every action", { timeout: 400_000 }, async () => {
  const { broker, before } = await stage();
  const wrong: string[] = [];
  const typed = /^(VALIDATION_ERROR|RELIABLE_(BAD_OPTION|NOT_FOUND|ILLEGAL_TRANSITION))$/;
  for (const [action, names] of Object.entries(PARAMS)) {
    for (const name of [...names, "$where", "filter", "query", "__proto__"]) {
      for (const value of QUERIES) {
        // What is right, or not given, is no attack.
        if (
          value === null
            ? !["id", "ids"].includes(name) || action.match(/list|retry|resolve|discard/)
            : value === true && ["dryRun", "force"].includes(name)
        )
          continue;
        const params = Object.defineProperty(
          { ...(name === "id" || name === "ids" || name === "group" ? {} : BESIDE[action]) },
          name,
          { value, enumerable: true }
        );
        const ends = await Promise.resolve()
          .then(() => broker.call(`reliable.${action}`, params))
          .then(
            result => ({ result }),
            (error: { type?: string; name: string; message: string }) => ({ error })
          );
        // Moleculer 0.14.12 has its validator throw on it, before any of us is asked.
        if (
          "error" in ends &&
          process.env["DEPENDENCIES"] === "lowest" &&
          ends.error.message === "Cannot convert object to primitive value"
        )
          continue;
        const fine = "error" in ends ? typed.test(ends.error.type ?? "") && ends.error.message.length < 2000 : false;
        if (!fine)
          wrong.push(
            `${action} ${name}=${String(JSON.stringify(value)).slice(0, 60)}: ${"error" in ends ? `${ends.error.type} ${ends.error.message.slice(0, 200)}` : JSON.stringify(ends.result)?.slice(0, 200)}`
          );
      }
    }
  }
  expect(await everything(broker)).toBe(before);
  expect(wrong).toEqual([]);
  expect(({} as { status?: unknown }).status).toBeUndefined();
});

it("nor does one in place of an emit's id, groups or headers", async () => {
  const { broker, before } = await stage();
  const emit = emitterOf(broker) as unknown as (event: unknown, payload: unknown, options: object) => Promise<unknown>;
  for (const value of QUERIES.filter(value => value !== null && value !== undefined)) {
    expect((await errorOf(emit("order.created", {}, { id: value }))).type, inspect(value)).toBe("RELIABLE_BAD_OPTION");
    if (value !== HUGE) expect((await errorOf(emit(value, {}, {}))).type).toBe("RELIABLE_BAD_EVENT");
    expect((await errorOf(emit("order.created", {}, { groups: value }))).type, inspect(value)).toMatch(
      /^RELIABLE_(BAD_OPTION|HEADERS_TOO_LARGE)$/
    );
  }
  expect(await everything(broker)).toBe(before);
  // No key of an object, and NeDB would never find it again.
  expect((await errorOf(emit("order.created", {}, { id: "__proto__" }))).type).toBe("RELIABLE_BAD_OPTION");
  // As data they are data: they come out as they went in, and steer nothing.
  const payload = JSON.parse('{ "$set": { "status": "dead" }, "a.b": 1, "__proto__": { "x": 1 }, "$where": "true" }');
  await emit("order.created", payload, {
    id: "data-1",
    meta: { $ne: null, "a.b": 1 },
    headers: { $gt: "" },
    waitFor: "consumed"
  });
  expect(await broker.call("reliable.get", { id: "data-1" })).toMatchObject({
    status: "consumed",
    payload,
    meta: { $ne: null, "a.b": 1 }
  });
  for (const id of ["dead-1' || '1'=='1", "$ne", "constructor", "a.b", "{ $gt: '' }"]) {
    await emit("order.created", {}, { id, waitFor: "consumed", timeoutMs: 5000 });
    expect(await broker.call("reliable.get", { id })).toMatchObject({ id, status: "consumed" });
  }
});

it("nor one in a receipt, an announcement or a check from the wire: they are parked, or a group of that name", async () => {
  const { broker, before } = await stage();
  const { courier, identity } = nodeOf(broker as Broker).runtime;
  const prefix = `${identity.namespace}.reliable`;
  const send = (queue: string, body: unknown, headers: Record<string, unknown> = {}, type?: string) =>
    courier?.publish({
      to: { queue: `${prefix}.${queue}` },
      messageId: `attack-${Math.random()}`,
      type: type ?? "attack",
      headers,
      body: Buffer.from(JSON.stringify(body))
    });
  let parked = 0;
  // Not those that are text in JSON.
  for (const value of QUERIES.filter(value => typeof value === "object" && !(value instanceof Date))) {
    for (const queue of ["receipts.outbox", "receipts.callback"]) {
      await send(queue, {
        v: 1,
        group: "stock",
        nodeID: "n",
        items: [{ id: value, outcome: "handled", attempt: 1, durationMs: 1 }]
      });
      await send(queue, {
        v: 1,
        group: value,
        nodeID: "n",
        items: [{ id: "dead-1", outcome: "handled", attempt: 1, durationMs: 1 }]
      });
    }
    await send("announcements", { v: 1, pattern: value, group: "stock", queue: "q", nodeID: "n", service: "s" });
    await send("announcements", { v: 1, pattern: "a", group: "stock", queue: value, nodeID: "n", service: "s" });
    parked += 6;
  }
  const { store } = nodeOf(broker as Broker).runtime.needStorage();
  await expect.poll(async () => (await store.parked.list(0, 1)).total, { timeout: 20_000 }).toBe(parked);
  // Names that would be paths or operators of an update; and two that every object has, which no group can have.
  for (const group of ["__proto__", "constructor", "$set", "a.b", "receipts.stock"])
    await send("receipts.outbox", {
      v: 1,
      group,
      nodeID: "n",
      items: [{ id: "consumed-1", outcome: "handled", attempt: 1, durationMs: 1 }]
    });
  await expect
    .poll(() => broker.call<{ handled: string }, object>("reliable.get", { id: "consumed-1" }), { timeout: 20_000 })
    .toMatchObject({ handled: expect.stringContaining("receipts.stock") });
  await expect.poll(async () => (await store.parked.list(0, 1)).total, { timeout: 20_000 }).toBe(parked + 2);
  const [dead] = JSON.parse(before) as [{ _id: string; status: string }[]];
  const now = (JSON.parse(await everything(broker)) as (typeof dead)[])[0] as unknown as typeof dead;
  const others = (rows: typeof dead) => rows.filter(({ _id }) => _id !== "consumed-1");
  expect(others(now)).toEqual(others(dead));
});
