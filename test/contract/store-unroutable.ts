import { describe, expect, it } from "vitest";
import { displaced, unroutableYet } from "../../src/message/attempts";
import { ANY_GROUP, type Message } from "../../src/message/message";
import type { Store } from "../../src/stores/store";
import { at, messageOf, noteOf } from "../support/messages";
import { rawOf, type StoreKind, withStores } from "./store";

/** Messages that no queue took, for groups that nobody knows yet. */
export function unroutable(kind: StoreKind): void {
  const one = (name: string, test: (store: Store) => Promise<void>) => it(name, () => withStores(kind, 1, test));
  const get = async (store: Store, id: string): Promise<Message> => (await store.messages.find([id]))[0] as Message;
  /** Stored, and returned at `at(100)`; due again at `at(600_100)`. */
  const put = async (store: Store, fields: Partial<Message> = {}, of = fields.waiting): Promise<Message> => {
    const message = messageOf({ waiting: [ANY_GROUP], ...fields });
    await store.messages.insert([message]);
    const returned = (of ?? message.waiting).flatMap(
      group => unroutableYet(message, group, 1, { now: at(100), pauseMs: 600_000 }) ?? []
    );
    await store.messages.displaced(returned);
    return message;
  };
  const subscription = (group: string, pattern: string) => ({ group, pattern });
  const claim = (store: Store, { _id }: Message, now = at(600_100)) =>
    store.messages.claim({ ids: [_id], now, until: at(700_000), claim: "c" });

  describe("unroutable messages", () => {
    one("say since when, in their story too, and their attempt is not made", async store => {
      const { _id } = await put(store, { dueAt: at(30_000) });
      expect(await get(store, _id)).toMatchObject({
        status: "pending",
        dueAt: at(30_000),
        unroutable: { [ANY_GROUP]: at(100) },
        attempts: { [ANY_GROUP]: 0 },
        next: { [ANY_GROUP]: at(600_100) },
        spent: {},
        failures: [{ cause: "displaced", error: { code: "NO_GROUP" } }]
      });
    });

    one("are told from those of a known group without a queue", async store => {
      const message = messageOf();
      await store.messages.insert([message]);
      await store.messages.displaced([displaced(message, "stock", 1, at(100))]);
      expect((await get(store, message._id)).unroutable).toEqual({});
    });

    one("keep a time of their own in the row, and only where it is not an hour", async store => {
      const [usual, own] = [await put(store), await put(store, { unroutableMs: 0 })];
      const raw = (_id: string) => rawOf(store).messages.find({ _id });
      expect(await get(store, usual._id)).toMatchObject({ unroutableMs: 3_600_000 });
      expect((await raw(usual._id))[0]).not.toHaveProperty("unroutableMs");
      expect((await raw(own._id))[0]).toMatchObject({ unroutableMs: 0 });
      expect(await get(store, own._id)).toMatchObject({ unroutableMs: 0 });
    });

    const dueAs = (name: string) => ({ dueAt: at(1000), next: { [name]: at(1000) } });
    const due = dueAs(ANY_GROUP);
    const not = { next: { [ANY_GROUP]: at(600_100) } };
    it.each<[what: string, Partial<Message>, [group: string, pattern: string], Partial<Message>]>([
      ["an exact one", {}, ["stock", "order.created"], due],
      ["a wildcard one", {}, ["audit:order.*", "order.*"], due],
      ["one of another event", {}, ["stock", "order.paid"], not],
      ["the one that was named", { waiting: ["stock"] }, ["stock", "order.created"], dueAs("stock")],
      [
        "the wildcard one whose service was named",
        { waiting: ["audit"] },
        ["audit:order.*", "order.*"],
        dueAs("audit")
      ],
      [
        "the one that was named, of a message that another one's queue has taken",
        { status: "published", waiting: ["stock"] },
        ["stock", "order.created"],
        dueAs("stock")
      ],
      [
        "another than the one that was named",
        { waiting: ["mail"] },
        ["stock", "order.created"],
        { next: { mail: at(600_100) } }
      ],
      [
        "one, while no queue is missed",
        { waiting: ["stock"], unroutableMs: 0 },
        ["stock", "order.created"],
        { next: {} }
      ]
    ])("are due when a group announces itself that takes them: %s", (_, fields, [group, pattern], expected) =>
      withStores(kind, 1, async store => {
        const message = await put(store, { dueAt: at(600_100), ...fields });
        const count = await store.messages.routable([subscription(group, pattern)], at(1000));
        const { dueAt, next } = await get(store, message._id);
        expect({ dueAt, next }).toEqual({ dueAt: at(600_100), ...expected });
        expect(count).toBe("dueAt" in expected ? 1 : 0);
      })
    );

    one("that a sweep has in its hands are left to it, and told twice they stay due", async store => {
      const [held, free] = [await put(store), await put(store)];
      await claim(store, held);
      for (const _ of [1, 2]) await store.messages.routable([subscription("stock", "order.created")], at(1000));
      expect(await get(store, held._id)).toMatchObject({ dueAt: at(700_000), claim: "c" });
      expect(await get(store, free._id)).toMatchObject({ dueAt: at(1000) });
    });

    one("stay due when the confirm of another group's queue is recorded after that", async store => {
      const { _id: id } = await put(store, { waiting: ["mail", "stock"] }, ["stock"]);
      await store.messages.routable([subscription("stock", "order.created")], at(1000));
      await store.messages.published([{ id, at: at(10), dueAt: at(60_000) }]);
      expect(await get(store, id)).toMatchObject({ status: "published", dueAt: at(1000) });
    });

    one("are so no longer when a queue has taken them", async store => {
      const message = await put(store);
      await claim(store, message);
      await store.messages.rescheduled([
        {
          id: message._id,
          claim: "c",
          status: "published",
          dueAt: at(800_000),
          publishedAt: at(600_200),
          attempts: { [ANY_GROUP]: 1 },
          routed: [ANY_GROUP]
        }
      ]);
      expect(await get(store, message._id)).toMatchObject({
        status: "published",
        unroutable: {},
        attempts: { [ANY_GROUP]: 1 }
      });
    });

    one("name the group that came, to which nothing was sent yet", async store => {
      const message = await put(store, { publishedAt: at(50) });
      await claim(store, message);
      const record = { id: message._id, claim: "c", from: [ANY_GROUP], to: ["stock"], unsent: ["stock"] };
      expect(await store.messages.named([record])).toEqual(new Set([message._id]));
      expect(await get(store, message._id)).toMatchObject({ waiting: ["stock"], attempts: { stock: 0 } });
    });

    one("get their time anew by a human's retry", async store => {
      const message = await put(store);
      const failure = { at: at(200), cause: "unroutable", error: { name: "Unroutable", message: "" } } as const;
      await store.messages.failed([
        { id: message._id, group: ANY_GROUP, attempt: 1, failure, nextAt: null, reason: "unroutable" }
      ]);
      const dead = await get(store, message._id);
      expect(dead).toMatchObject({ status: "dead", unroutable: { [ANY_GROUP]: at(100) } });
      expect(await store.operations.retry(dead, at(300), noteOf("retry"))).toBe(true);
      expect(await get(store, message._id)).toMatchObject({ status: "pending", unroutable: {} });
    });
  });
}
