import { uuidv7 } from "uuidv7";
import { expect, it } from "vitest";
import type { Bulk } from "../../src/message/bulk";
import type { Message } from "../../src/message/message";
import { discardedOf } from "../../src/operator/audit";
import { BulkOperations } from "../../src/operator/bulk/bulk";
import { auditOf } from "../../src/operator/bulk/bulk-parts";
import { BulkRun, type BulkRunParts } from "../../src/operator/bulk/bulk-run";
import { systemClock } from "../../src/platform/clock";
import { Warnings } from "../../src/platform/warnings";
import type { Database, Doc } from "../../src/stores/documents/collection";
import type { GuardedMessages } from "../../src/stores/documents/guarded-messages";
import { DocumentOperations } from "../../src/stores/documents/operations";
import type { Store } from "../../src/stores/store";
import { Events } from "../../src/telemetry/events";
import { Metrics } from "../../src/telemetry/metrics";
import { storeAt, using } from "../support/embedded";
import { at, deadOf, messageOf, noteOf, silent } from "../support/messages";

const NEVER = new AbortController().signal;

/** As a process with this store works at it. */
const working = (store: Store, bulk: Bulk) =>
  new BulkRun(
    {
      ...{ store, logger: silent, clock: systemClock, events: new Events(silent), metrics: new Metrics() },
      ...{ warnings: new Warnings(silent), subscriptions: {} as BulkRunParts["subscriptions"] }
    },
    bulk
  ).run(NEVER);

/** The same, with verbs in place of its own. */
function over<T extends object>(own: T, verbs: object): T {
  return new Proxy(own, {
    get: (_, name) => {
      const value = Reflect.get(name in verbs ? verbs : own, name);
      return typeof value === "function" ? value.bind(own) : value;
    }
  });
}

/** A store with these messages and a bulk act of them that nobody has claimed. */
async function begun(act: "retry" | "discard", messages: Message[], test: (store: Store, id: string) => Promise<void>) {
  await using(storeAt(undefined, uuidv7()), async embedded => {
    const store = embedded as unknown as Store;
    await store.messages.insert(messages);
    const parts = { store, worker: { wake: async () => undefined } };
    const { id } = await new BulkOperations(parts).begin({ act, group: "stock", note: "why" }, { by: "ann" });
    await test(store, id as string);
  });
}

let claims = 0;

/** The next node, when the claim of the one before has ended. */
async function claimed(store: Store, claim: string): Promise<Bulk> {
  // Later each time, though both were in one millisecond.
  const now = new Date(store.now().getTime() + 60_000 * ++claims);
  const { claimed: bulks } = await store.bulks.claim({ claim, now, until: new Date(now.getTime() + 1), most: 1 });
  return bulks[0] as Bulk;
}

it("a bulk act ends as its audit record says, though its worker died between the two and a human stopped it", () =>
  begun("retry", [deadOf({ at: at(0) })], async (store, id) => {
    const end = async (...of: Parameters<Store["audits"]["end"]>) => {
      await store.audits.end(...of);
      throw new Error("the process is dead");
    };
    const dies = working(over(store, { audits: over(store.audits, { end }) }), await claimed(store, "first"));
    await expect(dies).rejects.toThrow("the process is dead");
    expect(await store.bulks.stop(id, { at: at(1), by: "ben", change: "stop" })).toBe(true);
    await working(store, await claimed(store, "second"));
    expect(await store.bulks.find(id)).toMatchObject({ state: "done", done: 1 });
    expect(await store.bulks.find(id)).not.toHaveProperty("ending");
    expect(await store.audits.find(id)).toMatchObject({ state: "done", counts: { matched: 1, done: 1 } });
  }));

it("who has lost its claim does not end the audit record", () =>
  begun("retry", [deadOf({ at: at(0) })], async (store, id) => {
    const outcomes = async () => {
      await claimed(store, "second");
      return { seen: 50, dead: 50, since: at(0) };
    };
    await working(over(store, { bulkMessages: over(store.bulkMessages, { outcomes }) }), await claimed(store, "first"));
    expect(await store.audits.find(id)).toMatchObject({ state: "begun" });
    expect(await store.bulks.find(id)).toMatchObject({ state: "running", claim: "second" });
  }));

it("what a worker had recorded and not yet discarded when it died is not told as discarded, if a human retried it", async () => {
  const row = deadOf({ at: at(0) });
  await begun("discard", [row], async (store, id) => {
    const bulk = await claimed(store, "first");
    expect(await store.bulks.planned(bulk, { ids: [row._id], at: row.at }, at(0))).toBe(true);
    // The record, and the message beside it.
    await store.operations.discard(row, discardedOf({ ...row, bytes: 1 }, auditOf(bulk), at(0)));
    await store.messages.insert([row]);
    expect(await store.audits.discarded([row._id])).toHaveLength(1);
    await store.operations.retry(row, at(0), noteOf("retry"));
    await working(store, await claimed(store, "second"));
    expect(await store.bulks.find(id)).toMatchObject({ state: "done", done: 0, lost: 1 });
    expect(await store.audits.discarded([row._id])).toEqual([]);
  });
});

it("an operator's discard is recorded, though another one has just taken away the record that was there", async () => {
  const calls: string[] = [];
  const told = (name: string, value: unknown) => async (docs: Doc[] | object) => {
    calls.push(`${name}${Array.isArray(docs) ? ` ${(docs[0] as Doc).of}` : ""}`);
    return value;
  };
  const discarded = { insert: told("insert", [false]), update: told("update", 0), remove: told("remove", 1) };
  const messages = { find: async () => [{ _id: "m" }], remove: told("delete", 1) };
  const db = {
    collections: { messages, discarded, bodies: {}, inbox: { insertEach: async () => [] } },
    now: () => at(0)
  } as unknown as Database;
  const operations = new DocumentOperations(db, {} as GuardedMessages);
  const row = messageOf({ _id: "m", status: "dead", waiting: [], failed: ["stock"] });
  const record = { _id: "r", id: "m", of: "ours", at: at(0), by: "cleo", note: "why", message: {} as never };
  expect(await operations.discard(row, record)).toBe(true);
  expect(calls).toEqual(["insert ours", "update", "insert ours", "delete"]);
});
