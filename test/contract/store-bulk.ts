import { uuidv7 } from "uuidv7";
import { describe, expect, it } from "vitest";
import type { Bulk } from "../../src/message/bulk";
import type { Message } from "../../src/message/message";
import type { BulkScope } from "../../src/stores/bulk-store";
import type { Store } from "../../src/stores/store";
import { at, deadOf, discardedOf, finalOf, handledBy, messageOf, noteOf } from "../support/messages";
import { rawOf, type StoreKind, withStores } from "./store";

function bulkOf(fields: Partial<Bulk> = {}): Bulk {
  return {
    ...{ _id: uuidv7(), act: "retry", filter: { status: "dead" }, key: uuidv7(), by: "emma", state: "running" },
    ...{ at: at(10_000), perSecond: 100, matched: 3, pages: 0, done: 0, lost: 0, refused: 0, changes: [] },
    ...fields
  };
}

export function scopeOf(fields: Partial<BulkScope> & { query?: BulkScope["query"] } = {}): BulkScope {
  const { query, ...rest } = fields;
  return {
    bulk: "b",
    act: "retry",
    query: { status: "dead", groupIn: ["failed"], before: at(10_000), ...query },
    ...rest
  };
}

/** Bulk acts: their documents, and what they do with many messages at once. */
export function bulks(kind: StoreKind): void {
  const one = (name: string, test: (store: Store) => Promise<void>) => it(name, () => withStores(kind, 1, test));
  const two = (name: string, test: (store: Store, other: Store) => Promise<void>) =>
    it(name, () => withStores(kind, 2, test));
  const get = async (store: Store, id: string) => (await store.messages.find([id]))[0] as Message;
  const put = async <T extends Message>(store: Store, ...messages: T[]): Promise<T[]> => {
    await store.messages.insert(messages);
    return messages;
  };
  const idsOf = (rows: { _id: string }[]) => rows.map(({ _id }) => _id);
  const change = { at: at(1), by: "otto", change: "pause" as const };
  const claimed = async (store: Store, claim = "c", now = at(0), until = at(15_000)) =>
    (await store.bulks.claim({ claim, now, until, most: 10 })).claimed;

  describe("the document of a bulk act", () => {
    two("begins once per act and filter while one is under way", async (store, other) => {
      const [first, second] = [bulkOf({ key: "k" }), bulkOf({ key: "k", by: "otto" })];
      expect(await store.bulks.begin(first)).toBeUndefined();
      // The same again, as when an answer was lost.
      expect(await store.bulks.begin(first)).toBeUndefined();
      expect(await other.bulks.begin(second)).toMatchObject({ _id: first._id, by: "emma" });
      expect(await other.bulks.begin(bulkOf({ key: "another" }))).toBeUndefined();
      expect(await store.bulks.find(second._id)).toBeUndefined();
      const [held] = (await claimed(store)).filter(({ _id }) => _id === first._id);
      expect(await store.bulks.ended(held as Bulk, { state: "done", endedAt: at(1) })).toBe(true);
      expect(await other.bulks.begin(second)).toBeUndefined();
    });

    two("begins once of two at the same time", async (store, other) => {
      const all = Array.from({ length: 10 }, () => bulkOf({ key: "k" }));
      const begun = await Promise.all(all.map((bulk, i) => (i % 2 ? store : other).bulks.begin(bulk)));
      expect(begun.filter(found => found === undefined)).toHaveLength(1);
      expect((await store.bulks.list(0, 20)).total).toBe(1);
    });

    one("takes the place of one whose process has died while it began", async store => {
      const dead = bulkOf({ key: "k", at: at(0) });
      await store.bulks.begin(dead);
      await rawOf(store).bulks.remove({ _id: dead._id });
      expect(await store.bulks.begin(bulkOf({ key: "k", at: at(59_000) }))).toMatchObject({
        _id: dead._id,
        by: "emma"
      });
      const next = bulkOf({ key: "k", at: at(61_000) });
      expect(await store.bulks.begin(next)).toBeUndefined();
      expect(await store.bulks.find(next._id)).toMatchObject({ state: "running" });
    });

    two("is claimed by one, and by another after the claim's end", async (store, other) => {
      const bulk = bulkOf();
      await store.bulks.begin(bulk);
      const both = await Promise.all([claimed(store, "a"), claimed(other, "b")]);
      expect(both.flat()).toHaveLength(1);
      const [holder] = both.flat() as [Bulk];
      const query = { claim: "c", until: at(40_000), most: 10 };
      expect(await other.bulks.claim({ ...query, now: at(14_999) })).toEqual({ claimed: [], nextAt: at(15_000) });
      // Renewed by its holder.
      expect(await store.bulks.planned(holder, { ids: ["m"], at: at(1) }, at(20_000))).toBe(true);
      expect(await other.bulks.claim({ ...query, now: at(19_999) })).toMatchObject({ claimed: [] });
      const { claimed: taken } = await other.bulks.claim({ ...query, now: at(20_000) });
      expect(taken).toMatchObject([{ _id: bulk._id, claim: "c", page: { ids: ["m"], at: at(1) } }]);
      const progress = { pages: 1, done: 1, lost: 0, refused: 0 };
      expect(await store.bulks.progressed(holder, progress, at(50_000))).toBe(false);
      expect(await store.bulks.ended(holder, { state: "done", endedAt: at(1) })).toBe(false);
      await store.bulks.released(holder);
      expect(await other.bulks.progressed(taken[0] as Bulk, progress, at(50_000))).toBe(true);
      const after = await store.bulks.find(bulk._id);
      expect(after).toMatchObject({ done: 1, claim: "c" });
      expect(after?.page).toBeUndefined();
    });

    one("claims no more than was asked for, and none twice", async store => {
      for (let i = 0; i < 3; i++) await store.bulks.begin(bulkOf());
      const first = await store.bulks.claim({ claim: "a", now: at(0), until: at(10), most: 2 });
      expect(first.claimed).toHaveLength(2);
      expect((await store.bulks.claim({ claim: "b", now: at(0), until: at(10), most: 2 })).claimed).toHaveLength(1);
    });

    one("a page is not begun when a human has changed the bulk act", async store => {
      await store.bulks.begin(bulkOf());
      const [bulk] = (await claimed(store)) as [Bulk];
      const page = { ids: ["m"], at: at(1) };
      expect(await store.bulks.pace(bulk._id, 200, { ...change, change: "rate", perSecond: 200 })).toBe(true);
      expect(await store.bulks.planned(bulk, page, at(20_000))).toBe(false);
      // Told twice, it is one change.
      expect(await store.bulks.pace(bulk._id, 200, { ...change, change: "rate", perSecond: 200 })).toBe(true);
      expect((await store.bulks.find(bulk._id))?.changes).toHaveLength(1);
      expect(await store.bulks.planned({ ...bulk, perSecond: 200 }, page, at(20_000))).toBe(true);
      expect(await store.bulks.pause(bulk._id, change)).toBe(true);
      expect(await store.bulks.planned({ ...bulk, perSecond: 200 }, page, at(20_000))).toBe(false);
      await store.bulks.released(bulk);
      expect(await claimed(store, "d")).toEqual([]);
    });

    one("goes from state to state as its human says, and is told who it was", async store => {
      const { _id: id } = bulkOf();
      const bulk = bulkOf({ _id: id });
      await store.bulks.begin(bulk);
      expect(await store.bulks.resume(id, change)).toBe(false);
      expect(await store.bulks.pause(id, change)).toBe(true);
      expect(await store.bulks.pause(id, change)).toBe(false);
      expect(await claimed(store)).toEqual([]);
      expect(await store.bulks.resume(id, { ...change, change: "resume" })).toBe(true);
      expect(await store.bulks.stop(id, { ...change, change: "stop" })).toBe(true);
      expect(await store.bulks.stop(id, change)).toBe(false);
      expect(await store.bulks.pace(id, 1, change)).toBe(false);
      const [held] = (await claimed(store)) as [Bulk];
      expect(held).toMatchObject({ state: "stopping", changes: [change, { change: "resume" }, { change: "stop" }] });
      expect(await store.bulks.ended(held, { state: "stopped", endedAt: at(2), why: "enough" })).toBe(true);
      expect(await store.bulks.find(id)).toMatchObject({ state: "stopped", why: "enough", endedAt: at(2) });
      for (const verb of ["pause", "resume", "stop"] as const) expect(await store.bulks[verb](id, change)).toBe(false);
      expect(await store.bulks.pause("nobody", change)).toBe(false);
      expect(await store.bulks.underWay()).toEqual([]);
    });

    one("of replays: the acts and filters of the newest ones", async store => {
      const filter = { group: "mail", fromAt: "a", toAt: "b" };
      const replays = [1, 3, 2].map(ms => bulkOf({ act: "replay", filter, at: at(ms) }));
      for (const bulk of [...replays, bulkOf({ at: at(9) })]) await store.bulks.begin(bulk);
      const [first, third, second] = idsOf(replays);
      expect(await store.bulks.replays(2)).toEqual([third, second].map(_id => ({ _id, filter })));
      expect(idsOf(await store.bulks.replays(10))).toEqual([third, second, first]);
    });

    one("is listed newest first, those under way also alone", async store => {
      const all = [bulkOf({ at: at(1) }), bulkOf({ at: at(3), state: "paused" }), bulkOf({ at: at(2) })];
      for (const bulk of all) await store.bulks.begin(bulk);
      const [a, c, b] = idsOf(all);
      const { rows, total } = await store.bulks.list(0, 2);
      expect([idsOf(rows), total]).toEqual([[c, b], 3]);
      expect(idsOf(await store.bulks.underWay()).sort()).toEqual([a, b, c].sort());
    });
  });

  describe("the messages of a bulk act", () => {
    one("finds what has died before its start, oldest first, and goes on behind a cursor", async store => {
      const dead = [3, 1, 2, 2].map(n => deadOf({ at: at(n) }));
      const other = deadOf({ at: at(4), event: "order.paid", failed: ["mail"] });
      await put(store, ...dead, other, deadOf({ at: at(10_000) }), messageOf(), finalOf("consumed", at(5)));
      const [c, a, b1, b2] = idsOf(dead) as [string, string, string, string];
      const scope = scopeOf();
      expect(await store.bulkMessages.count(scope)).toEqual({ counted: 5, more: false });
      expect(idsOf(await store.bulkMessages.select(scope, undefined, 1))).toEqual([a]);
      const page = idsOf(await store.bulkMessages.select(scope, { at: at(2), left: [b1] }, 10));
      expect(page).toEqual([b2, c, other._id]);
      const some = { query: { event: "order.paid", group: "mail" } };
      expect(idsOf(await store.bulkMessages.select(scopeOf(some), undefined, 10))).toEqual([other._id]);
      const few = scopeOf({ query: { after: at(2), before: at(3) } });
      expect(idsOf(await store.bulkMessages.select(few, undefined, 10)).sort()).toEqual([b1, b2].sort());
    });

    one("retries many at once, each as alone", async store => {
      const spent = { stock: 3 };
      const [plain, waiting, claimed] = (await put(
        store,
        deadOf({ spent }),
        { ...deadOf({ spent, waiting: ["mail"] }), dueAt: at(8000) },
        { ...deadOf({ spent, waiting: ["mail"] }), dueAt: at(90_000), claim: "c" }
      )) as [Message, Message, Message];
      const scope = scopeOf();
      const found = await store.bulkMessages.select(scope, undefined, 10);
      const note = noteOf("retry", { note: "fixed" });
      expect(await store.bulkMessages.retry(scope, found, note)).toEqual(new Set(idsOf(found)));
      for (const { _id } of [plain, waiting, claimed]) {
        const row = await get(store, _id);
        expect(row).toMatchObject({ status: "pending", failed: [], base: { stock: 3 }, bulk: "b", retriedAt: note.at });
        expect(row.notes).toMatchObject([{ act: "retry", note: "fixed", groups: ["stock"], bulk: "b" }]);
      }
      expect(await get(store, plain._id)).toMatchObject({ dueAt: note.at, waiting: ["stock"] });
      // What its sweep has done must be written first.
      expect(await get(store, claimed._id)).toMatchObject({ dueAt: at(90_000), claim: "c" });
      // Done again, it changes nothing, and is known as done.
      expect(await store.bulkMessages.retry(scope, found, note)).toEqual(new Set(idsOf(found)));
      expect((await get(store, plain._id)).notes).toHaveLength(1);
    });

    one("leaves alone what somebody else has changed, what dies later, and what dies again", async store => {
      const [mine, theirs, later, again] = (await put(store, deadOf(), deadOf(), deadOf(), deadOf())) as Message[];
      const scope = scopeOf();
      const found = await store.bulkMessages.select(scope, undefined, 10);
      await store.operations.retry(theirs as Message, at(600), noteOf("retry"));
      const { messages } = rawOf(store);
      await messages.update({ _id: later?._id }, { $set: { at: at(10_000) } });
      await messages.update({ _id: again?._id }, { $set: { bulk: "b" } });
      expect(await store.bulkMessages.retry(scope, found, noteOf("retry"))).toEqual(new Set([mine?._id]));
      expect((await get(store, theirs?._id as string)).notes).toHaveLength(1);
      for (const row of [later, again])
        expect(await get(store, row?._id as string)).toMatchObject({ status: "dead", notes: [] });
      expect(await store.bulkMessages.select(scope, undefined, 10)).toEqual([]);
    });

    two("two workers that act on one page at once act once", async (store, other) => {
      await put(store, ...Array.from({ length: 50 }, () => deadOf()));
      const scope = scopeOf();
      const found = await store.bulkMessages.select(scope, undefined, 50);
      const all = new Set(idsOf(found));
      const done = await Promise.all(
        [store, other].map(each => each.bulkMessages.retry(scope, found, noteOf("retry")))
      );
      expect(done).toEqual([all, all]);
      for (const { notes } of await store.messages.find([...all])) expect(notes).toHaveLength(1);
    });

    one("resolves many: those that others wait for go on", async store => {
      const [plain, waiting] = (await put(store, deadOf(), {
        ...deadOf({ waiting: ["mail"] }),
        dueAt: at(30_000)
      })) as [Message, Message];
      const scope = scopeOf({ act: "resolve" });
      const found = await store.bulkMessages.select(scope, undefined, 10);
      const note = noteOf("resolve", { note: "by hand" });
      expect(await store.bulkMessages.resolve(scope, found, note)).toEqual(new Set(idsOf(found)));
      expect(await get(store, plain._id)).toMatchObject({ status: "resolved", at: note.at });
      expect(await get(store, waiting._id)).toMatchObject({ status: "pending", resolved: ["stock"] });
      expect(await store.bulkMessages.done(scope, [plain._id, waiting._id, "nobody"])).toEqual(new Set(idsOf(found)));
      expect(await store.bulkMessages.done({ ...scope, bulk: "another" }, [plain._id])).toEqual(new Set());
    });

    one("discards many, with a record of each; what others wait for is not among them", async store => {
      const body = Buffer.alloc(40_000);
      const dead = [deadOf(), deadOf({ body }), deadOf({ failed: ["mail"] }), deadOf(), deadOf()];
      const waiting = { ...deadOf({ waiting: ["mail"] }), dueAt: at(30_000) };
      await put(store, ...dead, waiting);
      const scope = scopeOf({ act: "discard" });
      expect(await store.bulkMessages.count(scope)).toEqual({ counted: 5, more: false });
      const found = await store.bulkMessages.select(scope, undefined, 10);
      expect(idsOf(found).sort()).toEqual(idsOf(dead).sort());
      const [, , , theirs, gone] = dead as Message[] as [Message, Message, Message, Message, Message];
      // Meanwhile others retry one and discard one.
      await store.operations.retry(theirs, at(600), noteOf("retry"));
      const byOther = discardedOf(gone, { _id: `discard:${gone._id}`, of: "theirs" });
      await store.operations.discard(gone, byOther);
      const records = found.map(({ _id }) => {
        const message = dead.find(each => each._id === _id) as Message;
        return discardedOf(message, { _id: `discard:${_id}`, of: "b" });
      });
      const three = new Set(idsOf(dead.slice(0, 3)));
      expect(await store.bulkMessages.discard(scope, found, records)).toEqual(three);
      // Again, as when its answer was lost.
      expect(await store.bulkMessages.done(scope, idsOf(found))).toEqual(three);
      expect(await store.messages.find([...three])).toEqual([]);
      expect(await get(store, theirs._id)).toMatchObject({ status: "pending" });
      const left = await store.audits.discarded(idsOf(found));
      expect(
        left
          .filter(({ of }) => of === "b")
          .map(({ id }) => id)
          .sort()
      ).toEqual([...three].sort());
      expect(left.filter(({ of }) => of === "theirs").map(({ id }) => id)).toEqual([gone._id]);
      expect(await rawOf(store).bodies.find({})).toEqual([]);
    });

    one("counts what became of those it has retried, the last outcomes first", async store => {
      const scope = scopeOf();
      const dead = await put(store, ...Array.from({ length: 6 }, (_, n) => deadOf({ at: at(n) })));
      const found = await store.bulkMessages.select(scope, undefined, 10);
      await store.bulkMessages.retry(scope, found, noteOf("retry"));
      expect(await store.bulkMessages.tally("b")).toEqual({ handled: 0, failedAgain: 0, capped: false });
      const ids = idsOf(dead);
      await store.messages.handled(ids.slice(0, 3).map(id => handledBy(id)));
      const { messages } = rawOf(store);
      for (const id of ids.slice(3, 5))
        await messages.update(
          { _id: id },
          { $set: { status: "dead", at: at(20_000), waiting: [], failed: ["stock"] } }
        );
      expect(await store.bulkMessages.tally("b")).toEqual({ handled: 3, failedAgain: 2, capped: false });
      expect(await store.bulkMessages.outcomes("b", 50)).toMatchObject({ seen: 5, dead: 2 });
      const last = await store.bulkMessages.outcomes("b", 3);
      expect(last).toEqual({ seen: 3, dead: 2, since: at(1000) });
      expect(await store.bulkMessages.outcomes("b", 2)).toEqual({ seen: 2, dead: 2, since: at(20_000) });
      expect(await store.bulkMessages.outcomes("b", 3, last.since)).toEqual(last);
      expect(await store.bulkMessages.outcomes("b", 3, at(20_000))).toMatchObject({ seen: 2, dead: 2 });
      expect(await store.bulkMessages.outcomes("another", 50)).toMatchObject({ seen: 0, dead: 0 });
    });
  });
}
