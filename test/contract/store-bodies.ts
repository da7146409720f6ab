import { describe, expect, it } from "vitest";
import type { Message } from "../../src/message/message";
import { MAX_BODY_IN_ROW } from "../../src/stores/documents/bodies";
import type { Collection, Doc, Filter } from "../../src/stores/documents/collection";
import type { Store } from "../../src/stores/store";
import type { InsertOutcome } from "../../src/stores/store-records";
import { at, deadOf, discardedOf, finalOf, handledBy, messageOf, noteOf } from "../support/messages";
import { rawOf, type StoreKind, withStores } from "./store";

const DAY = 86_400_000;

/** Too large for its row. */
function largeOf(fill: string): Buffer {
  return Buffer.alloc(MAX_BODY_IN_ROW + 1, fill);
}

/** Large bodies stand apart from their rows (law 1: before them; laws 2 and 10: no message without its own). */
export function bodies(kind: StoreKind): void {
  const one = (name: string, test: (store: Store) => Promise<void>) => it(name, () => withStores(kind, 1, test));
  const large = (fields: Partial<Message> = {}) => messageOf({ body: largeOf("a"), ...fields });
  const callback = (fields: Partial<Message> = {}) => large({ strategy: "callback", status: "published", ...fields });
  /** With its body as a text: bytes are compared one by one. */
  const seen = (message?: Message) => message && { ...message, body: String(message.body) };
  const textOf = (message?: Message) => String(message?.body);
  const bodyIn = async (store: Store, id: string) => textOf((await store.messages.find([id]))[0]);
  const apart = (store: Store) => rawOf(store).bodies.find({});
  const rowOf = async (store: Store, _id: string) => (await rawOf(store).messages.find({ _id }))[0] as Doc;
  /** Commands to the two collections, in their order. */
  const commandsOf = (store: Store): string[] => {
    const commands: string[] = [];
    for (const name of ["messages", "bodies"] as const) {
      const collection = rawOf(store)[name];
      for (const verb of ["insertEach", "attempt", "update", "find", "remove"] as const) {
        const given = (collection[verb] as (...args: unknown[]) => Promise<unknown>).bind(collection);
        Object.assign(collection, {
          async [verb](...args: unknown[]) {
            const result = await given(...args);
            commands.push(`${name} ${verb}`);
            return result;
          }
        });
      }
    }
    return commands;
  };
  /** The process dies before the command reaches the collection. */
  const dyingAt = (collection: Collection, verb: "insertEach" | "attempt" | "remove") => {
    const given = collection[verb];
    Object.assign(collection, { [verb]: () => Promise.reject(new Error("died")) });
    return () => Object.assign(collection, { [verb]: given });
  };

  describe("large bodies", () => {
    one("of a batch are stored at once, before the rows, and come back with them", async store => {
      const rows = [large(), messageOf(), large({ body: largeOf("b") })] as const;
      const commands = commandsOf(store);
      expect(await store.messages.insert([...rows])).toEqual([{ stored: true }, { stored: true }, { stored: true }]);
      expect(commands).toEqual(["bodies insertEach", "messages insertEach"]);
      const ids = rows.map(({ _id }) => _id);
      expect((await store.messages.find(ids)).map(seen)).toEqual(rows.map(seen));
      expect(await rowOf(store, rows[0]._id)).not.toHaveProperty("body");
      expect(await apart(store)).toHaveLength(2);
      const due = await store.messages.due({ now: at(30_000), limit: 10 });
      expect(due.map(({ bytes }) => bytes).toSorted()).toEqual(rows.map(({ body }) => body.length).toSorted());
      const claimed = await store.messages.claim({ ids, now: at(30_000), until: at(90_000), claim: "c" });
      expect(claimed.map(textOf)).toEqual(rows.map(textOf));
    });

    one("are not read by lists, and of messages without any no command differs", async store => {
      const [big, small, edge] = [deadOf({ body: largeOf("a") }), deadOf(), deadOf()];
      edge.body = Buffer.alloc(MAX_BODY_IN_ROW);
      await store.messages.insert([big]);
      const commands = commandsOf(store);
      await store.messages.insert([small, edge]);
      await store.messages.find([small._id, edge._id]);
      await store.messages.insert([small]);
      await store.messages.handled([handledBy(small._id)]);
      const { rows } = await store.messages.list({}, 10);
      expect(commands.filter(command => command.startsWith("bodies"))).toEqual([]);
      expect(rows.find(({ _id }) => _id === big._id)).toMatchObject({ bytes: big.body.length });
      for (const row of rows) {
        expect(row).not.toHaveProperty("body");
        expect(row).not.toHaveProperty("bodyId");
      }
      expect((await rowOf(store, edge._id)).body).toHaveLength(MAX_BODY_IN_ROW);
    });

    one("of an id that is there already change nothing, and leave nothing", async store => {
      const message = large();
      await store.messages.insert([message]);
      const twins = [{ ...message, body: largeOf("b") }, { ...message }, { ...message, createdAt: at(7) }];
      const outcomes = (await store.messages.insert(twins)) as InsertOutcome[];
      expect(outcomes.map(outcome => !outcome.stored && seen(outcome.existing))).toEqual(
        twins.map(() => seen(message))
      );
      expect(await bodyIn(store, message._id)).toBe(textOf(message));
      expect(await apart(store)).toHaveLength(1);
    });

    one("stay when an insert that was repeated finds its own row", async store => {
      const message = large();
      const { messages } = rawOf(store);
      const given = messages.insertEach.bind(messages);
      messages.insertEach = async docs => {
        await given(docs);
        return given(docs);
      };
      const [outcome] = (await store.messages.insert([message])) as InsertOutcome[];
      expect(outcome && !outcome.stored && seen(outcome.existing)).toEqual(seen(message));
      expect(await bodyIn(store, message._id)).toBe(textOf(message));
    });

    one("whose process died before the row do no harm, and are pruned a day after `retainMs`", async store => {
      const message = large();
      const heal = dyingAt(rawOf(store).messages, "insertEach");
      await expect(store.messages.insert([message])).rejects.toThrow("died");
      heal();
      expect(await store.messages.find([message._id])).toEqual([]);
      expect(await store.messages.insert([message])).toEqual([{ stored: true }]);
      const now = store.now().getTime();
      await store.prune(new Date(now + DAY - 60_000), 10);
      expect(await apart(store)).toHaveLength(2);
      // That in use is looked at once, and then not for as long.
      expect(await store.prune(new Date(now + DAY + 60_000), 2)).toEqual({ messages: 0, more: true });
      expect(await bodyIn(store, message._id)).toBe(textOf(message));
      const left = await apart(store);
      expect(left).toHaveLength(1);
      for (const { at: looked } of left) expect((looked as Date).getTime()).toBeGreaterThanOrEqual(now);
    });

    one("that are missing make their row one that cannot be read: set aside and told, never sent", async store => {
      const [bad, good] = [large({ dueAt: at(0) }), large({ dueAt: at(0) })];
      await store.messages.insert([bad, good]);
      await rawOf(store).bodies.remove({ _id: (await rowOf(store, bad._id)).bodyId });
      const told: Error[] = [];
      const ids = [bad._id, good._id];
      const unreadable = (error: Error) => told.push(error);
      const claimed = await store.messages.claim({ ids, now: at(100), until: at(200), claim: "c", unreadable });
      expect(claimed.map(({ _id }) => _id)).toEqual([good._id]);
      expect(told).toMatchObject([
        { type: "RELIABLE_UNREADABLE_ROW", data: { id: bad._id, reason: "its body is gone" } }
      ]);
      expect(await store.messages.due({ now: at(1e9), limit: 10 })).toMatchObject([{ id: good._id }]);
      expect(await store.messages.find(ids)).toHaveLength(1);
      expect(await store.messages.insert([bad])).toMatchObject([{ type: "RELIABLE_UNREADABLE_ROW" }]);
    });
  });

  describe("large bodies of strategy `callback` and of intents", () => {
    one("come with rows from receipts and checks", async store => {
      const [received, checked] = [callback(), callback({ body: largeOf("b") })];
      expect(await store.messages.insertFromReceipts([received])).toEqual(new Set([received._id]));
      for (let times = 0; times < 2; times++) {
        const rows = await store.messages.upsertFromChecks([received, checked]);
        expect(rows.map(seen)).toEqual([received, checked].map(seen));
      }
      expect(await apart(store)).toHaveLength(2);
    });

    one("complete a row that is known in part, and take the place of a withdrawn one's", async store => {
      const partial = callback({ createdAt: at(3) });
      await store.messages.insertFromReceipts([{ ...partial, body: Buffer.alloc(0), partial: true }]);
      await store.messages.upsertFromChecks([partial]);
      expect(await bodyIn(store, partial._id)).toBe(textOf(partial));
      expect(await rowOf(store, partial._id)).toMatchObject({ bytes: partial.body.length });
      expect(await rowOf(store, partial._id)).not.toHaveProperty("body");
      const old = callback({ status: "intended", createdAt: at(1) });
      await store.messages.insert([old]);
      await store.intents.withdraw(old._id, noteOf("withdraw"), old.createdAt);
      const again = callback({ _id: old._id, body: largeOf("c"), createdAt: at(5) });
      expect((await store.messages.upsertFromChecks([again])).map(textOf)).toEqual([textOf(again)]);
      await store.intents.withdraw(old._id, noteOf("withdraw"));
      expect(await bodyIn(store, old._id)).toBe(textOf(again));
    });

    one("give way to a small one", async store => {
      const old = callback({ status: "intended", createdAt: at(1) });
      await store.messages.insert([old]);
      await store.intents.withdraw(old._id, noteOf("withdraw"), old.createdAt);
      const again = callback({ _id: old._id, body: Buffer.from("{}"), createdAt: at(5) });
      await store.messages.upsertFromChecks([again]);
      expect(await bodyIn(store, old._id)).toBe(textOf(again));
    });

    one("are there before the row says so, of an intent whose source had it", async store => {
      const intent = messageOf({ status: "intended", intent: "source", body: Buffer.alloc(0) });
      await store.messages.insert([intent]);
      const commands = commandsOf(store);
      expect(await store.intents.happened(intent._id, at(9), { body: largeOf("b") })).toBe(true);
      expect(commands).toEqual(["bodies insertEach", "messages attempt"]);
      expect(await bodyIn(store, intent._id)).toBe(String(largeOf("b")));
      expect(await rowOf(store, intent._id)).toMatchObject({ bytes: MAX_BODY_IN_ROW + 1 });
      expect(await store.intents.happened(intent._id, at(9), { body: largeOf("c") })).toBe(false);
      expect(await bodyIn(store, intent._id)).toBe(String(largeOf("b")));
    });
  });

  describe("large bodies leave with their messages", () => {
    one("when they are pruned, and not before they are final", async store => {
      const body = largeOf("a");
      const gone = finalOf("consumed", at(0), { body });
      const kept = [
        finalOf("consumed", at(100), { body }),
        deadOf({ body, at: at(-1e9) }),
        large({ createdAt: at(-1e9) })
      ];
      await store.messages.insert([gone, ...kept]);
      const ids = kept.map(({ _id }) => _id);
      const left = async () => (await apart(store)).map(({ of }) => of).toSorted();
      expect(await store.prune(at(50), 10)).toEqual({ messages: 1, more: false });
      expect(await left()).toEqual(ids.toSorted());
      await rawOf(store).bodies.update({}, { $set: { at: at(-DAY) } });
      expect(await store.prune(at(50), 10)).toEqual({ messages: 0, more: false });
      expect((await store.messages.find(ids)).map(seen)).toEqual(kept.map(seen));
      expect(await left()).toEqual(ids.toSorted());
    });

    one("but not that of a message which is emitted again while it is pruned", async store => {
      const message = finalOf("consumed", at(0), { body: largeOf("a") });
      await store.messages.insert([message]);
      const { messages } = rawOf(store);
      const remove = messages.remove.bind(messages);
      const again = async (filter: Filter) => {
        await messages.update({ _id: message._id }, { $set: { status: "pending" } });
        return remove(filter);
      };
      Object.assign(messages, { remove: again });
      expect(await store.prune(at(50), 10)).toEqual({ messages: 0, more: false });
      expect(await bodyIn(store, message._id)).toBe(textOf(message));
    });

    one("when they are discarded, after the row", async store => {
      const dead = deadOf({ body: largeOf("a") });
      await store.messages.insert([dead]);
      const heal = dyingAt(rawOf(store).messages, "remove");
      await expect(store.operations.discard(dead, discardedOf(dead))).rejects.toThrow("died");
      heal();
      expect(await bodyIn(store, dead._id)).toBe(textOf(dead));
      expect(await store.operations.discard({ ...dead, failed: ["mail"] }, discardedOf(dead))).toBe(false);
      expect(await apart(store)).toHaveLength(1);
      const commands = commandsOf(store);
      expect(await store.operations.discard(dead, discardedOf(dead))).toBe(true);
      expect(commands.filter(command => command.endsWith("remove"))).toEqual(["messages remove", "bodies remove"]);
      expect(await apart(store)).toEqual([]);
      // The same id, emitted anew, is another message.
      await store.messages.insert([dead]);
      expect(await bodyIn(store, dead._id)).toBe(textOf(dead));
    });
  });
}
