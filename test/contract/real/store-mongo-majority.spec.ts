import { type ClientSession, type Document, MongoClient } from "mongodb";
import { uuidv7 } from "uuidv7";
import { afterAll, describe, expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../../src/platform/clock";
import { MongoStore } from "../../../src/stores/mongo/store";
import { at, finalOf, messageOf, silent } from "../../support/messages";
import { type Command, mongoProxy, type Play } from "../../support/mongo-proxy";
import { urls } from "../../support/servers";
import { rawOf } from "../store";

const database = `reliable_test_${uuidv7()}`;

afterAll(async () => {
  const client = new MongoClient(urls().mongo);
  await client.db(database).dropDatabase();
  await client.close();
});

interface Beside {
  store: MongoStore;
  client: MongoClient;
  commands: Command[];
  /** Set by the test, once the store is there. */
  server: { play?(command: Command): Play | undefined };
}

/** A store whose server does what the test says. */
async function beside(options = ""): Promise<Beside> {
  const commands: Command[] = [];
  const server: Beside["server"] = {};
  const proxy = await mongoProxy({
    target: urls().mongo,
    play(command) {
      commands.push(command);
      return server.play?.(command);
    }
  });
  const client = new MongoClient(proxy.url + options);
  const store = new MongoStore({ client, database, namespace: `t-${uuidv7()}`, logger: silent, clock: systemClock });
  onTestFinished(async () => {
    await store.close();
    await client.close();
    await proxy.close();
  });
  await store.start();
  return { store, client, commands, server };
}

const isMajority = ({ body }: Command) => body["readConcern"]?.level === "majority";

/** Rows that reads below majority see, and that an election takes back. */
function undone(rows: Document[]): (command: Command) => Play | undefined {
  return command => {
    if (command.name !== "find" || isMajority(command)) return undefined;
    return { change: reply => ({ ...reply, cursor: { ...reply["cursor"], firstBatch: rows } }) };
  };
}

const inTransaction = (client: MongoClient, work: (session: ClientSession) => Promise<unknown>, options = {}) =>
  client.withSession(session => session.withTransaction(() => work(session), options));

const inboxId = (id: string) => JSON.stringify(["stock", id]);

describe("what an election may take back is not told", () => {
  it("handled before", async () => {
    const { store, server } = await beside();
    server.play = undone([{ _id: inboxId("a"), at: at(0) }]);
    expect(await store.inbox.handled("stock", ["a"])).toEqual(new Set());
  });

  it("committed, when the session has ended", async () => {
    const { store, server, client } = await beside();
    const message = messageOf();
    await store.messages.insert([message]);
    const [row] = await rawOf(store).messages.find({ _id: message._id });
    await rawOf(store).messages.remove({ _id: message._id });
    server.play = undone([row as Document]);
    const session = client.startSession();
    const looked = new Promise(resolve =>
      store.messages.onSessionEnd(session, () => resolve(store.messages.find([message._id])))
    );
    await session.endSession();
    expect(await looked).toEqual([]);
  });

  it("consumed: to one who emits again, and to one who waits", async () => {
    const { store, server } = await beside();
    const message = messageOf();
    const consumed = finalOf("consumed", at(5), { _id: message._id });
    await store.messages.insert([consumed]);
    const [row] = await rawOf(store).messages.find({ _id: message._id });
    await rawOf(store).messages.remove({ _id: message._id });
    await store.messages.insert([message]);
    server.play = undone([row as Document]);
    expect(await store.messages.insert([message])).toMatchObject([{ existing: { status: "pending" } }]);
    expect(await store.messages.timings([message._id])).toEqual([]);
  });

  it("duplicate, in the handler's transaction: not before the other's row is replicated", async () => {
    const { store, server } = await beside();
    await store.inbox.add("stock", ["a"], at(0));
    let looks = 0;
    server.play = command =>
      command.name === "find" && isMajority(command) && looks++ < 3
        ? { change: reply => ({ ...reply, cursor: { ...reply["cursor"], firstBatch: [] } }) }
        : undefined;
    expect(await store.inbox.transaction("stock", "a", at(0), async () => undefined)).toBe("duplicate");
    expect(looks).toBe(4);
    server.play = command =>
      command.name === "find" && isMajority(command)
        ? { change: reply => ({ ...reply, cursor: { ...reply["cursor"], firstBatch: [] } }) }
        : undefined;
    await expect(store.inbox.transaction("stock", "a", at(0), async () => undefined)).rejects.toMatchObject({
      type: "RELIABLE_UNAVAILABLE",
      retryable: true
    });
  });

  it("the business write did not happen: not while its barrier row is not replicated", async () => {
    const { store, server, client } = await beside();
    await inTransaction(client, session => store.intents.barrier(session, "a"));
    let looks = 0;
    server.play = command =>
      command.name === "find" && looks++ < 2
        ? { change: reply => ({ ...reply, cursor: { ...reply["cursor"], firstBatch: [] } }) }
        : undefined;
    expect(await store.intents.fence("a")).toBe("committed");
  });

  it("handled, while the outcome of the commit is unknown", async () => {
    const { store, server } = await beside();
    const commits: Command[] = [];
    server.play = command => {
      if (command.name !== "commitTransaction" || commits.length === 2) return undefined;
      commits.push(command);
      const writeConcernError = { code: 64, codeName: "WriteConcernTimeout", errmsg: "injected" };
      return { change: reply => ({ ...reply, writeConcernError }) };
    };
    expect(await store.inbox.transaction("stock", "a", at(0), async () => undefined)).toBe("handled");
    expect(commits).toHaveLength(2);
  });
});

it("every read has majority and an end at the server", async () => {
  const { store, commands, client } = await beside();
  await store.messages.insert([messageOf({ _id: "a" })]);
  commands.length = 0;
  await store.messages.find(["a"]);
  await store.messages.list({}, 10);
  await store.messages.stats();
  await store.messages.due({ now: at(0), limit: 10 });
  await inTransaction(client, session => store.messages.insertIn(session, messageOf({ _id: "a" })));
  const reads = commands.filter(({ name }) => name === "find" || name === "aggregate");
  expect(reads.length).toBeGreaterThan(5);
  for (const read of reads) {
    expect(read.body["maxTimeMS"]).toBe(read.name === "aggregate" ? 2000 : 15_000);
    // In a transaction it is the transaction's.
    if (read.body["txnNumber"] === undefined) expect(isMajority(read)).toBe(true);
  }
});

describe("a session below majority", () => {
  it.each([
    [{ writeConcern: { w: 1 } }, ""],
    [{ writeConcern: { w: "majority", journal: false } }, ""],
    [{}, "&w=1"]
  ])("is refused: %j %s", async (options, ofClient) => {
    const { store, client } = await beside(ofClient);
    const refused = { type: "RELIABLE_BAD_SESSION", message: expect.stringContaining("below majority") };
    const message = messageOf();
    await expect(
      inTransaction(client, session => store.messages.insertIn(session, message), options)
    ).rejects.toMatchObject(refused);
    await expect(
      inTransaction(client, session => store.intents.barrier(session, message._id), options)
    ).rejects.toMatchObject(refused);
    expect(await store.messages.find([message._id])).toEqual([]);
  });

  it("is not one that says majority, or nothing", async () => {
    const { store, client } = await beside();
    for (const options of [{ writeConcern: { w: "majority" as const } }, {}])
      expect(await inTransaction(client, session => store.messages.insertIn(session, messageOf()), options)).toEqual({
        stored: true
      });
  });
});
