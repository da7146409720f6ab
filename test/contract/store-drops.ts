import { describe, expect, it } from "vitest";
import type { ReliableError } from "../../src/errors";
import type { Message } from "../../src/message/message";
import { MAX_BODY_IN_ROW } from "../../src/stores/documents/bodies";
import type { Doc } from "../../src/stores/documents/collection";
import type { Store } from "../../src/stores/store";
import type { DropsDone } from "../../src/stores/store-records";
import { at, deadOf, failureOf, finalOf, handledBy, messageOf, noteOf, receiptOf } from "../support/messages";
import { rawOf, type StoreKind, withStores } from "./store";

const SECRET = "Ann Smith, 4711";
const KEY = "customer=c-7";
const note = noteOf("erase", { note: "request 12" });

/** Payloads are dropped before their rows are pruned (laws 2 and 8: of final messages alone, and what is new alone). */
export function drops(kind: StoreKind): void {
  const one = (name: string, test: (store: Store) => Promise<void>) => it(name, () => withStores(kind, 1, test));
  const two = (name: string, test: (store: Store, other: Store) => Promise<void>) =>
    it(name, () => withStores(kind, 2, test));
  const body = Buffer.from(JSON.stringify({ name: SECRET }));
  const large = Buffer.from(JSON.stringify({ name: SECRET.padEnd(MAX_BODY_IN_ROW) }));
  const get = async (store: Store, id: string) => (await store.messages.find([id]))[0] as Message;
  const rowOf = async (store: Store, _id: string) => (await rawOf(store).messages.find({ _id }))[0] as Doc;
  const isDropped = async (store: Store, { _id }: Message) => (await rowOf(store, _id)).droppedAt !== undefined;
  /** All pages, as the sweeper does it. */
  const dropAll = async (store: Store, before: Date, limit = 100) => {
    let since: DropsDone | undefined;
    const pages: number[] = [];
    do {
      const { messages, more } = await store.dropPayloads(before, limit, since);
      pages.push(messages);
      since = more;
    } while (since);
    return pages;
  };
  const personal: Partial<Message> = {
    body,
    keys: [KEY],
    meta: { user: SECRET },
    headers: { user: SECRET },
    source: { action: "orders.find", params: { name: SECRET } },
    reason: `handler: ${SECRET}`,
    failures: [
      failureOf({
        group: "stock",
        attempt: 1,
        error: { name: "Error", message: SECRET, code: 550, stack: SECRET, data: SECRET }
      })
    ],
    notes: [noteOf("dead", { note: SECRET, groups: ["stock"] }), noteOf("resolve", { note: "by phone" })],
    errors: { stock: { cause: "handler", name: "Error", message: SECRET } },
    deadAt: { stock: at(5) },
    receipts: { mail: receiptOf() }
  };

  describe("dropPayloads", () => {
    one("takes payload, meta, headers, source and texts of errors; the rest of the row stays", async store => {
      const message = finalOf("resolved", at(0), personal);
      await store.messages.insert([message]);
      expect(await dropAll(store, at(1))).toEqual([1]);
      expect(JSON.stringify(await rowOf(store, message._id))).not.toContain("Ann");
      const { droppedAt, ...left } = await get(store, message._id);
      expect(droppedAt).toBeInstanceOf(Date);
      const { body: _, meta: __, headers: ___, source: ____, reason: _____, ...kept } = message;
      expect(left).toMatchObject({
        ...kept,
        failures: [{ group: "stock", attempt: 1, error: { name: "Error", message: "(dropped)", code: 550 } }],
        notes: [{ act: "dead", note: "(dropped)" }, { note: "by phone" }],
        errors: { stock: { cause: "handler", name: "Error", message: "(dropped)" } },
        droppedBytes: body.length
      });
      expect(left.failures[0]?.error).not.toHaveProperty("stack");
      expect(left).toMatchObject({ meta: {}, headers: {} });
      const { rows } = await store.messages.list({}, 10);
      expect(rows).toMatchObject([{ _id: message._id, bytes: body.length, droppedAt }]);
      expect(rows[0]).not.toHaveProperty("unreadable");
    });

    one("is of final messages alone, and of those that ended before", async store => {
      const old = (["consumed", "resolved", "withdrawn"] as const).map(status => finalOf(status, at(0)));
      const kept = [
        finalOf("consumed", at(100)),
        deadOf({ at: at(0) }),
        messageOf({ createdAt: at(0) }),
        messageOf({ status: "published", createdAt: at(0) })
      ];
      await store.messages.insert([...old, ...kept]);
      expect(await dropAll(store, at(100))).toEqual([3]);
      for (const message of old) expect(await isDropped(store, message)).toBe(true);
      for (const message of kept) expect(await get(store, message._id)).toEqual(message);
    });

    one("goes page by page, and does not look again at what is done", async store => {
      await store.messages.insert(Array.from({ length: 25 }, (_, n) => finalOf("consumed", at(Math.floor(n / 10)))));
      expect(await dropAll(store, at(1000), 10)).toEqual([10, 10, 5]);
      const young = finalOf("consumed", at(3_600_000));
      await store.messages.insert([young]);
      const looked: unknown[] = [];
      const { messages } = rawOf(store);
      const find = messages.find.bind(messages);
      messages.find = (filter, page) => {
        looked.push(filter);
        return find(filter, page);
      };
      expect(await dropAll(store, at(3_600_001), 10)).toEqual([1]);
      messages.find = find;
      const [first] = looked as { status: string; at: { $gte: Date } }[];
      expect(first).toMatchObject({ status: "consumed" });
      // From the last instant, but for what may have been written late.
      expect(first?.at.$gte).toEqual(at(2 - 60_000));
      expect(await isDropped(store, young)).toBe(true);
    });

    one("writes nothing when there is nothing to do", async store => {
      await store.messages.insert([finalOf("consumed", at(0))]);
      await dropAll(store, at(100));
      const writes: string[] = [];
      const { messages, barriers, bodies } = rawOf(store);
      for (const collection of [messages, barriers, bodies])
        for (const verb of ["bulk", "attempt", "update", "remove"] as const) {
          const given = (collection[verb] as (...args: unknown[]) => Promise<never>).bind(collection);
          Object.assign(collection, {
            [verb](...args: unknown[]) {
              writes.push(verb);
              return given(...args);
            }
          });
        }
      expect(await dropAll(store, at(100))).toEqual([0]);
      expect(writes).toEqual([]);
    });

    two("done by two at once, each is done", async (store, other) => {
      const all = Array.from({ length: 30 }, (_, n) => finalOf("consumed", at(n)));
      await store.messages.insert(all);
      await Promise.all([dropAll(store, at(1000), 10), dropAll(other, at(1000), 10)]);
      for (const message of all) expect(await isDropped(store, message)).toBe(true);
    });

    one("deletes a large body too, also when the process has died in the middle", async store => {
      const [first, second] = [
        finalOf("consumed", at(0), { body: large }),
        finalOf("consumed", at(1), { body: large })
      ];
      await store.messages.insert([first, second]);
      const { bodies, messages } = rawOf(store);
      expect(await bodies.find({})).toHaveLength(2);
      const { remove } = bodies;
      Object.assign(bodies, { remove: () => Promise.reject(new Error("died")) });
      await expect(dropAll(store, at(1000), 1)).rejects.toThrow("died");
      Object.assign(bodies, { remove });
      // It can be read in the meantime.
      expect((await get(store, first._id)).droppedBytes).toBe(large.length);
      await dropAll(store, at(1000), 1);
      expect(await bodies.find({})).toEqual([]);
      expect((await messages.find({})).map(({ body, bodyId }) => body ?? bodyId)).toEqual([undefined, undefined]);
      expect((await get(store, second._id)).droppedBytes).toBe(large.length);
    });

    one("leaves rows readable: told again they are duplicates, and they are pruned", async store => {
      const message = finalOf("consumed", at(0), { receipts: { stock: receiptOf() } });
      await store.messages.insert([message]);
      await dropAll(store, at(1));
      const [outcome] = await store.messages.insert([messageOf({ _id: message._id })]);
      expect(outcome).toMatchObject({ stored: false, existing: { status: "consumed", droppedBytes: 7 } });
      expect(await store.messages.handled([handledBy(message._id)])).toMatchObject({ unknown: [], duplicates: 1 });
      expect(await store.prune(at(1), 10)).toEqual({ messages: 1, more: false });
    });

    one("of a withdrawn message that is emitted again, the new one has its payload", async store => {
      for (const [n, again] of [body, large].entries()) {
        const old = finalOf("withdrawn", at(n), { body: n ? body : large });
        await store.messages.insert([old]);
        await dropAll(store, at(n + 1));
        const anew = messageOf({ _id: old._id, body: again, createdAt: at(10), at: at(10) });
        await store.messages.upsertFromChecks([anew]);
        expect(await get(store, old._id)).toMatchObject({ status: "pending", body: again });
        expect(await get(store, old._id)).not.toHaveProperty("droppedAt");
      }
    });

    one("emitted again while it is dropped, the new one keeps its payload, whoever is first", async store => {
      const [dropLate, dropEarly] = [finalOf("withdrawn", at(0), { body }), finalOf("withdrawn", at(1), { body })];
      await store.messages.insert([dropLate, dropEarly]);
      const { messages } = rawOf(store);
      /** Does something else right before this one changes its rows. */
      const overtaken = async (work: () => Promise<unknown>, by: () => Promise<unknown>) => {
        const { attempt } = messages;
        messages.attempt = async operations => {
          messages.attempt = attempt;
          await by();
          return attempt.call(messages, operations);
        };
        await work();
      };
      const anew = ({ _id }: Message) => messageOf({ _id, body: large, createdAt: at(10), at: at(10) });
      const again = (message: Message) => store.messages.upsertFromChecks([anew(message)]);
      await overtaken(
        () => dropAll(store, at(1)),
        () => again(dropLate)
      );
      await overtaken(
        () => again(dropEarly),
        () => dropAll(store, at(2))
      );
      for (const message of [dropLate, dropEarly]) {
        expect(await get(store, message._id)).toMatchObject({ status: "pending", body: large });
        expect(await isDropped(store, message)).toBe(false);
      }
    });

    one("of one that is known from receipts only, its check brings no payload any more", async store => {
      const known: Partial<Message> = { strategy: "callback", partial: true, body: Buffer.alloc(0), keys: [KEY] };
      const [timely, asked] = [finalOf("consumed", at(0), known), finalOf("consumed", at(5), known)];
      await store.messages.insert([timely, asked]);
      await dropAll(store, at(1));
      await store.operations.erase(KEY, note, 10);
      for (const { _id } of [timely, asked]) {
        await store.messages.upsertFromChecks([
          messageOf({ _id, ...personal, strategy: "callback", status: "published" })
        ]);
        expect(await get(store, _id)).toMatchObject({ status: "consumed", droppedBytes: 0 });
        expect(JSON.stringify(await rowOf(store, _id))).not.toContain("Ann");
      }
    });

    one("a row without its body and without the mark is unreadable", async store => {
      const message = finalOf("consumed", at(0));
      await store.messages.insert([message]);
      await rawOf(store).messages.update({ _id: message._id }, { $unset: { body: true } });
      const [outcome] = await store.messages.insert([messageOf({ _id: message._id })]);
      expect((outcome as ReliableError).type).toBe("RELIABLE_UNREADABLE_ROW");
    });
  });

  describe("erase, keyed", () => {
    one("drops the payloads of all finished messages with the key, by pages, and notes it", async store => {
      const mine = Array.from({ length: 5 }, (_, n) =>
        finalOf("consumed", at(n), { ...personal, body: n ? body : large })
      );
      const others = [
        finalOf("consumed", at(0), { keys: ["customer=c-70"], body }),
        finalOf("consumed", at(0), { body }),
        deadOf({ keys: [KEY] }),
        messageOf({ keys: [KEY] })
      ];
      await store.messages.insert([...mine, ...others]);
      expect(await store.operations.keyed(KEY, 100)).toEqual({ kept: 5, dropped: 0, open: { dead: 1, pending: 1 } });
      const pages = [];
      expect(await store.operations.keyed(KEY, 4)).toMatchObject({ kept: 4, capped: true });
      for (;;) {
        const erased = await store.operations.erase(KEY, note, 3);
        pages.push(erased);
        if (!erased) break;
      }
      expect(pages).toEqual([3, 2, 0]);
      for (const message of mine) {
        expect(JSON.stringify(await rowOf(store, message._id))).not.toContain("Ann");
        expect((await get(store, message._id)).notes.at(-1)).toEqual(note);
      }
      expect(await rawOf(store).bodies.find({})).toEqual([]);
      for (const message of others) expect(await get(store, message._id)).toEqual(message);
      expect(await store.operations.keyed(KEY, 100)).toEqual({ kept: 0, dropped: 5, open: { dead: 1, pending: 1 } });
    });

    one("notes it once, also when the process has died before the large body was deleted", async store => {
      const message = finalOf("consumed", at(0), { keys: [KEY], body: large });
      await store.messages.insert([message]);
      const { bodies } = rawOf(store);
      const { remove } = bodies;
      Object.assign(bodies, { remove: () => Promise.reject(new Error("died")) });
      await expect(store.operations.erase(KEY, note, 10)).rejects.toThrow("died");
      Object.assign(bodies, { remove });
      const { droppedAt } = await get(store, message._id);
      expect([await store.operations.erase(KEY, note, 10), await store.operations.erase(KEY, note, 10)]).toEqual([
        1, 0
      ]);
      expect(await bodies.find({})).toEqual([]);
      expect(await get(store, message._id)).toMatchObject({ droppedAt, notes: [note] });
    });

    one("takes a value only, no query of the caller's making", async store => {
      await store.messages.insert([finalOf("consumed", at(0), { keys: [KEY] })]);
      for (const work of [
        () => store.operations.erase({ $gt: "" } as never, note, 10),
        () => store.operations.keyed(/./ as never, 10)
      ])
        await expect(work()).rejects.toMatchObject({ type: "RELIABLE_BAD_OPTION" });
    });
  });
}
