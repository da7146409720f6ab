import { MongoClient } from "mongodb";
import { expect, it, onTestFinished } from "vitest";
import { cluster, until } from "../support/brokers";
import { OrderJournal } from "../support/order-journal";
import { proxied } from "../support/proxied";
import { rowOf, storeOf } from "../support/runtime";
import { urls } from "../support/servers";
import { consumer, emitter, emitterOf, reaches, subscribed } from "../support/services";

const numbers = (count: number) => Array.from({ length: count }, (_, n) => n);

/** Two producers with the user's own client, and a group. */
async function shop() {
  const client = await new MongoClient(urls().mongo).connect();
  onTestFinished(() => client.close());
  const made = cluster();
  const journal = new OrderJournal();
  const mixin = () => made.mixin({ mongo: client });
  const home = await made.node("home", [
    emitter(mixin()),
    consumer(mixin(), "stock", "order.created", journal.handler())
  ]);
  const till = await made.node("till", [emitter(mixin(), "till")]);
  await subscribed(home, 1);
  await subscribed(till, 1);
  const handles = (count: number) =>
    until(
      () => journal.of("a"),
      seen => seen.length >= count
    );
  return { client, home, emit: emitterOf(home), emitTill: emitterOf(till, "till"), journal, handles };
}

it("of transactions the order is that of the commits, and within one that of its emits; aborted ones leave no gap", async () => {
  const { client, emit, handles } = await shop();
  const first = client.startSession();
  const second = client.startSession();
  first.startTransaction();
  second.startTransaction();
  await emit("order.created", { n: 3 }, { orderKey: "a", session: first });
  for (const n of [0, 1, 2]) await emit("order.created", { n }, { orderKey: "a", session: second });
  await second.commitTransaction();
  await second.endSession();
  await handles(3);
  await first.commitTransaction();
  await first.endSession();
  const aborted = client.startSession();
  aborted.startTransaction();
  await emit("order.created", { n: 99 }, { orderKey: "a", session: aborted });
  await aborted.abortTransaction();
  await aborted.endSession();
  expect(await handles(4)).toEqual([0, 1, 2, 3]);
  await emit("order.created", { n: 4 }, { orderKey: "a" });
  expect(await handles(5)).toEqual(numbers(5));
});

it("what is emitted by another node after a commit comes after it, though the committing one has not looked yet", async () => {
  const { client, home, emit, emitTill, handles } = await shop();
  const session = client.startSession();
  session.startTransaction();
  const { id } = await emit("order.created", { n: 0 }, { orderKey: "a", session });
  await session.commitTransaction();
  // The session has not ended: its node will not look before.
  await emitTill("order.created", { n: 1 }, { orderKey: "a" });
  expect(await handles(2)).toEqual([0, 1]);
  await session.endSession();
  await reaches(home, id, "consumed");
});

it("two sweepers, resends of what nobody has answered, and late receipts keep the order", async () => {
  const { options, proxies } = await proxied();
  const made = cluster();
  const journal = new OrderJournal();
  const own = { ...options, receiptTimeoutMs: 400, sweepEveryMs: 100 };
  const nodes = [];
  for (const name of ["one", "two"])
    nodes.push(
      await made.node(name, [
        emitter(made.mixin(own), name),
        consumer(made.mixin(own), "stock", "order.created", journal.handler())
      ])
    );
  const [one, two] = nodes as [(typeof nodes)[0], (typeof nodes)[0]];
  for (const node of nodes) await subscribed(node, 1);
  const emits = [emitterOf(one, "one"), emitterOf(two, "two")];
  const emitted = [];
  for (const n of numbers(8)) emitted.push(await emits[n % 2]?.("order.created", { n }, { orderKey: "a" }));
  await until(() => journal.of("a").length >= 2);
  await proxies[0]?.down();
  for (const n of numbers(8)) emitted.push(await emits[n % 2]?.("order.created", { n: 8 + n }, { orderKey: "a" }));
  await proxies[0]?.up();
  await until(
    () => journal.of("a").length,
    count => count >= 16,
    60_000
  );
  // Delivered again it may be handled again, by the connection's loss; never after a later one.
  expect(journal.of("a").filter((n, at, all) => all[at - 1] !== n)).toEqual(numbers(16));
  for (const each of emitted) await reaches(one, (each as { id: string }).id, "consumed");
});

it("a turn that was given and never begun is taken up when its lane is due", async () => {
  const { home, emit, journal, handles } = await shop();
  const { lanes } = storeOf(home);
  // As if the process had died between the turn's write and the claim.
  const advance = lanes.advance.bind(lanes);
  let lost = 0;
  lanes.advance = async ends => {
    const turns = await advance(ends);
    lost += turns.length;
    return [];
  };
  const [, behind] = await Promise.all(numbers(2).map(n => emit("order.created", { n }, { orderKey: "a" })));
  await until(() => lost > 0);
  expect(journal.of("a")).toEqual([0]);
  lanes.advance = advance;
  const now = storeOf(home).now();
  const { turns } = await lanes.look(new Date(now.getTime() + 60_000), 10);
  expect(turns).toMatchObject([{ key: "a", group: "stock", id: behind?.id }]);
  await lanes.wake([behind?.id as string], now);
  expect(await handles(2)).toEqual([0, 1]);
  expect((await rowOf(home, behind?.id as string)).attempts).toBeDefined();
});

it("an emit is in the transaction that was open at its call, though the session has begun another one since", async () => {
  const { client, home, emit, handles } = await shop();
  await emit("order.created", { n: 0 }, { orderKey: "a" });
  const session = client.startSession();
  session.startTransaction();
  const aborted = emit("order.created", { n: 99 }, { id: "aborted", orderKey: "a", session }).catch(
    (error: unknown) => error
  );
  await session.abortTransaction();
  session.startTransaction();
  expect(await aborted).toMatchObject({ type: "RELIABLE_BAD_SESSION" });
  await emit("order.created", { n: 1 }, { orderKey: "a", session });
  await session.commitTransaction();
  await session.endSession();
  expect(await handles(2)).toEqual([0, 1]);
  expect(await storeOf(home).messages.find(["aborted"])).toEqual([]);
});
