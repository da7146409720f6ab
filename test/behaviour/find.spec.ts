import { describe, expect, it } from "vitest";
import type { CausesAnswer } from "../../src/operator/causes";
import type { MessagePage } from "../../src/operator/list";
import { until } from "../support/brokers";
import { errorOf, reaches } from "../support/services";
import { asked, STRATEGIES, world } from "../support/strategies";

const fails = (message: string, type: string) =>
  Promise.reject(Object.assign(new Error(message), { type, retryable: false }));

describe.each(STRATEGIES)("finding messages ($name)", ({ name }) => {
  const listed = async ({ broker }: Awaited<ReturnType<typeof world>>, filter: object) =>
    (await broker.call<MessagePage, object>("reliable.list", filter)).rows.map(({ id }) => id);

  it("by message keys, of an emit and of an intent, by request and by the beginning of the id", async () => {
    const made = await world(name, { stock: () => undefined }, { more: [asked(() => "unknown")] });
    const { broker, emit } = made;
    const ctx = { requestID: "request-1", meta: {}, level: 1, nodeID: "node-1" };
    await emit("order.created", { n: 1 }, { id: "o-1", keys: { order: 42, customer: "c-7" }, ctx });
    await emit(
      "order.created",
      { n: 2 },
      { id: "o-2", keys: { order: 43, customer: "c-7" }, commit: () => undefined, source: { action: "asked.happened" } }
    );
    await emit("order.created", { n: 3 }, { id: "p-1" });
    for (const id of ["o-1", "o-2", "p-1"]) await reaches(broker, id, "consumed");
    expect(await listed(made, { key: "order=42" })).toEqual(["o-1"]);
    expect((await listed(made, { key: "customer=c-7" })).sort()).toEqual(["o-1", "o-2"]);
    expect(await listed(made, { key: ["customer=c-7", "order=43"] })).toEqual(["o-2"]);
    expect(await listed(made, { idPrefix: "o-" })).toEqual(["o-2", "o-1"]);
    expect(await broker.call("reliable.get", { id: "o-1" })).toMatchObject({ keys: "order=42, customer=c-7" });
    // Of `callback` the context comes with the check, or with a failure.
    await until(
      () => listed(made, { requestID: "request-1" }),
      ids => ids.join() === "o-1"
    );
  });

  it("by what they died of, and sees the causes", async () => {
    const made = await world(name, {
      stock: ctx => fails(`order ${(ctx.params as { n: number }).n} has no stock`, "NO_STOCK"),
      mail: ctx => ((ctx.params as { n: number }).n === 2 ? fails("535 refused", "EAUTH") : undefined)
    });
    const { broker, emit } = made;
    for (const n of [1, 2, 3]) {
      await emit("order.created", { n }, { id: `o-${n}` });
      await reaches(broker, `o-${n}`, "dead");
    }
    const causes = (filter: object) => broker.call<CausesAnswer, object>("reliable.causes", filter);
    const { rows, messages } = await until(
      () => causes({}),
      ({ rows }) => rows.length === 2
    );
    expect(messages).toBe(3);
    expect(rows).toMatchObject([
      {
        ...{ count: 3, group: "stock", event: "order.created", cause: "handler", errorType: "NO_STOCK" },
        ...{ errorText: "order … has no stock", nodes: ["node-1"], sampleId: "o-3" }
      },
      { count: 1, group: "mail", errorType: "EAUTH", errorText: "… refused", sampleId: "o-2" }
    ]);
    expect((await causes({ group: "mail" })).rows).toHaveLength(1);
    expect((await causes({ group: "mail", status: "dead" })).rows).toHaveLength(1);
    for (const status of ["consumed", ["dead", "pending"]])
      expect(await errorOf(causes({ status }))).toMatchObject({
        ...{ type: "RELIABLE_BAD_OPTION", data: { option: "status" } }
      });
    expect(await listed(made, { errorType: "EAUTH" })).toEqual(["o-2"]);
    expect(await listed(made, { group: "mail", errorType: "NO_STOCK" })).toEqual([]);
    const [first] = rows;
    expect((await listed(made, { errorText: first?.errorText, group: "stock" })).sort()).toEqual(["o-1", "o-2", "o-3"]);
    const all = await broker.call<MessagePage, object>("reliable.list", { deadFromAt: 0 });
    expect(all.rows.map(({ deadAt }) => Date.parse(deadAt as string) <= Date.now())).toEqual([true, true, true]);
    // Of o-2 the second group may have failed after o-3.
    const [{ deadAt }] = all.rows;
    const since = all.rows.filter(row => (row.deadAt as string) >= (deadAt as string)).map(({ id }) => id);
    expect(["o-3", "o-3,o-2"]).toContain(since.join());
    expect(await listed(made, { deadFromAt: deadAt, deadToAt: "2100-01-01" })).toEqual(since);
    // An act goes by the same filter.
    const note = "mended";
    await broker.call("reliable.resolve", { errorType: "EAUTH", note });
    expect(await listed(made, { errorType: "NO_STOCK" })).toEqual(["o-3", "o-1"]);
    expect(await errorOf(broker.call("reliable.list", { errorType: "EAUTH", status: "resolved" }))).toMatchObject({
      type: "RELIABLE_BAD_OPTION",
      data: { option: "errorType" }
    });
  });
});
