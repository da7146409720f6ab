import { describe, expect, it } from "vitest";
import { STATUSES } from "../../src/message/lifecycle";
import { ANY_GROUP, type Message, type Note } from "../../src/message/message";
import { placeOf } from "../../src/message/order";
import type { Discarded } from "../../src/message/records";
import type { Store } from "../../src/stores/store";
import type { ListQuery, Released } from "../../src/stores/store-records";
import {
  at,
  auditOf,
  deadOf,
  discardedOf,
  failedBy,
  finalOf,
  handledBy,
  listedOf,
  messageOf,
  noteOf,
  parkedOf,
  receiptOf,
  subscriptionOf
} from "../support/messages";
import { rawOf, type StoreKind, withStores } from "./store";

/** What an operator sees and does, and everything in the store that is not a message. */
export function operations(kind: StoreKind): void {
  const one = (name: string, test: (store: Store) => Promise<void>) => it(name, () => withStores(kind, 1, test));
  const two = (name: string, test: (store: Store, other: Store) => Promise<void>) =>
    it(name, () => withStores(kind, 2, test));
  const get = async (store: Store, id: string): Promise<Message> => (await store.messages.find([id]))[0] as Message;
  const idsOf = (rows: { _id: string }[]) => rows.map(({ _id }) => _id);
  const put = async (store: Store, fields: Partial<Message>): Promise<Message> => {
    const message = messageOf(fields);
    await store.messages.insert([message]);
    return message;
  };
  /** `stock` has failed for good, and `mail` is waited for. */
  const dying = async (store: Store): Promise<Message> => {
    const sent = { status: "published", publishedAt: at(10), dueAt: at(30_000), next: { mail: at(30_000) } } as const;
    const message = await put(store, { ...sent, waiting: ["stock", "mail"] });
    await store.messages.failed([failedBy(message._id, { nextAt: null })]);
    return message;
  };

  describe("list, stats", () => {
    one("lists newest first, by pages, with the total", async store => {
      const messages = [3, 1, 2].map(n => messageOf({ createdAt: at(n) }));
      await store.messages.insert(messages);
      const [c, a, b] = idsOf(messages);
      expect(await store.messages.list({}, 2)).toMatchObject({ rows: [{ _id: c }, { _id: b }], total: 3 });
      const cursor = { at: at(2), id: b as string };
      expect(await store.messages.list({ cursor }, 2)).toMatchObject({ rows: [{ _id: a }], total: 3 });
    });

    one("filters by each field of the query", async store => {
      const wanted = messageOf({ event: "a", producer: "p", createdAt: at(10), waiting: ["x.y"] });
      await store.messages.insert([
        wanted,
        deadOf({ event: "b", producer: "q", createdAt: at(20), failed: ["other"] }),
        finalOf("consumed", at(0), { event: "b", producer: "q", createdAt: at(0) })
      ]);
      const queries: ListQuery[] = [
        { status: "pending" },
        { status: ["pending", "published"] },
        { event: "a" },
        { producer: "p" },
        { group: "x.y" },
        { after: at(5), before: at(20) },
        { ids: [wanted._id, "unknown"] }
      ];
      for (const query of queries) expect(idsOf((await store.messages.list(query, 10)).rows)).toEqual([wanted._id]);
    });

    one("finds a group's messages by what it owes, spent or handled, under its labels too", async store => {
      const [waiting, failed, handled, labelled] = [
        messageOf({ waiting: ["audit:order.*"], createdAt: at(4) }),
        deadOf({ failed: ["audit"], createdAt: at(3) }),
        finalOf("consumed", at(0), { receipts: { audit: receiptOf() }, createdAt: at(2) }),
        finalOf("consumed", at(0), { receipts: { "audit:$x.**": receiptOf() }, createdAt: at(1) })
      ];
      await store.subscriptions.announce([subscriptionOf("audit:$x.**")]);
      await store.messages.insert([
        waiting,
        failed,
        handled,
        labelled,
        messageOf({ waiting: ["auditor"] }),
        messageOf({ waiting: ["my:audit"] })
      ]);
      expect(idsOf((await store.messages.list({ group: "audit" }, 10)).rows).sort()).toEqual(
        idsOf([waiting, failed, handled, labelled]).sort()
      );
    });

    one("takes values only, no query of the caller's making", async store => {
      await store.messages.insert([messageOf()]);
      for (const query of [
        { event: { $ne: "" } },
        { group: { $gt: "" } },
        { producer: /./ },
        { status: { $ne: "dead" } },
        { ids: [{ $gt: "" }] },
        { after: { $gt: 0 } }
      ]) {
        await expect(store.messages.list(query as never, 10)).rejects.toMatchObject({ type: "RELIABLE_BAD_OPTION" });
      }
      expect(await store.messages.find([{ $gt: "" } as never])).toEqual([]);
      expect(await store.messages.handled([handledBy({ $gt: "" } as never)])).toMatchObject({ consumed: [] });
    });

    one("counts each status and knows the oldest", async store => {
      const empty = await store.messages.stats();
      expect(empty.byStatus).toEqual(Object.fromEntries(STATUSES.map(status => [status, 0])));
      expect(empty.oldestDeadAt).toBeUndefined();
      await store.messages.insert([
        messageOf({ createdAt: at(2) }),
        messageOf({ createdAt: at(1) }),
        messageOf({ status: "published", createdAt: at(3) }),
        deadOf({ createdAt: at(4) }),
        finalOf("consumed", at(0)),
        finalOf("resolved", at(0)),
        messageOf({ status: "intended" })
      ]);
      await store.parked.add([parkedOf()]);
      expect(await store.messages.stats()).toEqual({
        byStatus: {
          ...empty.byStatus,
          ...{ intended: 1, pending: 2, published: 1, consumed: 1, dead: 1, resolved: 1 }
        },
        parked: 1,
        capped: [],
        estimated: [],
        oldestPendingAt: at(1),
        oldestPublishedAt: at(3),
        oldestDeadAt: at(500)
      });
    });

    one(
      "counts what is finished up to 10,000, then asks the database, and counts what is not to its end",
      async store => {
        const final = Array.from({ length: 10_001 }, (_, n) => finalOf("consumed", at(n), { body: Buffer.alloc(0) }));
        for (let n = 0; n < final.length; n += 2000) await store.messages.insert(final.slice(n, n + 2000));
        await store.messages.insert([messageOf(), messageOf()]);
        const { byStatus, capped, estimated } = await store.messages.stats();
        // A database's own number may be behind for a while.
        const isExact = kind.name !== "MongoDB";
        expect([...capped, ...estimated]).toEqual(["consumed"]);
        expect(byStatus).toMatchObject({ consumed: isExact ? 10_001 : expect.any(Number), pending: 2 });
        expect(byStatus.consumed).toBeGreaterThanOrEqual(10_000);
        expect(await store.messages.stats(100)).toMatchObject({ byStatus: { pending: 2 } });
        const all = async (query: ListQuery, limit: number, countAll?: boolean) => {
          const { rows, next: _next, ...rest } = await store.messages.list(query, limit, countAll);
          return { ...rest, rows: rows.length };
        };
        for (const query of [{ status: "consumed" }, {}] as ListQuery[]) {
          const { rows, total, ...how } = await all(query, 2);
          expect([rows, total >= 1000]).toEqual([2, true]);
          expect([{ capped: true }, { capped: false, estimated: true }]).toContainEqual(how);
          if (isExact) expect([total, how.estimated]).toEqual([query.status ? 10_001 : 10_003, true]);
        }
        // Of what else is asked for the database has no number.
        const event = "order.created";
        expect(await all({ status: "consumed", event }, 2)).toEqual({ rows: 2, total: 1000, capped: true });
        expect(await all({ status: "consumed", event }, 2, true)).toEqual({ rows: 2, total: 10_000, capped: true });
        expect(await all({ status: "pending" }, 2)).toEqual({ rows: 2, total: 2, capped: false });
        // An act on so many tells that there are more.
        expect(await all({ status: "consumed", event }, 10_000, true)).toEqual({
          rows: 10_000,
          total: 10_001,
          capped: false
        });
      }
    );

    one("counts each status up to a number, if one is given", async store => {
      await store.messages.insert([
        ...[1, 2, 3].map(n => deadOf({ at: at(n) })),
        messageOf(),
        ...[1, 2, 3].map(n => finalOf("resolved", at(n)))
      ]);
      await store.parked.add([parkedOf(), parkedOf()]);
      expect(await store.messages.stats(2)).toMatchObject({
        byStatus: { dead: 2, pending: 1, resolved: 2, consumed: 0 },
        parked: 2,
        capped: ["dead", "resolved"],
        estimated: []
      });
    });

    one("counts what no index finds among the newest 1,000, and says so", async store => {
      // The oldest 3 are of a seldom event.
      const row = (n: number, from: number) => ({ at: at(from + n), event: n < 3 ? "seldom" : `e${n % 2}` });
      await store.messages.insert(Array.from({ length: 1100 }, (_, n) => deadOf(row(n, 0))));
      const consumed = Array.from({ length: 1000 }, (_, n) => finalOf("consumed", at(0), row(n, 5000)));
      await store.messages.insert(consumed);
      const all = async (query: ListQuery, limit: number, countAll?: boolean) => {
        const { rows, total, capped } = await store.messages.list(query, limit, countAll);
        return [rows.length, total, capped];
      };
      expect(await all({ status: "dead", event: "e1" }, 10)).toEqual([10, 500, true]);
      expect(await all({ status: "dead", event: "e1" }, 10, true)).toEqual([10, 549, false]);
      expect(await all({ status: "dead", event: "e1", after: at(200) }, 10)).toEqual([10, 450, false]);
      expect(await all({ status: "consumed", event: "e1" }, 10)).toEqual([10, 499, false]);
      expect(await all({ event: "e1" }, 10)).toEqual([10, 999, true]);
      // It is found all the same, and its last page is its end.
      expect(await all({ status: "dead", event: "seldom" }, 2)).toEqual([2, 2, true]);
      expect(await all({ status: "dead", event: "seldom" }, 3)).toEqual([3, 3, false]);
    });

    one("counts all of an instant that more have than are looked at", async store => {
      const rows = Array.from({ length: 1005 }, (_, n) => deadOf({ at: at(7), event: n < 10 ? "seldom" : "often" }));
      await store.messages.insert(rows);
      const { total, capped } = await store.messages.list({ status: "dead", event: "seldom" }, 2);
      expect([total, capped]).toEqual([10, false]);
    });

    one("tells when the oldest were emitted, and the lives of consumed ones alone", async store => {
      expect(await store.messages.oldest()).toEqual({ pending: undefined, published: undefined });
      const pending = messageOf({ createdAt: at(1) });
      const consumed = finalOf("consumed", at(9), { event: "order.paid", createdAt: at(2) });
      await store.messages.insert([
        messageOf({ createdAt: at(5) }),
        pending,
        messageOf({ status: "published", createdAt: at(3) }),
        consumed,
        deadOf({ createdAt: at(0) })
      ]);
      expect(await store.messages.oldest()).toEqual({ pending: at(1), published: at(3), dead: at(500) });
      expect(await store.messages.timings([consumed._id, pending._id, "unknown", { $gt: "" } as never])).toEqual([
        { id: consumed._id, event: "order.paid", emittedAt: at(2), consumedAt: at(9) }
      ]);
      expect(await store.messages.timings([])).toEqual([]);
    });
  });

  describe("retry, resolve, discard", () => {
    one("retries with a fresh budget for the groups that failed", async store => {
      const dead = deadOf({
        failed: ["a.b", "stock"],
        spent: { "a.b": 3, stock: 2 },
        next: { "a.b": at(1) },
        receipts: { mail: receiptOf() }
      });
      await store.messages.insert([dead]);
      expect(await store.operations.retry(dead, at(7000), noteOf("retry", { note: "fixed" }))).toBe(true);
      const again = await get(store, dead._id);
      expect(again).toMatchObject({
        status: "pending",
        dueAt: at(7000),
        waiting: ["a.b", "stock"],
        failed: [],
        base: { "a.b": 3, stock: 2 },
        spent: { "a.b": 3, stock: 2 },
        next: {},
        notes: [noteOf("retry", { note: "fixed", groups: ["a.b", "stock"] })]
      });
      expect(again).not.toHaveProperty("reason");
      expect(await store.operations.retry(dead, at(8000), noteOf("retry"))).toBe(false);
      expect(await get(store, dead._id)).toEqual(again);
      expect(await store.messages.failed([failedBy(dead._id, { group: "a.b", attempt: 4 })])).toMatchObject({
        applied: 1
      });
    });

    one("resolves with a note", async store => {
      const dead = deadOf();
      await store.messages.insert([dead]);
      expect(await store.operations.resolve(dead, noteOf("resolve"))).toBe(true);
      expect(await get(store, dead._id)).toMatchObject({
        status: "resolved",
        at: at(9000),
        notes: [noteOf("resolve", { groups: ["stock"] })]
      });
      expect(await store.operations.resolve(dead, noteOf("resolve"))).toBe(false);
      expect((await store.prune(at(9001), 10)).messages).toBe(1);
    });

    one("retries the groups that failed, and leaves the others as they are", async store => {
      const { _id: id } = await dying(store);
      const dead = await get(store, id);
      expect(dead).toMatchObject({ status: "dead", dueAt: at(30_000) });
      expect(await store.operations.retry(dead, at(7000), noteOf("retry"))).toBe(true);
      expect(await get(store, id)).toMatchObject({
        status: "pending",
        at: dead.createdAt,
        dueAt: at(7000),
        waiting: ["mail", "stock"],
        failed: [],
        deadAt: {},
        errors: {},
        base: { stock: 1 },
        next: { mail: at(30_000) },
        notes: [{ act: "dead" }, { act: "retry" }]
      });
    });

    one("retries while a sweep has it: what that writes counts, and then it is due at once", async store => {
      const { _id: id } = await dying(store);
      const claim = { ids: [id], now: at(40_000), until: at(70_000), claim: "a sweep" };
      const [dead] = (await store.messages.claim(claim)) as [Message];
      expect(await store.operations.retry(dead, at(41_000), noteOf("retry"))).toBe(true);
      expect(await get(store, id)).toMatchObject({ claim: "a sweep", dueAt: at(70_000) });
      const record = { id, claim: "a sweep", dueAt: at(99_000), next: { mail: at(99_000) }, attempts: { mail: 2 } };
      expect(await store.messages.rescheduled([record])).toBe(1);
      const again = await get(store, id);
      expect(again).toMatchObject({
        status: "pending",
        dueAt: at(41_000),
        waiting: ["mail", "stock"],
        attempts: { mail: 2 },
        next: { mail: at(99_000) }
      });
      expect(again).not.toHaveProperty("claim");
    });

    one("resolves the groups that failed: it never is consumed without them", async store => {
      const { _id: id } = await dying(store);
      const dead = await get(store, id);
      expect(await store.operations.resolve(dead, noteOf("resolve"))).toBe(true);
      const open = await get(store, id);
      expect(open).toMatchObject({
        ...{ status: "published", at: dead.createdAt, dueAt: dead.dueAt },
        ...{ waiting: ["mail"], failed: [], resolved: ["stock"] }
      });
      expect(open).not.toHaveProperty("reason");
      // A failure that comes late does not undo what the human has done.
      const late = [failedBy(id, { attempt: 2, nextAt: null })];
      expect(await store.messages.failed(late)).toEqual({ applied: 0, dead: [] });
      expect((await store.messages.handled([handledBy(id, "mail")])).consumed).toEqual([]);
      expect(await get(store, id)).toMatchObject({ status: "resolved", waiting: [], resolved: ["stock"] });
    });

    one("is consumed after all when a resolved group answers late, before the others", async store => {
      const { _id: id } = await dying(store);
      await store.operations.resolve(await get(store, id), noteOf("resolve"));
      expect((await store.messages.handled([handledBy(id)])).consumed).toEqual([]);
      expect((await store.messages.handled([handledBy(id, "mail")])).consumed).toEqual([id]);
    });

    one("discards nothing that other groups are waited for", async store => {
      const { _id: id } = await dying(store);
      const dead = await get(store, id);
      expect(await store.operations.discard(dead, discardedOf(dead))).toBe(false);
      expect(await get(store, id)).toEqual(dead);
      expect(await store.audits.discarded([id])).toEqual([]);
    });

    one("records the confirm of one that is dead already, and waits for the others from then on", async store => {
      const { _id: id } = await put(store, { waiting: ["stock", "mail"] });
      await store.messages.failed([failedBy(id, { nextAt: null })]);
      await store.messages.published([{ id, at: at(10), dueAt: at(60_000) }]);
      expect(await get(store, id)).toMatchObject({ status: "dead", publishedAt: at(10), dueAt: at(60_000) });
    });

    one("reschedules one that became dead in between, and leaves it dead", async store => {
      const { _id: id } = await put(store, { status: "published", waiting: ["stock", "mail"] });
      const claim = { ids: [id], now: at(99_000), until: at(120_000), claim: "a sweep" };
      await store.messages.claim(claim);
      await store.messages.failed([failedBy(id, { nextAt: null })]);
      const record = { id, claim: "a sweep", status: "published", dueAt: at(150_000), attempts: { mail: 2 } } as const;
      expect(await store.messages.rescheduled([record])).toBe(1);
      const dead = await get(store, id);
      expect(dead).toMatchObject({ status: "dead", attempts: { mail: 2 } });
      expect(dead).not.toHaveProperty("claim");
      expect(
        await store.messages.claim({ ids: [id], now: at(150_000), until: at(180_000), claim: "next" })
      ).toHaveLength(1);
    });

    one("discards and keeps an audit record", async store => {
      const dead = deadOf();
      await store.messages.insert([dead]);
      const audit = discardedOf(dead, { note: "duplicate order" });
      expect(await store.operations.discard(dead, audit)).toBe(true);
      expect(await store.messages.find([dead._id])).toEqual([]);
      expect(await store.audits.discarded([dead._id, "other"])).toEqual([audit]);
      expect(await store.audits.discarded(["other"])).toEqual([]);
      expect(await store.audits.discarded([])).toEqual([]);
      // The answer was lost and the call is made again.
      expect(await store.operations.discard(dead, audit)).toBe(true);
      expect(await store.operations.discard(dead, discardedOf(dead))).toBe(false);
      expect(await store.audits.discarded([dead._id])).toEqual([audit]);
    });

    one("heals a crash between audit record and deletion", async store => {
      const dead = deadOf();
      await store.messages.insert([dead]);
      const audit = discardedOf(dead);
      await rawOf(store).discarded.insert([{ ...audit }]);
      const now = { ...audit, by: "another", note: "for another reason", of: "another act" };
      expect(await store.operations.discard(dead, now)).toBe(true);
      expect(await store.audits.discarded([dead._id])).toEqual([now]);
      expect(await store.messages.find([dead._id])).toEqual([]);
    });

    one("does nothing to a message that is not dead, or no more as the operator saw it", async store => {
      const pending = messageOf();
      const seen = deadOf({ failed: ["stock", "mail"] });
      await store.messages.insert([pending, seen]);
      await store.messages.handled([handledBy(seen._id, "mail")]);
      const before = await store.messages.find([pending._id, seen._id]);
      for (const message of [pending, seen]) {
        expect(await store.operations.retry(message, at(1), noteOf("retry"))).toBe(false);
        expect(await store.operations.resolve(message, noteOf("resolve"))).toBe(false);
        expect(await store.operations.discard(message, discardedOf(message))).toBe(false);
      }
      expect(await store.messages.find([pending._id, seen._id])).toEqual(before);
      expect(await store.audits.discarded([pending._id, seen._id])).toEqual([]);
    });

    two("lets one of two operators win", async (store, other) => {
      const dead = deadOf();
      await store.messages.insert([dead]);
      const results = await Promise.all([
        store.operations.retry(dead, at(1), noteOf("retry")),
        other.operations.resolve(dead, noteOf("resolve")),
        other.operations.discard(dead, discardedOf(dead))
      ]);
      expect(results.filter(Boolean)).toHaveLength(1);
    });
  });

  describe("held keys", () => {
    one("who has the turn, how many hold their key, and how many wait for their turn", async store => {
      const { lanes } = store;
      expect(await lanes.holders("order-7")).toBeUndefined();
      expect(await lanes.counts(10)).toEqual({
        held: { counted: 0, more: false },
        behind: { counted: 0, more: false }
      });
      const messages = ["o1", "o2", "o3"].map(_id =>
        messageOf({ _id, waiting: ["stock"], order: { key: "order-7" }, dueAt: at(30_000) })
      );
      await lanes.enter(messages);
      expect([...((await lanes.holders("order-7")) ?? [])]).toEqual([["stock", "o1"]]);
      expect(await lanes.counts(2)).toMatchObject({ held: { counted: 0 }, behind: { counted: 2, more: false } });
      expect(await lanes.counts(1)).toMatchObject({ behind: { counted: 1, more: true } });
      await store.messages.failed([failedBy("o1", { nextAt: null, holds: "order-7" })]);
      expect(await lanes.counts(10)).toMatchObject({ held: { counted: 1 }, behind: { counted: 2 } });
      expect([...((await lanes.holders("order-7")) ?? [])]).toEqual([["stock", "o1"]]);
      const [dead] = await store.messages.find(["o1"]);
      expect(await store.operations.resolve(dead as Message, noteOf("skip"))).toBe(true);
      // Its turn is over, whoever is next.
      expect([...((await lanes.holders("order-7")) ?? [])]).toEqual([]);
      await lanes.advance([{ key: "order-7", group: "stock" }]);
      expect([...((await lanes.holders("order-7")) ?? [])]).toEqual([["stock", "o2"]]);
      expect(await lanes.counts(10)).toMatchObject({ held: { counted: 0 } });
    });
  });

  describe("forget", () => {
    one("frees what waits for the group and drops its subscriptions, labels included", async store => {
      await store.subscriptions.announce([
        subscriptionOf("audit"),
        subscriptionOf("audit:order.*", { pattern: "order.*" }),
        subscriptionOf("auditor"),
        subscriptionOf("mail")
      ]);
      const [handled, nobody, others, deadLeft, alive, dead, deadStill, intended] = [
        messageOf({ waiting: ["audit"], receipts: { mail: receiptOf() } }),
        messageOf({ waiting: ["audit:order.*", "audit"] }),
        messageOf({ waiting: ["audit", "mail"] }),
        { ...deadOf({ waiting: ["audit"], failed: ["mail"] }), dueAt: at(1000) },
        { ...deadOf({ waiting: ["mail"], failed: ["audit"] }), dueAt: at(1000) },
        deadOf({ failed: ["audit"] }),
        deadOf({ failed: ["audit", "mail"] }),
        messageOf({ status: "intended", waiting: ["audit"] })
      ];
      const untouched = [messageOf({ waiting: ["auditor"] }), finalOf("resolved", at(0), { failed: ["audit"] })];
      await store.messages.insert([handled, nobody, others, deadLeft, alive, dead, deadStill, intended, ...untouched]);
      const note: Note = { ...noteOf("forget"), group: "audit" };
      const gone = [subscriptionOf("audit"), subscriptionOf("audit:order.*", { pattern: "order.*" })];
      expect(await store.operations.forget(gone)).toBe(2);
      const { resolved, ...rest } = (await store.operations.release({ group: "audit" }, note)) as Released;
      expect(resolved.sort()).toEqual([nobody._id, dead._id].sort());
      expect(rest).toEqual({ freed: 8, consumed: [handled._id] });
      expect((await store.subscriptions.list()).map(({ group }) => group)).toEqual(["auditor", "mail"]);
      const consumed = await get(store, handled._id);
      expect(consumed).toMatchObject({
        status: "consumed",
        at: at(9000),
        waiting: [],
        notes: [{ ...note, groups: ["audit"] }]
      });
      for (const field of ["open", "dueAt"]) expect(consumed).not.toHaveProperty(field);
      expect(await get(store, nobody._id)).toMatchObject({ status: "resolved", at: at(9000), waiting: [] });
      expect(await get(store, others._id)).toMatchObject({
        status: "pending",
        waiting: ["mail"],
        notes: [{ ...note, groups: ["audit"] }]
      });
      const left = await get(store, deadLeft._id);
      expect(left).toMatchObject({ status: "dead", at: deadLeft.at, waiting: [], failed: ["mail"] });
      expect(left).not.toHaveProperty("dueAt");
      const again = await get(store, alive._id);
      expect(again).toMatchObject({
        status: "pending",
        at: alive.createdAt,
        waiting: ["mail"],
        failed: [],
        dueAt: at(1000)
      });
      expect(again).not.toHaveProperty("reason");
      expect(await get(store, dead._id)).toMatchObject({ status: "resolved", failed: [] });
      expect(await get(store, deadStill._id)).toMatchObject({ status: "dead", failed: ["mail"] });
      expect(await get(store, intended._id)).toMatchObject({ status: "intended", waiting: [ANY_GROUP] });
      expect(await store.messages.find(idsOf(untouched))).toEqual(untouched);
      expect(await store.operations.release({ group: "audit" }, note)).toBeUndefined();
      expect(await store.operations.forget(gone)).toBe(0);
    });

    one("frees one pattern of the group alone: its event, or its wildcard's label", async store => {
      const [created, paid, wild, both] = [
        messageOf({ event: "order.created", waiting: ["audit"] }),
        messageOf({ event: "order.paid", waiting: ["audit"] }),
        messageOf({ event: "order.paid", waiting: ["audit:order.*"] }),
        messageOf({ event: "order.created", waiting: ["audit", "audit:order.*"], receipts: {} })
      ];
      await store.messages.insert([created, paid, wild, both]);
      const note: Note = { ...noteOf("forget"), group: "audit", pattern: "order.created" };
      expect(await store.operations.release({ group: "audit", exactly: true, event: "order.created" }, note)).toEqual({
        freed: 2,
        consumed: [],
        resolved: [created._id]
      });
      const rows = await store.messages.find(idsOf([created, paid, wild, both]));
      expect(rows.map(({ waiting }) => waiting)).toEqual([[], ["audit"], ["audit:order.*"], ["audit:order.*"]]);
      const scope = { group: "audit:order.*", exactly: true };
      expect((await store.operations.release(scope, note))?.resolved.sort()).toEqual(idsOf([wild, both]).sort());
      expect(await store.messages.find([paid._id])).toEqual([paid]);
    });

    one("tells the lines in which they stood in the group", async store => {
      const order = { key: "order-7" };
      const ids = ["o1", "o2"];
      await store.messages.insert([
        messageOf({ _id: "o1", waiting: ["audit", "mail"], order, place: placeOf("order-7", 1) }),
        deadOf({ _id: "o2", failed: ["audit:order.*"], order, place: placeOf("order-7", 2), holds: "order-7" }),
        messageOf({ waiting: ["audit"] })
      ]);
      const released = await store.operations.release({ group: "audit" }, noteOf("forget"));
      expect(released?.left?.map(({ key, group }) => [key, group]).sort()).toEqual([
        ["order-7", "audit"],
        ["order-7", "audit:order.*"]
      ]);
      expect((await store.messages.find(ids)).map(({ holds }) => holds)).toEqual([undefined, undefined]);
    });

    one("frees more than a page of them", async store => {
      await store.messages.insert(Array.from({ length: 600 }, () => messageOf()));
      const note = noteOf("forget");
      expect((await store.operations.release({ group: "stock" }, note))?.resolved).toHaveLength(500);
      expect((await store.operations.release({ group: "stock" }, note))?.resolved).toHaveLength(100);
      expect(await store.operations.release({ group: "stock" }, note)).toBeUndefined();
    });

    two("loses no receipt that arrives between its reading and its writing", async (store, other) => {
      const messages = Array.from({ length: 3 }, () => messageOf({ waiting: ["stock", "mail"] }));
      await store.messages.insert(messages);
      const raw = rawOf(store).messages;
      const find = raw.find.bind(raw);
      raw.find = async (...args) => {
        raw.find = find;
        const page = await find(...args);
        await other.messages.handled(messages.slice(0, 2).map(({ _id }) => handledBy(_id, "mail")));
        return page;
      };
      const note = noteOf("forget");
      expect(await store.operations.release({ group: "stock" }, note)).toEqual({
        freed: 1,
        consumed: [],
        resolved: []
      });
      const { consumed } = (await store.operations.release({ group: "stock" }, note)) as Released;
      expect(consumed.sort()).toEqual(idsOf(messages.slice(0, 2)).sort());
      const rows = await store.messages.find(idsOf(messages));
      expect(rows.map(({ status, waiting }) => ({ status, waiting }))).toEqual([
        { status: "consumed", waiting: [] },
        { status: "consumed", waiting: [] },
        { status: "pending", waiting: ["mail"] }
      ]);
    });

    two("names as ended only what it has ended itself", async (store, other) => {
      const [first, second] = [messageOf(), messageOf()];
      await store.messages.insert([first, second]);
      const raw = rawOf(store).messages;
      const find = raw.find.bind(raw);
      raw.find = async (...args) => {
        raw.find = find;
        const page = await find(...args);
        await other.messages.handled([handledBy(first._id, "stock")]);
        return page;
      };
      expect(await store.operations.release({ group: "stock" }, noteOf("forget"))).toEqual({
        freed: 1,
        consumed: [],
        resolved: [second._id]
      });
    });

    one("a message that is consumed without the forgotten group does not say that it has failed", async store => {
      const handled = { mail: receiptOf() };
      const fields = { waiting: [], failed: ["stock"], receipts: handled, reason: "handler (stock): boom" };
      const [others, alone] = [deadOf(fields), deadOf({ ...fields, receipts: {} })];
      await store.messages.insert([others, alone]);
      await store.operations.release({ group: "stock" }, noteOf("forget"));
      const [consumed, resolved] = await store.messages.find(idsOf([others, alone]));
      expect(consumed).toMatchObject({ status: "consumed", failed: [] });
      expect(consumed).not.toHaveProperty("reason");
      expect(resolved).toMatchObject({ status: "resolved", reason: "handler (stock): boom" });
    });

    one("leaves a group alone whose name only begins alike", async store => {
      const others = ["stock\n", "stock.eu", "stocks", "my:stock"].map(group => messageOf({ waiting: [group] }));
      await store.messages.insert(others);
      expect(await store.operations.release({ group: "stock" }, noteOf("forget"))).toBeUndefined();
      expect(await store.messages.find(idsOf(others))).toEqual(others);
    });
  });

  describe("audits", () => {
    const record = (n: number) => auditOf({ _id: `act ${n}`, at: at(n), act: "resolve", ids: ["a", "b"] });

    one("keeps each act once, newest first, by pages, whatever is pruned", async store => {
      expect(await store.audits.list(0, 10)).toEqual({ rows: [], total: 0, capped: false });
      for (const n of [2, 1, 3, 2]) await store.audits.begin(record(n));
      const { rows, total } = await store.audits.list(0, 2);
      // Lists do not read what may be long.
      expect(rows).toEqual([3, 2].map(n => ({ ...record(n), ids: undefined })));
      expect(total).toBe(3);
      expect(idsOf((await store.audits.list(2, 2)).rows)).toEqual(["act 1"]);
      expect(await store.audits.find("act 2")).toEqual(record(2));
      expect(await store.audits.find("unknown")).toBeUndefined();
      expect(await store.audits.find({ $gt: "" } as never)).toBeUndefined();
      await store.prune(at(1e9), 10);
      expect((await store.audits.list(0, 10)).total).toBe(3);
    });

    one("ends an act once", async store => {
      await store.audits.begin(record(1));
      const end = { state: "done" as const, endedAt: at(5), counts: { matched: 2, done: 2, lost: 0 } };
      expect(await store.audits.end("act 1", end)).toBe(true);
      expect(await store.audits.find("act 1")).toEqual({ ...record(1), ...end });
      expect(await store.audits.end("act 1", { ...end, state: "failed", error: "x" })).toBe(false);
      // Its beginning, told again, brings nothing back.
      await store.audits.begin(record(1));
      expect(await store.audits.find("act 1")).toEqual({ ...record(1), ...end });
      expect(await store.audits.end("unknown", end)).toBe(false);
    });

    const forgetOf = (id: string, fields: object = {}) =>
      auditOf({ _id: id, act: "forget", group: "old", at: at(10), by: "ann", note: "gone", ...fields });

    one("goes on with a forget that came to no end, and names who began it", async store => {
      expect(await store.audits.beginForget(forgetOf("1", { onBehalfOf: "cid" }), at(0))).toBe("1");
      const again = forgetOf("2", { at: at(20), by: "bob", note: "again" });
      expect(await store.audits.beginForget(again, at(10))).toBe("1");
      const rows = async () => (await store.audits.list(0, 10)).rows;
      const goesOn = { ...again, _id: "1", earlier: [{ at: at(10), by: "ann", note: "gone" }] };
      expect(await rows()).toEqual([goesOn]);
      await store.audits.end("1", { state: "failed", endedAt: at(21), counts: {}, error: "no broker" });
      expect(await store.audits.beginForget(forgetOf("3", { at: at(30) }), at(10))).toBe("1");
      expect(await rows()).toMatchObject([{ _id: "1", state: "begun", earlier: [{ by: "ann" }, { by: "bob" }] }]);
      expect((await rows())[0]).not.toHaveProperty("error");
      await store.audits.end("1", { state: "done", endedAt: at(31), counts: {} });
      // Done is done; and another group, another pattern, or a group that has come back, is another act.
      const others = [
        [forgetOf("4", { at: at(40) }), at(0)],
        [forgetOf("5", { at: at(41), pattern: "a.*" }), at(0)],
        [forgetOf("6", { at: at(42), group: "mail" }), at(0)],
        [forgetOf("7", { at: at(43) }), at(41)]
      ] as const;
      for (const [act, since] of others) expect(await store.audits.beginForget(act, since)).toBe(act._id);
      expect(idsOf(await rows())).toEqual(["7", "6", "5", "4", "1"]);
    });

    two("goes on once, of two at the same time", async (store, other) => {
      await store.audits.beginForget(forgetOf("1"), at(0));
      const two = await Promise.all([
        store.audits.beginForget(forgetOf("2", { at: at(20) }), at(0)),
        other.audits.beginForget(forgetOf("3", { at: at(21) }), at(0))
      ]);
      expect(two).toContain("1");
      const { rows } = await store.audits.list(0, 10);
      expect(rows.flatMap(({ at: when, earlier = [] }) => [when, ...earlier.map(each => each.at)])).toHaveLength(3);
    });

    one("knows the last forget of a group, of one of its patterns, and of its labels", async store => {
      for (const act of [
        forgetOf("1", { at: at(1) }),
        forgetOf("2", { at: at(2), by: "bob", pattern: "order.*" }),
        forgetOf("3", { at: at(3), group: "older" })
      ])
        await store.audits.begin(act);
      const found = await store.audits.forgotten(["old", "old:order.*", "old:a.*", "mail"]);
      expect([...found].map(([group, { by, at: when, pattern }]) => [group, by, when, pattern])).toEqual([
        ["old", "ann", at(1), undefined],
        ["old:order.*", "bob", at(2), "order.*"],
        ["old:a.*", "ann", at(1), undefined]
      ]);
    });
  });

  describe("subscriptions, parked, inbox", () => {
    two("keeps one subscription per group and pattern: first seen, last seen", async (store, other) => {
      const again = subscriptionOf("a", { firstSeenAt: at(50), seenAt: at(60), nodeID: "node-2" });
      await Promise.all([
        store.subscriptions.announce([
          subscriptionOf("a"),
          subscriptionOf("a", { pattern: "x" }),
          subscriptionOf("$b.c")
        ]),
        other.subscriptions.announce([subscriptionOf("a")])
      ]);
      await store.subscriptions.announce([again]);
      await store.subscriptions.announce([]);
      expect(await other.subscriptions.list()).toEqual([
        subscriptionOf("$b.c"),
        { ...again, firstSeenAt: at(0) },
        subscriptionOf("a", { pattern: "x" })
      ]);
    });

    one("keeps parked messages whole, once, newest first, whatever is pruned", async store => {
      const [old, young] = [
        parkedOf({ headers: { "x.y": { $z: [1, null] } }, properties: { messageId: "m" } }),
        parkedOf({ at: at(10) })
      ];
      await store.parked.add([old]);
      await store.parked.add([old, young]);
      await store.parked.add([]);
      expect(await store.parked.list(0, 10)).toEqual({ rows: [young, old].map(listedOf), total: 2, capped: false });
      expect(await store.parked.list(1, 1)).toEqual({ rows: [listedOf(old)], total: 2, capped: false });
      expect(await store.parked.find([old._id, "unknown", { $gt: "" } as never])).toEqual([old]);
      expect(await store.prune(at(1e9), 10)).toEqual({ messages: 0, more: false });
      expect(await store.parked.list(0, 10)).toEqual({ rows: [young, old].map(listedOf), total: 2, capped: false });
    });

    two("keeps the audit record of a message that two operators discard in the same instant", async (store, other) => {
      const all = Array.from({ length: 150 }, () => deadOf());
      await store.messages.insert(all);
      await Promise.all(
        all.flatMap(dead => [
          store.operations.discard(dead, discardedOf(dead, { _id: `same ${dead._id}` })),
          other.operations.discard(dead, discardedOf(dead, { _id: `same ${dead._id}` }))
        ])
      );
      const lost = await Promise.all(
        all.map(async dead => ((await store.audits.discarded([dead._id])).length === 1 ? [] : [dead._id]))
      );
      expect(lost.flat()).toEqual([]);
    });

    two(
      "discards a parked message and keeps an audit record, whoever of two operators is first",
      async (store, other) => {
        const [gone, kept] = [parkedOf(), parkedOf()];
        const { _id: id, at: parkedAt, queue, reason, body } = gone;
        const record: Discarded = {
          _id: "discard-parked",
          at: at(9000),
          by: "tester",
          note: "spam",
          id,
          of: "an act",
          parked: { queue, reason, at: parkedAt, bytes: body.length }
        };
        await store.parked.add([gone, kept]);
        await Promise.all([store.parked.discard(gone, record), other.parked.discard(gone, { ...record, by: "other" })]);
        expect(await store.parked.list(0, 10)).toEqual({ rows: [listedOf(kept)], total: 1, capped: false });
        const [audit, ...more] = await store.audits.discarded([id]);
        expect(audit).toEqual({ ...record, by: expect.stringMatching(/^(tester|other)$/) });
        expect(more).toEqual([]);
        // Parked again: another parking, which the operator has not seen.
        const again = { ...gone, at: at(77) };
        await store.parked.add([again]);
        await store.parked.discard(gone, record);
        expect((await store.parked.list(0, 10)).rows).toEqual([again, kept].map(listedOf));
      }
    );

    one("knows what a group has handled by its receipt, too, and when the row is discarded", async store => {
      await put(store, { _id: "both", waiting: ["a.$", "b"] });
      await store.messages.handled([handledBy("both", "a.$")]);
      expect(await store.inbox.handled("a.$", ["both", "other"])).toEqual(new Set(["both"]));
      expect(await store.inbox.handled("b", ["both"])).toEqual(new Set());
      await store.messages.failed([failedBy("both", { group: "b", nextAt: null })]);
      const dead = await get(store, "both");
      expect(await store.operations.discard(dead, discardedOf(dead))).toBe(true);
      expect(await store.messages.heads(["both"])).toEqual([]);
      expect(await store.inbox.handled("a.$", ["both"])).toEqual(new Set(["both"]));
      expect(await store.inbox.handled("b", ["both"])).toEqual(new Set());
    });

    one("has an id that stays, whoever asks first", async store => {
      const [id, ...others] = await Promise.all([1, 2, 3].map(() => store.identify()));
      expect(id).toMatch(/^[\w-]{16}$/);
      expect(others).toEqual([id, id]);
      await store.prune(new Date(Date.now() + 1e9), 100);
      expect(await store.identify()).toBe(id);
    });

    one("remembers per group which ids were handled", async store => {
      await store.inbox.add("a.$", ["1", "2"], at(0));
      await store.inbox.add("a.$", ["2", "3"], at(1));
      await store.inbox.add("a.$", [], at(1));
      expect(await store.inbox.handled("a.$", ["1", "2", "3", "4"])).toEqual(new Set(["1", "2", "3"]));
      expect(await store.inbox.handled("b", ["1"])).toEqual(new Set());
      expect(await store.inbox.handled("b", [])).toEqual(new Set());
    });
  });
}
