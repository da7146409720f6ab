import { BSON, type Document, MongoClient } from "mongodb";
import { uuidv7 } from "uuidv7";
import { afterAll, describe, expect, it, onTestFinished } from "vitest";
import type { ReliableError } from "../../../src/errors";
import type { Message } from "../../../src/message/message";
import { systemClock } from "../../../src/platform/clock";
import { MAX_BODY_IN_ROW } from "../../../src/stores/documents/bodies";
import { INDEXES } from "../../../src/stores/documents/indexes";
import { MongoStore } from "../../../src/stores/mongo/store";
import type { DeadMessage } from "../../../src/stores/store-records";
import { prefixOf } from "../../../src/wire/names";
import {
  at,
  deadOf,
  failedBy,
  failureOf,
  handledBy,
  messageOf,
  noteOf,
  parkedOf,
  receiptOf,
  silent,
  subscriptionOf
} from "../../support/messages";
import { type Command, mongoProxy, type Play } from "../../support/mongo-proxy";
import { urls } from "../../support/servers";

const database = `reliable_test_${uuidv7()}`;
const direct = new MongoClient(urls().mongo);

afterAll(async () => {
  await direct.db(database).dropDatabase();
  await direct.close();
});

type Refuses = (record: Document) => boolean;

interface Beside {
  store: MongoStore;
  namespace: string;
  told: { error: ReliableError; dead?: DeadMessage | undefined }[];
  commands: Command[];
  /** Records of this kind are refused from now on. */
  refuse(code: number, errmsg: string, refuses: Refuses): void;
}

/** A store whose server refuses single records, and does the others. */
async function beside(): Promise<Beside> {
  const commands: Command[] = [];
  let play: Play | undefined;
  const proxy = await mongoProxy({
    target: urls().mongo,
    play(command) {
      commands.push(command);
      return play;
    }
  });
  const namespace = `t-${uuidv7()}`;
  const store = new MongoStore({ url: proxy.url, database, namespace, logger: silent, clock: systemClock });
  onTestFinished(async () => {
    await store.close();
    await proxy.close();
  });
  await store.start();
  const told: Beside["told"] = [];
  store.onRefused((error, dead) => told.push({ error, dead }));
  return {
    store,
    namespace,
    told,
    commands,
    refuse(code, errmsg, refuses) {
      play = { refuses: record => (refuses(record) ? { code, errmsg } : undefined) };
    }
  };
}

const collectionOf = (namespace: string, name: string) =>
  direct.db(database).collection(`${prefixOf(namespace)}.${name}`);
const bytesOf = (record: Document) => BSON.calculateObjectSize(record);
/** What an update of this message says. */
const isAbout =
  (id: string): Refuses =>
  ({ q }) =>
    q?._id === id || q?._id?.$in?.includes(id) === true;
const REFUSED = { type: "RELIABLE_STORE_REFUSED", retryable: false };
const TOO_LARGE: [number, string] = [17419, "Resulting document after update is larger than 16777216"];

const CODES: [number, string][] = [
  [121, "Document failed validation"],
  [10334, "BSONObj size: 17000000 is invalid"],
  [8000, "document is too large for this tier"],
  [4711, "a code that nobody knows"]
];

