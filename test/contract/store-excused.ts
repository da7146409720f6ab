import { describe, expect, it } from "vitest";
import { excuse, judgeFailure } from "../../src/message/attempts";
import type { Message } from "../../src/message/message";
import type { Store } from "../../src/stores/store";
import { at, handledBy, messageOf, noteOf } from "../support/messages";
import { type StoreKind, withStores } from "./store";

const error = { name: "Error", message: "away" };

/** Failures that do not count, since the group's breaker is open. */
export function excused(kind: StoreKind): void {
  const one = (name: string, test: (store: Store) => Promise<void>) => it(name, () => withStores(kind, 1, test));
  const get = async (store: Store, { _id }: Message): Promise<Message> =>
    (await store.messages.find([_id]))[0] as Message;
  const put = async (store: Store, fields: Partial<Message> = {}): Promise<Message> => {
    const message = messageOf({ status: "published", publishedAt: at(1), dueAt: at(60_000), ...fields });
    await store.messages.insert([message]);
    return message;
  };
  const record = (message: Message, attempt = 1, all = false, group = "stock") =>
    excuse(message, group, attempt, error, { now: at(100), all, nodeID: "node-1" });
  const counted = (message: Message, attempt = 1) =>
    judgeFailure(message, "stock", attempt, "handler", error, { now: at(50), nodeID: "node-1" });

  describe("failures that do not count", () => {
    one("use up the attempt, and no budget; the next one is scheduled", async store => {
      const message = await put(store);
      await store.messages.excused([record(message)]);
      expect(await get(store, message)).toMatchObject({
        status: "published",
        waiting: ["stock"],
        spent: { stock: 1 },
        base: { stock: 1 },
        next: { stock: at(1100) },
        dueAt: at(1100),
        failures: [{ cause: "handler", attempt: 1, excused: true, error }]
      });
    });

    one("come before the publish is recorded, twice, and of several groups", async store => {
      const message = await put(store, { status: "pending", publishedAt: undefined, waiting: ["mail", "stock"] });
      for (const _ of [1, 2]) await store.messages.excused([record(message), record(message, 1, false, "mail")]);
      expect(await get(store, message)).toMatchObject({
        status: "pending",
        spent: { stock: 1, mail: 1 },
        base: { stock: 1, mail: 1 }
      });
      await store.messages.published([{ id: message._id, at: at(200), dueAt: at(60_000) }]);
      expect(await get(store, message)).toMatchObject({ status: "published", dueAt: at(1100) });
    });

    one("change nothing of what is handled, dead, retried or not there", async store => {
      const [handled, dead, absent] = [await put(store), await put(store, { maxAttempts: 1 }), messageOf()];
      await store.messages.handled([handledBy(handled._id)]);
      await store.messages.failed([counted(dead)]);
      const before = [await get(store, handled), await get(store, dead)];
      await store.messages.excused([record(handled), record(dead), record(dead, 2), record(absent)]);
      expect([await get(store, handled), await get(store, dead)]).toEqual(before);
      expect(await store.messages.find([absent._id])).toEqual([]);
    });

    one("are not undone by a sweep that has sent it and writes that down later", async store => {
      const message = await put(store, { dueAt: at(50) });
      await store.messages.claim({ ids: [message._id], now: at(60), until: at(60_060), claim: "c" });
      await store.messages.excused([record(message)]);
      const attempts = { stock: 1 };
      const next = { stock: at(60_070) };
      await store.messages.rescheduled([
        { id: message._id, claim: "c", status: "published", dueAt: at(60_070), attempts, next, about: { stock: 1 } }
      ]);
      expect(await get(store, message)).toMatchObject({
        spent: { stock: 1 },
        base: { stock: 1 },
        next: { stock: at(1100) },
        dueAt: at(1100)
      });
    });
  });

  describe("failures that were told as counting and are given back", () => {
    one("leave the whole budget; told twice as well", async store => {
      const message = await put(store);
      await store.messages.failed([counted(message), counted(message, 2)]);
      for (const _ of [1, 2]) await store.messages.excused([record(message, 2, true)]);
      const row = await get(store, message);
      expect(row).toMatchObject({ spent: { stock: 2 }, base: { stock: 2 }, status: "published" });
      expect(row.notes).toMatchObject([{ act: "excused", by: "node-1", groups: ["stock"] }]);
      expect(row.failures).toHaveLength(2);
    });

    one("may be told before they were told as counting", async store => {
      const message = await put(store, { maxAttempts: 1 });
      await store.messages.excused([record(message, 1, true)]);
      await store.messages.failed([counted(message)]);
      expect(await get(store, message)).toMatchObject({
        status: "published",
        waiting: ["stock"],
        spent: { stock: 1 },
        base: { stock: 1 }
      });
    });

    one("bring back a group that has failed for good by them", async store => {
      const message = await put(store, { maxAttempts: 1 });
      await store.messages.failed([counted(message)]);
      expect(await get(store, message)).toMatchObject({ status: "dead", failed: ["stock"] });
      for (const _ of [1, 2]) await store.messages.excused([record(message, 1, true)]);
      const row = await get(store, message);
      expect(row).toMatchObject({
        status: "published",
        waiting: ["stock"],
        failed: [],
        deadAt: {},
        errors: {},
        base: { stock: 1 },
        next: { stock: at(1100) },
        dueAt: at(1100),
        at: message.createdAt
      });
      expect(row.reason).toBeUndefined();
      expect(row.notes.map(({ act }) => act)).toEqual(["dead", "excused"]);
    });

    one("leave a message dead of which another group has failed for good", async store => {
      const message = await put(store, { maxAttempts: 1, waiting: ["mail", "stock"] });
      const mail = judgeFailure(message, "mail", 1, "rejected", error, { now: at(40), retryable: false });
      await store.messages.failed([counted(message), mail]);
      await store.messages.excused([record(message, 1, true)]);
      expect(await get(store, message)).toMatchObject({
        status: "dead",
        waiting: ["stock"],
        failed: ["mail"],
        dueAt: at(1100)
      });
    });

    one("come after a later attempt has failed, or was excused", async store => {
      const [failed, spared] = [await put(store, { maxAttempts: 2 }), await put(store)];
      await store.messages.failed([counted(failed), counted(failed, 2), counted(spared)]);
      await store.messages.excused([record(spared, 2)]);
      for (const _ of [1, 2]) await store.messages.excused([record(failed, 1, true), record(spared, 1, true)]);
      expect(await get(store, failed)).toMatchObject({
        status: "published",
        waiting: ["stock"],
        spent: { stock: 2 },
        base: { stock: 1 }
      });
      expect(await get(store, spared)).toMatchObject({ spent: { stock: 2 }, base: { stock: 2 } });
    });

    one("do not bring back what no further attempt could help", async store => {
      const message = await put(store);
      const hopeless = { now: at(60), retryable: false };
      await store.messages.failed([counted(message), judgeFailure(message, "stock", 2, "handler", error, hopeless)]);
      await store.messages.excused([record(message, 1, true)]);
      expect(await get(store, message)).toMatchObject({ status: "dead", failed: ["stock"], base: {} });
    });

    one("are the silence that a sweep took for the end of an attempt that was excused; once", async store => {
      const [open, dead] = [await put(store), await put(store, { maxAttempts: 1 })];
      const silence = (message: Message) => judgeFailure(message, "stock", 1, "silence", error, { now: at(60) });
      await store.messages.failed([silence(open), silence(dead)]);
      for (const _ of [1, 2]) await store.messages.excused([record(open), record(dead)]);
      for (const message of [open, dead])
        expect(await get(store, message)).toMatchObject({
          status: "published",
          waiting: ["stock"],
          failed: [],
          spent: { stock: 1 },
          base: { stock: 1 },
          failures: [{ cause: "silence" }, { cause: "handler", excused: true }]
        });
    });

    one("change nothing when a human was quicker", async store => {
      const rows = [await put(store, { maxAttempts: 1 }), await put(store, { maxAttempts: 1 })];
      const [retried, resolved] = rows as [Message, Message];
      await store.messages.failed([counted(retried), counted(resolved)]);
      expect(await store.operations.retry(await get(store, retried), at(90), noteOf("retry"))).toBe(true);
      expect(await store.operations.resolve(await get(store, resolved), noteOf("resolve"))).toBe(true);
      const before = await Promise.all(rows.map(row => get(store, row)));
      await store.messages.excused(rows.map(row => record(row, 1, true)));
      expect(await Promise.all(rows.map(row => get(store, row)))).toEqual(before);
    });
  });
}
