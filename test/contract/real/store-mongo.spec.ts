import { type ClientSession, MongoClient } from "mongodb";
import { uuidv7 } from "uuidv7";
import { afterAll, describe, expect, it, onTestFinished, vi } from "vitest";
import { systemClock } from "../../../src/platform/clock";
import type { Logger } from "../../../src/platform/logger";
import { MAX_BODY_IN_ROW } from "../../../src/stores/documents/bodies";
import { databaseOf } from "../../../src/stores/mongo/client";
import { mongoError } from "../../../src/stores/mongo/errors";
import { MongoStore, type MongoStoreOptions } from "../../../src/stores/mongo/store";
import { at, messageOf, silent } from "../../support/messages";
import { mongoProxy } from "../../support/mongo-proxy";
import { urls } from "../../support/servers";
import { type TcpProxy, tcpProxy } from "../../support/tcp-proxy";
import { rawOf } from "../store";

const database = `reliable_test_${uuidv7()}`;
const client = new MongoClient(urls().mongo);

afterAll(async () => {
  await client.db(database).dropDatabase();
  await client.close();
});

function recorder(): Logger & { warnings: string[] } {
  const warnings: string[] = [];
  return { ...silent, warnings, warn: (...args: unknown[]) => void warnings.push(args.join(" ")) };
}

async function withStore(
  options: Partial<MongoStoreOptions>,
  test: (store: MongoStore) => Promise<void>
): Promise<void> {
  const store = new MongoStore({
    database,
    namespace: `t-${uuidv7()}`,
    logger: silent,
    clock: systemClock,
    ...options
  });
  try {
    await store.start();
    await test(store);
  } finally {
    await store.close();
  }
}

/** A store that reaches the server through a proxy only. */
async function withProxy(options: string, test: (store: MongoStore, proxy: TcpProxy) => Promise<void>): Promise<void> {
  const { hostname: host, port } = new URL(urls().mongo);
  const proxy = await tcpProxy({ host, port: Number(port) });
  try {
    // A replica set would tell its own address, past the proxy.
    await withStore({ url: `mongodb://127.0.0.1:${proxy.port}/?directConnection=true&${options}` }, store =>
      test(store, proxy)
    );
  } finally {
    await proxy.close();
  }
}

const readyAgain = (store: MongoStore) => new Promise<void>(resolve => store.onReady(resolve));

describe("what is the owner's of the client", () => {
  it.each([
    { promoteValues: false },
    { promoteLongs: false, promoteBuffers: false },
    { useBigInt64: true },
    { fieldsAsRaw: { body: true, notes: true } },
    { ignoreUndefined: false, readPreference: "secondaryPreferred" } as const
  ])("does not change how our rows are read: %j", async options => {
    const theirs = new MongoClient(urls().mongo, options);
    onTestFinished(() => theirs.close());
    await withStore({ client: theirs }, async store => {
      const message = messageOf({ spent: { stock: 3 }, round: 2 ** 40 });
      await store.messages.insert([message]);
      expect(await store.messages.find([message._id])).toEqual([message]);
    });
  });

  it("a readPreference in the URL keeps no store from starting", async () => {
    await withStore({ url: `${urls().mongo}&readPreference=secondary` }, async store => {
      expect(store.ready).toBe(true);
    });
  });
});

