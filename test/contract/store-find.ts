import { describe, expect, it } from "vitest";
import { LAST_ERRORS_KEPT, type Message } from "../../src/message/message";
import type { Store } from "../../src/stores/store";
import type { ListQuery, Position } from "../../src/stores/store-records";
import { at, deadOf, failedBy, failureOf, finalOf, handledBy, messageOf, noteOf } from "../support/messages";
import { type StoreKind, withStores } from "./store";

/** How messages are found, page by page, and what they died of. */
export function finding(kind: StoreKind): void {
  const one = (name: string, test: (store: Store) => Promise<void>) => it(name, () => withStores(kind, 1, test));
  const get = async (store: Store, id: string): Promise<Message> => (await store.messages.find([id]))[0] as Message;
  const idsOf = (rows: { _id: string }[]) => rows.map(({ _id }) => _id);
  const found = async (store: Store, query: ListQuery) => idsOf((await store.messages.list(query, 100)).rows);
  const put = async (store: Store, fields: Partial<Message> = {}): Promise<Message> => {
    const message = messageOf({ status: "published", publishedAt: at(10), ...fields });
    await store.messages.insert([message]);
    return message;
  };
  const errorOf = (message: string, type?: string) => ({ name: "MailError", message, ...(type && { type }) });
  /** The group fails for good. */
  const dies = async (store: Store, id: string, group: string, message = "boom", type?: string, attempt = 1) => {
    const failure = failureOf({ group, attempt, error: errorOf(message, type), nodeID: `${group}-1` });
    await store.messages.failed([failedBy(id, { group, attempt, failure, nextAt: null })]);
  };
  const errorsIn = async (store: Store, id: string) =>
    (await get(store, id)).lastErrors?.map(({ group, type, text }) => [group, type, text].join()) ?? [];

  describe("lastErrors", () => {
    one("says of each group that has failed how it has failed, without numbers and ids", async store => {
      const { _id: id } = await put(store, { waiting: ["stock", "mail"] });
      await dies(store, id, "stock", "order 4711 (0193-ab) of 10:30 has no item", "NO_ITEM");
      expect((await get(store, id)).lastErrors).toEqual([
        {
          group: "stock",
          at: expect.any(Date),
          cause: "handler",
          name: "MailError",
          type: "NO_ITEM",
          text: "order … (…) of … has no item",
          nodeID: "stock-1"
        }
      ]);
      await dies(store, id, "mail", "boom");
      await dies(store, id, "mail", "boom", undefined, 1);
      expect(await errorsIn(store, id)).toEqual(["stock,NO_ITEM,order … (…) of … has no item", "mail,MailError,boom"]);
    });

    one("is gone once the message is not dead any more, by whatever way", async store => {
      const ways: [string, (message: Message) => Promise<unknown>, string[]][] = [
        ["retry", message => store.operations.retry(message, at(900), noteOf("retry")), []],
        ["resolve", message => store.operations.resolve(message, noteOf("resolve")), []],
        ["a late receipt of one", ({ _id }) => store.messages.handled([handledBy(_id)]), ["mail"]],
        [
          "late receipts of both",
          ({ _id }) => store.messages.handled(["stock", "mail"].map(group => handledBy(_id, group))),
          []
        ]
      ];
      for (const waiting of [[], ["log"]]) {
        for (const [way, act, left] of ways) {
          const { _id: id } = await put(store, { waiting: ["stock", "mail", ...waiting] });
          await dies(store, id, "stock");
          await dies(store, id, "mail");
          await act(await get(store, id));
          expect(
            (await errorsIn(store, id)).map(text => text.split(",")[0]),
            way
          ).toEqual(left);
          if (!left.length) expect((await get(store, id)).lastErrors, way).toBeUndefined();
        }
      }
      expect(await found(store, { errorType: "MailError" })).toHaveLength(2);
    });

    one("is that of the last death after a retry", async store => {
      const { _id: id } = await put(store);
      await dies(store, id, "stock", "first");
      await store.operations.retry(await get(store, id), at(900), noteOf("retry"));
      await dies(store, id, "stock", "second", undefined, 2);
      expect(await errorsIn(store, id)).toEqual(["stock,MailError,second"]);
    });

    one("goes with a group that is forgotten, and with the last one", async store => {
      const { _id: id } = await put(store, { waiting: ["stock", "mail"] });
      await dies(store, id, "stock");
      await dies(store, id, "mail");
      const forgotten = noteOf("forget", { group: "stock" });
      while (await store.operations.release({ group: "stock" }, forgotten));
      expect(await errorsIn(store, id)).toEqual(["mail,MailError,boom"]);
      while (await store.operations.release({ group: "mail" }, noteOf("forget", { group: "mail" })));
      expect(await get(store, id)).toMatchObject({ status: "resolved", failed: [] });
      expect((await get(store, id)).lastErrors).toBeUndefined();
    });

    one("is there of an intent that expires, for every group", async store => {
      const { _id: id } = await put(store, { status: "intended", waiting: ["stock", "mail"] });
      const failure = failureOf({ cause: "source", error: errorOf("no answer") });
      await store.intents.expire(id, failure, "source: no answer");
      expect(await errorsIn(store, id)).toEqual(["stock,MailError,no answer", "mail,MailError,no answer"]);
    });

    one("has the last ones of very many groups", async store => {
      const groups = Array.from({ length: LAST_ERRORS_KEPT + 2 }, (_, n) => `g${n}`);
      const { _id: id } = await put(store, { status: "intended", waiting: groups });
      await store.intents.expire(id, failureOf({ cause: "source" }), "source: no answer");
      const errors = (await get(store, id)).lastErrors ?? [];
      expect([errors.length, errors.at(-1)?.group]).toEqual([LAST_ERRORS_KEPT, groups.at(-1)]);
    });
  });

  describe("list", () => {
    one("finds by the beginning of the id, in the order of ids", async store => {
      const ids = [
        "order-1",
        "order-12",
        "order-2",
        "ordes",
        "orde",
        "order",
        "Order-1",
        "order-\u00e9",
        "order-\u{1f600}"
      ];
      await store.messages.insert(ids.map((_id, n) => messageOf({ _id, createdAt: at(n) })));
      const begins = ["order-\u{1f600}", "order-\u00e9", "order-2", "order-12", "order-1"];
      expect(await found(store, { idPrefix: "order-" })).toEqual(begins);
      expect(await found(store, { idPrefix: "order-1" })).toEqual(["order-12", "order-1"]);
      expect(await found(store, { idPrefix: "order-\u{1f600}" })).toEqual(["order-\u{1f600}"]);
      expect(await found(store, { idPrefix: ".*" })).toEqual([]);
      expect(await pages(store, { idPrefix: "order-" }, 2)).toEqual([
        begins.slice(0, 2),
        begins.slice(2, 4),
        begins.slice(4)
      ]);
      expect(await found(store, { idPrefix: "order-", status: "dead" })).toEqual([]);
    });

    one("finds by request, and by message keys: all that are given", async store => {
      const [a, b, c] = [
        messageOf({ origin: { requestID: "r" }, keys: ["order=42", "customer=7"], createdAt: at(1) }),
        deadOf({ origin: { requestID: "r" }, keys: ["order=43", "customer=7"], at: at(2) }),
        finalOf("consumed", at(3), { keys: ["order=4", "customer=c=7"] })
      ];
      await store.messages.insert([a, b, c, messageOf()]);
      expect(await get(store, a._id)).toMatchObject({ keys: ["order=42", "customer=7"] });
      expect(await found(store, { requestID: "r" })).toEqual(idsOf([b, a]));
      expect(await found(store, { requestID: "r", status: "dead" })).toEqual([b._id]);
      expect(await found(store, { requestID: "r", keys: ["order=42"] })).toEqual([a._id]);
      expect(await found(store, { keys: ["order=4"] })).toEqual([c._id]);
      expect(await found(store, { keys: ["customer=7"] })).toEqual(idsOf([b, a]));
      expect(await found(store, { keys: ["customer=7", "order=42"] })).toEqual([a._id]);
      expect(await found(store, { keys: ["customer=7", "order=4"] })).toEqual([]);
      expect(await found(store, { keys: ["customer=c=7"], status: ["consumed", "dead"] })).toEqual([c._id]);
    });

    one("finds by one and the same error, of dead messages alone", async store => {
      const { _id: id } = await put(store, { waiting: ["stock", "mail"] });
      await dies(store, id, "stock", "order 1", "A");
      await dies(store, id, "mail", "order 2", "B");
      const { _id: other } = await put(store);
      await dies(store, other, "stock", "another", "A");
      expect(await found(store, { errorType: "A", errorText: "order …" })).toEqual([id]);
      expect(await found(store, { errorType: "B", errorText: "another" })).toEqual([]);
      expect(await found(store, { errorType: "A", group: "mail" })).toEqual([]);
      expect(await found(store, { errorType: "B", group: "mail", groupIn: ["failed"] })).toEqual([id]);
      expect(await found(store, { cause: "handler" })).toHaveLength(2);
      expect(await found(store, { cause: "silence" })).toEqual([]);
      expect(await found(store, { errorText: "another", status: ["dead", "consumed"] })).toEqual([other]);
      expect(await found(store, { errorText: "another", status: "consumed" })).toEqual([]);
    });

    one("goes on where the page before has ended, each once, of many in one instant too", async store => {
      const rows = [
        ...Array.from({ length: 11 }, (_, n) => finalOf("consumed", at(n < 8 ? 100 : 90 + n), { keys: ["k=1"] })),
        ...Array.from({ length: 5 }, (_, n) => messageOf({ createdAt: at(n < 3 ? 100 : 50), keys: ["k=1"] })),
        ...Array.from({ length: 4 }, () => deadOf({ at: at(100), keys: ["k=1"] }))
      ];
      await store.messages.insert(rows);
      const expected = idsOf([...rows].sort((a, b) => b.at.getTime() - a.at.getTime() || (a._id < b._id ? 1 : -1)));
      for (const query of [{}, { keys: ["k=1"] }, { after: at(0) }, { before: at(1000), event: "order.created" }])
        for (const size of [1, 3, 4, 7, 19, 20, 21]) {
          const all = await pages(store, query, size);
          expect(all.flat(), `${JSON.stringify(query)} by ${size}`).toEqual(expected);
          expect(all.slice(0, -1).every(page => page.length === size)).toBe(true);
        }
      const bounded = { after: at(99), before: at(101) };
      expect((await pages(store, bounded, 4)).flat()).toEqual(expected.filter(id => ofAll(rows, id).at >= at(99)));
    });

    one("a page stays right though rows before it have left", async store => {
      const rows = Array.from({ length: 6 }, (_, n) => deadOf({ at: at(n) }));
      await store.messages.insert(rows);
      const { next } = await store.messages.list({ status: "dead" }, 2);
      await store.operations.resolve(await get(store, rows[5]?._id as string), noteOf("resolve"));
      const { rows: second } = await store.messages.list({ status: "dead", cursor: next as Position }, 2);
      expect(idsOf(second)).toEqual(idsOf([rows[3], rows[2]] as Message[]));
    });

    one("takes values only", async store => {
      const wrong = [
        ...["idPrefix", "requestID", "errorType", "cause", "errorText"].map(name => ({ [name]: { $gt: "" } })),
        { keys: [{ $gt: "" }] },
        { keys: ["order"] },
        { cursor: { at: "now", id: "a" } },
        { cursor: { at: at(1), id: { $gt: "" } } }
      ];
      for (const query of wrong)
        await expect(store.messages.list(query as never, 1)).rejects.toMatchObject({ type: "RELIABLE_BAD_OPTION" });
    });
  });

  describe("causes", () => {
    one("counts dead messages by group, event, cause, type and text", async store => {
      const dead: [string, string[], string, string][] = [
        ["order.created", ["mail", "stock"], "EAUTH", "535 authentication of a@b.c 12 failed"],
        ["order.created", ["mail"], "EAUTH", "535 authentication of a@b.c 99 failed"],
        ["order.created", ["mail"], "EAUTH", "timeout"],
        ["order.paid", ["mail"], "EAUTH", "timeout"]
      ];
      const ids: string[] = [];
      for (const [event, groups, type, text] of dead) {
        const { _id: id } = await put(store, { event, waiting: groups });
        for (const group of groups) await dies(store, id, group, text, type);
        ids.push(id);
      }
      await put(store);
      const { causes, read, more } = await store.messages.causes({}, 10);
      expect([read, more]).toEqual([4, false]);
      expect(causes[0]).toEqual({
        ...{ group: "mail", event: "order.created", cause: "handler", errorName: "MailError", errorType: "EAUTH" },
        text: "… authentication of a@b.c … failed",
        count: 2,
        firstAt: expect.any(Date),
        lastAt: expect.any(Date),
        nodes: ["mail-1"],
        moreNodes: 0,
        sampleId: expect.stringMatching(new RegExp(`${ids[0]}|${ids[1]}`))
      });
      const told = (all: typeof causes) =>
        all.map(({ group, event, text, count }) => [group, event, text, count].join()).sort();
      expect(told(causes)).toEqual([
        "mail,order.created,timeout,1",
        "mail,order.created,… authentication of a@b.c … failed,2",
        "mail,order.paid,timeout,1",
        "stock,order.created,… authentication of a@b.c … failed,1"
      ]);
      const of = async (query: ListQuery) => told((await store.messages.causes(query, 10)).causes);
      expect(await of({ group: "stock" })).toEqual(["stock,order.created,… authentication of a@b.c … failed,1"]);
      expect(await of({ event: "order.paid" })).toEqual(["mail,order.paid,timeout,1"]);
      expect(await of({ errorText: "timeout", event: "order.created" })).toEqual(["mail,order.created,timeout,1"]);
      expect(await of({ status: "consumed" })).toEqual(told(causes));
      expect(await of({ cause: "silence" })).toEqual([]);
    });

    one("tells the first and the last, and the nodes as far as somebody reads them", async store => {
      const error = { cause: "handler", name: "E", type: "E", text: "boom" } as const;
      const rows = Array.from({ length: 14 }, (_, n) =>
        deadOf({ at: at(n), lastErrors: [{ ...error, group: "stock", at: at(n), nodeID: `n${n}` }] })
      );
      await store.messages.insert(rows);
      const [cause] = (await store.messages.causes({ before: at(13) }, 100)).causes;
      expect(cause).toMatchObject({ count: 13, firstAt: at(0), lastAt: at(12), moreNodes: 3, sampleId: rows[12]?._id });
      expect(cause?.nodes).toHaveLength(10);
    });

    one("looks at the newest ones, and says that there are more", async store => {
      const error = { cause: "handler", name: "E", text: "boom", group: "stock" } as const;
      const row = (n: number) => ({
        ...{ at: at(n), event: n % 4 ? "order.paid" : "order.created", keys: [`customer=${n % 2}`] },
        lastErrors: [{ ...error, type: n ? "E" : "SELDOM", at: at(n) }]
      });
      await store.messages.insert(Array.from({ length: 20 }, (_, n) => deadOf(row(n))));
      await store.messages.insert([messageOf(), finalOf("consumed", at(99))]);
      const of = async (query: ListQuery, most: number) => {
        const { causes, read, more } = await store.messages.causes(query, most);
        return [read, more, causes.map(({ firstAt }) => firstAt).sort((a, b) => a.getTime() - b.getTime())[0]];
      };
      expect(await of({}, 8)).toEqual([8, true, at(12)]);
      expect(await of({}, 20)).toEqual([20, false, at(0)]);
      // Of a filter that no index serves, those among them.
      expect(await of({ event: "order.created" }, 8)).toEqual([2, true, at(12)]);
      expect(await of({ event: "order.created" }, 20)).toEqual([5, false, at(0)]);
      expect(await of({ event: "order.created", before: at(12) }, 6)).toEqual([1, true, at(8)]);
      expect(await of({ event: "order.created", after: at(12) }, 8)).toEqual([2, false, at(12)]);
      expect(await of({ group: "mail" }, 8)).toEqual([0, true, undefined]);
      // What an index finds is found, however old.
      expect(await of({ errorType: "SELDOM" }, 8)).toEqual([1, false, at(0)]);
      expect(await of({ keys: ["customer=1"] }, 10)).toEqual([10, false, at(1)]);
      expect(await of({ keys: ["customer=1"] }, 3)).toEqual([3, true, at(15)]);
    });
  });

  async function pages(store: Store, query: ListQuery, size: number): Promise<string[][]> {
    const all: string[][] = [];
    for (let cursor: Position | undefined, more = true; more; more = cursor !== undefined) {
      const { rows, next } = await store.messages.list({ ...query, ...(cursor && { cursor }) }, size);
      all.push(idsOf(rows));
      cursor = next;
    }
    return all;
  }
}

function ofAll(rows: Message[], id: string): Message {
  return rows.find(({ _id }) => _id === id) as Message;
}
