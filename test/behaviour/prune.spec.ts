import { expect, it } from "vitest";
import { cluster, until } from "../support/brokers";
import { deadOf, finalOf, messageOf } from "../support/messages";
import { storeOf } from "../support/runtime";
import { emitter } from "../support/services";

const HOUR = 3_600_000;
const AGO = (ms: number) => new Date(Date.now() - ms);

it("prunes final messages and inbox rows after retainMs, and never dead or open ones", async () => {
  const made = cluster();
  const options = { retainMs: HOUR };
  const keeper = await made.node("keeper", [emitter(made.mixin({ ...options, sweeper: false }))]);
  const store = storeOf(keeper);
  const old = { createdAt: AGO(1000 * HOUR) };
  await store.messages.insert([
    finalOf("consumed", AGO(2 * HOUR), { _id: "consumed-old", ...old }),
    finalOf("resolved", AGO(2 * HOUR), { _id: "resolved-old", ...old }),
    finalOf("withdrawn", AGO(2 * HOUR), { _id: "withdrawn-old", ...old }),
    finalOf("consumed", AGO(HOUR / 2), { _id: "consumed-young", ...old }),
    deadOf({ _id: "dead-old", at: AGO(900 * HOUR), ...old }),
    messageOf({ _id: "pending-old", dueAt: AGO(-HOUR), ...old }),
    messageOf({ _id: "published-old", status: "published", publishedAt: AGO(900 * HOUR), dueAt: AGO(-HOUR), ...old })
  ]);
  await store.inbox.add("stock", ["handled-old"], AGO(2 * HOUR));
  await store.inbox.add("stock", ["handled-young"], AGO(HOUR / 2));

  await made.node("sweeper", [emitter(made.mixin(options))]);
  const left = async () => (await store.messages.list({}, 100)).rows.map(({ _id }) => _id).sort();
  await until(left, ids => !ids.some(id => /^(consumed|resolved|withdrawn)-old/.test(id)));
  await until(
    () => store.inbox.handled("stock", ["handled-old", "handled-young"]),
    ids => ids.size === 1
  );
  expect(await left()).toEqual(["consumed-young", "dead-old", "pending-old", "published-old"]);
  expect(await store.inbox.handled("stock", ["handled-old", "handled-young"])).toEqual(new Set(["handled-young"]));
});