describe("start", () => {
  it.each([
    ["an address that is none", "mongo.example.com"],
    ["no address", ""],
    ["an option MongoDB does not know", "mongodb://127.0.0.1/?replicaSett=rs0"]
  ])("refuses %s", async (_, url) => {
    await expect(withStore({ url }, async () => undefined)).rejects.toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      retryable: false
    });
  });

  it.each([
    ["a database of MongoDB's own", { database: "admin" }, "database", "MongoDB's own"],
    ["a database with a dot", { database: "a.b" }, "database", "MongoDB does not allow"],
    ["a namespace with a $", { namespace: "a$b" }, "namespace", "'$'"],
    ["a namespace with an empty word", { namespace: "a..b" }, "namespace", "empty word"],
    ["a namespace below system", { namespace: "system.a" }, "namespace", "'system.'"],
    ["a namespace that is too long", { namespace: "n".repeat(250) }, "namespace", "250 bytes"]
  ])("refuses %s, by the option's name", async (_, odd, option, says) => {
    await expect(withStore({ url: urls().mongo, ...odd }, async () => undefined)).rejects.toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      message: expect.stringContaining(says),
      data: { option }
    });
  });

  it("refuses a database of MongoDB's own in the URL, and reads its name there as the driver does", async () => {
    const url = (database: string) => urls().mongo.replace("/?", `/${database}?`);
    await expect(withStore({ url: url("admin"), database: undefined }, async () => undefined)).rejects.toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      data: { option: "database" }
    });
    expect(databaseOf({ url: url("caf%C3%A9") })).toBe("caf\u00e9");
  });

  it("refuses a database whose name differs from another's in case only", async () => {
    await client.db(database).collection("here").insertOne({});
    await expect(
      withStore({ url: urls().mongo, database: database.toUpperCase() }, async () => undefined)
    ).rejects.toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      message: expect.stringContaining("case"),
      data: { option: "database" }
    });
  });

  it("refuses a client that is none, and hides passwords in what it says", async () => {
    await expect(withStore({ client: { collection: 1 } }, async () => undefined)).rejects.toMatchObject({
      type: "RELIABLE_BAD_OPTION"
    });
    const refused = withStore({ url: "mongodb://user:secret@127.0.0.1/?replicaSett=rs0" }, async () => undefined);
    await expect(refused).rejects.not.toThrow("secret");
  });

  it("resolves while nobody listens, goes on trying, and is ready when the server is there", async () => {
    const { hostname: host, port } = new URL(urls().mongo);
    const proxy = await tcpProxy({ host, port: Number(port) });
    await proxy.down();
    const logger = recorder();
    const store = new MongoStore({
      url: `mongodb://127.0.0.1:${proxy.port}/?directConnection=true&serverSelectionTimeoutMS=200`,
      database,
      namespace: uuidv7(),
      logger,
      clock: systemClock
    });
    try {
      await store.start();
      expect(store.ready).toBe(false);
      expect(logger.warnings).toEqual([expect.stringContaining("Trying again in the background")]);
      await expect(store.messages.insert([messageOf()])).rejects.toMatchObject({ type: "RELIABLE_UNAVAILABLE" });
      await Promise.all([readyAgain(store), proxy.up()]);
      expect(await store.messages.insert([messageOf()])).toEqual([{ stored: true }]);
    } finally {
      await store.close();
      await proxy.close();
    }
  });

  it("is content with what the test server says of itself", async () => {
    const logger = recorder();
    await withStore({ url: urls().mongo, logger }, async () => undefined);
    expect(logger.warnings).toEqual([]);
  });

  it("warns of a standalone server and of clocks that differ", async () => {
    const logger = recorder();
    const proxy = await mongoProxy({
      target: urls().mongo,
      hello: ({ setName: _, hosts: __, ...reply }) => ({ ...reply, localTime: new Date(Date.now() + 60_000) })
    });
    onTestFinished(() => proxy.close());
    await withStore({ url: `mongodb://${proxy.address}/?directConnection=true`, logger }, async store =>
      expect(store.features.transactions).toBe(false)
    );
    expect(logger.warnings.sort()).toEqual([
      expect.stringContaining("not a replica set"),
      expect.stringContaining("clocks")
    ]);
  });

  it("goes by the server's clock, and does not jump when that of this node is set", async () => {
    await withStore({ url: urls().mongo }, async store => {
      const from = Date.now();
      expect(Math.abs(store.now().getTime() - from)).toBeLessThan(5000);
      vi.useFakeTimers({ toFake: ["Date"], now: from + 600_000, shouldAdvanceTime: true });
      onTestFinished(() => void vi.useRealTimers());
      expect(store.now().getTime() - from).toBeLessThan(30_000);
    });
  });

  it("makes the index of due messages for open ones only", async () => {
    const namespace = uuidv7();
    await withStore({ url: urls().mongo, namespace }, async () => {
      const indexes = await client.db(database).collection(`${namespace}.reliable.messages`).indexes();
      expect(indexes).toContainEqual(
        expect.objectContaining({ key: { dueAt: 1 }, partialFilterExpression: { dueAt: { $exists: true } } })
      );
    });
  });

  it("finds what is due without that index, too: it is still being made, or was taken away", async () => {
    const namespace = uuidv7();
    await withStore({ url: urls().mongo, namespace }, async store => {
      const message = messageOf({ dueAt: at(0) });
      await store.messages.insert([message]);
      await client.db(database).collection(`${namespace}.reliable.messages`).dropIndex("dueAt_1");
      expect(await store.messages.due({ now: at(1), limit: 10 })).toMatchObject([{ id: message._id }]);
    });
  });
});

