import { type ClientSession, MongoClient, MongoServerError } from "mongodb";
import { expect, it, onTestFinished } from "vitest";
import { prefixOf } from "../../src/wire/names";
import { cluster, until } from "../support/brokers";
import { storeOf } from "../support/runtime";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, errorOf, reaches, serviceOf, subscribed } from "../support/services";

async function client(): Promise<MongoClient> {
  const made = await new MongoClient(urls().mongo, { monitorCommands: true }).connect();
  onTestFinished(() => made.close());
  return made;
}

/** A shop whose orders are in the database of its messages, and somebody who hears of them. */
async function shop() {
  const made = cluster();
  const mongo = await client();
  const orders = mongo.db("reliable_test").collection<{ _id: string }>(`${prefixOf(made.namespace)}.orders`);
  await orders.insertOne({ _id: "first" });
  const heard: string[] = [];
  const mixin = made.mixin({ mongo });
  const broker = await made.node("node-1", [
    emitter(mixin),
    consumer(mixin, "stock", "order.created", ctx => void heard.push((ctx.params as { id: string }).id))
  ]);
  await subscribed(broker, 1);
  const barriers = mongo.db("reliable_test").collection<{ _id: string }>(`${prefixOf(made.namespace)}.barriers`);
  const barred = async (id: string) => (await barriers.countDocuments({ _id: id })) === 1;
  return { broker, emit: emitterOf(broker), mongo, orders, heard, store: storeOf(broker), barred };
}

it("a committed transaction delivers after the commit, never before", async () => {
  const { broker, emit, mongo, orders, heard, store } = await shop();
  await mongo.withSession(async session => {
    await session.withTransaction(async () => {
      await orders.insertOne({ _id: "o1" }, { session });
      expect(await emit("order.created", { id: "o1" }, { id: "o1", session })).toEqual({
        id: "o1",
        status: "pending",
        groups: ["stock"]
      });
      // Another message, emitted later and outside, is through before the transaction has ended.
      await emit("order.created", { id: "marker" }, { id: "marker", waitFor: "consumed" });
      expect(await broker.call("reliable.sweep", {})).toMatchObject({ claimed: 0 });
      expect(await store.messages.find(["o1"])).toEqual([]);
      expect(heard).toEqual(["marker"]);
    });
  });
  await reaches(broker, "o1", "consumed");
  expect(heard).toEqual(["marker", "o1"]);
  expect(await orders.countDocuments({ _id: "o1" })).toBe(1);
});

it("what is to be sent later is stored in the transaction, too, or not at all", async () => {
  const { broker, emit, mongo, heard, store } = await shop();
  const later = { delayMs: 1000 };
  await mongo.withSession(session =>
    session.withTransaction(async () => {
      expect(await emit("order.created", { id: "o1" }, { id: "o1", session, ...later })).toMatchObject({
        status: "scheduled"
      });
      expect(await store.messages.find(["o1"])).toEqual([]);
    })
  );
  const failed = mongo.withSession(session =>
    session.withTransaction(async () => {
      await emit("order.created", { id: "o2" }, { id: "o2", session, ...later });
      throw new Error("no credit");
    })
  );
  expect((await errorOf(failed)).message).toBe("no credit");
  const [row] = await store.messages.find(["o1"]);
  expect(row).toMatchObject({ status: "scheduled", waiting: ["*"] });
  await reaches(broker, "o1", "consumed");
  expect(heard).toEqual(["o1"]);
  expect(await store.messages.find(["o2"])).toEqual([]);
});

it("many are stored in the transaction by one look and one insert, whether emitted together or at once", async () => {
  const { broker, emit, mongo, heard } = await shop();
  const { reliableEmitMany } = serviceOf(broker, "emitter");
  const commands: string[] = [];
  const many = (from: number) =>
    Array.from({ length: 20 }, (_, n) => ({ event: "order.created", payload: { id: `o${from + n}` } }));
  mongo.on("commandStarted", ({ commandName, command }) => void (command.txnNumber && commands.push(commandName)));
  await mongo.withSession(session =>
    session.withTransaction(async () => {
      const outcomes = await reliableEmitMany(many(0), { session });
      expect(outcomes.every(({ status }) => status === "fulfilled")).toBe(true);
      await Promise.all(many(20).map(({ event, payload }) => emit(event, payload, { session })));
    })
  );
  expect(commands).toEqual(["find", "insert", "find", "insert", "commitTransaction"]);
  await until(
    () => heard.length,
    count => count === 40
  );
});

