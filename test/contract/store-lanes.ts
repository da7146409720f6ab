import { describe, expect, it } from "vitest";
import { ANY_GROUP, type Message } from "../../src/message/message";
import { BEHIND_AT, type Order, placeToCome } from "../../src/message/order";
import type { LaneEnd, Turn } from "../../src/stores/lane-store";
import type { Store } from "../../src/stores/store";
import { at, discardedOf, failedBy, handledBy, messageOf, noteOf } from "../support/messages";
import { rawOf, type StoreKind, withStores } from "./store";
import { scopeOf } from "./store-bulk";

const idsOf = (turns: Turn[]) => turns.map(({ id }) => id);

/** Messages with order keys: whose turn it is. */
export function lanes(kind: StoreKind): void {
  const one = (name: string, test: (store: Store) => Promise<void>) => it(name, () => withStores(kind, 1, test));
  const two = (name: string, test: (store: Store, other: Store) => Promise<void>) =>
    it(name, () => withStores(kind, 2, test));
  const get = async (store: Store, { _id }: Message): Promise<Message> =>
    (await store.messages.find([_id]))[0] as Message;
  const of = (key: string, more: Partial<Message> & { onDead?: "skip" } = {}): Message => {
    const { onDead, ...rest } = more;
    const order: Order = onDead ? { key, onDead } : { key };
    return messageOf({ waiting: ["stock"], dueAt: at(60_000), ...rest, order });
  };
  const enter = async (store: Store, ...messages: Message[]) => (await store.lanes.enter(messages)).turns;
  const end = (key: string, group = "stock"): LaneEnd => ({ key, group });
  const handled = (store: Store, message: Message, group = "stock") =>
    store.messages.handled([handledBy(message._id, group)]);
  const turnOf = async (store: Store, message: Message): Promise<string[]> =>
    (await store.lanes.turnsOf([await get(store, message)])).turns.map(({ group }) => group);
  const later = (store: Store) => new Date(store.now().getTime() + 600_000);
  /** As a sweeper does when its messages have been kept for long enough. */
  const pruneLanes = async (store: Store) => {
    const now = later(store);
    await store.lanes.look(now, 10);
    await store.lanes.prune(new Date(now.getTime() + 1), 10);
  };

  describe("lanes", () => {
    one("the first has the turn, the others stand behind it, another key has its own", async store => {
      const [first, second, third] = [of("a"), of("a"), of("a")];
      const other = of("b");
      const turns = await enter(store, first, second, other, third);
      expect(idsOf(turns).sort()).toEqual([first._id, other._id].sort());
      expect((await get(store, first)).dueAt).toEqual(first.dueAt);
      for (const behind of [second, third]) expect((await get(store, behind)).dueAt).toEqual(BEHIND_AT);
      expect(await turnOf(store, first)).toEqual(["stock"]);
      expect(await turnOf(store, second)).toEqual([]);
    });

    one("nothing moves on while the one that has the turn is in line; then the next one has it, once", async store => {
      const [first, second, third] = [of("a"), of("a"), of("a")];
      await enter(store, first, second, third);
      expect(await store.lanes.advance([end("a")])).toEqual([]);
      await handled(store, first);
      const [turn, ...more] = await store.lanes.advance([end("a"), end("a")]);
      expect(turn).toMatchObject({ key: "a", group: "stock", id: second._id, bytes: second.body.length });
      expect(more).toEqual([]);
      expect(await store.lanes.advance([end("a")])).toEqual([]);
      await handled(store, second);
      const [next] = await store.lanes.advance([end("a")]);
      expect(next?.id).toBe(third._id);
      expect(next?.number).toBeGreaterThan(turn?.number as number);
    });

    two("two that give it at once: one does", async (store, other) => {
      const messages = Array.from({ length: 20 }, (_, n) => [of(`k${n}`), of(`k${n}`)] as const);
      await enter(store, ...messages.flat());
      for (const [first] of messages) await handled(store, first);
      const ends = messages.map((_, n) => end(`k${n}`));
      const given = (await Promise.all([store.lanes.advance(ends), other.lanes.advance(ends)])).flat();
      expect(new Set(idsOf(given))).toEqual(new Set(messages.map(([, second]) => second._id)));
      for (const [, second] of messages) expect(await turnOf(other, second)).toEqual(["stock"]);
      expect(await store.lanes.advance(ends)).toEqual([]);
    });

    two("two that enter at once: one has the turn, and none is forgotten", async (store, other) => {
      const messages = Array.from({ length: 10 }, () => of("a"));
      const both = await Promise.all(messages.map((message, n) => enter(n % 2 ? store : other, message)));
      expect(idsOf(both.flat())).toHaveLength(1);
      const seen = idsOf(both.flat());
      for (let n = 1; n < messages.length; n++) {
        const holder = messages.find(({ _id }) => _id === seen.at(-1)) as Message;
        await handled(store, holder);
        seen.push(...idsOf(await other.lanes.advance([end("a")])));
      }
      expect(seen.sort()).toEqual(messages.map(({ _id }) => _id).sort());
    });

    one("one that enters after the last has left has the turn at once, whoever has noticed that", async store => {
      const [first, second] = [of("a"), of("a")];
      await enter(store, first);
      await handled(store, first);
      expect(idsOf(await enter(store, second))).toEqual([second._id]);
      await handled(store, second);
      expect(await store.lanes.advance([end("a")])).toEqual([]);
      const third = of("a");
      expect(idsOf(await enter(store, third))).toEqual([third._id]);
    });

    one("one that enters when the last has left and others stand behind it has no turn before them", async store => {
      const [first, second, third] = [of("a"), of("a"), of("a")];
      await enter(store, first, second);
      await handled(store, first);
      // Whoever was to give the turn has died: it is given to the one whose it is.
      expect(idsOf(await enter(store, third))).toEqual([second._id]);
      expect((await get(store, third)).dueAt).toEqual(BEHIND_AT);
    });

    one("groups have their turns apart; a message whose groups it is not is passed over", async store => {
      const both = of("a", { waiting: ["stock", "mail"] });
      const mail = of("a", { waiting: ["mail"] });
      const stock = of("a");
      await enter(store, both, mail, stock);
      expect((await turnOf(store, both)).sort()).toEqual(["mail", "stock"]);
      await handled(store, both, "stock");
      expect(idsOf(await store.lanes.advance([end("a"), end("a", "mail")]))).toEqual([stock._id]);
      await handled(store, both, "mail");
      expect(idsOf(await store.lanes.advance([end("a"), end("a", "mail")]))).toEqual([mail._id]);
    });

    one(
      "what has failed for good holds the key; resolved, retried and handled, or discarded it does not",
      async store => {
        const acts: ((message: Message) => Promise<unknown>)[] = [
          message => store.operations.resolve(message, noteOf("resolve")),
          async message => {
            await store.operations.retry(message, at(0), noteOf("retry"));
            expect(await store.lanes.advance([end(message.order?.key as string)])).toEqual([]);
            await handled(store, message);
          },
          message => store.operations.discard(message, discardedOf(message))
        ];
        for (const [n, act] of acts.entries()) {
          const key = `k${n}`;
          const [dead, next] = [of(key), of(key)];
          await enter(store, dead, next);
          await store.messages.failed([failedBy(dead._id, { nextAt: null, holds: key })]);
          expect(await store.lanes.advance([end(key)])).toEqual([]);
          const { keys, more } = await store.lanes.held(10, key);
          expect(more).toBe(false);
          expect(keys).toMatchObject([{ key, group: "stock", id: dead._id, event: dead.event, behind: 1 }]);
          await act(await get(store, dead));
          expect(idsOf(await store.lanes.advance([end(key)]))).toEqual([next._id]);
          expect((await store.lanes.held(10, key)).keys).toEqual([]);
        }
      }
    );

    one("with onDead skip it does not hold it; retried it has the next turn", async store => {
      const [dead, second, third] = [of("a", { onDead: "skip" }), of("a"), of("a")];
      await enter(store, dead, second, third);
      await store.messages.failed([failedBy(dead._id, { nextAt: null, leaves: "a" })]);
      expect(idsOf(await store.lanes.advance([end("a")]))).toEqual([second._id]);
      expect((await store.lanes.held(10)).keys).toEqual([]);
      await store.operations.retry(await get(store, dead), at(0), noteOf("retry"));
      // Its sweep finds that it has no turn.
      expect(await turnOf(store, dead)).toEqual([]);
      await handled(store, second);
      expect(idsOf(await store.lanes.advance([end("a")]))).toEqual([dead._id]);
      await handled(store, dead);
      expect(idsOf(await store.lanes.advance([end("a")]))).toEqual([third._id]);
    });

    one("repeated for want of an answer, an insert changes nothing; a place is announced by it", async store => {
      const [first, second] = [of("a"), of("a")];
      await store.messages.insert([Object.assign(first, { place: "a\u0001000000000001" })]);
      const again = await store.lanes.enter([{ ...first }]);
      expect(again.outcomes).toMatchObject([{ stored: false, existing: { _id: first._id } }]);
      expect(idsOf(again.turns)).toEqual([first._id]);
      expect(await enter(store, second)).toEqual([]);
    });

    one("a row whose emit died before it had announced it has its place by the sweep", async store => {
      const [first, second] = [of("a"), of("a")];
      await store.messages.insert([Object.assign(first, { place: "a\u0001000000000001" })]);
      expect(await turnOf(store, first)).toEqual(["stock"]);
      await store.messages.insert([Object.assign(second, { place: "a\u0001000000000002" })]);
      expect(await turnOf(store, second)).toEqual([]);
      await handled(store, first);
      expect(idsOf(await store.lanes.advance([end("a")]))).toEqual([second._id]);
    });

    two(
      "rows of a transaction have their places in its order, whoever numbers them; before who enters then",
      async (store, other) => {
        const rows = Array.from({ length: 5 }, (_, n) => of("a", { place: placeToCome("a", "t1", n) }));
        await store.lanes.expect(["a"], later(store));
        await store.messages.insert([...rows].reverse());
        const entering = of("a");
        const turns = (
          await Promise.all([store.lanes.place(["a"]), other.lanes.place(["a"]), enter(other, entering)])
        ).flat();
        // Several may say that they have given it: its claim is one's.
        const seen = [...new Set(idsOf(turns))];
        expect(seen).toHaveLength(1);
        for (let n = 1; n < 6; n++) {
          const holder = [...rows, entering].find(({ _id }) => _id === seen.at(-1)) as Message;
          await handled(store, holder);
          seen.push(...idsOf(await store.lanes.advance([end("a")])));
        }
        const inLine = seen.filter(id => id !== entering._id);
        expect(inLine).toEqual(rows.map(({ _id }) => _id));
      }
    );

    one("one that enters is behind what was committed before it and has no number yet", async store => {
      await store.lanes.expect(["a"], later(store));
      const committed = of("a", { place: placeToCome("a", "t1", 0) });
      await store.messages.insert([committed]);
      const entering = of("a");
      expect(idsOf(await enter(store, entering))).toEqual([committed._id]);
      await handled(store, committed);
      expect(idsOf(await store.lanes.advance([end("a")]))).toEqual([entering._id]);
    });

    one("with a claim it is stored under it if it is its turn at once", async store => {
      const claim = { claim: "c", until: at(90_000) };
      const [first, second] = [of("a"), of("a")];
      const entered = await store.lanes.enter([first, second], claim);
      expect(entered.claimed.map(({ _id }) => _id)).toEqual([first._id]);
      expect(idsOf(entered.turns)).toEqual([first._id]);
      expect(await get(store, first)).toMatchObject({ claim: "c", dueAt: at(90_000) });
      const behind = await get(store, second);
      expect(behind.claim).toBeUndefined();
      expect(behind.dueAt).toEqual(BEHIND_AT);
    });

    one(
      "those for whom no group was known are named in their order, and who enters meanwhile is behind them",
      async store => {
        const unnamed = [of("a", { waiting: ["*"] }), of("a", { waiting: ["*"] })] as [Message, Message];
        expect(await enter(store, ...unnamed)).toEqual([]);
        const entering = of("a");
        expect(await enter(store, entering)).toEqual([]);
        expect((await get(store, entering)).waiting).toEqual(["*"]);
        const found = await store.lanes.unnamed(["a"], 10);
        expect(found.map(({ id }) => id)).toEqual([...unnamed, entering].map(({ _id }) => _id));
        const named = found.slice(0, 2).map(({ key, id }) => ({ key, id, groups: ["stock"] }));
        expect(idsOf(await store.lanes.name(named))).toEqual([unnamed[0]._id]);
        const next = of("a");
        await enter(store, next);
        expect((await get(store, next)).waiting).toEqual(["*"]);
        await store.lanes.name([entering, next].map(({ _id }) => ({ key: "a", id: _id, groups: ["stock"] })));
        const last = of("a");
        await enter(store, last);
        expect((await get(store, last)).waiting).toEqual(["stock"]);
        const seen = [unnamed[0]._id];
        for (let n = 1; n < 5; n++) {
          await handled(store, [...unnamed, entering, next, last].find(({ _id }) => _id === seen.at(-1)) as Message);
          seen.push(...idsOf(await store.lanes.advance([end("a")])));
        }
        expect(seen).toEqual([...unnamed, entering, next, last].map(({ _id }) => _id));
      }
    );

    one("a lane that has not changed is looked at: what is not under way, and what nobody has given", async store => {
      const [first, second, third] = [of("a"), of("a"), of("a")];
      await enter(store, first, second, third);
      expect((await store.lanes.look(store.now(), 10)).turns).toEqual([]);
      // Handled, and whoever was to give the turn has died.
      await handled(store, first);
      expect(idsOf((await store.lanes.look(later(store), 10)).turns)).toEqual([second._id]);
      // Given, and whoever was to publish it has died.
      expect(idsOf((await store.lanes.look(later(store), 10)).turns)).toEqual([second._id]);
      await store.lanes.wake([second._id], at(0));
      expect((await get(store, second)).dueAt).toEqual(at(0));
      expect((await store.lanes.look(later(store), 10)).turns).toEqual([]);
      await handled(store, second);
      await store.lanes.advance([end("a")]);
      await handled(store, third);
      expect((await store.lanes.look(later(store), 10)).turns).toEqual([]);
      expect(await store.lanes.prune(later(store), 10)).toBe(false);
      const again = of("a");
      expect(idsOf(await enter(store, again))).toEqual([again._id]);
    });

    one("a lane in which somebody stands is not pruned", async store => {
      const [first, second] = [of("a"), of("a")];
      await enter(store, first, second);
      await store.lanes.look(later(store), 10);
      await store.lanes.prune(later(store), 10);
      await handled(store, first);
      expect(idsOf(await store.lanes.advance([end("a")]))).toEqual([second._id]);
    });

    one("the numbers of a key's turns grow on though its lane was pruned meanwhile", async store => {
      const seen: number[] = [];
      for (let n = 0; n < 3; n++) {
        const message = of("a");
        seen.push(...(await store.lanes.enter([message])).turns.map(({ number }) => number));
        await handled(store, message);
        await store.prune(later(store), 10);
        await pruneLanes(store);
        expect(await store.lanes.holders("a")).toBeUndefined();
      }
      expect(seen).toHaveLength(3);
      expect(seen).toEqual([...new Set(seen)].sort((a, b) => a - b));
    });

    one("a lane of one message is kept as long as that, and goes when it is pruned or discarded", async store => {
      const keys = ["pruned", "discarded", "many", "kept"];
      const [pruned, ...dead] = keys.map(key => of(key)) as [Message, ...Message[]];
      await enter(store, pruned, ...dead);
      await handled(store, pruned);
      for (const { _id, order } of dead)
        await store.messages.failed([failedBy(_id, { nextAt: null, holds: (order as Order).key })]);
      await pruneLanes(store);
      for (const key of keys) expect(await store.lanes.holders(key)).toBeDefined();
      await store.prune(later(store), 10);
      const [one, other] = dead as [Message, Message];
      await store.operations.discard(await get(store, one), discardedOf(await get(store, one)));
      const scope = scopeOf({ act: "discard", query: { before: later(store) } });
      const found = await store.bulkMessages.select(scope, undefined, 10);
      const many = found.filter(({ _id }) => _id === other._id);
      await store.bulkMessages.discard(scope, many, [discardedOf(await get(store, other))]);
      await pruneLanes(store);
      for (const key of keys.slice(0, 3)) expect(await store.lanes.holders(key)).toBeUndefined();
      expect(await store.lanes.holders("kept")).toEqual(new Map([["stock", dead[2]?._id]]));
    });

    one("a lane whose only message is in line is not pruned, whatever was expected there", async store => {
      const [first, second] = [of("a"), of("a")];
      await enter(store, first);
      await store.lanes.expect(["a"], at(0));
      await pruneLanes(store);
      expect(await enter(store, second)).toEqual([]);
    });

    one("a lane that is stirred while its next one enters is not pruned", async store => {
      const [first, second] = [of("a"), of("a")];
      await enter(store, first);
      await handled(store, first);
      await store.prune(later(store), 10);
      await enter(store, second);
      await pruneLanes(store);
      expect(await turnOf(store, second)).toEqual(["stock"]);
      const third = of("a");
      expect(await enter(store, third)).toEqual([]);
      await handled(store, second);
      expect(idsOf(await store.lanes.advance([end("a")]))).toEqual([third._id]);
    });

    one("who is late is seen by those who have only seen one alone", async store => {
      const first = of("a");
      await enter(store, of("b"), first);
      // Its emit was slow between the look and the insert, and found the number taken.
      const late = of("a", { place: first.place as string });
      await store.messages.insert([late]);
      expect(await turnOf(store, late)).toEqual([]);
      await handled(store, first);
      expect(idsOf(await store.lanes.advance([end("a")]))).toEqual([late._id]);
    });

    one("a lane whose message waits for a group to be known is not pruned; without it, it goes", async store => {
      const [first, second] = [of("a", { waiting: [ANY_GROUP] }), of("a")];
      await enter(store, first);
      for (let n = 0; n < 2; n++) await pruneLanes(store);
      expect(await enter(store, second)).toEqual([]);
      await store.lanes.name([first, second].map(({ _id: id }) => ({ key: "a", id, groups: ["stock"] })));
      await handled(store, first);
      expect(idsOf(await store.lanes.advance([end("a")]))).toEqual([second._id]);
      const gone = of("b", { waiting: [ANY_GROUP] });
      await enter(store, gone);
      await rawOf(store).messages.remove({ _id: gone._id });
      for (let n = 0; n < 2; n++) await pruneLanes(store);
      expect(await store.lanes.holders("b")).toBeUndefined();
    });

    one("who is late says so for each of its groups", async store => {
      const groups = ["stock", "mail"];
      const ends = groups.map(group => end("a", group));
      const [first, second, third, last] = Array.from({ length: 4 }, () => of("a", { waiting: groups })) as [
        Message,
        Message,
        Message,
        Message
      ];
      await enter(store, first, second, third, last);
      for (const done of [first, second]) {
        for (const group of groups) await handled(store, done, group);
        await store.lanes.advance(ends);
      }
      // Its emit was slow between the look and the insert.
      const late = of("a", { waiting: groups, place: "a\u0001000000000002" });
      await store.messages.insert([late]);
      expect(await turnOf(store, late)).toEqual([]);
      for (const group of groups) {
        await handled(store, third, group);
        expect(idsOf(await store.lanes.advance([end("a", group)]))).toEqual([late._id]);
        await handled(store, late, group);
        expect(idsOf(await store.lanes.advance([end("a", group)]))).toEqual([last._id]);
      }
    });

    one("scheduled ones that are found together have their places by their instants", async store => {
      const [first, second] = [at(1000), at(2000)].map(sendAt =>
        of("a", {
          sendAt,
          place: placeToCome("a", String(sendAt.getTime()).padStart(15, "0"))
        })
      ) as [Message, Message];
      await store.messages.insert([second, first]);
      expect(idsOf(await store.lanes.place(["a"]))).toEqual([first._id]);
      await handled(store, first);
      expect(idsOf(await store.lanes.advance([end("a")]))).toEqual([second._id]);
    });

    one("a key has any text, and keys that begin alike do not meet", async store => {
      const keys = ["a", "a0", "a.b", "$where", "constructor", "ä", "a~", "7"];
      const messages = keys.flatMap(key => [of(key), of(key)]);
      expect(idsOf(await enter(store, ...messages))).toHaveLength(keys.length);
      for (const [n, key] of keys.entries()) {
        const [first, second] = messages.slice(2 * n) as [Message, Message];
        await handled(store, first);
        expect(idsOf(await store.lanes.advance([end(key)]))).toEqual([second._id]);
      }
    });
  });
}