describe("errors", () => {
  const serverError = (code: number) => Object.assign(new Error("no"), { name: "MongoServerError", code });

  it("Atlas's one code for all is refused access only where it says so", () => {
    const atlas = (message: string) => Object.assign(serverError(8000), { message });
    for (const text of ["bad auth : authentication failed", "user is not allowed to do action [insert] on [a.b]"])
      expect(mongoError("insert", atlas(text))).toMatchObject({ type: "RELIABLE_ACCESS_REFUSED" });
    expect(mongoError("insert", atlas("you are over your space quota"))).toMatchObject({
      type: "RELIABLE_UNAVAILABLE"
    });
  });

  it.each([
    [18, "RELIABLE_ACCESS_REFUSED", false],
    [13, "RELIABLE_ACCESS_REFUSED", false],
    [10334, "RELIABLE_STORE_REFUSED", false],
    [91, "RELIABLE_UNAVAILABLE", true],
    [64, "RELIABLE_UNAVAILABLE", true]
  ])("the server's %i is %s", (code, type, retryable) => {
    expect(mongoError("insert", serverError(code))).toMatchObject({ type, retryable, cause: { code } });
  });

  it("a document the server cannot take is refused, not called unavailable", async () => {
    await withStore({ url: urls().mongo }, async store => {
      const [large, small] = [messageOf({ body: Buffer.alloc(17_000_000) }), messageOf()];
      const refused = { type: "RELIABLE_STORE_REFUSED", retryable: false };
      expect(await store.messages.insert([large])).toMatchObject([refused]);
      expect(await store.messages.insert([small, large])).toMatchObject([{ stored: true }, refused]);
    });
  });
});

it("takes a bare error of the socket, which the driver lets through at times, for an unknown outcome", () => {
  const thrown = Object.assign(new Error("write ECONNRESET"), { errno: -104, code: "ECONNRESET", syscall: "write" });
  expect(mongoError("insert", thrown)).toMatchObject({
    type: "RELIABLE_UNAVAILABLE",
    retryable: true,
    cause: { code: "ECONNRESET" }
  });
});

describe("down and back", () => {
  it("rejects as unavailable while the server is away, and works again with onReady", async () => {
    await withProxy("serverSelectionTimeoutMS=300", async (store, proxy) => {
      await proxy.down();
      const message = messageOf();
      await expect(store.messages.insert([message])).rejects.toMatchObject({
        type: "RELIABLE_UNAVAILABLE",
        retryable: true,
        cause: expect.any(Error)
      });
      await expect.poll(() => store.ready, { timeout: 10_000 }).toBe(false);
      await expect(store.probe()).rejects.toMatchObject({ type: "RELIABLE_UNAVAILABLE" });
      await Promise.all([readyAgain(store), proxy.up()]);
      expect(store.ready).toBe(true);
      expect((await store.messages.insert([message]))[0]).toBeDefined();
      expect(await store.messages.find([message._id])).toEqual([message]);
    });
  });

  it("calls the outcome unknown when no answer comes", async () => {
    await withProxy("socketTimeoutMS=300&connectTimeoutMS=300&serverSelectionTimeoutMS=300", async (store, proxy) => {
      proxy.hold();
      await expect(store.messages.insert([messageOf()])).rejects.toMatchObject({
        type: "RELIABLE_UNAVAILABLE",
        retryable: true
      });
      proxy.release();
    });
  });

  it("a client handed in is followed, but never closed", async () => {
    await withStore({ client }, async store => {
      expect(store.ready).toBe(true);
      await store.messages.insert([messageOf()]);
    });
    expect(await client.db(database).command({ ping: 1 })).toMatchObject({ ok: 1 });
  });
});