describe("one record that is refused takes along no other", () => {
  it.each(CODES)("insert, %i", async (code, text) => {
    const { store, refuse } = await beside();
    const [before, bad, after] = [messageOf(), messageOf(), messageOf()];
    await store.messages.insert([before]);
    refuse(code, text, ({ _id }) => _id === bad._id);
    expect(await store.messages.insert([before, bad, after])).toMatchObject([
      { stored: false, existing: { _id: before._id } },
      { ...REFUSED, message: expect.stringContaining(text) },
      { stored: true }
    ]);
    expect(await store.messages.insert([bad])).toMatchObject([REFUSED]);
  });

  it("rows from receipts and checks; of these it is told", async () => {
    const { store, refuse } = await beside();
    const [bad, good, checked] = [1, 2, 3].map(() => messageOf({ strategy: "callback", status: "published" }));
    refuse(121, "Document failed validation", ({ _id }) => _id === bad?._id);
    expect(await store.messages.insertFromReceipts([bad, good] as never)).toEqual(new Set([good?._id]));
    await expect(store.messages.upsertFromChecks([bad, checked] as never)).rejects.toMatchObject(REFUSED);
    expect(await store.messages.find([bad, good, checked].map(row => row?._id as string))).toHaveLength(2);
  });

  it("a large body or its row, and the body of a refused row does not stay", async () => {
    const { store, refuse, namespace } = await beside();
    const body = Buffer.alloc(MAX_BODY_IN_ROW + 1, "a");
    const [badBody, badRow, good] = [messageOf({ body }), messageOf({ body }), messageOf({ body })];
    const small = messageOf();
    refuse(121, "Document failed validation", ({ _id, of }) => of === badBody._id || _id === badRow._id);
    expect(await store.messages.insert([badBody, small, badRow, good])).toMatchObject([
      REFUSED,
      { stored: true },
      REFUSED,
      { stored: true }
    ]);
    const ids = [badBody, small, badRow, good].map(({ _id }) => _id);
    expect((await store.messages.find(ids)).map(({ _id }) => _id)).toEqual([small._id, good._id]);
    expect((await collectionOf(namespace, "bodies").find().toArray()).map(({ of }) => of)).toEqual([good._id]);
  });

  it("a large body that an intent's source had: the message is dead, its neighbour goes on", async () => {
    const { store, refuse, told } = await beside();
    const [bad, good] = [1, 2].map(() => messageOf({ status: "intended", intent: "source" })) as [Message, Message];
    await store.messages.insert([bad, good]);
    refuse(121, "Document failed validation", ({ of }) => of === bad._id);
    const body = Buffer.alloc(MAX_BODY_IN_ROW + 1, "a");
    const happened = (id: string) => store.intents.happened(id, at(9), { body });
    expect(await Promise.all([bad, good].map(({ _id }) => happened(_id)))).toEqual([false, true]);
    expect(told).toMatchObject([{ error: REFUSED, dead: { id: bad._id } }]);
    expect((await store.messages.find([bad._id, good._id])).map(({ status }) => status)).toEqual(["dead", "pending"]);
  });

  it("inbox rows, parked ones and subscriptions", async () => {
    const { store, refuse } = await beside();
    const bad = JSON.stringify(["stock", "b"]);
    refuse(121, "Document failed validation", ({ _id, q }) => [bad, "p"].includes(_id) || q?._id?.includes("bad"));
    expect(await store.inbox.add("stock", ["a", "b", "c"], at(0))).toMatchObject([undefined, REFUSED, undefined]);
    expect(await store.inbox.handled("stock", ["a", "b", "c"])).toEqual(new Set(["a", "c"]));
    await expect(store.parked.add([parkedOf({ _id: "o" }), parkedOf({ _id: "p" })])).rejects.toMatchObject(REFUSED);
    expect((await store.parked.list(0, 10)).total).toBe(1);
    const announced = ["bad", "mail", "stock"].map(group => subscriptionOf(group));
    await expect(store.subscriptions.announce(announced)).rejects.toMatchObject(REFUSED);
    expect((await store.subscriptions.list()).map(({ group }) => group)).toEqual(["mail", "stock"]);
  });

  it.each(["published", "handled", "failed", "displaced", "excused", "rescheduled", "postponed", "named"] as const)(
    "%s: the message is dead by a write that fits",
    async verb => {
      const { store, told, refuse } = await beside();
      const rows = [1, 2, 3].map(n =>
        messageOf({ dueAt: at(n), waiting: verb === "named" ? ["*"] : ["stock"], failures: [failureOf(), failureOf()] })
      );
      await store.messages.insert(rows);
      const ids = rows.map(({ _id }) => _id);
      const [, bad = ""] = ids;
      const claims = verb === "rescheduled" || verb === "named";
      if (claims) await store.messages.claim({ ids, now: at(9), until: at(90), claim: "c" });
      refuse(...TOO_LARGE, record => isAbout(bad)(record) && record["u"]?.$set?.status !== "dead");
      const { messages } = store;
      if (verb === "published")
        expect(await messages.published(ids.map(id => ({ id, at: at(7), dueAt: at(8) })))).toBe(2);
      if (verb === "handled")
        expect((await messages.handled(ids.map(id => handledBy(id)))).consumed.sort()).toEqual([ids[0], ids[2]].sort());
      if (verb === "failed") await messages.failed(ids.map(id => failedBy(id)));
      if (verb === "postponed") expect(await messages.postponed(ids, at(70))).toBe(2);
      if (verb === "displaced")
        await messages.displaced(
          ids.map(id => ({ id, group: "stock", attempt: 1, failure: failureOf(), nextAt: at(7) }))
        );
      if (verb === "excused")
        await messages.excused(
          ids.map(id => ({ id, group: "stock", attempt: 1, failure: failureOf(), nextAt: at(7), all: false }))
        );
      if (verb === "rescheduled")
        expect(await messages.rescheduled(ids.map(id => ({ id, claim: "c", dueAt: at(99) })))).toBe(2);
      if (verb === "named")
        expect(await messages.named(ids.map(id => ({ id, claim: "c", from: ["*"], to: ["stock"] })))).toEqual(
          new Set([ids[0], ids[2]])
        );
      const [row] = await messages.find([bad]);
      expect(row).toMatchObject({
        status: "dead",
        waiting: [],
        failed: [verb === "named" ? "*" : "stock"],
        reason: expect.stringContaining(TOO_LARGE[1]),
        failures: [failureOf(), failureOf()]
      });
      expect(row).not.toHaveProperty("dueAt");
      expect(told).toMatchObject([
        { error: { ...REFUSED, data: { id: bad }, message: expect.stringContaining("It is dead") }, dead: { id: bad } }
      ]);
    }
  );
});