it("of many in a transaction all are stored or none, also where the caller ignores that one has failed", async () => {
  const { broker, emit, mongo, orders, store } = await shop();
  const { reliableEmitMany } = serviceOf(broker, "emitter");
  await emit("order.created", { id: "o1" }, { id: "o1" });
  const good = { event: "order.created", payload: { id: "o2" }, id: "o2" };
  const inTransaction = (bad: object) =>
    mongo.withSession(session =>
      session.withTransaction(async () => {
        await orders.insertOne({ _id: "written" }, { session });
        return errorOf(reliableEmitMany([good, bad as typeof good], { session }));
      })
    );
  // What is wrong with one is found before anything is stored: their transaction may go on without all of them.
  expect(await inTransaction({ event: "order.created", payload: () => 1 })).toMatchObject({
    type: "RELIABLE_BAD_PAYLOAD",
    data: { index: 1 }
  });
  expect(await store.messages.find(["o2"])).toEqual([]);
  expect(await orders.deleteOne({ _id: "written" })).toMatchObject({ deletedCount: 1 });
  // What is found in the store fails the transaction.
  expect(await inTransaction({ ...good, id: "o1" })).toMatchObject({
    type: "RELIABLE_DUPLICATE_ID",
    data: { id: "o1", index: 1 }
  });
  expect(await store.messages.find(["o2"])).toEqual([]);
  expect(await orders.countDocuments({ _id: "written" })).toBe(0);
});

it("of many in a transaction the first error reaches the caller of withTransaction as it is", async () => {
  const { broker, emit, mongo, store } = await shop();
  const { reliableEmitMany } = serviceOf(broker, "emitter");
  await emit("order.created", { id: "o1" }, { id: "o1" });
  const items = ["o2", "o1"].map(id => ({ event: "order.created", payload: { id: "o2" }, id }));
  const work = mongo.withSession(session =>
    session.withTransaction(() => reliableEmitMany(items, { session }).then(() => undefined))
  );
  expect(await errorOf(work)).toMatchObject({ type: "RELIABLE_DUPLICATE_ID", data: { id: "o1", index: 1 } });
  expect(await store.messages.find(["o2"])).toEqual([]);
});

it("a transaction that the session has begun since is not aborted by many of the one before", async () => {
  const { broker, mongo, orders, heard } = await shop();
  const { reliableEmitMany } = serviceOf(broker, "emitter");
  let runs = 0;
  await mongo.withSession(session =>
    session.withTransaction(async () => {
      const run = ++runs;
      const many = reliableEmitMany([{ event: "order.created", payload: { id: `o${run}` }, id: `o${run}` }], {
        session
      });
      // Not awaited together: the driver begins the next run while the emits of this one are still under way.
      if (run === 1) {
        void many.catch(() => undefined);
        throw new MongoServerError({ message: "WriteConflict", errorLabels: ["TransientTransactionError"] });
      }
      await many;
      await orders.insertOne({ _id: "written" }, { session });
    })
  );
  expect(runs).toBe(2);
  expect(await orders.countDocuments({ _id: "written" })).toBe(1);
  await reaches(broker, "o2", "consumed");
  expect(heard).toEqual(["o2"]);
});

it("is delivered though nobody ends the session: a sweep finds it", async () => {
  const { broker, emit, mongo, heard } = await shop();
  const session = mongo.startSession();
  onTestFinished(() => session.endSession());
  await session.withTransaction(() => emit("order.created", { id: "o1" }, { id: "o1", session }));
  await reaches(broker, "o1", "consumed");
  expect(heard).toEqual(["o1"]);
});

it("an aborted transaction delivers nothing, ever", async () => {
  const { emit, mongo, orders, heard, store, broker } = await shop();
  const failed = mongo.withSession(session =>
    session.withTransaction(async () => {
      await orders.insertOne({ _id: "o1" }, { session });
      await emit("order.created", { id: "o1" }, { id: "o1", session });
      throw new Error("no credit");
    })
  );
  await expect(failed).rejects.toThrow("no credit");
  await emit("order.created", { id: "marker" }, { waitFor: "consumed" });
  expect(await store.messages.find(["o1"])).toEqual([]);
  expect(await broker.call("reliable.stats", {})).toMatchObject({ pending: 0, published: 0, consumed: 1 });
  expect(heard).toEqual(["marker"]);
  expect(await orders.countDocuments({ _id: "o1" })).toBe(0);
  // The id is free: nothing of it was kept.
  await emit("order.created", { id: "o1" }, { id: "o1", waitFor: "consumed" });
  expect(heard).toEqual(["marker", "o1"]);
});