describe("session", () => {
  const business = () => client.db(database).collection<{ _id: string }>("business");
  const inTransaction = <T>(work: (session: ClientSession) => Promise<T>) =>
    client.withSession(session => session.withTransaction(() => work(session)));

  it("stores the message with the caller's transaction, or not at all", async () => {
    await withStore({ client }, async store => {
      const [kept, lost] = [messageOf({ meta: { "a.b": 1 } }), messageOf()];
      await inTransaction(async session => {
        await business().insertOne({ _id: kept._id }, { session });
        expect(await store.messages.insertIn(session, kept)).toEqual({ stored: true });
        expect(await store.messages.find([kept._id])).toEqual([]);
      });
      const aborted = inTransaction(async session => {
        await store.messages.insertIn(session, lost);
        throw new Error("no stock");
      });
      await expect(aborted).rejects.toThrow("no stock");
      expect(await store.messages.find([kept._id, lost._id])).toEqual([kept]);
    });
  });

  it("tells of an id that is there already without aborting the transaction", async () => {
    await withStore({ client }, async store => {
      const message = messageOf();
      const other = uuidv7();
      await store.messages.insert([message]);
      await inTransaction(async session => {
        expect(await store.messages.insertIn(session, { ...message, event: "other" })).toEqual({
          stored: false,
          existing: message
        });
        await business().insertOne({ _id: other }, { session });
      });
      expect(await business().findOne({ _id: other })).not.toBeNull();
    });
  });

  it("stores a large body and its row in the transaction, or neither", async () => {
    await withStore({ client }, async store => {
      const body = Buffer.alloc(MAX_BODY_IN_ROW + 1, "a");
      const [kept, lost] = [messageOf({ body }), messageOf({ body })];
      await inTransaction(async session => {
        expect(await store.messages.insertIn(session, kept)).toEqual({ stored: true });
        const twin = await store.messages.insertIn(session, { ...kept, body: Buffer.alloc(MAX_BODY_IN_ROW + 1, "b") });
        expect(!twin.stored && body.equals(twin.existing.body)).toBe(true);
        expect(await rawOf(store).bodies.find({})).toEqual([]);
      });
      const aborted = inTransaction(async session => {
        await store.messages.insertIn(session, lost);
        throw new Error("no stock");
      });
      await expect(aborted).rejects.toThrow("no stock");
      expect((await rawOf(store).bodies.find({})).map(({ of }) => of)).toEqual([kept._id]);
      const [found, ...others] = await store.messages.find([kept._id, lost._id]);
      expect(others).toEqual([]);
      expect(body.equals(found?.body ?? Buffer.alloc(0))).toBe(true);
    });
  });

  it("leaves a write conflict to the caller's withTransaction", async () => {
    await withStore({ client }, async store => {
      const message = messageOf();
      let attempts = 0;
      const stored = await inTransaction(async session => {
        // The snapshot is taken before the other insert.
        await business().findOne({ _id: "none" }, { session });
        if (++attempts === 1) await store.messages.insert([message]);
        return store.messages.insertIn(session, message);
      });
      expect(stored).toEqual({ stored: false, existing: message });
      expect(attempts).toBe(2);
    });
  });

  it("refuses a session of another client, one without a transaction, an ended one, and what is none", async () => {
    await withStore({ url: urls().mongo }, async store => {
      await expect(inTransaction(session => store.messages.insertIn(session, messageOf()))).rejects.toMatchObject({
        type: "RELIABLE_BAD_SESSION",
        message: expect.stringContaining("another MongoClient")
      });
    });
    await withStore({ client }, async store => {
      const session = client.startSession();
      await expect(store.messages.insertIn(session, messageOf())).rejects.toMatchObject({
        type: "RELIABLE_BAD_SESSION",
        message: expect.stringContaining("no transaction")
      });
      await session.endSession();
      await expect(store.messages.insertIn(session, messageOf())).rejects.toMatchObject({
        type: "RELIABLE_BAD_SESSION"
      });
      await expect(store.messages.insertIn({}, messageOf())).rejects.toMatchObject({ type: "RELIABLE_BAD_SESSION" });
    });
  });

  it("tells when the session has ended", async () => {
    await withStore({ client }, async store => {
      const session = client.startSession();
      const ended = new Promise<void>(resolve => store.messages.onSessionEnd(session, resolve));
      await session.endSession();
      await ended;
      await new Promise<void>(resolve => store.messages.onSessionEnd(session, resolve));
    });
  });
});

describe("inbox in the handler's transaction", () => {
  const writes = () => client.db(database).collection<{ _id: string }>("writes");
  const write = (id: string) => async (session: unknown) =>
    void (await writes().insertOne({ _id: id }, { session: session as ClientSession }));

  it("commits both, and does not run a duplicate", async () => {
    await withStore({ client }, async store => {
      const id = uuidv7();
      expect(await store.inbox.transaction("g.$", id, at(0), write(id))).toBe("handled");
      expect(await store.inbox.transaction("g.$", id, at(0), () => Promise.reject(new Error("must not run")))).toBe(
        "duplicate"
      );
      expect(await store.inbox.handled("g.$", [id])).toEqual(new Set([id]));
      expect(await writes().countDocuments({ _id: id })).toBe(1);
    });
  });

  it("writes nothing when the handler fails, and rejects with the handler's own error", async () => {
    await withStore({ client }, async store => {
      const id = uuidv7();
      const boom = new Error("boom");
      const failing = store.inbox.transaction("g", id, at(0), async session => {
        await write(id)(session);
        throw boom;
      });
      await expect(failing).rejects.toBe(boom);
      expect(await store.inbox.handled("g", [id])).toEqual(new Set());
      expect(await writes().countDocuments({ _id: id })).toBe(0);
    });
  });

  it("lets one of two racing duplicates through", async () => {
    await withStore({ client }, async store => {
      const id = uuidv7();
      // As the consumer does: a run that lost a conflict is repeated.
      const run = async (n: number): Promise<string> => {
        const outcome = await store.inbox.transaction("g", id, at(0), write(`${id}-${n}`));
        return typeof outcome === "string" ? outcome : run(n);
      };
      const results = await Promise.all([1, 2, 3].map(run));
      expect(results.sort()).toEqual(["duplicate", "duplicate", "handled"]);
      expect(await writes().countDocuments({ _id: new RegExp(`^${id}`) as never })).toBe(1);
    });
  });
});
