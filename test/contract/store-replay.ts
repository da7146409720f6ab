import { describe, expect, it } from "vitest";
import type { Message } from "../../src/message/message";
import type { Kept } from "../../src/message/replay";
import type { Store } from "../../src/stores/store";
import { at, deadOf, finalOf, messageOf, receiptOf } from "../support/messages";
import { rawOf, type StoreKind, withStores } from "./store";

/** What a replay reads. */
export function replays(kind: StoreKind): void {
  const one = (name: string, test: (store: Store) => Promise<void>) => it(name, () => withStores(kind, 1, test));
  const idsOf = (rows: { _id: string }[]) => rows.map(({ _id }) => _id);

  /** All, page by page. */
  async function read(store: Store, from: Date, limit: number): Promise<Kept[]> {
    const found: Kept[] = [];
    for (let after: { at: Date; id: string } | undefined; ; ) {
      const { rows, next } = await store.bulkMessages.kept(from, limit, after);
      expect(rows.length).toBeLessThanOrEqual(limit);
      found.push(...rows);
      if (!next) return found;
      after = next;
    }
  }

  describe("what is kept, for a replay", () => {
    one("all that was emitted, oldest instant first, each once, however the pages fall", async store => {
      const rows: Message[] = [
        ...Array.from({ length: 7 }, () => finalOf("consumed", at(2))),
        ...Array.from({ length: 5 }, () => finalOf("resolved", at(2))),
        ...Array.from({ length: 3 }, (_, n) => deadOf({ at: at(n) })),
        messageOf({ status: "published", createdAt: at(3) }),
        messageOf({ createdAt: at(1) }),
        finalOf("consumed", at(9))
      ];
      const others = [
        messageOf({ status: "intended", createdAt: at(2) }),
        finalOf("withdrawn", at(2)),
        finalOf("consumed", at(-1))
      ];
      await store.messages.insert([...rows, ...others]);
      const sorted = [...rows].sort((a, b) => a.at.getTime() - b.at.getTime() || (a._id < b._id ? -1 : 1));
      for (const limit of [1, 2, 3, 5, 12, 18, 19, 100])
        expect(idsOf(await read(store, at(0), limit))).toEqual(idsOf(sorted));
      expect(await store.bulkMessages.kept(at(10), 5)).toEqual({ rows: [] });
    });

    one("with what the choice goes by, and without payloads and stories", async store => {
      const row = finalOf("consumed", at(5), {
        ...{ body: Buffer.alloc(40_000, 0x20), receipts: { stock: receiptOf() }, groups: ["stock"], createdAt: at(3) },
        ...{ bulk: "b", replay: { bulk: "b", of: "m", again: true }, meta: { a: 1 } }
      });
      await store.messages.insert([row]);
      const { rows } = await store.bulkMessages.kept(at(0), 10);
      expect(rows).toMatchObject([
        {
          ...{ _id: row._id, event: row.event, bytes: 40_000, createdAt: at(3), groups: ["stock"], waiting: [] },
          ...{ receipts: { stock: receiptOf() }, replay: { bulk: "b", of: "m", again: true }, meta: {}, notes: [] }
        }
      ]);
      expect(rows[0]).not.toHaveProperty("body");
      const [whole] = await store.messages.find([row._id]);
      expect(whole).toMatchObject({ bulk: "b", replay: { bulk: "b", of: "m", again: true } });
      expect(await store.bulkMessages.tally("b")).toEqual({ handled: 1, failedAgain: 0, capped: false });
    });

    one("one that cannot be read hides no other", async store => {
      const [bad, good] = [finalOf("consumed", at(1)), finalOf("consumed", at(2))];
      await store.messages.insert([bad, good]);
      await rawOf(store).messages.update({ _id: bad._id }, { $set: { waiting: "nobody" } });
      const { rows } = await store.bulkMessages.kept(at(0), 10);
      expect(rows.map(({ _id, unreadable }) => [_id, unreadable !== undefined])).toEqual([
        [bad._id, true],
        [good._id, false]
      ]);
    });
  });
}
