import { describe, expect, it } from "vitest";
import type { Store } from "../../src/stores/store";
import { at, messageOf } from "../support/messages";
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
      const { rows, total } = await store.messages.list({}, 0, 10);
      expect(total).toBe(2);
      expect(rows.find(({ _id }) => _id === bad._id)).toMatchObject({
        event: "order.created",
        status: "pending",
        unreadable: "it is of version 3, not 2"
      });
      expect(await store.messages.find([bad._id, good._id])).toHaveLength(1);
      await expect(store.messages.insert([messageOf({ _id: bad._id })])).rejects.toMatchObject({
        type: "RELIABLE_UNREADABLE_ROW"
      });
    });
  });
}
