import { type ClientSession, MongoClient } from "mongodb";
import { describe, expect, it, onTestFinished } from "vitest";
import type { CommitMessage } from "../../src/emit/emit-options";
import { cluster, until } from "../support/brokers";
import { rowOf } from "../support/runtime";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, errorOf, reaches, subscribed } from "../support/services";
import { AMQP_ONLY, STRATEGIES } from "../support/strategies";

async function connected(): Promise<MongoClient> {
  const client = await new MongoClient(urls().mongo).connect();
  onTestFinished(() => client.close());
  return client;
}

/** No question comes before a commit that is to be in time, on a busy machine too. */
const PATIENT = [60_000, 70_000];
/** It comes after the transaction has begun, or has ended. */
const SLOW = [2000, 3000, 4000];

/** A shop whose orders live in the store's own database, and a step in its transaction that a test can hold. */
async function shop(strategy: "outbox" | "callback", ladder = [200, 400, 600]) {
  // Before the cluster: closed after its nodes have stopped. One that stops without its store waits for its drain.
  const client = await connected();
  const made = cluster();
  const orders = client.db("reliable_test").collection<{ _id: string }>(`${made.namespace}.reliable.orders`);
  const seen: unknown[] = [];
  const mixin = made.mixin({ mongo: client, strategy, checkDelaysMs: ladder });
  const broker = await made.node("node-1", [
    emitter(mixin, "shop"),
    consumer(mixin, "stock", "order.created", ctx => void seen.push(ctx.params))
  ]);
  await subscribed(broker, 1);
  const write = (
    message: CommitMessage,
    before: (session: ClientSession) => unknown = () => undefined,
    after: () => unknown = () => undefined
  ) =>
    client.withSession(session =>
      session.withTransaction(async () => {
        await before(session);
        await orders.insertOne({ _id: message.id }, { session });
        await message.barrier(session);
        await after();
      })
    );
  return {
    made,
    client,
    broker,
    orders,
    seen,
    write,
    emit: emitterOf(broker, "shop"),
    ids: () =>
      orders
        .find()
        .map(({ _id }) => _id)
        .toArray()
  };
}

/** Something a test lets go on when it wants to. */
function gate() {
  let open: () => void = () => undefined;
  let begin: () => void = () => undefined;
  const opened = new Promise<void>(resolve => (open = resolve));
  const begun = new Promise<void>(resolve => (begin = resolve));
  return {
    open,
    begun,
    pass: () => {
      begin();
      return opened;
    }
  };
}

