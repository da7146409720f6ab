import { uuidv7 } from "uuidv7";
import { afterAll, describe, expect, it } from "vitest";
import type { ReliableError } from "../../src/errors";
import { ANY_GROUP, FAILURES_KEPT, type Message } from "../../src/message/message";
import { pathOf } from "../../src/stores/documents/codec";
import type { Collections } from "../../src/stores/documents/collection";
import type { Store, StoreFeatures } from "../../src/stores/store";
import type { InsertOutcome, RescheduleRecord } from "../../src/stores/store-records";
import { at, deadOf, failedBy, failureOf, finalOf, handledBy, messageOf, noteOf, receiptOf } from "../support/messages";

export interface StoreKind {
  name: string;
  features: StoreFeatures;
  /** A store over the data of this namespace; two of one namespace see the same data. */
  create(namespace: string): Store;
  /** Removes what the tests have left behind. */
  drop(): Promise<void>;
}

/** The collections under a store: what a crash between two steps has left is written straight into them. */
export function rawOf(store: Store): Collections {
  return (store as unknown as { db: { collections: Collections } }).db.collections;
}

/** Stores over a namespace of their own, closed when the test is over. */
export async function withStores<N extends 1 | 2>(
  kind: StoreKind,
  count: N,
  test: (...stores: N extends 1 ? [Store] : [Store, Store]) => Promise<void>
): Promise<void> {
  const namespace = `t-${uuidv7()}`;
  const stores: Store[] = [];
  try {
    for (let i = 0; i < count; i++) stores.push(kind.create(namespace));
    for (const store of stores) await store.start();
    await (test as (...stores: Store[]) => Promise<void>)(...stores);
  } finally {
    await Promise.all(stores.map(store => store.close()));
  }
}

/** Awkward for field paths, for NeDB's own keys, and for JavaScript objects. */
const AWKWARD_GROUPS = ["a.b", "$set", "100%", "%2E", "audit:order.*", "constructor", "__proto__", "0", "größe 🐇"];

const wasStored = (outcome: InsertOutcome | ReliableError) => "stored" in outcome && outcome.stored;

