import type { Document } from "mongodb";
import { MongoClient } from "mongodb";
import { uuidv7 } from "uuidv7";
import { afterAll, describe, expect, it, onTestFinished } from "vitest";
import { systemClock } from "../../../src/platform/clock";
import { MongoStore } from "../../../src/stores/mongo/store";
import { until } from "../../support/brokers";
import { messageOf, silent } from "../../support/messages";
import { mongoProxy, type Play } from "../../support/mongo-proxy";
import { urls } from "../../support/servers";

const database = `reliable_test_${uuidv7()}`;

afterAll(async () => {
  const client = new MongoClient(urls().mongo);
  await client.db(database).dropDatabase();
  await client.close();
});

/** What a mongos says of itself, and what the cluster says of its collections. */
async function mongos({ aheadMs = 0, sharded = (): Play => answer([]), heard = (): unknown => undefined } = {}) {
  return mongoProxy({
    target: urls().mongo,
    hello({ setName: _, hosts: __, primary: ___, me: ____, secondary: _____, ...reply }) {
      heard();
      return { ...reply, msg: "isdbgrid", localTime: new Date(Date.now() + aheadMs) };
    },
    play: ({ name, body }) => (name === "find" && body["$db"] === "config" ? sharded() : undefined)
  });
}

function answer(rows: Document[]): Play {
  return { change: reply => ({ ...reply, cursor: { ...reply["cursor"], firstBatch: rows } }) };
}

async function storeBehind(addresses: string[], namespace = `t-${uuidv7()}`) {
  const warnings: string[] = [];
  const logger = { ...silent, warn: (...args: unknown[]) => void warnings.push(args.join(" ")) };
  const url = `mongodb://${addresses.join()}/?heartbeatFrequencyMS=500`;
  const store = new MongoStore({ url, database, namespace, logger, clock: systemClock });
  onTestFinished(() => store.close());
  return { store, warnings };
}

describe("shard keys", () => {
  const keyed = (namespace: string, key: Document, more: Document = {}) => [
    { _id: `${database}.${namespace}.reliable.inbox`, key, ...more }
  ];

  it.each([[{ group: 1 }], [{ _id: 1, group: 1 }], [{ at: "hashed" }]])(
    "refuses %j, and says what to run",
    async key => {
      const namespace = `t-${uuidv7()}`;
      const proxy = await mongos({ sharded: () => answer(keyed(namespace, key)) });
      onTestFinished(() => proxy.close());
      const { store } = await storeBehind([proxy.address], namespace);
      await expect(store.start()).rejects.toMatchObject({
        type: "RELIABLE_SHARD_KEY",
        retryable: false,
        message: expect.stringContaining(
          `sh.reshardCollection("${database}.${namespace}.reliable.inbox", { _id: "hashed" })`
        )
      });
    }
  );

  it.each([
    [{ _id: 1 }, {}],
    [{ _id: "hashed" }, {}],
    [{ group: 1 }, { dropped: true }]
  ])("takes %j %j", async (key, more) => {
    const namespace = `t-${uuidv7()}`;
    const proxy = await mongos({ sharded: () => answer(keyed(namespace, key, more)) });
    onTestFinished(() => proxy.close());
    const { store, warnings } = await storeBehind([proxy.address], namespace);
    await store.start();
    expect(await store.messages.insert([messageOf()])).toEqual([{ stored: true }]);
    expect(warnings).toEqual([]);
  });

  it("works where they may not be looked at, and warns with the command", async () => {
    const reply = { ok: 0, code: 13, codeName: "Unauthorized", errmsg: "not authorized on config" };
    const proxy = await mongos({ sharded: () => ({ reply }) });
    onTestFinished(() => proxy.close());
    const { store, warnings } = await storeBehind([proxy.address]);
    await store.start();
    expect(store.ready).toBe(true);
    expect(warnings).toEqual([expect.stringContaining('db.getSiblingDB("config").collections.find(')]);
  });
});

it("goes by one clock behind several mongos, and tells that they differ", async () => {
  const said = [0, 0, 0];
  const proxies = await Promise.all(
    [0, 60_000, 0].map((aheadMs, i) => mongos({ aheadMs, heard: () => void (said[i] = (said[i] ?? 0) + 1) }))
  );
  onTestFinished(async () => void (await Promise.all(proxies.map(proxy => proxy.close()))));
  const { store, warnings } = await storeBehind(proxies.map(({ address }) => address));
  await store.start();
  await until(() => warnings.length);
  const ahead = () => store.now().getTime() - Date.now();
  const seen = new Set<number>();
  said.fill(0);
  await until(() => {
    seen.add(Math.round(ahead() / 10_000));
    return said.every(count => count >= 4);
  });
  expect([...seen]).toEqual([0]);
  expect(warnings).toEqual([expect.stringMatching(/clocks of \d MongoDB servers/)]);
});