it("a statement that names its messages by a filter is made for each of them", async () => {
  const { store, told, refuse } = await beside();
  const rows = [1, 2, 3].map(() =>
    messageOf({ waiting: ["*"], unroutable: { "*": at(0) }, next: { "*": at(60_000) }, dueAt: at(60_000) })
  );
  const [bad, ...good] = rows.map(({ _id }) => _id) as [string, ...string[]];
  await store.messages.insert(rows);
  // As a server does that ends such a statement at the first record that it refuses.
  refuse(121, "Document failed validation", record => record["q"]?._id === undefined || isAbout(bad)(record));
  expect(await store.messages.routable([{ group: "stock", pattern: "order.created" }], at(1))).toBe(2);
  const due = await store.messages.due({ now: at(2), limit: 10 });
  expect(due.map(({ id }) => id).sort()).toEqual(good.sort());
  expect(told).toMatchObject([{ error: { data: { id: bad } } }]);
});

it.each<[number, string]>([
  [16500, "Request rate is large"],
  [11602, "operation was interrupted"],
  [8000, "you are over your space quota, using 513 MB of 512 MB"]
])("%i says nothing about the record: the batch may be repeated, and nothing is dead", async (code, text) => {
  const { store, told, refuse } = await beside();
  const [there, bad] = [messageOf(), messageOf()];
  await store.messages.insert([there]);
  refuse(code, text, record => record["_id"] === bad._id || isAbout(there._id)(record));
  await expect(store.messages.insert([bad, messageOf()])).rejects.toMatchObject({ type: "RELIABLE_UNAVAILABLE" });
  await expect(store.messages.failed([failedBy(there._id)])).rejects.toMatchObject({ type: "RELIABLE_UNAVAILABLE" });
  expect(told).toEqual([]);
  expect(await store.messages.find([there._id])).toEqual([there]);
});

