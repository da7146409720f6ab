import { EventEmitter } from "node:events";
import { expect, it } from "vitest";
import { SessionEmits } from "../../src/emit/session-emits";
import type { Message } from "../../src/message/message";
import type { Store } from "../../src/stores/store";
import { messageOf } from "../support/messages";

it("one listener and one look for all emits of a session, page by page", async () => {
  const session = new EventEmitter();
  const looks: string[][] = [];
  const found: Message[][] = [];
  const works: Promise<void>[] = [];
  const store = {
    messages: {
      onSessionEnd: (of: EventEmitter, listener: () => void) => void of.once("ended", listener),
      find: async (ids: string[]) => {
        looks.push(ids);
        return ids.filter(id => id !== "m1").map(_id => messageOf({ _id }));
      }
    }
  } as unknown as Store;
  const emits = new SessionEmits(
    store,
    rows => found.push(rows),
    work => works.push(work)
  );
  const ids = Array.from({ length: 150 }, (_, n) => `m${n}`);
  for (const id of ids) emits.add(session, id);
  expect(session.listenerCount("ended")).toBe(1);
  session.emit("ended");
  await Promise.all(works);
  expect(looks.map(({ length }) => length)).toEqual([100, 50]);
  expect(found.flat().map(({ _id }) => _id)).toEqual(ids.filter(id => id !== "m1"));

  // A later emit in the ended session is looked at too.
  emits.add(session, "late");
  session.emit("ended");
  await Promise.all(works);
  expect(looks.at(-1)).toEqual(["late"]);
});
