import { describe, expect, it } from "vitest";
import type { Message } from "../../src/message/message";
import type { Store } from "../../src/stores/store";
import { at, deadOf, failedBy, handledBy, noteOf, receiptOf, scheduledOf } from "../support/messages";
import { type StoreKind, withStores } from "./store";

/** Messages that are to be sent later. */
export function later(kind: StoreKind): void {
  const one = (name: string, test: (store: Store) => Promise<void>) => it(name, () => withStores(kind, 1, test));
  const two = (name: string, test: (store: Store, other: Store) => Promise<void>) =>
    it(name, () => withStores(kind, 2, test));
  const get = async (store: Store, { _id }: Message): Promise<Message> =>
    (await store.messages.find([_id]))[0] as Message;
  const put = async (store: Store, message: Message): Promise<Message> => {
    await store.messages.insert([message]);
    return message;
  };
  const claim = (store: Store, ids: string[], name = "c", now = at(30_000)) =>
    store.messages.claim({ ids, now, until: at(90_000), claim: name });
  const note = noteOf("cancel", { note: "paid" });

  describe("scheduled", () => {
    one("is due at its instant and not before, and begins by a write of its own", async store => {
      const message = await put(store, scheduledOf(at(30_000)));
      const ids = [message._id];
      expect(await get(store, message)).toEqual(message);
      expect(await store.messages.due({ now: at(29_999), limit: 9 })).toEqual([]);
      expect(await claim(store, ids, "c", at(29_999))).toEqual([]);
      expect(await store.messages.due({ now: at(30_000), limit: 9 })).toMatchObject([{ id: message._id }]);
      expect(await claim(store, ids)).toMatchObject([{ status: "scheduled", claim: "c" }]);
      expect(await store.messages.begun(ids, "c")).toEqual(new Set(ids));
      const row = await get(store, message);
      expect(row).toMatchObject({ status: "pending", claim: "c", sendAt: at(30_000), waiting: ["*"] });
      // It is as old as it has been under way.
      expect(row.at.getTime()).toBeGreaterThan(message.at.getTime());
      // Its answer was lost.
      expect(await store.messages.begun(ids, "c")).toEqual(new Set(ids));
    });

    two("of a cancel and the begin one wins, whichever is first", async (store, other) => {
      const [sent, cancelled] = [await put(store, scheduledOf(at(0))), await put(store, scheduledOf(at(0)))];
      const ids = [sent._id, cancelled._id];
      await claim(store, ids);
      expect(await other.operations.cancel(cancelled, note)).toBe(true);
      expect(await store.messages.begun(ids, "c")).toEqual(new Set([sent._id]));
      expect(await other.operations.cancel(sent, note)).toBe(false);
      expect(await other.operations.cancel(cancelled, note)).toBe(false);
      expect((await get(store, sent)).status).toBe("pending");
      const row = await get(store, cancelled);
      expect(row).toMatchObject({ status: "cancelled", at: note.at, waiting: [], notes: [note] });
      expect(row).not.toHaveProperty("dueAt");
      expect(row).not.toHaveProperty("claim");
      // Nor does anything that comes afterwards.
      await store.messages.handled([handledBy(cancelled._id)]);
      await store.messages.failed([failedBy(cancelled._id)]);
      expect(await store.messages.rescheduled([{ id: cancelled._id, claim: "c", dueAt: at(1) }])).toBe(0);
      expect(await get(store, cancelled)).toEqual(row);
    });

    one("does not begin for who has lost the claim", async store => {
      const message = await put(store, scheduledOf(at(0)));
      const ids = [message._id];
      await claim(store, ids, "first");
      await claim(store, ids, "second", at(90_000));
      expect(await store.messages.begun(ids, "first")).toEqual(new Set());
      expect((await get(store, message)).status).toBe("scheduled");
      expect(await store.messages.begun([], "first")).toEqual(new Set());
    });

    one("no answer about it changes it: nothing of it was sent", async store => {
      const message = await put(
        store,
        scheduledOf(at(30_000), { waiting: ["stock", "mail"], groups: ["stock", "mail"] })
      );
      const { _id: id } = message;
      await store.messages.handled([handledBy(id)]);
      await store.messages.failed([failedBy(id, { nextAt: null }), failedBy(id, { group: "mail" })]);
      const failure = { ...failedBy(id).failure, excused: true as const };
      await store.messages.excused([{ id, group: "stock", attempt: 1, failure, nextAt: at(1), all: true }]);
      await store.messages.displaced([{ id, group: "stock", attempt: 1, failure, nextAt: at(1) }]);
      await store.messages.published([{ id, at: at(1), dueAt: at(2) }]);
      await store.messages.postponed([id], at(3));
      await store.messages.resolveRecipients([{ id, groups: ["stock"] }]);
      expect(await get(store, message)).toEqual(message);
      const open = await put(store, scheduledOf(at(30_000)));
      await store.messages.handled([handledBy(open._id)]);
      await store.messages.resolveRecipients([{ id: open._id, groups: ["stock", "stranger"] }]);
      expect(await get(store, open)).toEqual(open);
    });

    one("is listed, counted and erased as what is open; cancelled, as what is final", async store => {
      const keys = ["invoice=7"];
      const message = await put(store, scheduledOf(at(30_000), { keys }));
      expect((await store.messages.list({ status: "scheduled" }, 5)).rows).toMatchObject([{ _id: message._id }]);
      expect((await store.messages.stats()).byStatus.scheduled).toBe(1);
      expect(await store.operations.erase("invoice=7", noteOf("erase"), 10)).toBe(0);
      expect((await store.operations.keyed("invoice=7", 10)).open).toEqual({ scheduled: 1 });
      await store.operations.cancel(message, note);
      expect((await store.messages.stats()).byStatus).toMatchObject({ scheduled: 0, cancelled: 1 });
      expect(await store.operations.erase("invoice=7", noteOf("erase"), 10)).toBe(1);
      expect((await get(store, message)).body).toHaveLength(0);
      expect((await store.prune(at(9001), 10)).messages).toBe(1);
      expect(await store.messages.find([message._id])).toEqual([]);
    });

    one("a forget of all that it names closes it; of one that it does not name it is left alone", async store => {
      const named = await put(store, scheduledOf(at(30_000), { waiting: ["stock"], groups: ["stock"] }));
      const open = await put(store, scheduledOf(at(30_000)));
      const released = await store.operations.release({ group: "stock" }, noteOf("forget", { group: "stock" }));
      expect(released).toMatchObject({ freed: 1, resolved: [named._id] });
      expect((await get(store, named)).status).toBe("resolved");
      expect(await get(store, open)).toEqual(open);
    });

    one("once sent, its ages go by when it was sent", async store => {
      const base = { sendAt: at(100_000), at: at(200_000), waiting: [], failed: ["stock"] };
      const message = await put(store, deadOf({ ...base, createdAt: at(0) }));
      await store.operations.retry(message, at(300_000), noteOf("retry"));
      expect((await get(store, message)).at).toEqual(at(100_000));
      await store.messages.handled([{ id: message._id, group: "stock", receipt: receiptOf({ at: at(301_000) }) }]);
      expect(await store.messages.timings([message._id])).toMatchObject([
        { emittedAt: at(100_000), consumedAt: at(301_000) }
      ]);
    });
  });
}