describe("a record that does not fit is written short", () => {
  it("a failure, in the place of those before it", async () => {
    const { store, told, refuse } = await beside();
    const [bad, good] = [messageOf({ failures: [failureOf(), failureOf()] }), messageOf()];
    await store.messages.insert([bad, good]);
    refuse(...TOO_LARGE, record => isAbout(bad._id)(record) && bytesOf(record) > 800);
    const long = failureOf({ group: "stock", error: { name: "E", message: "m".repeat(900), stack: "s".repeat(4000) } });
    for (const attempt of [1, 2])
      expect(
        await store.messages.failed([bad, good].map(({ _id }) => failedBy(_id, { attempt, failure: long })))
      ).toEqual({ applied: 2, dead: [] });
    const [row, other] = await store.messages.find([bad._id, good._id]);
    expect(row).toMatchObject({ status: "pending", spent: { stock: 2 } });
    expect(row?.failures).toEqual([{ ...long, error: { name: "E", message: "m".repeat(100) } }]);
    expect(other?.failures).toEqual([long, long]);
    expect(told).toMatchObject([{ error: { ...REFUSED, data: { id: bad._id } } }]);
    expect(told[0]).toMatchObject({ dead: undefined });
  });

  it("a receipt, in the place of failures, and a note", async () => {
    const { store, refuse } = await beside();
    const open = messageOf({ failures: [failureOf(), failureOf({ attempt: 2 })] });
    const dead = deadOf();
    await store.messages.insert([open, dead]);
    refuse(
      ...TOO_LARGE,
      record =>
        (isAbout(open._id)(record) || isAbout(dead._id)(record)) && (bytesOf(record) > 1500 || !record["u"].$push)
    );
    expect(await store.messages.handled([handledBy(open._id)])).toMatchObject({ consumed: [open._id] });
    expect(await store.operations.resolve(dead, noteOf("resolve", { note: "n".repeat(2000) }))).toBe(true);
    expect(await store.messages.find([open._id, dead._id])).toMatchObject([
      { status: "consumed", receipts: { stock: receiptOf() }, failures: [{ attempt: 2 }] },
      { status: "resolved", notes: [{ note: "n".repeat(100) }] }
    ]);
  });

  it("and its story makes room for the last write", async () => {
    const { store, refuse } = await beside();
    const message = messageOf({ failures: [failureOf()] });
    await store.messages.insert([message]);
    refuse(...TOO_LARGE, record => isAbout(message._id)(record) && !record["u"].$unset?.failures);
    await store.messages.failed([failedBy(message._id)]);
    expect(await store.messages.find([message._id])).toMatchObject([
      { status: "dead", failures: [], failed: ["stock"] }
    ]);
  });
});

describe("a row that takes no change at all", () => {
  it("is left alone and told once; a sweep ends, and its page goes on", async () => {
    const { store, told, refuse } = await beside();
    const [bad, good] = [messageOf({ dueAt: at(1) }), messageOf({ dueAt: at(2) })];
    await store.messages.insert([bad, good]);
    refuse(121, "Document failed validation", isAbout(bad._id));
    const due = async () => (await store.messages.due({ now: at(100), limit: 10 })).map(({ id }) => id);
    const claim = async (ids: string[]) =>
      (await store.messages.claim({ ids, now: at(100), until: at(60_000), claim: "c" })).map(({ _id }) => _id);
    expect(await claim(await due())).toEqual([good._id]);
    expect(await due()).toEqual([]);
    expect(await claim([bad._id])).toEqual([]);
    expect(told).toMatchObject([{ error: { data: { id: bad._id }, message: expect.stringContaining("left alone") } }]);
  });

  it("is left alone by the later steps of a verb too: nobody is taken for the last who had to answer", async () => {
    const { store, refuse } = await beside();
    const message = messageOf({ waiting: ["*"] });
    await store.messages.insert([message]);
    refuse(...TOO_LARGE, record => isAbout(message._id)(record) && !record["u"].$pull);
    await store.messages.resolveRecipients([{ id: message._id, groups: ["stock"] }]);
    expect(await store.messages.find([message._id])).toMatchObject([{ status: "pending", waiting: ["*"] }]);
  });

  it("and is not open, is told to whom it concerns", async () => {
    const { store, told, refuse } = await beside();
    const [bad, good] = [deadOf(), deadOf()];
    await store.messages.insert([bad, good]);
    refuse(121, "Document failed validation", isAbout(bad._id));
    await expect(store.operations.retry(bad, at(7), noteOf("retry"))).rejects.toMatchObject(REFUSED);
    expect(told).toEqual([]);
    expect(await store.messages.handled([bad, good].map(({ _id }) => handledBy(_id)))).toMatchObject({
      consumed: [good._id]
    });
    expect(told).toMatchObject([{ error: { ...REFUSED, data: { id: bad._id } } }]);
    expect(await store.messages.find([bad._id, good._id])).toMatchObject([{ status: "dead" }, { status: "consumed" }]);
  });
});