it("several messages in one transaction go together", async () => {
  const { broker, emit, mongo, heard } = await shop();
  await mongo.withSession(session =>
    session.withTransaction(async () => {
      for (const id of ["o1", "o2", "o3"]) await emit("order.created", { id }, { id, session });
    })
  );
  await Promise.all(["o1", "o2", "o3"].map(id => reaches(broker, id, "consumed")));
  expect(heard.sort()).toEqual(["o1", "o2", "o3"]);
});

it("a repeated id does not abort the transaction; with another payload it is an error", async () => {
  const { broker, emit, mongo, orders, heard } = await shop();
  await emit("order.created", { id: "o1" }, { id: "o1", waitFor: "consumed" });
  await mongo.withSession(session =>
    session.withTransaction(async () => {
      expect(await emit("order.created", { id: "o1" }, { id: "o1", session })).toEqual({
        id: "o1",
        status: "consumed",
        groups: ["stock"]
      });
      expect(await errorOf(emit("order.created", { id: "other" }, { id: "o1", session }))).toMatchObject({
        type: "RELIABLE_DUPLICATE_ID",
        data: { id: "o1" }
      });
      await emit("order.created", { id: "o2" }, { id: "o2", session });
      expect((await emit("order.created", { id: "o2" }, { id: "o2", session })).status).toBe("pending");
      await orders.insertOne({ _id: "o2" }, { session });
    })
  );
  await reaches(broker, "o2", "consumed");
  expect(heard).toEqual(["o1", "o2"]);
  expect(await orders.countDocuments({ _id: "o2" })).toBe(1);
});

it("refuses sessions that cannot carry the promise, and stores nothing", async () => {
  const { emit, mongo, store } = await shop();
  const stranger = await client();
  const foreign = stranger.startSession();
  foreign.startTransaction();
  const idle = mongo.startSession();
  const ended = mongo.startSession();
  await ended.endSession();
  onTestFinished(async () => {
    await foreign.abortTransaction().catch(() => undefined);
    await Promise.all([foreign, idle].map(session => session.endSession()));
  });
  const refused: [what: string, session: unknown, why: RegExp][] = [
    ["of another client", foreign, /another MongoClient/],
    ["without a transaction", idle, /no transaction open/],
    ["that has ended", ended, /has ended/],
    ["that is none", { id: 1 }, /no ClientSession/]
  ];
  for (const [what, session, why] of refused) {
    const error = await errorOf(emit("order.created", { id: "o1" }, { id: "o1", session }));
    expect.soft(error, what).toMatchObject({ type: "RELIABLE_BAD_SESSION", retryable: false });
    expect.soft(error.message, what).toMatch(why);
  }
  expect(await store.messages.find(["o1"])).toEqual([]);
});

type Ending = [
  what: string,
  end: (session: ClientSession, next: () => Promise<unknown>) => Promise<unknown>,
  kept: boolean
];

const ENDINGS: Ending[] = [
  ["aborted", session => session.abortTransaction(), false],
  ["committed", session => session.commitTransaction(), true],
  ["ended with its session", session => session.endSession(), false],
  [
    "aborted, and the next one begun and committed",
    async (session, next) => {
      await session.abortTransaction();
      session.startTransaction();
      await next();
      await session.commitTransaction();
    },
    false
  ]
];