describe.each(STRATEGIES)("a barrier row, strategy $name", ({ name }) => {
  it("is written with the order, and the event is sent", async () => {
    const { emit, write, ids, seen } = await shop(name, PATIENT);
    expect(
      await emit(
        "order.created",
        { n: 1 },
        { id: "order 1", barrier: true, commit: message => write(message), waitFor: "consumed" }
      )
    ).toEqual({ id: "order 1", status: "consumed", groups: ["stock"] });
    expect(await ids()).toEqual(["order 1"]);
    expect(seen).toEqual([{ n: 1 }]);
  });

  it("fences a late commit: once it was asked about, the transaction cannot commit any more", async () => {
    const { broker, emit, write, ids, seen } = await shop(name);
    const late = gate();
    const emitted = errorOf(
      emit("order.created", { n: 1 }, { id: "order 1", barrier: true, commit: message => write(message, late.pass) })
    );
    await late.begun;
    await reaches(broker, "order 1", "withdrawn");
    late.open();
    expect(await emitted).toMatchObject({ type: "RELIABLE_WITHDRAWN", data: { id: "order 1" } });
    expect(await ids()).toEqual([]);
    await emit("order.created", { n: 2 }, { waitFor: "consumed" });
    expect(await rowOf(broker, "order 1")).toMatchObject({ status: "withdrawn", receipts: {} });
    expect(seen).toEqual([{ n: 2 }]);
  });

  it("proves a commit whose process died right after it", async () => {
    const { broker, emit, write, ids, seen } = await shop(name, SLOW);
    const dead = gate();
    const emitted = emit(
      "order.created",
      { n: 1 },
      { id: "order 1", barrier: true, commit: message => write(message).then(dead.pass) }
    );
    await dead.begun;
    await reaches(broker, "order 1", "consumed");
    expect(await ids()).toEqual(["order 1"]);
    dead.open();
    await emitted;
    await emit("order.created", { n: 2 }, { waitFor: "consumed" });
    expect(seen).toEqual([{ n: 1 }, { n: 2 }]);
  });

  it("that is not committed yet makes the question wait for the end of its transaction", async () => {
    const { broker, emit, write, ids, seen } = await shop(name, SLOW);
    const open = gate();
    const emitted = emit(
      "order.created",
      { n: 1 },
      { id: "order 1", barrier: true, commit: message => write(message, undefined, open.pass) }
    );
    await open.begun;
    // Somebody has the question in hand, and cannot answer it.
    await until(async () => (await rowOf(broker, "order 1").catch(() => undefined))?.claim);
    open.open();
    await emitted;
    await reaches(broker, "order 1", "consumed");
    expect(await ids()).toEqual(["order 1"]);
    expect(seen).toEqual([{ n: 1 }]);
  });

  it("goes with its transaction when that aborts, and the id can be used again", async () => {
    const { broker, emit, write, ids, seen } = await shop(name, [5000, 6000]);
    const failed = new Error("no credit");
    expect(
      await errorOf(
        emit(
          "order.created",
          { n: 1 },
          { id: "order 1", barrier: true, commit: message => write(message, undefined, () => Promise.reject(failed)) }
        )
      )
    ).toBe(failed);
    await reaches(broker, "order 1", "withdrawn");
    expect(await ids()).toEqual([]);
    await emit("order.created", { n: 1 }, { id: "order 1", barrier: true, commit: message => write(message) });
    await reaches(broker, "order 1", "consumed");
    expect(await ids()).toEqual(["order 1"]);
    expect(seen).toEqual([{ n: 1 }]);
  });

  it("refuses a session that cannot fence", async () => {
    const { client, emit, seen } = await shop(name, PATIENT);
    const stranger = await connected();
    const inside = (other: MongoClient, message: CommitMessage) =>
      other.withSession(session => session.withTransaction(() => message.barrier(session)));
    const refused = (commit: (message: CommitMessage) => unknown) =>
      errorOf(emit("order.created", {}, { barrier: true, commit }));
    expect(await refused(message => client.withSession(session => message.barrier(session)))).toMatchObject({
      type: "RELIABLE_BAD_SESSION",
      message: expect.stringContaining("transaction")
    });
    expect(await refused(message => inside(stranger, message))).toMatchObject({ type: "RELIABLE_BAD_SESSION" });
    expect(await refused(message => message.barrier(undefined))).toMatchObject({ type: "RELIABLE_BAD_SESSION" });
    expect(await refused(message => message.barrier({}))).toMatchObject({ type: "RELIABLE_BAD_SESSION" });
    expect(
      await refused(message =>
        client.withSession(session =>
          session.withTransaction(() => message.barrier(session).then(() => message.barrier(session)))
        )
      )
    ).toMatchObject({ type: "RELIABLE_BAD_SESSION", message: expect.stringContaining("already") });
    expect(seen).toEqual([]);
  });

  it("that was promised and not written is told loudly", async () => {
    const { made, emit } = await shop(name, PATIENT);
    await emit("order.created", {}, { id: "order 1", barrier: true, commit: () => undefined, waitFor: "consumed" });
    expect(
      made.logs.filter(line => line.includes("error") && line.includes("order 1") && line.includes("barrier"))
    ).toHaveLength(1);
  });
});

it("a second transaction for an id whose first has committed is refused", async () => {
  const { emit, write, ids, seen } = await shop("callback", PATIENT);
  const options = {
    id: "order 1",
    barrier: true,
    commit: (message: CommitMessage) => write({ ...message, id: `${message.id} ${Math.random()}` })
  };
  await emit("order.created", { n: 1 }, { ...options, waitFor: "consumed" });
  expect(await errorOf(emit("order.created", { n: 1 }, options))).toMatchObject({
    type: "RELIABLE_DUPLICATE_ID",
    data: { id: "order 1" }
  });
  expect(await ids()).toHaveLength(1);
  expect(seen).toEqual([{ n: 1 }]);
});

it("a node without MongoDB has no barrier rows: the emit says so, and its intents end as dead, never withdrawn", async () => {
  const made = cluster();
  const home = await made.node("home", [consumer(made.mixin(), "stock", "order.created", () => undefined)]);
  const shop = await made.node("shop", [
    emitter(made.mixin({ ...AMQP_ONLY, strategy: "callback", checkDelaysMs: [150, 200] }), "shop")
  ]);
  await subscribed(home, 1);
  await home.waitForServices(["shop"]);
  const emit = emitterOf(shop, "shop");
  expect(
    await errorOf(emit("order.created", {}, { id: "order 1", barrier: true, commit: message => message.barrier({}) }))
  ).toMatchObject({ type: "RELIABLE_NO_STORE" });
  await reaches(home, "order 1", "withdrawn");
  const stuck = gate();
  const emitted = emit("order.created", {}, { id: "order 2", barrier: true, commit: stuck.pass });
  expect((await reaches(home, "order 2", "dead")).reason).toMatch(/no MongoDB to look for the barrier row in/);
  stuck.open();
  await emitted;
  await reaches(home, "order 2", "consumed");
});
