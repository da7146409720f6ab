import { expect, it } from "vitest";
import { businessWrite } from "../../src/emit/intent";
import { ReliableError, ReliableRetryableError } from "../../src/errors";
import { Warnings } from "../../src/platform/warnings";
import type { IntentStore } from "../../src/stores/store";
import { messageOf, silent } from "../support/messages";

/** The business write of an emit with `barrier: true`, whose barrier row ends as told. */
function writing(written: Promise<void>) {
  const asked: string[] = [];
  const intents = {
    barrier: () => written,
    rolledBack: async (id: string) => {
      asked.push(id);
      return false;
    }
  } as unknown as IntentStore;
  const message = messageOf({ _id: "m1", intent: "barrier" });
  const write = businessWrite(message, {}, ({ barrier }) => void barrier({}).catch(() => undefined), {
    intents: () => intents,
    warnings: new Warnings(silent)
  });
  return { write, asked };
}

const refused = new ReliableError("RELIABLE_BAD_SESSION", "no", {});
const lost = new ReliableRetryableError("RELIABLE_UNAVAILABLE", "no answer", {});

it.each<[what: string, end: () => Promise<void>, asked: boolean]>([
  ["was written", async () => undefined, true],
  ["was refused", () => Promise.reject(refused), false],
  ["got no answer", () => Promise.reject(lost), true],
  ["met a conflict", () => Promise.reject(new Error("WriteConflict")), true]
])("whether a failed business write is undone is asked when its barrier row %s", async (_, end, asked) => {
  const made = writing(end());
  await made.write.commit();
  expect(await made.write.rolledBack()).toBe(!asked);
  expect(made.asked).toEqual(asked ? ["m1"] : []);
});

it("a barrier row that nobody awaits is waited for: it could come after the answer", async () => {
  let come: () => void = () => undefined;
  const { write, asked } = writing(new Promise(resolve => (come = resolve)));
  await write.commit();
  const answer = write.rolledBack();
  expect(await Promise.race([answer, new Promise(resolve => setImmediate(resolve, "waits"))])).toBe("waits");
  expect(asked).toEqual([]);
  come();
  expect(await answer).toBe(false);
  expect(asked).toEqual(["m1"]);
});
