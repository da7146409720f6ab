import { expect, it } from "vitest";
import type { AuditRow } from "../../src";
import type { Erased } from "../../src/operator/erase";
import type { Page } from "../../src/operator/operations";
import { reliableCommand } from "../../src/operator/repl/command";
import { cluster, until } from "../support/brokers";
import { deadOf, finalOf, messageOf } from "../support/messages";
import { storeOf } from "../support/runtime";
import { emitter, emitterOf, errorOf, oneNode, story } from "../support/services";

const AGO = (ms: number) => new Date(Date.now() - ms);
const HOUR = 3_600_000;
const KEY = "customer=c-7";
const body = Buffer.from(JSON.stringify({ name: "Ann" }));

it("erase drops the payloads of what is finished, says what is left and why, and is on record", async () => {
  const made = cluster();
  const { broker } = await oneNode(made, []);
  const erase = (params: object) => broker.call<Erased, object>("reliable.erase", params);
  const mine = { keys: [KEY], body };
  await storeOf(broker).messages.insert([
    finalOf("consumed", AGO(1000), { ...mine, _id: "done" }),
    finalOf("resolved", AGO(1000), { ...mine, _id: "closed" }),
    deadOf({ ...mine, _id: "dead" }),
    messageOf({ ...mine, _id: "open", dueAt: AGO(-HOUR) }),
    finalOf("consumed", AGO(1000), { _id: "other", body, keys: ["customer=c-8"] })
  ]);
  const left = [
    { status: "pending", messages: 1, why: expect.stringContaining("not delivered yet") },
    { status: "dead", messages: 1, why: expect.stringContaining("a human decides") }
  ];
  expect(await erase({ key: KEY, dryRun: true })).toEqual({ key: KEY, erased: 2, already: 0, left, dryRun: true });
  expect((await broker.call<Page<AuditRow>, object>("reliable.audits", {})).total).toBe(0);
  expect(await errorOf(erase({ key: KEY }))).toMatchObject({ type: "RELIABLE_BAD_OPTION", data: { option: "note" } });
  expect(await errorOf(erase({ key: "c-7", note: "x" }))).toMatchObject({ data: { option: "key" } });

  const note = "Ann asked for it on 1 May";
  expect(await erase({ key: KEY, note, by: "bob" })).toEqual({ key: KEY, erased: 2, already: 0, left, dryRun: false });
  for (const id of ["done", "closed"]) {
    const told = await story(broker, id);
    expect(told).toMatchObject({ payload: null, meta: {}, bytes: body.length, payloadDroppedAt: expect.any(String) });
    expect(told.timeline.map(({ what }) => what)).toContain(`erase by bob: ${note}`);
  }
  for (const id of ["dead", "open", "other"]) expect((await story(broker, id)).payload).toEqual({ name: "Ann" });
  const { rows } = await broker.call<Page<AuditRow>, object>("reliable.audits", {});
  expect(rows).toMatchObject([{ act: "erase", by: "bob", note, state: "done", matched: 2, done: 2, left: 2 }]);
  expect(rows[0]?.filter).toContain(KEY);
  expect(await erase({ key: KEY, note })).toMatchObject({ erased: 0, already: 2 });

  const typed = await reliableCommand(broker, { what: "erase", options: { key: KEY, dryRun: true } });
  expect(typed).toMatch(
    /0 finished message\(s\) with customer=c-7 would be dropped[\s\S]*2 had none any more[\s\S]*dead/
  );
  expect(await reliableCommand(broker, { what: "get", ids: ["done"] })).toMatch(/payload dropped at 20/);
});

it("retainBodiesMs: the sweeper drops payloads before the rows; an emit with such an id finds its message", async () => {
  const made = cluster();
  const options = { retainBodiesMs: HOUR, retainMs: 10 * HOUR };
  const keeper = await made.node("keeper", [emitter(made.mixin({ ...options, sweeper: false }))]);
  const store = storeOf(keeper);
  await store.messages.insert([
    finalOf("consumed", AGO(2 * HOUR), { _id: "old", body }),
    finalOf("consumed", AGO(HOUR / 2), { _id: "young", body }),
    deadOf({ _id: "dead", body, at: AGO(9 * HOUR) })
  ]);
  const sweeper = await made.node("sweeper", [emitter(made.mixin(options))]);
  await until(async () => (await story(sweeper, "old")).payload === null);
  for (const id of ["young", "dead"]) expect((await story(sweeper, id)).payload).toEqual({ name: "Ann" });
  const emit = emitterOf(sweeper);
  expect(await emit("order.created", { name: "Ann" }, { id: "old" })).toMatchObject({ status: "consumed" });
  expect(await errorOf(emit("order.created", { name: "Annabel" }, { id: "old" }))).toMatchObject({
    type: "RELIABLE_DUPLICATE_ID"
  });
});

it("retainBodiesMs above retainMs would do nothing, and is refused", async () => {
  const made = cluster();
  const start = made.node("node-1", [emitter(made.mixin({ retainBodiesMs: 2 * HOUR, retainMs: HOUR }))]);
  expect(await errorOf(start)).toMatchObject({ type: "RELIABLE_BAD_OPTION", data: { option: "retainBodiesMs" } });
});
