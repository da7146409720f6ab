import { describe, expect, it } from "vitest";
import { ANY_GROUP, type Message, type Note } from "../../src/message/message";
import type { AuditRecord } from "../../src/message/records";
import type { Store } from "../../src/stores/store";
import type { ListQuery, Released } from "../../src/stores/store-records";
import {
  at,
  auditOf,
  deadOf,
  failedBy,
  finalOf,
  handledBy,
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

  describe("list, stats", () => {
    one("lists newest first, by pages, with the total", async store => {
      const messages = [3, 1, 2].map(n => messageOf({ createdAt: at(n) }));
      await store.messages.insert(messages);
      const [c, a, b] = idsOf(messages);
      expect(await store.messages.list({}, 0, 2)).toMatchObject({ rows: [{ _id: c }, { _id: b }], total: 3 });
      expect(await store.messages.list({}, 2, 2)).toMatchObject({ rows: [{ _id: a }], total: 3 });
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
      for (const query of queries) expect(idsOf((await store.messages.list(query, 0, 10)).rows)).toEqual([wanted._id]);
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
      expect(idsOf((await store.messages.list({ group: "audit" }, 0, 10)).rows).sort()).toEqual(
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
        await expect(store.messages.list(query as never, 0, 10)).rejects.toMatchObject({ type: "RELIABLE_BAD_OPTION" });
      }
      expect(await store.messages.find([{ $gt: "" } as never])).toEqual([]);
      expect(await store.messages.handled([handledBy({ $gt: "" } as never)])).toMatchObject({ consumed: [] });
    });

    one("counts each status and knows the oldest", async store => {
      const empty = await store.messages.stats();
      expect(empty.byStatus).toEqual({
        intended: 0,
        pending: 0,
        published: 0,
        consumed: 0,
        dead: 0,
        resolved: 0,
        withdrawn: 0
      });
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
        byStatus: { intended: 1, pending: 2, published: 1, consumed: 1, dead: 1, resolved: 1, withdrawn: 0 },
        parked: 1,
        oldestPendingAt: at(1),
        oldestPublishedAt: at(3),
        oldestDeadAt: at(500)
      });
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
      expect(await store.messages.oldest()).toEqual({ pending: at(1), published: at(3) });
      expect(await store.messages.timings([consumed._id, pending._id, "unknown", { $gt: "" } as never])).toEqual([
        { id: consumed._id, event: "order.paid", createdAt: at(2), consumedAt: at(9) }
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
        notes: [noteOf("retry", { note: "fixed" })]
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
        notes: [noteOf("resolve")]
      });
      expect(await store.operations.resolve(dead, noteOf("resolve"))).toBe(false);
      expect((await store.prune(at(9001), 10)).messages).toBe(1);
    });

    one("discards and keeps an audit record", async store => {
      const dead = deadOf();
      await store.messages.insert([dead]);
      const audit = auditOf(dead, { note: "duplicate order" });
      expect(await store.operations.discard(dead, audit)).toBe(true);
      expect(await store.messages.find([dead._id])).toEqual([]);
      expect(await store.operations.audits(dead._id)).toEqual([audit]);
      expect(await store.operations.audits()).toEqual([audit]);
      expect(await store.operations.audits("other")).toEqual([]);
      // The answer was lost and the call is made again.
      expect(await store.operations.discard(dead, audit)).toBe(true);
      expect(await store.operations.discard(dead, auditOf(dead))).toBe(false);
      expect(await store.operations.audits(dead._id)).toEqual([audit]);
    });

    one("heals a crash between audit record and deletion", async store => {
      const dead = deadOf();
      await store.messages.insert([dead]);
      const audit = auditOf(dead);
      await rawOf(store).audit.insert([{ ...audit }]);
      expect(await store.operations.discard(dead, audit)).toBe(true);
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
        expect(await store.operations.discard(message, auditOf(message))).toBe(false);
      }
      expect(await store.messages.find([pending._id, seen._id])).toEqual(before);
      expect(await store.operations.audits()).toEqual([]);
    });

    two("lets one of two operators win", async (store, other) => {
      const dead = deadOf();
      await store.messages.insert([dead]);
      const results = await Promise.all([
        store.operations.retry(dead, at(1), noteOf("retry")),
        other.operations.resolve(dead, noteOf("resolve")),
        other.operations.discard(dead, auditOf(dead))
      ]);
      expect(results.filter(Boolean)).toHaveLength(1);
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
      const [handled, nobody, others, dying, dead, deadStill, intended] = [
        messageOf({ waiting: ["audit"], receipts: { mail: receiptOf() } }),
        messageOf({ waiting: ["audit:order.*", "audit"] }),
        messageOf({ waiting: ["audit", "mail"] }),
        messageOf({ waiting: ["audit"], failed: ["mail"], reason: "handler failed" }),
        deadOf({ failed: ["audit"] }),
        deadOf({ failed: ["audit", "mail"] }),
        messageOf({ status: "intended", waiting: ["audit"] })
      ];
      const untouched = [messageOf({ waiting: ["auditor"] }), finalOf("resolved", at(0), { failed: ["audit"] })];
      await store.messages.insert([handled, nobody, others, dying, dead, deadStill, intended, ...untouched]);
      const note: Note = { ...noteOf("forget"), group: "audit" };
      const gone = [subscriptionOf("audit"), subscriptionOf("audit:order.*", { pattern: "order.*" })];
      expect(await store.operations.forget(gone, note)).toBe(2);
      const { resolved, ...rest } = (await store.operations.release({ group: "audit" }, note)) as Released;
      expect(resolved.sort()).toEqual([nobody._id, dead._id].sort());
      expect(rest).toEqual({
        freed: 7,
        consumed: [handled._id],
        dead: [{ id: dying._id, reason: "handler failed" }]
      });
      expect((await store.subscriptions.list()).map(({ group }) => group)).toEqual(["auditor", "mail"]);
      const consumed = await get(store, handled._id);
      expect(consumed).toMatchObject({
        status: "consumed",
        at: at(9000),
        waiting: [],
        notes: [note]
      });
      for (const field of ["open", "dueAt"]) expect(consumed).not.toHaveProperty(field);
      expect(await get(store, nobody._id)).toMatchObject({ status: "resolved", at: at(9000), waiting: [] });
      expect(await get(store, others._id)).toMatchObject({
        status: "pending",
        waiting: ["mail"],
        notes: [note]
      });
      expect(await get(store, dying._id)).toMatchObject({ status: "dead", at: at(9000), failed: ["mail"] });
      expect(await get(store, dead._id)).toMatchObject({ status: "resolved", failed: [] });
      expect(await get(store, deadStill._id)).toMatchObject({ status: "dead", failed: ["mail"] });
      expect(await get(store, intended._id)).toMatchObject({ status: "intended", waiting: [ANY_GROUP] });
      expect(await store.messages.find(idsOf(untouched))).toEqual(untouched);
      expect(await store.operations.release({ group: "audit" }, note)).toBeUndefined();
      expect(await store.operations.forget(gone, note)).toBe(0);
      expect(await store.operations.audits()).toMatchObject([{ act: "forget", group: "audit", by: "tester" }]);
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
        resolved: [created._id],
        dead: []
      });
      const rows = await store.messages.find(idsOf([created, paid, wild, both]));
      expect(rows.map(({ waiting }) => waiting)).toEqual([[], ["audit"], ["audit:order.*"], ["audit:order.*"]]);
      const scope = { group: "audit:order.*", exactly: true };
      expect((await store.operations.release(scope, note))?.resolved.sort()).toEqual(idsOf([wild, both]).sort());
      expect(await store.messages.find([paid._id])).toEqual([paid]);
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
        resolved: [],
        dead: []
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
        resolved: [second._id],
        dead: []
      });
    });

    one("leaves a group alone whose name only begins alike", async store => {
      const others = ["stock\n", "stock.eu", "stocks", "my:stock"].map(group => messageOf({ waiting: [group] }));
      await store.messages.insert(others);
      expect(await store.operations.release({ group: "stock" }, noteOf("forget"))).toBeUndefined();
      expect(await store.messages.find(idsOf(others))).toEqual(others);
    });

    one("refuses the group that is none", async store => {
      await expect(store.operations.forget([], { ...noteOf("forget"), group: ANY_GROUP })).rejects.toMatchObject({
        type: "RELIABLE_BAD_OPTION"
      });
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
      expect(await store.parked.list(0, 10)).toEqual({ rows: [young, old], total: 2 });
      expect(await store.parked.list(1, 1)).toEqual({ rows: [old], total: 2 });
      expect(await store.parked.find([old._id, "unknown", { $gt: "" } as never])).toEqual([old]);
      expect(await store.prune(at(1e9), 10)).toEqual({ messages: 0, more: false });
      expect(await store.parked.list(0, 10)).toEqual({ rows: [young, old], total: 2 });
    });

    two("keeps the audit record of a message that two operators discard in the same instant", async (store, other) => {
      const all = Array.from({ length: 150 }, () => deadOf());
      await store.messages.insert(all);
      await Promise.all(
        all.flatMap(dead => [
          store.operations.discard(dead, auditOf(dead, { _id: `same ${dead._id}` })),
          other.operations.discard(dead, auditOf(dead, { _id: `same ${dead._id}` }))
        ])
      );
      const lost = await Promise.all(
        all.map(async dead => ((await store.operations.audits(dead._id)).length === 1 ? [] : [dead._id]))
      );
      expect(lost.flat()).toEqual([]);
    });

    two(
      "discards a parked message and keeps an audit record, whoever of two operators is first",
      async (store, other) => {
        const [gone, kept] = [parkedOf(), parkedOf()];
        const { _id: id, at: parkedAt, queue, reason, body } = gone;
        const record: AuditRecord = {
          _id: "discard-parked",
          at: at(9000),
          by: "tester",
          act: "discard",
          note: "spam",
          parked: { id, queue, reason, at: parkedAt, bytes: body.length }
        };
        await store.parked.add([gone, kept]);
        await Promise.all([store.parked.discard(gone, record), other.parked.discard(gone, { ...record, by: "other" })]);
        expect(await store.parked.list(0, 10)).toEqual({ rows: [kept], total: 1 });
        const [audit, ...more] = await store.operations.audits();
        expect(audit).toEqual({ ...record, by: expect.stringMatching(/^(tester|other)$/) });
        expect(more).toEqual([]);
        // Parked again: another parking, which the operator has not seen.
        const again = { ...gone, at: at(77) };
        await store.parked.add([again]);
        await store.parked.discard(gone, record);
        expect((await store.parked.list(0, 10)).rows).toEqual([again, kept]);
      }
    );

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