describe("a unique index of the operator's own", () => {
  it("is not taken for an id that is there, and is named", async () => {
    const { store, namespace } = await beside();
    const first = messageOf({ event: "a" });
    await store.messages.insert([first]);
    await collectionOf(namespace, "messages").createIndex({ event: 1 }, { unique: true, name: "one of each" });
    const refused = { ...REFUSED, message: expect.stringContaining("'one of each'"), data: { index: "one of each" } };
    const [second, other] = [messageOf({ event: "a" }), messageOf({ event: "b" })];
    expect(await store.messages.insert([second])).toMatchObject([refused]);
    expect(await store.messages.insert([second, other, first])).toMatchObject([
      refused,
      { stored: true },
      { stored: false, existing: { _id: first._id } }
    ]);
  });

  it("ends the transaction of an emit's session with an error that names it", async () => {
    const client = new MongoClient(urls().mongo);
    const namespace = `t-${uuidv7()}`;
    const store = new MongoStore({ client, database, namespace, logger: silent, clock: systemClock });
    onTestFinished(async () => {
      await store.close();
      await client.close();
    });
    await store.start();
    await store.messages.insert([messageOf({ event: "a" })]);
    await collectionOf(namespace, "messages").createIndex({ event: 1 }, { unique: true, name: "one of each" });
    const message = messageOf({ event: "a" });
    await expect(
      client.withSession(session => session.withTransaction(() => store.messages.insertIn(session, message)))
    ).rejects.toMatchObject({ ...REFUSED, data: { index: "one of each" } });
  });

  it("that a change violates ends no batch and is asked once", async () => {
    const { store, namespace, told } = await beside();
    const rows = [messageOf(), messageOf(), messageOf()];
    await store.messages.insert(rows);
    await collectionOf(namespace, "messages").createIndex(
      { publishedAt: 1 },
      { unique: true, partialFilterExpression: { publishedAt: { $exists: true } }, name: "one at a time" }
    );
    const ids = rows.map(({ _id }) => _id);
    expect(await store.messages.published(ids.map(id => ({ id, at: at(7), dueAt: at(8) })))).toBeLessThanOrEqual(1);
    const statuses = (await store.messages.find(ids)).map(({ status }) => status);
    expect(statuses.filter(status => status === "dead")).toHaveLength(2);
    expect(told).toHaveLength(2);
    expect(told[0]?.error).toMatchObject({ data: { index: "one at a time" } });
  });

  it("of another collection ends in an error, not in a loop", async () => {
    const { store, namespace } = await beside();
    await store.inbox.add("stock", ["a"], at(0));
    for (const name of ["inbox", "barriers"])
      await collectionOf(namespace, name).createIndex({ at: 1 }, { unique: true, name: "by time" });
    expect(await store.inbox.add("stock", ["b", "c"], at(0))).toMatchObject([REFUSED, REFUSED]);
    await expect(store.inbox.transaction("stock", "d", at(0), async () => undefined)).rejects.toMatchObject({
      ...REFUSED,
      data: { index: "by time" }
    });
  });

  it("that says an id is there which never is, is asked a few times only", async () => {
    const { store, refuse, commands } = await beside();
    const message = messageOf();
    refuse(11000, "E11000 duplicate key error collection: x.y index: _id_ dup key: { _id: 1 }", () => true);
    expect(await store.messages.insert([message])).toMatchObject([REFUSED]);
    await expect(store.intents.fence(message._id)).rejects.toMatchObject({ type: "RELIABLE_UNAVAILABLE" });
    expect(commands.filter(({ name }) => name === "insert").length).toBeLessThan(15);
  });
});

it("every list is sorted by an index", async () => {
  const { store, commands, namespace } = await beside();
  await store.messages.list({}, 10);
  await store.messages.list({ ids: ["one", "another"] }, 10);
  await store.audits.list(0, 10);
  await store.messages.stats();
  await store.messages.due({ now: at(0), limit: 10 });
  await store.parked.list(0, 10);
  await store.subscriptions.list();
  await store.prune(at(0), 10);
  const sorted = commands.filter(({ name, body }) => name === "find" && body["sort"]);
  expect(sorted.length).toBeGreaterThan(10);
  for (const { body } of sorted) {
    const collection = String(body["find"]).slice(prefixOf(namespace).length + 1) as keyof typeof INDEXES;
    const fixed = Object.entries(body["filter"] as Document).flatMap(([field, value]) =>
      typeof value === "string" ? [field] : []
    );
    const served = INDEXES[collection].some(
      ({ key }) =>
        Object.keys(key)
          .filter(field => !fixed.includes(field))
          .join() === Object.keys(body["sort"]).join()
    );
    expect([collection, body["sort"], served]).toEqual([collection, body["sort"], true]);
  }
});