export function transitions(kind: StoreKind): void {
  const one = (name: string, test: (store: Store) => Promise<void>) => it(name, () => withStores(kind, 1, test));
  const two = (name: string, test: (store: Store, other: Store) => Promise<void>) =>
    it(name, () => withStores(kind, 2, test));
  const get = async (store: Store, id: string): Promise<Message> => {
    const [message] = await store.messages.find([id]);
    if (!message) throw new Error(`${id} is not in the store`);
    return message;
  };
  const put = async (store: Store, fields: Partial<Message> = {}): Promise<Message> => {
    const message = fields.status === "dead" ? deadOf(fields) : messageOf(fields);
    await store.messages.insert([message]);
    return message;
  };
  /** Looks, and takes what it has found. */
  const claim = async (
    store: Store,
    name: string,
    {
      now = at(30_000),
      until = at(90_000),
      ...query
    }: { now?: Date; until?: Date; limit?: number; buckets?: number[] } = {}
  ) =>
    store.messages.claim({
      ids: (await store.messages.due({ now, limit: 10, ...query })).map(({ id }) => id),
      now,
      until,
      claim: name
    });

  // It drops some hundred collections, which takes a server its time.
  afterAll(() => kind.drop(), 180_000);

  describe("start, ping, features", () => {
    one("is ready once started and says what it can do", async store => {
      expect(store.ready).toBe(true);
      expect(store.features).toEqual(kind.features);
      expect(await store.probe()).toBeGreaterThanOrEqual(0);
    });

    it("rejects with RELIABLE_UNAVAILABLE before it is started and after it is closed", async () => {
      const store = kind.create(`t-${uuidv7()}`);
      await expect(store.messages.insert([messageOf()])).rejects.toMatchObject({
        type: "RELIABLE_UNAVAILABLE",
        retryable: true
      });
      await store.start();
      await store.close();
      await store.close();
      expect(store.ready).toBe(false);
      await expect(store.messages.find(["x"])).rejects.toMatchObject({ type: "RELIABLE_UNAVAILABLE", retryable: true });
    });
  });

  describe("insert, find", () => {
    one("gives back what was stored, bytes and awkward keys included", async store => {
      const message = messageOf({
        body: Buffer.from([0, 1, 2, 255, 254, 10, 13]),
        meta: { "a.b": { $set: 1 }, $where: "x", user: { id: 7, "": null, list: [{ "x.y": 1 }] } },
        headers: { "x.y": "$z" },
        origin: { requestID: "r", level: 2, tracing: true },
        groups: ["g.1"],
        source: { action: "orders.source", params: { "k.1": [1, { $in: [] }] } },
        waiting: AWKWARD_GROUPS,
        receipts: Object.fromEntries(AWKWARD_GROUPS.map(group => [group, receiptOf()])),
        attempts: Object.fromEntries(AWKWARD_GROUPS.map((group, i) => [group, i])),
        next: Object.fromEntries(AWKWARD_GROUPS.map((group, i) => [group, at(i)])),
        failures: [failureOf({ group: "a.b", error: { name: "E", message: "$x.y", code: 5, data: '{"a.b":1}' } })]
      });
      expect(await store.messages.insert([message])).toEqual([{ stored: true }]);
      const found = await get(store, message._id);
      expect(found).toEqual(message);
      expect(Buffer.isBuffer(found.body)).toBe(true);
    });

    one("tells of an id that is there already and leaves the row as it is", async store => {
      const message = await put(store);
      const fresh = messageOf();
      const outcomes = await store.messages.insert([
        fresh,
        { ...message, event: "other" },
        { ...fresh, event: "twin" }
      ]);
      expect(outcomes).toEqual([
        { stored: true },
        { stored: false, existing: message },
        { stored: false, existing: fresh }
      ]);
    });

    two("lets one of two racing inserts of an id win", async (store, other) => {
      const message = messageOf();
      const outcomes = await Promise.all([store.messages.insert([message]), other.messages.insert([message])]);
      expect(outcomes.flat().filter(wasStored)).toHaveLength(1);
    });

    one("keeps what the caller changes afterwards out of the store", async store => {
      const message = await put(store);
      message.waiting.push("later");
      (await get(store, message._id)).waiting.push("later too");
      expect((await get(store, message._id)).waiting).toEqual(["stock"]);
    });

    one("finds in the order asked for, without unknown ids", async store => {
      const [a, b] = [await put(store), await put(store)];
      expect((await store.messages.find([b._id, "unknown", a._id])).map(({ _id }) => _id)).toEqual([b._id, a._id]);
      expect(await store.messages.find([])).toEqual([]);
      expect(await store.messages.insert([])).toEqual([]);
    });

    one("takes 500 at once through the whole normal course", async store => {
      const messages = Array.from({ length: 500 }, () => messageOf({ body: Buffer.alloc(200, 1) }));
      const ids = messages.map(({ _id }) => _id);
      expect((await store.messages.insert(messages)).every(wasStored)).toBe(true);
      expect(await store.messages.published(ids.map((id, i) => ({ id, at: at(i % 7), dueAt: at(60_000) })))).toBe(500);
      expect(await claim(store, "c", { now: at(60_000), limit: 500 })).toHaveLength(500);
      expect(
        await store.messages.rescheduled(ids.map(id => ({ id, claim: "c", dueAt: at(70_000), attempts: { stock: 2 } })))
      ).toBe(500);
      const { unknown, duplicates, consumed } = await store.messages.handled(ids.map(id => handledBy(id)));
      expect({ unknown, duplicates, consumed: new Set(consumed) }).toEqual({
        unknown: [],
        duplicates: 0,
        consumed: new Set(ids)
      });
      expect(await store.prune(new Date(Date.now() + 1000), 400)).toEqual({ messages: 400, more: true });
      expect(await store.prune(new Date(Date.now() + 1000), 400)).toEqual({ messages: 100, more: false });
    });
  });

  describe("published, postponed", () => {
    one("a late confirm does not take a message that was retried for sent", async store => {
      const message = deadOf({ spent: { stock: 3 } });
      await store.messages.insert([message]);
      const { _id: id } = message;
      expect(await store.operations.retry(message, at(50), noteOf("retry"))).toBe(true);
      expect(await store.messages.published([{ id, at: at(10), dueAt: at(60_000) }])).toBe(0);
      expect(await get(store, id)).toMatchObject({ status: "pending", dueAt: at(50) });
    });

    one("moves only pending messages on, once", async store => {
      const [a, b] = [await put(store), await put(store)];
      const records = [a, b].map(({ _id: id }, i) => ({ id, at: at(10 + i), dueAt: at(60_000) }));
      expect(await store.messages.published([...records, { id: "unknown", at: at(10), dueAt: at(60_000) }])).toBe(2);
      expect(await store.messages.published(records)).toBe(0);
      expect(await get(store, b._id)).toEqual({ ...b, status: "published", publishedAt: at(11), dueAt: at(60_000) });
    });

    one("keeps a message consumed whose receipt overtook the confirm", async store => {
      const { _id: id } = await put(store);
      expect((await store.messages.handled([handledBy(id)])).consumed).toEqual([id]);
      expect(await store.messages.published([{ id, at: at(10), dueAt: at(60_000) }])).toBe(0);
      expect(await get(store, id)).toMatchObject({ status: "consumed" });
    });

    one("keeps the earlier due instant of a failure that overtook the confirm", async store => {
      const [a, b] = [await put(store), await put(store)];
      await store.messages.failed([failedBy(a._id, { nextAt: at(5000) })]);
      expect(await store.messages.published([a, b].map(({ _id: id }) => ({ id, at: at(10), dueAt: at(60_000) })))).toBe(
        2
      );
      expect(await get(store, a._id)).toMatchObject({ status: "published", publishedAt: at(10), dueAt: at(5000) });
      expect(await get(store, b._id)).toMatchObject({ status: "published", dueAt: at(60_000) });
    });

    one(
      "completes the story of a message that died before its confirm was written, and leaves it dead",
      async store => {
        const { _id: id } = await put(store);
        await store.messages.failed([failedBy(id, { nextAt: null })]);
        expect(await store.messages.published([{ id, at: at(10), dueAt: at(60_000) }])).toBe(0);
        expect(await get(store, id)).toMatchObject({ status: "dead", publishedAt: at(10) });
        await store.messages.published([{ id, at: at(11), dueAt: at(60_000) }]);
        expect(await get(store, id)).toMatchObject({ status: "dead", publishedAt: at(10) });
      }
    );

    one("postpones what is pending and unclaimed", async store => {
      const free = await put(store);
      const sent = await put(store, { status: "published" });
      const held = await put(store, { dueAt: at(0) });
      await claim(store, "c", { now: at(0) });
      expect(await store.messages.postponed([free._id, sent._id, held._id], at(40_000))).toBe(1);
      expect((await get(store, free._id)).dueAt).toEqual(at(40_000));
      expect((await get(store, sent._id)).dueAt).toEqual(at(30_000));
      expect((await get(store, held._id)).dueAt).toEqual(at(90_000));
    });
  });

  describe("upsertFromChecks", () => {
    one(
      "puts a new emission in place of a withdrawn one that is known in part only, with all of its own",
      async store => {
        const callback = { strategy: "callback", body: Buffer.alloc(0), partial: true } as const;
        const old = await put(store, { ...callback, status: "intended", createdAt: at(1) });
        await store.intents.withdraw(old._id, { at: at(2), by: "shop", act: "withdraw" }, old.createdAt);
        const fresh = messageOf({
          _id: old._id,
          strategy: "callback",
          status: "published",
          publishedAt: at(3),
          createdAt: at(3)
        });
        expect(await store.messages.upsertFromChecks([fresh])).toMatchObject([
          { status: "published", createdAt: at(3) }
        ]);
        const row = await get(store, old._id);
        expect(row).toMatchObject({
          status: "published",
          createdAt: at(3),
          publishedAt: at(3),
          body: fresh.body
        });
        expect(row).not.toHaveProperty("partial");
      }
    );

    one(
      "puts a new emission in place of one that is still in question, which is not withdrawn with it",
      async store => {
        const callback = { strategy: "callback", body: Buffer.alloc(0), partial: true } as const;
        const old = await put(store, { ...callback, status: "intended", createdAt: at(1) });
        const fresh = messageOf({ _id: old._id, strategy: "callback", status: "published", createdAt: at(3) });
        await store.messages.upsertFromChecks([fresh]);
        const receipt = { at: at(4), nodeID: "node-1", durationMs: 1, attempt: 1 };
        await store.messages.handled([{ id: old._id, group: fresh.waiting[0] as string, receipt }]);
        expect(await store.intents.withdraw(old._id, { at: at(5), by: "shop", act: "withdraw" }, old.createdAt)).toBe(
          false
        );
        expect(await store.intents.withdraw(old._id, { at: at(5), by: "shop", act: "withdraw" })).toBe(false);
        expect(await get(store, old._id)).toMatchObject({ status: "consumed", createdAt: at(3), body: fresh.body });
      }
    );

    one("leaves one in question that is older than what is there, or has a question of its own", async store => {
      const old = await put(store, { strategy: "callback", status: "intended", createdAt: at(3) });
      const other = { _id: old._id, strategy: "callback" } as const;
      await store.messages.upsertFromChecks([messageOf({ ...other, status: "published", createdAt: at(1) })]);
      await store.messages.upsertFromChecks([messageOf({ ...other, status: "intended", createdAt: at(5) })]);
      expect(await get(store, old._id)).toMatchObject({ status: "intended", createdAt: at(3) });
    });

    one("completes a row of the same emission that is known in part only", async store => {
      const fresh = messageOf({ strategy: "callback", status: "published", createdAt: at(3) });
      await store.messages.insertFromReceipts([{ ...fresh, body: Buffer.alloc(0), partial: true }]);
      await store.messages.upsertFromChecks([fresh]);
      const row = await get(store, fresh._id);
      expect(row.body).toEqual(fresh.body);
      expect(row).not.toHaveProperty("partial");
    });
  });

  describe("insertFromReceipts", () => {
    one("stores what is new, and leaves what has a row as it is", async store => {
      const known = await put(store, { status: "published", waiting: ["mail"] });
      const fresh = messageOf({
        strategy: "callback",
        status: "consumed",
        receipts: { stock: receiptOf() },
        waiting: [],
        at: at(5),
        partial: true
      });
      expect(await store.messages.insertFromReceipts([{ ...fresh, _id: known._id }, fresh])).toEqual(
        new Set([fresh._id])
      );
      expect(await get(store, fresh._id)).toMatchObject({
        status: "consumed",
        receipts: { stock: receiptOf() },
        partial: true
      });
      expect(await get(store, known._id)).toEqual(known);
      expect(await store.messages.insertFromReceipts([fresh])).toEqual(new Set());
      expect(await store.messages.insertFromReceipts([])).toEqual(new Set());
    });

    one("does not take up what a human has discarded", async store => {
      const dead = await put(store, { status: "dead", waiting: [], failed: ["stock"] });
      await store.operations.discard(dead, {
        _id: "a1",
        at: at(1),
        by: "ops",
        id: dead._id,
        of: "an act",
        note: "a test",
        message: {
          event: dead.event,
          producer: dead.producer,
          createdAt: dead.createdAt,
          failed: ["stock"],
          bytes: 2
        }
      });
      expect(await store.messages.insertFromReceipts([dead])).toEqual(new Set());
      expect(await store.messages.find([dead._id])).toEqual([]);
      // The same id, emitted anew, is another message.
      expect(await store.messages.insertFromReceipts([{ ...dead, createdAt: at(9) }])).toEqual(new Set([dead._id]));
    });

    two("is done by one of two at the same time", async (store, other) => {
      const rows = Array.from({ length: 20 }, () => messageOf({ status: "consumed", waiting: [], at: at(5) }));
      const [mine, theirs] = await Promise.all([
        store.messages.insertFromReceipts(rows),
        other.messages.insertFromReceipts(rows)
      ]);
      expect([...mine, ...theirs].sort()).toEqual(rows.map(({ _id }) => _id).sort());
    });
  });

  describe("handled", () => {
    one("is consumed with the last group's receipt, not before", async store => {
      const { _id: id } = await put(store, { status: "published", waiting: ["stock", "mail"] });
      expect(await store.messages.handled([handledBy(id, "mail")])).toEqual({
        unknown: [],
        duplicates: 0,
        consumed: [],
        unresolved: []
      });
      expect(await get(store, id)).toMatchObject({
        status: "published",
        waiting: ["stock"],
        receipts: { mail: receiptOf() }
      });
      expect(await store.messages.handled([handledBy(id, "stock")])).toEqual({
        unknown: [],
        duplicates: 0,
        consumed: [id],
        unresolved: []
      });
      const done = await get(store, id);
      expect(done).toMatchObject({
        status: "consumed",
        waiting: [],
        receipts: { mail: receiptOf(), stock: receiptOf() }
      });
      expect(done.at.getTime()).toBeGreaterThan(done.createdAt.getTime());
      for (const field of ["dueAt", "claim"]) expect(done).not.toHaveProperty(field);
    });

    one("forgets what was wrong before, by whichever way it is consumed", async store => {
      const wrong = { status: "published", reason: "silence", unreachableSince: at(1) } as const;
      const { _id: alone } = await put(store, wrong);
      const { _id: both } = await put(store, { ...wrong, waiting: ["stock", "mail"] });
      await store.messages.handled([handledBy(alone)]);
      await store.messages.handled([handledBy(both), handledBy(both, "mail")]);
      for (const id of [alone, both]) {
        const row = await get(store, id);
        expect(row.status).toBe("consumed");
        for (const field of ["reason", "unreachableSince"]) expect(row).not.toHaveProperty(field);
      }
    });

    one("counts duplicates and unknown ids, and changes nothing for them", async store => {
      const { _id: id } = await put(store, { waiting: ["stock", "mail"] });
      const first = await store.messages.handled([handledBy(id), handledBy(id), handledBy("unknown")]);
      expect(first).toEqual({ unknown: ["unknown"], duplicates: 1, consumed: [], unresolved: [] });
      const before = await get(store, id);
      expect(
        await store.messages.handled([{ ...handledBy(id), receipt: receiptOf({ nodeID: "other" }) }])
      ).toMatchObject({
        unknown: [],
        duplicates: 1
      });
      expect(await get(store, id)).toEqual(before);
    });

    one("names a message as consumed once, whatever receipts still come", async store => {
      const [a, b] = [await put(store, { waiting: ["stock"] }), await put(store, { waiting: ["stock"] })];
      const now = Date.now();
      const handled = (group: string, ms: number, ...messages: { _id: string }[]) =>
        store.messages.handled(
          messages.map(({ _id: id }) => ({ id, group, receipt: receiptOf({ at: new Date(now + ms) }) }))
        );
      expect((await handled("stock", 0, a)).consumed).toEqual([a._id]);
      expect(await handled("stock", 60_000, a)).toMatchObject({ duplicates: 1, consumed: [] });
      expect(await handled("mail", 60_000, a)).toMatchObject({ consumed: [] });
      expect(await handled("stock", 60_000, a, b)).toMatchObject({ duplicates: 1, consumed: [b._id] });
    });

    one("takes several groups of one message in one batch", async store => {
      const { _id: id } = await put(store, { waiting: ["stock", "mail"] });
      expect((await store.messages.handled([handledBy(id, "stock"), handledBy(id, "mail")])).consumed).toEqual([id]);
    });

    one("records a group nobody expected", async store => {
      const { _id: id } = await put(store);
      await store.messages.handled([handledBy(id, "late")]);
      expect(await get(store, id)).toMatchObject({
        status: "pending",
        waiting: ["stock"],
        receipts: { late: receiptOf() }
      });
    });

    one("does not let one group stand for whoever was expected", async store => {
      const ids = [
        await put(store, { waiting: [ANY_GROUP] }),
        await put(store, { waiting: [ANY_GROUP] }),
        await put(store)
      ].map(({ _id }) => _id);
      const [both, alone, plain] = ids as [string, string, string];
      const first = await store.messages.handled([handledBy(both, "stock"), handledBy(alone, "stock")]);
      expect(first).toMatchObject({ consumed: [], unresolved: [both, alone] });
      const named = await store.messages.resolveRecipients([
        { id: both, groups: ["stock", "mail"] },
        { id: alone, groups: ["stock"] }
      ]);
      expect(named).toEqual({ consumed: [alone] });
      expect((await get(store, both)).waiting).toEqual(["mail"]);
      expect(await store.messages.handled([handledBy(both, "mail"), handledBy(plain)])).toMatchObject({
        consumed: [both, plain],
        unresolved: []
      });
      // Said again, by a redelivery or another tracker, it changes nothing.
      expect(await store.messages.resolveRecipients([{ id: both, groups: ["stock", "mail"] }])).toEqual({
        consumed: []
      });
      expect(await get(store, both)).toMatchObject({ status: "consumed", waiting: [] });
    });

    one("makes a dead message consumed by a late receipt", async store => {
      const { _id: id } = await put(store, { status: "dead" });
      expect((await store.messages.handled([handledBy(id)])).consumed).toEqual([id]);
      const done = await get(store, id);
      expect(done).toMatchObject({ status: "consumed", failed: [] });
      expect(done).not.toHaveProperty("reason");
    });

    one("leaves it dead while another group has not handled it", async store => {
      const { _id: id } = await put(store, { status: "dead", failed: ["stock", "mail"] });
      expect((await store.messages.handled([handledBy(id, "mail")])).consumed).toEqual([]);
      expect(await get(store, id)).toMatchObject({ status: "dead", failed: ["stock"], reason: "handler: boom" });
    });

    one("leaves it to humans when the last one waiting answers and another's budget is spent", async store => {
      const { _id: id } = await put(store, { waiting: ["stock", "mail"] });
      await store.messages.failed([failedBy(id, { nextAt: null })]);
      expect((await store.messages.handled([handledBy(id, "mail")])).consumed).toEqual([]);
      const dead = await get(store, id);
      expect(dead).toMatchObject({ status: "dead", waiting: [], failed: ["stock"], reason: "handler (stock): boom" });
      expect(dead).not.toHaveProperty("dueAt");
    });

    one("opens it again when the group that had failed answers, and others are waited for", async store => {
      const sent = await put(store, { waiting: ["stock", "mail"], publishedAt: at(10) });
      const unsent = await put(store, { waiting: ["stock", "mail"] });
      for (const { _id } of [sent, unsent]) await store.messages.failed([failedBy(_id, { nextAt: null })]);
      expect(await store.messages.handled([sent, unsent].map(({ _id }) => handledBy(_id)))).toMatchObject({
        consumed: []
      });
      for (const [{ _id, createdAt, dueAt }, status] of [
        [sent, "published"],
        [unsent, "pending"]
      ] as const) {
        const open = await get(store, _id);
        expect(open).toMatchObject({
          status,
          waiting: ["mail"],
          failed: [],
          at: createdAt,
          dueAt,
          deadAt: {},
          errors: {}
        });
        expect(open).not.toHaveProperty("reason");
      }
    });

    one("keeps resolved and withdrawn as they are, but remembers the receipt", async store => {
      const resolved = finalOf("resolved", at(0), { failed: ["stock"] });
      const withdrawn = finalOf("withdrawn", at(0));
      await store.messages.insert([resolved, withdrawn]);
      expect((await store.messages.handled([resolved, withdrawn].map(({ _id }) => handledBy(_id)))).consumed).toEqual(
        []
      );
      expect(await get(store, resolved._id)).toMatchObject({
        status: "resolved",
        at: at(0),
        receipts: { stock: receiptOf() }
      });
      expect(await get(store, withdrawn._id)).toMatchObject({ status: "withdrawn", at: at(0) });
    });

    one("keeps awkward group names apart", async store => {
      const { _id: id } = await put(store, { waiting: AWKWARD_GROUPS });
      for (const group of AWKWARD_GROUPS.slice(1))
        expect(await store.messages.handled([handledBy(id, group)])).toEqual({
          unknown: [],
          duplicates: 0,
          consumed: [],
          unresolved: []
        });
      expect(Object.keys((await get(store, id)).receipts).sort()).toEqual(AWKWARD_GROUPS.slice(1).sort());
      expect((await store.messages.handled([handledBy(id, "a.b")])).consumed).toEqual([id]);
    });

    one("heals a crash after the receipt was written and before the message was moved on", async store => {
      const { _id: id } = await put(store);
      const dead = { status: "dead" as const, failed: ["stock"], publishedAt: at(1) };
      const left = await put(store, { ...dead, waiting: ["mail"], dueAt: at(5000) });
      const alive = await put(store, { ...dead, waiting: ["mail"], dueAt: at(5000) });
      await rawOf(store).messages.update(
        { _id: id },
        { $set: { [pathOf("receipts", "stock")]: receiptOf(), waiting: [] } }
      );
      await rawOf(store).messages.update(
        { _id: left._id },
        { $set: { [pathOf("receipts", "mail")]: receiptOf(), waiting: [] } }
      );
      await rawOf(store).messages.update(
        { _id: alive._id },
        { $set: { [pathOf("receipts", "stock")]: receiptOf(), failed: [] } }
      );
      expect(await store.messages.handled([handledBy(id), handledBy(left._id, "mail"), handledBy(alive._id)])).toEqual({
        unknown: [],
        duplicates: 3,
        consumed: [id],
        unresolved: []
      });
      expect(await get(store, left._id)).not.toHaveProperty("dueAt");
      expect((await get(store, alive._id)).status).toBe("published");
    });

    two("counts one of two racing receipts of a group", async (store, other) => {
      const { _id: id } = await put(store);
      const results = await Promise.all([
        store.messages.handled([handledBy(id)]),
        other.messages.handled([handledBy(id)])
      ]);
      expect(results.reduce((sum, { duplicates }) => sum + duplicates, 0)).toBe(1);
      expect((await get(store, id)).status).toBe("consumed");
    });

    two("loses no receipt when groups answer at once", async (store, other) => {
      const groups = ["a", "b", "c", "d", "e", "f"];
      const { _id: id } = await put(store, { waiting: groups });
      await Promise.all(groups.map((group, i) => (i % 2 ? store : other).messages.handled([handledBy(id, group)])));
      const done = await get(store, id);
      expect(Object.keys(done.receipts).sort()).toEqual(groups);
      expect(done.status).toBe("consumed");
    });
  });

  describe("failed", () => {
    one("schedules the group's next attempt and brings the due instant forward", async store => {
      const { _id: id } = await put(store, { status: "published", dueAt: at(60_000) });
      expect(await store.messages.failed([failedBy(id, { nextAt: at(5000) })])).toEqual({ applied: 1, dead: [] });
      expect(await get(store, id)).toMatchObject({
        status: "published",
        waiting: ["stock"],
        spent: { stock: 1 },
        next: { stock: at(5000) },
        dueAt: at(5000),
        failures: [failureOf({ group: "stock", attempt: 1 })]
      });
      await store.messages.failed([failedBy(id, { attempt: 2, nextAt: at(8000) })]);
      expect((await get(store, id)).dueAt).toEqual(at(5000));
    });

    one("ignores an attempt it knows, unknown ids, and groups that have handled it", async store => {
      const { _id: id } = await put(store, { waiting: ["stock", "mail"] });
      await store.messages.failed([failedBy(id, { attempt: 2 })]);
      await store.messages.handled([handledBy(id, "mail")]);
      const before = await get(store, id);
      const repeated = [
        failedBy(id, { attempt: 2 }),
        failedBy(id, { attempt: 1 }),
        failedBy(id, { group: "mail" }),
        failedBy("unknown")
      ];
      expect(await store.messages.failed(repeated)).toEqual({ applied: 0, dead: [] });
      expect(await get(store, id)).toEqual(before);
    });

    one(
      "is dead from the first group on that has spent its budget, and due while others are waited for",
      async store => {
        const { _id: id, dueAt } = await put(store, { status: "published", waiting: ["stock", "mail"] });
        expect(await store.messages.failed([failedBy(id, { attempt: 3, nextAt: null })])).toEqual({
          applied: 1,
          dead: [{ id, group: "stock", cause: "handler", reason: "handler (stock): boom" }]
        });
        expect(await get(store, id)).toMatchObject({
          status: "dead",
          waiting: ["mail"],
          failed: ["stock"],
          spent: { stock: 3 },
          deadAt: { stock: expect.any(Date) },
          errors: { stock: { cause: "handler", message: "boom" } },
          dueAt
        });
        // Of the other group alone.
        expect(await store.messages.failed([failedBy(id, { group: "mail" })])).toEqual({ applied: 1, dead: [] });
        expect(await store.messages.failed([failedBy(id, { group: "mail", attempt: 2, nextAt: null })])).toEqual({
          applied: 1,
          dead: [{ id, group: "mail", cause: "handler", reason: "handler (mail): boom" }]
        });
        const dead = await get(store, id);
        expect(dead).toMatchObject({
          status: "dead",
          waiting: [],
          failed: ["stock", "mail"],
          reason: "handler (mail): boom",
          notes: ["stock", "mail"].map(group => ({ act: "dead", groups: [group] }))
        });
        expect(dead.at.getTime()).toBeGreaterThan(dead.createdAt.getTime());
        for (const field of ["dueAt", "claim"]) expect(dead).not.toHaveProperty(field);
        expect(await store.messages.failed([failedBy(id, { attempt: 9, nextAt: null })])).toEqual({
          applied: 0,
          dead: []
        });
        expect(await get(store, id)).toEqual(dead);
      }
    );

    one("tells the death of a group once, though its failure is reported twice at the same time", async store => {
      const { _id: id } = await put(store, { waiting: ["stock", "mail"] });
      const stock = failedBy(id, { nextAt: null });
      const mail = failedBy(id, { group: "mail", nextAt: null });
      const { applied, dead } = await store.messages.failed([stock, mail, stock, stock]);
      expect(applied).toBe(2);
      expect(dead.map(({ group }) => group)).toEqual(["stock", "mail"]);
      expect((await get(store, id)).notes).toHaveLength(2);
    });

    one("leaves whoever was expected beside the group that failed", async store => {
      const [again, spent, silent] = [
        await put(store, { waiting: [ANY_GROUP] }),
        await put(store, { waiting: [ANY_GROUP] }),
        await put(store, { waiting: [ANY_GROUP] })
      ];
      await store.messages.failed([
        failedBy(again._id),
        failedBy(spent._id, { nextAt: null }),
        failedBy(silent._id, { group: ANY_GROUP })
      ]);
      expect(new Set((await get(store, again._id)).waiting)).toEqual(new Set([ANY_GROUP, "stock"]));
      expect(await get(store, spent._id)).toMatchObject({ waiting: [ANY_GROUP], failed: ["stock"] });
      expect((await get(store, silent._id)).waiting).toEqual([ANY_GROUP]);
      await store.messages.resolveRecipients([{ id: spent._id, groups: [] }]);
      const dead = await get(store, spent._id);
      expect(dead).toMatchObject({ status: "dead", waiting: [] });
      expect(dead).not.toHaveProperty("dueAt");
      expect(
        (await store.messages.failed([failedBy(silent._id, { group: ANY_GROUP, attempt: 2, nextAt: null })])).dead
      ).toMatchObject([{ id: silent._id }]);
    });

    one("does not put whoever was expected back beside a group that has answered", async store => {
      const { _id: id } = await put(store, { waiting: [ANY_GROUP, "mail"] });
      await store.messages.resolveRecipients([{ id, groups: [] }]);
      expect(await store.messages.failed([failedBy(id, { group: ANY_GROUP })])).toEqual({ applied: 0, dead: [] });
      expect(await get(store, id)).toMatchObject({ status: "pending", waiting: ["mail"], failed: [] });
    });

    one("adds a group that failed without being expected", async store => {
      const { _id: id } = await put(store);
      await store.messages.failed([failedBy(id, { group: "a.b" })]);
      expect(await get(store, id)).toMatchObject({
        waiting: ["stock", "a.b"],
        spent: { "a.b": 1 },
        next: { "a.b": at(5000) }
      });
    });

    one("keeps the last failures only", async store => {
      const { _id: id } = await put(store);
      for (let attempt = 1; attempt <= FAILURES_KEPT + 2; attempt++)
        await store.messages.failed([failedBy(id, { attempt })]);
      const { failures } = await get(store, id);
      expect(failures.map(failure => failure.attempt)).toEqual(Array.from({ length: FAILURES_KEPT }, (_, i) => i + 3));
    });

    one("changes nothing on final messages", async store => {
      const done = finalOf("consumed", at(0));
      await store.messages.insert([done]);
      expect(await store.messages.failed([failedBy(done._id, { nextAt: null })])).toEqual({ applied: 0, dead: [] });
      expect(await get(store, done._id)).toEqual(done);
    });

    one("heals a crash after the failure was written and before the message was moved on", async store => {
      const { _id: id } = await put(store);
      await rawOf(store).messages.update(
        { _id: id },
        { $set: { status: "dead", waiting: [], failed: ["stock"], [pathOf("spent", "stock")]: 1, reason: "r" } }
      );
      expect(await store.messages.failed([failedBy(id, { nextAt: null })])).toEqual({ applied: 0, dead: [] });
      expect(await get(store, id)).not.toHaveProperty("dueAt");
    });

    two("ends handled against failed as consumed, in any order", async (store, other) => {
      const [first, second, racing] = [await put(store), await put(store), await put(store)];
      await store.messages.failed([failedBy(first._id, { nextAt: null })]);
      await other.messages.handled([handledBy(first._id)]);
      await other.messages.handled([handledBy(second._id)]);
      await store.messages.failed([failedBy(second._id, { nextAt: null })]);
      await Promise.all([
        store.messages.failed([failedBy(racing._id, { nextAt: null })]),
        other.messages.handled([handledBy(racing._id)])
      ]);
      for (const { _id } of [first, second, racing])
        expect(await get(store, _id)).toMatchObject({ status: "consumed", waiting: [], failed: [] });
    });
  });

  describe("claim, rescheduled", () => {
    one("takes what is due, oldest first, up to the limit, and of the buckets asked for", async store => {
      const [late, early, later] = [
        await put(store, { dueAt: at(200), bucket: 1 }),
        await put(store, { dueAt: at(100), bucket: 2 }),
        await put(store, { dueAt: at(300), bucket: 1 })
      ];
      await put(store, { dueAt: at(30_001) });
      // One that should not be there: a sweep would ask for it for ever.
      const odd = { ...finalOf("consumed", at(0)), dueAt: at(0) };
      await store.messages.insert([deadOf(), finalOf("consumed", at(0)), odd]);
      expect(await claim(store, "none", { limit: 0 })).toEqual([]);
      expect(await store.messages.due({ now: at(99), limit: 10 })).toEqual([]);
      expect((await store.messages.due({ from: at(200), now: at(30_000), limit: 10 })).map(({ id }) => id)).toEqual([
        late._id,
        later._id
      ]);
      expect(await claim(store, "none", { buckets: [] })).toEqual([]);
      expect((await claim(store, "a", { buckets: [1], limit: 1 })).map(({ _id }) => _id)).toEqual([late._id]);
      const rest = await claim(store, "b");
      expect(rest.map(({ _id }) => _id)).toEqual([early._id, later._id]);
      expect(rest[0]).toMatchObject({ claim: "b", dueAt: at(90_000), status: "pending" });
      expect(await claim(store, "c")).toEqual([]);
      expect(await claim(store, "c", { now: at(90_000), until: at(150_000) })).toHaveLength(4);
    });

    two("never gives one message to two sweeps", async (store, other) => {
      const ids = Array.from({ length: 100 }, (_, i) => messageOf({ dueAt: at(i) }));
      await store.messages.insert(ids);
      const pages = await Promise.all(
        ["a", "b", "c", "d", "e", "f"].map((name, i) => claim(i % 2 ? store : other, name, { limit: 60 }))
      );
      const taken = pages.flat().map(({ _id }) => _id);
      expect(new Set(taken).size).toBe(taken.length);
    });

    one("applies what a sweep decided and gives the claim back", async store => {
      const { _id: id } = await put(store, { waiting: ["a.b", "stock"], dueAt: at(0) });
      await claim(store, "c");
      const record: RescheduleRecord = {
        id,
        claim: "c",
        status: "published",
        dueAt: at(120_000),
        attempts: { "a.b": 2, stock: 1 },
        next: { "a.b": at(120_000) },
        publishedAt: at(31_000)
      };
      expect(await store.messages.rescheduled([record])).toBe(1);
      const message = await get(store, id);
      expect(message).toMatchObject({
        status: "published",
        dueAt: at(120_000),
        publishedAt: at(31_000),
        attempts: { "a.b": 2, stock: 1 },
        next: { "a.b": at(120_000) },
        waiting: ["a.b", "stock"]
      });
      expect(message).not.toHaveProperty("claim");
      expect(await store.messages.rescheduled([record])).toBe(0);
      expect(await get(store, id)).toEqual(message);
    });

    one("leaves out what a sweep says nothing about", async store => {
      const { _id: id } = await put(store, {
        status: "published",
        publishedAt: at(1),
        dueAt: at(0),
        attempts: { stock: 2 }
      });
      await claim(store, "c");
      expect(await store.messages.rescheduled([{ id, claim: "c", dueAt: at(120_000) }])).toBe(1);
      expect(await get(store, id)).toMatchObject({
        status: "published",
        publishedAt: at(1),
        dueAt: at(120_000),
        attempts: { stock: 2 },
        waiting: ["stock"]
      });
    });

    one("written late, it says nothing about what was handled or taken over meanwhile", async store => {
      const rows = [];
      for (let n = 0; n < 3; n++) rows.push(await put(store, { dueAt: at(0) }));
      const [open, handled, taken] = rows.map(({ _id }) => _id) as [string, string, string];
      await claim(store, "c", { until: at(40_000) });
      await store.messages.handled([handledBy(handled)]);
      await store.messages.claim({ ids: [taken], now: at(50_000), until: at(90_000), claim: "d" });
      const records = [open, handled, taken].map(id => ({
        id,
        claim: "c",
        dueAt: at(120_000),
        attempts: { stock: 2 }
      }));
      expect(await store.messages.rescheduled(records, true)).toBe(1);
      expect(await store.messages.rescheduled(records, true)).toBe(0);
      expect(await get(store, open)).toMatchObject({ dueAt: at(120_000), attempts: { stock: 2 } });
      expect((await get(store, handled))?.status).toBe("consumed");
      expect(await get(store, taken)).toMatchObject({ claim: "d", dueAt: at(90_000) });
    });

    one("goes back to pending when the resend is not known to be with the broker", async store => {
      const { _id: id } = await put(store, { status: "published", dueAt: at(0) });
      await claim(store, "c");
      await store.messages.rescheduled([{ id, claim: "c", status: "pending", dueAt: at(40_000) }]);
      expect(await get(store, id)).toMatchObject({ status: "pending", dueAt: at(40_000) });
    });

    two("does not apply a stale claim", async (store, other) => {
      const stale = await put(store, { dueAt: at(0) });
      const handled = await put(store, { dueAt: at(0) });
      await claim(store, "first");
      await claim(other, "second", { now: at(90_000), until: at(150_000) });
      await other.messages.handled([handledBy(handled._id)]);
      const records = [stale, handled].map(({ _id: id }) => ({ id, claim: "first", dueAt: at(1) }));
      expect(await store.messages.named([{ id: stale._id, claim: "first", from: ["stock"], to: ["x"] }])).toEqual(
        new Set()
      );
      expect(await store.messages.rescheduled([...records, { id: handled._id, claim: "second", dueAt: at(1) }])).toBe(
        0
      );
      expect(await get(store, stale._id)).toMatchObject({ claim: "second", dueAt: at(150_000), waiting: ["stock"] });
      expect((await get(store, handled._id)).status).toBe("consumed");
    });
  });

  describe("prune", () => {
    one("deletes final messages and inbox rows that are old enough, a page at a time", async store => {
      const old = [finalOf("consumed", at(0)), finalOf("resolved", at(1)), finalOf("withdrawn", at(2))];
      const kept = [finalOf("consumed", at(100)), messageOf({ createdAt: at(-1e9) })];
      await store.messages.insert([...old, ...kept]);
      await store.inbox.add("g", ["old"], at(0));
      await store.inbox.add("g", ["new"], at(100));
      expect(await store.prune(at(100), 2)).toEqual({ messages: 2, more: true });
      expect(await store.prune(at(100), 2)).toEqual({ messages: 1, more: false });
      expect(await store.prune(at(100), 2)).toEqual({ messages: 0, more: false });
      expect((await store.messages.find([...old, ...kept].map(({ _id }) => _id))).map(({ _id }) => _id)).toEqual(
        kept.map(({ _id }) => _id)
      );
      expect(await store.inbox.handled("g", ["old", "new"])).toEqual(new Set(["new"]));
    });

    one(
      "says that there is more when only inbox rows are left: several groups have more of them than there are messages",
      async store => {
        await store.messages.insert([finalOf("consumed", at(0))]);
        for (const group of ["a", "b", "c"]) await store.inbox.add(group, ["old"], at(0));
        expect(await store.prune(at(100), 2)).toEqual({ messages: 1, more: true });
        expect(await store.prune(at(100), 2)).toEqual({ messages: 0, more: false });
        for (const group of ["a", "b", "c"]) expect(await store.inbox.handled(group, ["old"])).toEqual(new Set());
      }
    );

    one("deletes no more than a page when all are of one instant", async store => {
      await store.messages.insert(Array.from({ length: 5 }, () => finalOf("consumed", at(0))));
      for (const messages of [2, 2]) expect(await store.prune(at(100), 2)).toEqual({ messages, more: true });
      expect(await store.prune(at(100), 2)).toEqual({ messages: 1, more: false });
    });

    one("never touches a dead message, however old", async store => {
      const dead = [deadOf({ createdAt: at(-1e9), at: at(-1e9) }), deadOf({ at: at(-1e9) })];
      await store.messages.insert(dead);
      expect(await store.prune(at(1e9), 100)).toEqual({ messages: 0, more: false });
      expect(await store.messages.find(dead.map(({ _id }) => _id))).toHaveLength(2);
    });
  });
}
