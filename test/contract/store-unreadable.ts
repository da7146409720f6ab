import { describe, expect, it } from "vitest";
import type { Store } from "../../src/stores/store";
import {
  at,
  auditOf,
  deadOf,
  discardedOf,
  messageOf,
  noteOf,
  parkedOf,
  receiptOf,
  subscriptionOf
} from "../support/messages";
import { rawOf, type StoreKind, withStores } from "./store";

/** Rows that this version cannot read: damaged by hand, or of another version. They hold up no other. */
export function unreadable(kind: StoreKind): void {
  const one = (name: string, test: (store: Store) => Promise<void>) => it(name, () => withStores(kind, 1, test));
  const due = () => messageOf({ dueAt: at(0) });
  const claimAll = async (store: Store, told: Error[] = []) => {
    const ids = (await store.messages.due({ now: at(100), limit: 10 })).map(({ id }) => id);
    const unreadable = (error: Error) => told.push(error);
    return store.messages.claim({ ids, now: at(100), until: at(60_000), claim: "c", unreadable });
  };
  const spoil = (store: Store, _id: string, $set: Record<string, unknown>) =>
    rawOf(store).messages.update({ _id }, { $set });

  describe("rows that cannot be read", () => {
    one("are set aside and told when they are due, and their page goes on", async store => {
      const rows = [due(), due(), due(), due()] as const;
      await store.messages.insert([...rows]);
      const [list, text, instant, good] = rows.map(({ _id }) => _id) as [string, string, string, string];
      await spoil(store, list, { waiting: "stock" });
      await spoil(store, text, { meta: "{no json" });
      await spoil(store, instant, { createdAt: "yesterday" });
      const told: Error[] = [];
      expect((await claimAll(store, told)).map(({ _id }) => _id)).toEqual([good]);
      expect(told.map(error => (error as Error & { data: { id: string } }).data.id).sort()).toEqual(
        [list, text, instant].sort()
      );
      for (const error of told) expect(error).toMatchObject({ type: "RELIABLE_UNREADABLE_ROW" });
      expect(await store.messages.due({ now: at(1e9), limit: 10 })).toMatchObject([{ id: good }]);
    });

    one("of another version are left as they are, and not due here", async store => {
      const row = due();
      await store.messages.insert([row]);
      await spoil(store, row._id, { v: 3 });
      const [before] = await rawOf(store).messages.find({ _id: row._id });
      const told: Error[] = [];
      expect(await claimAll(store, told)).toEqual([]);
      expect(told).toEqual([]);
      expect(await rawOf(store).messages.find({ _id: row._id })).toEqual([before]);
    });

    one("are listed as far as they can be read, found by nobody, and their id is not free", async store => {
      const [bad, good] = [messageOf(), messageOf()];
      await store.messages.insert([bad, good]);
      await spoil(store, bad._id, { v: 3, failed: "mail" });
      const { rows, total } = await store.messages.list({}, 10);
      expect(total).toBe(2);
      expect(rows.find(({ _id }) => _id === bad._id)).toMatchObject({
        event: "order.created",
        status: "pending",
        unreadable: "it is of version 3, not 2"
      });
      expect(await store.messages.find([bad._id, good._id])).toHaveLength(1);
      const fresh = messageOf();
      expect(await store.messages.insert([messageOf({ _id: bad._id }), fresh])).toMatchObject([
        { type: "RELIABLE_UNREADABLE_ROW" },
        { stored: true }
      ]);
    });

    one("do not keep lists and counts from the others, whatever is wrong with them", async store => {
      const bad = [messageOf(), messageOf(), messageOf(), deadOf()];
      const good = messageOf({ createdAt: at(5) });
      await store.messages.insert([...bad, good]);
      const spoiled = [{ at: "2020" }, { at: null }, { v: 1, at: 7 }, { at: 5 }];
      for (const [i, { _id }] of bad.entries()) await spoil(store, _id, spoiled[i] as Record<string, unknown>);
      const { rows, total } = await store.messages.list({}, 10);
      expect(total).toBe(5);
      expect(
        rows
          .filter(row => row.unreadable)
          .map(({ _id }) => _id)
          .sort()
      ).toEqual(bad.map(({ _id }) => _id).sort());
      expect(await store.messages.oldest()).toMatchObject({ pending: good.createdAt });
      const stats = await store.messages.stats();
      expect(stats).toMatchObject({ byStatus: { pending: 4, dead: 1 }, oldestPendingAt: good.createdAt });
      expect(stats.oldestDeadAt).toBeUndefined();
    });

    it.each([
      ["an unknown status", { status: "postponed" }],
      ["a failure that is none", { failures: [null] }],
      ["a note without an instant", { notes: [{ act: "dead" }] }],
      ["a recipient that is a number", { waiting: [1] }],
      ["a number that is text", { maxAttempts: "many" }],
      ["a pause that is text", { backoff: { initialMs: "a", maxMs: 1 } }],
      ["a group that is text", { groups: { stock: "x" } }],
      ["a receipt that is a number", { groups: { stock: { receipt: 5 } } }],
      ["a death without an instant", { groups: { stock: { deadAt: "x" } } }],
      ["a next step without an instant", { next: { stock: "x" } }]
    ])("are told by %s", (_, $set) =>
      withStores(kind, 1, async store => {
        const row = due();
        await store.messages.insert([row]);
        await spoil(store, row._id, $set);
        expect(await store.messages.find([row._id])).toEqual([]);
        const told: Error[] = [];
        expect(await claimAll(store, told)).toEqual([]);
        // One of no known status is due to nobody.
        expect(told).toHaveLength("status" in $set ? 0 : 1);
      })
    );

    one("are left out where payloads are not read", async store => {
      const [bad, good, bodiless] = [messageOf({ reason: "x" }), messageOf({ reason: "y" }), messageOf()];
      await store.messages.insert([bad, good, bodiless]);
      await spoil(store, bad._id, { notes: 5 });
      await spoil(store, bodiless._id, { body: "text" });
      const ids = [bodiless, bad, good].map(({ _id }) => _id);
      const [first, second, ...more] = await store.messages.heads([...ids, "unknown", { $gt: "" } as never]);
      expect(more).toEqual([]);
      const { body: _body, ...head } = good;
      expect(first?._id).toBe(bodiless._id);
      expect(second).toEqual(head);
      expect(await store.messages.heads([])).toEqual([]);
    });

    one("are not those that have all there is", async store => {
      const full = messageOf({
        receipts: { a: receiptOf() },
        attempts: { a: 1, b: 2 },
        spent: { b: 2 },
        base: { b: 1 },
        deadAt: { b: at(1) },
        next: { c: at(2) },
        notes: [noteOf("retry")]
      });
      await store.messages.insert([full]);
      expect(await store.messages.find([full._id])).toEqual([full]);
    });
  });

  describe("damaged rows for humans", () => {
    one("subscriptions: those that name no group are told, the others go on", async store => {
      const { subscriptions } = rawOf(store);
      await store.subscriptions.announce([subscriptionOf("stock")]);
      const damaged = [
        { pattern: 5, group: "a", queue: "q" },
        { pattern: "order.created", group: 7, queue: "q" },
        { pattern: "order.created", group: "b", queue: null }
      ];
      await subscriptions.insert(damaged.map((row, i) => ({ _id: `damaged-${i}`, ...row })));
      await subscriptions.update({ group: "stock" }, { $set: { seenAt: "now", firstSeenAt: "then" } });
      const told: Error[] = [];
      const known = await store.subscriptions.list(error => told.push(error));
      expect(known).toEqual([{ ...subscriptionOf("stock"), firstSeenAt: new Date(0), seenAt: new Date(0) }]);
      expect(told).toHaveLength(3);
      for (const error of told) expect(error).toMatchObject({ type: "RELIABLE_UNREADABLE_ROW" });
    });

    one("parked messages: shown with the reason, and discarded", async store => {
      const good = parkedOf();
      const bad = [parkedOf(), parkedOf(), parkedOf()];
      await store.parked.add([good, ...bad]);
      const spoiled = [{ properties: "{" }, { headers: 5, head: null }, { at: "today", body: "text", queue: 5 }];
      for (const [i, { _id }] of bad.entries()) await rawOf(store).parked.update({ _id }, { $set: { ...spoiled[i] } });
      const { rows } = await store.parked.list(0, 10);
      expect(rows).toHaveLength(4);
      const ids = bad.map(({ _id }) => _id);
      for (const parked of [...rows, ...(await store.parked.find(ids))])
        if (parked._id !== good._id) expect(parked.reason).toMatch(/^unreadable row: its '/);
      for (const parked of await store.parked.find(ids))
        await store.parked.discard(parked, { ...discardedOf(messageOf()), id: parked._id, _id: `of-${parked._id}` });
      expect((await store.parked.list(0, 10)).rows.map(({ _id }) => _id)).toEqual([good._id]);
    });

    one("audit records and what was discarded", async store => {
      const [record, left] = [auditOf(), discardedOf(messageOf())];
      await store.audits.begin(record);
      await rawOf(store).audit.insert([{ _id: "damaged", at: "today", counts: 5, earlier: "x" }]);
      await rawOf(store).discarded.insert([{ ...left, at: "today", message: "x" } as never]);
      const { rows } = await store.audits.list(0, 10);
      expect(rows.find(({ _id }) => _id === record._id)).toEqual(record);
      expect(rows.find(({ _id }) => _id === "damaged")).toMatchObject({
        counts: {},
        error: expect.stringMatching(/^unreadable row: its 'at' is not an instant/)
      });
      expect(await store.audits.find("damaged")).toMatchObject({ counts: {} });
      const [shown] = await store.audits.discarded([left.id]);
      expect(shown).toMatchObject({ at: new Date(0), note: expect.stringMatching(/^unreadable row: /) });
      expect(shown?.message).toBeUndefined();
      expect(await store.messages.upsertFromChecks([messageOf({ _id: left.id })])).toHaveLength(1);
    });
  });
}