it.each(ENDINGS)(
  "an emit that nobody awaits, in a transaction that is %s, is in it or nowhere",
  async (_, end, kept) => {
    const { emit, mongo, orders, store } = await shop();
    // At each point of the emit's way: before its look-up, between that and its insert, and after it.
    for (let turns = 0; turns < 12; turns++) {
      const id = `o${turns}`;
      const session = mongo.startSession();
      session.startTransaction();
      await orders.insertOne({ _id: id }, { session });
      const emitted = emit("order.created", { id }, { id, session }).then(
        () => "stored",
        (error: { type?: string }) => error.type
      );
      for (let turn = 0; turn < turns; turn++) await new Promise(resolve => setImmediate(resolve));
      await end(session, () => orders.insertOne({ _id: `next-${id}` }, { session })).catch(() => undefined);
      const outcome = await emitted;
      await session.endSession();
      const row = (await store.messages.find([id]))[0] !== undefined;
      const wrote = (await orders.countDocuments({ _id: id })) === 1;
      // With what was written beside it, or not at all; and the caller is told so.
      if (row) expect.soft([kept, wrote], id).toEqual([true, true]);
      expect.soft(outcome === "stored" && kept, id).toBe(row);
    }
  }
);

it.each<[what: string, end: (session: ClientSession) => Promise<unknown>]>([
  ["aborted", session => session.abortTransaction()],
  ["committed", session => session.commitTransaction()],
  [
    "aborted, and another one begun",
    async session => {
      await session.abortTransaction();
      session.startTransaction();
    }
  ]
])("an emit is not stored when its transaction was %s before it began", async (_, end) => {
  const { emit, mongo, orders, store } = await shop();
  const session = mongo.startSession();
  onTestFinished(() => session.endSession());
  session.startTransaction();
  const error = errorOf(emit("order.created", { id: "o1" }, { id: "o1", session }));
  // Nothing was sent in it yet, so this needs no answer of the server, and the emit still waits for a connection.
  await end(session);
  const again = session.inTransaction();
  if (again) await orders.insertOne({ _id: "o2" }, { session });
  expect(await error).toMatchObject({ type: "RELIABLE_BAD_SESSION", retryable: false, data: { id: "o1" } });
  if (again) await session.commitTransaction();
  expect(await store.messages.find(["o1"])).toEqual([]);
  expect(await orders.countDocuments({ _id: "o2" })).toBe(again ? 1 : 0);
});

it.each(ENDINGS)(
  "a barrier row that nobody awaits, in a transaction that is %s, is in it or nowhere",
  async (_, end, kept) => {
    const { mongo, orders, store, barred } = await shop();
    // At each point of its way, with the transaction begun before it or by it.
    for (let turns = 0; turns < 16; turns++) {
      const id = `o${turns}`;
      const session = mongo.startSession();
      session.startTransaction();
      const begun = turns % 2 === 0;
      if (begun) await orders.insertOne({ _id: id }, { session });
      const written = store.intents.barrier(session, id).then(
        () => "written",
        (error: { type?: string }) => error.type
      );
      for (let turn = 0; turn < turns >> 1; turn++) await new Promise(resolve => setImmediate(resolve));
      await end(session, () => orders.insertOne({ _id: `next-${id}` }, { session })).catch(() => undefined);
      const outcome = await written;
      await session.endSession();
      const row = await barred(id);
      const wrote = (await orders.countDocuments({ _id: id })) === 1;
      if (row) expect.soft([kept, wrote], id).toEqual([true, begun]);
      expect.soft(outcome === "written" && kept, id).toBe(row);
      if (outcome !== "written") expect.soft(outcome, id).toBe("RELIABLE_BAD_SESSION");
    }
  }
);

it("emits side by side in one transaction, with one listener on its session", async () => {
  const { broker, emit, mongo } = await shop();
  const ids = Array.from({ length: 15 }, (_, n) => `o${n}`);
  await mongo.withSession(async session => {
    const before = session.listenerCount("ended");
    await session.withTransaction(() => Promise.all(ids.map(id => emit("order.created", { id }, { id, session }))));
    expect(session.listenerCount("ended")).toBe(before + 1);
  });
  await Promise.all(ids.map(id => reaches(broker, id, "consumed")));
});

it("cannot wait inside the transaction for what comes after it", async () => {
  const { emit, mongo, store } = await shop();
  const waits = (waitFor: "confirmed" | "consumed") =>
    mongo.withSession(session =>
      session.withTransaction(() => emit("order.created", { id: "o1" }, { id: "o1", session, waitFor }))
    );
  for (const waitFor of ["confirmed", "consumed"] as const)
    expect
      .soft(await errorOf(waits(waitFor)))
      .toMatchObject({ type: "RELIABLE_BAD_OPTION", data: { option: "waitFor" } });
  expect(await store.messages.find(["o1"])).toEqual([]);
});
