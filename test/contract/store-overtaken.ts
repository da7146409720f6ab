import { describe, expect, it } from "vitest";
import { ANY_GROUP, type Message } from "../../src/message/message";
import type { Store } from "../../src/stores/store";
import type { RescheduleRecord } from "../../src/stores/store-records";
import { at, failedBy, handledBy, messageOf, noteOf, receiptOf } from "../support/messages";
import { rawOf, type StoreKind, withStores } from "./store";

/** Answers that come while a sweep holds the message: between its publish and the record of it. */
export function overtaken(kind: StoreKind): void {
  const claimed = (
    name: string,
    fields: Partial<Message>,
    test: (store: Store, id: string, get: () => Promise<Message>) => Promise<void>
  ) =>
    it(name, () =>
      withStores(kind, 1, async store => {
        const message = messageOf({ dueAt: at(0), ...fields });
        await store.messages.insert([message]);
        await store.messages.claim({ ids: [message._id], now: at(0), until: at(60_000), claim: "c" });
        await test(store, message._id, async () => (await store.messages.find([message._id]))[0] as Message);
      })
    );
  /** The sweep made this attempt, and would wait a minute and a half for receipts. */
  const resent = (
    id: string,
    groups: string[],
    attempt: number,
    fields: Partial<RescheduleRecord> = {}
  ): RescheduleRecord => {
    const of = <T>(value: T) => Object.fromEntries(groups.map(group => [group, value]));
    return {
      id,
      claim: "c",
      status: "published",
      publishedAt: at(10),
      dueAt: at(90_000),
      attempts: of(attempt),
      next: of(at(90_000)),
      about: of(attempt),
      ...fields
    };
  };

  describe("new names in `waiting`", () => {
    const claim = "c";

    claimed(
      "take the place of whoever is subscribed, before anything is published",
      { waiting: [ANY_GROUP] },
      async (store, id, get) => {
        const record = { id, claim, from: [ANY_GROUP], to: ["a.b", "stock"] };
        expect(await store.messages.named([record])).toEqual(new Set([id]));
        // A receipt that comes before the sweep's record finds the other still waited for.
        expect(await store.messages.handled([handledBy(id)])).toMatchObject({ consumed: [] });
        expect(await get()).toMatchObject({ status: "pending", waiting: ["a.b"], claim });
        expect(await store.messages.rescheduled([resent(id, ["a.b", "stock"], 1)])).toBe(1);
        expect(await store.messages.handled([handledBy(id, "a.b")])).toMatchObject({ consumed: [id] });
      }
    );

    claimed(
      "take the place of a group's own name, and the last receipt closes the message",
      { waiting: ["audit", "stock"], groups: ["audit", "stock"] },
      async (store, id, get) => {
        expect(
          await store.messages.named([{ id, claim, from: ["audit", "stock"], to: ["stock", "audit:**"] }])
        ).toEqual(new Set([id]));
        await store.messages.handled([handledBy(id), handledBy(id, "audit:**")]);
        expect(await get()).toMatchObject({ status: "consumed", waiting: [] });
      }
    );

    claimed("are there once, however often they are given", { waiting: [ANY_GROUP] }, async (store, id, get) => {
      const record = { id, claim, from: [ANY_GROUP], to: ["stock"] };
      for (let n = 0; n < 2; n++) expect(await store.messages.named([record])).toEqual(new Set([id]));
      expect((await get()).waiting).toEqual(["stock"]);
    });

    claimed(
      "are not given where an answer has come since",
      { waiting: [ANY_GROUP, "mail"] },
      async (store, id, get) => {
        await store.messages.handled([handledBy(id)]);
        expect(await store.messages.named([{ id, claim, from: [ANY_GROUP, "mail"], to: ["mail", "stock"] }])).toEqual(
          new Set()
        );
        expect(new Set((await get()).waiting)).toEqual(new Set([ANY_GROUP, "mail"]));
      }
    );

    claimed(
      "are not given to a group that has answered",
      { waiting: ["audit"], receipts: { "audit:**": receiptOf() } },
      async (store, id, get) => {
        expect(await store.messages.named([{ id, claim, from: ["audit"], to: ["audit:**"] }])).toEqual(new Set());
        expect((await get()).waiting).toEqual(["audit"]);
      }
    );
  });

  describe("a failure that overtakes the sweep's record", () => {
    claimed("keeps the schedule of its own backoff", {}, async (store, id, get) => {
      await store.messages.failed([failedBy(id, { nextAt: at(5000) })]);
      expect(await store.messages.rescheduled([resent(id, ["stock"], 1)])).toBe(1);
      const row = await get();
      expect(row).toMatchObject({
        status: "published",
        publishedAt: at(10),
        dueAt: at(5000),
        next: { stock: at(5000) },
        attempts: { stock: 1 },
        spent: { stock: 1 }
      });
      expect(row.claim).toBeUndefined();
    });

    claimed("keeps it too when the backoff is longer than the claim", {}, async (store, id, get) => {
      await store.messages.failed([failedBy(id, { nextAt: at(80_000) })]);
      await store.messages.rescheduled([resent(id, ["stock"], 1)]);
      const { next, dueAt } = await get();
      expect(next).toEqual({ stock: at(80_000) });
      expect(dueAt?.getTime()).toBeLessThanOrEqual(at(80_000).getTime());
    });

    claimed(
      "leaves the other groups' schedules to the sweep",
      { waiting: ["stock", "mail"] },
      async (store, id, get) => {
        await store.messages.failed([failedBy(id, { nextAt: at(5000) })]);
        await store.messages.rescheduled([resent(id, ["stock", "mail"], 1)]);
        expect(await get()).toMatchObject({
          dueAt: at(5000),
          next: { stock: at(5000), mail: at(90_000) },
          attempts: { stock: 1, mail: 1 }
        });
      }
    );

    claimed(
      "of an earlier attempt changes nothing",
      { spent: { stock: 1 }, attempts: { stock: 1 } },
      async (store, id, get) => {
        await store.messages.failed([failedBy(id, { attempt: 1, nextAt: at(5000) })]);
        expect(await store.messages.rescheduled([resent(id, ["stock"], 2)])).toBe(1);
        expect(await get()).toMatchObject({ dueAt: at(90_000), next: { stock: at(90_000) }, attempts: { stock: 2 } });
      }
    );

    claimed(
      "of a group that was not known before keeps its schedule",
      { waiting: [ANY_GROUP] },
      async (store, id, get) => {
        await store.messages.resolveRecipients([{ id, groups: ["stock"] }]);
        await store.messages.failed([failedBy(id, { nextAt: at(5000) })]);
        await store.messages.rescheduled([resent(id, [ANY_GROUP], 1)]);
        expect(await get()).toMatchObject({
          status: "published",
          dueAt: at(5000),
          waiting: ["stock"],
          spent: { stock: 1 }
        });
      }
    );

    claimed(
      "counts for a message the sweep only put off, too",
      { publishedAt: at(0), status: "published" },
      async (store, id, get) => {
        await store.messages.failed([failedBy(id, { nextAt: at(5000) })]);
        expect(
          await store.messages.rescheduled([
            { id, claim: "c", dueAt: at(90_000), next: { stock: at(90_000) }, about: { stock: 1 } }
          ])
        ).toBe(1);
        const row = await get();
        expect(row).toMatchObject({ status: "published", dueAt: at(5000), next: { stock: at(5000) } });
        expect(row.claim).toBeUndefined();
      }
    );

    claimed("and spends the last attempt leaves it dead", {}, async (store, id, get) => {
      await store.messages.failed([failedBy(id, { attempt: 1, nextAt: null })]);
      expect(await store.messages.rescheduled([resent(id, ["stock"], 1)])).toBe(0);
      expect(await get()).toMatchObject({ status: "dead" });
    });

    claimed("and a receipt of another group go together", { waiting: ["stock", "mail"] }, async (store, id, get) => {
      await store.messages.failed([failedBy(id, { nextAt: at(5000) })]);
      await store.messages.handled([handledBy(id, "mail")]);
      await store.messages.rescheduled([resent(id, ["stock", "mail"], 1)]);
      expect(await get()).toMatchObject({ status: "published", dueAt: at(5000), waiting: ["stock"] });
    });

    claimed(
      "and a retry while that is being written: it is due at once all the same",
      { waiting: ["stock", "mail"] },
      async (store, id, get) => {
        await store.messages.failed([failedBy(id, { attempt: 1, nextAt: null })]);
        const { messages } = rawOf(store);
        const find = messages.find.bind(messages);
        // The sweep's record has found the failure; before it writes, a human has seen it.
        messages.find = async (filter, options) => {
          const docs = await find(filter, options);
          messages.find = find;
          expect(await store.operations.retry(await get(), at(20), noteOf("retry"))).toBe(true);
          return docs;
        };
        expect(await store.messages.rescheduled([resent(id, ["mail"], 1)])).toBe(1);
        const row = await get();
        expect(row).toMatchObject({ dueAt: at(20), waiting: ["mail", "stock"], next: { mail: at(90_000) } });
        expect(row.claim).toBeUndefined();
      }
    );
  });

  it("a confirm that is recorded in the middle of the last answer leaves nothing open", () =>
    withStores(kind, 1, async store => {
      const { _id: id, ...fields } = messageOf({ dueAt: at(0), waiting: ["mail", "stock"] });
      await store.messages.insert([{ _id: id, ...fields }]);
      const get = async () => (await store.messages.find([id]))[0] as Message;
      await store.messages.failed([failedBy(id, { nextAt: null })]);
      expect(await store.operations.resolve(await get(), noteOf("resolve"))).toBe(true);
      expect(await get()).toMatchObject({ status: "pending", waiting: ["mail"], resolved: ["stock"] });
      const { messages } = rawOf(store);
      const find = messages.find.bind(messages);
      // The answer is written, and what is left is read; before it moves the message on, its confirm is recorded.
      messages.find = async (filter, options) => {
        const docs = await find(filter, options);
        messages.find = find;
        expect(await store.messages.published([{ id, at: at(5), dueAt: at(60_000) }])).toBe(1);
        return docs;
      };
      await store.messages.handled([handledBy(id, "mail")]);
      const row = await get();
      expect(row).toMatchObject({ status: "resolved", waiting: [] });
      expect(row.dueAt).toBeUndefined();
    }));
}
