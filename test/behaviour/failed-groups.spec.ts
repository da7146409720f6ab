import type { Context } from "moleculer";
import { describe, expect, it } from "vitest";
import { until } from "../support/brokers";
import { rowOf, storeOf } from "../support/runtime";
import { errorOf, story } from "../support/services";
import { STRATEGIES, world } from "../support/strategies";

const never = () => Promise.reject(Object.assign(new Error("no stock"), { retryable: false }));

describe.each(STRATEGIES)("one group fails for good while another still owes ($name)", ({ name }) => {
  /** `stock` refuses until it is mended; `mail` fails once, and then is away until it is let in. */
  async function shop() {
    const told: unknown[] = [];
    const state = { mended: false, mailed: 0 };
    let letIn: () => void = () => undefined;
    const gate = new Promise<void>(resolve => (letIn = resolve));
    const watch = { name: "watch", events: { "$reliable.dead": (ctx: Context) => void told.push(ctx.params) } };
    const made = await world(
      name,
      {
        stock: () => (state.mended ? undefined : never()),
        mail: () => (state.mailed++ ? gate : Promise.reject(new Error("mail is away")))
      },
      { options: { receiptTimeoutMs: 60_000, checkDelaysMs: [60_000, 70_000, 80_000] }, more: [watch] }
    );
    const error = await errorOf(made.emit("order.created", {}, { id: "m", waitFor: "consumed" }));
    const act = (action: string, params: object) => made.broker.call(`reliable.${action}`, params);
    const ends = (status: string) =>
      until(
        () => story(made.broker, "m"),
        row => row.status === status
      );
    return { ...made, told, state, letIn, error, act, ends };
  }

  const STOCK = {
    ...{ id: "m", event: "order.created", group: "stock", cause: "handler" },
    reason: "handler in group stock at attempt 1: no stock"
  };

  it("asks for a human at once; the other is tried on; a retry gives the failed one what it wants", async () => {
    const { broker, told, state, letIn, error, act, ends } = await shop();
    expect(error).toMatchObject({ type: "RELIABLE_DEAD", data: { id: "m", reason: STOCK.reason } });
    await until(
      async () => told,
      ({ length }) => length === 1
    );
    expect(told).toEqual([STOCK]);
    expect(await act("stats", {})).toMatchObject({ dead: 1 });
    expect(await act("list", { status: "dead" })).toMatchObject({
      rows: [{ id: "m", failed: "stock", waiting: "mail", reason: STOCK.reason }]
    });
    // The failure of the other one is tried again, though the message is dead.
    await until(
      async () => state.mailed,
      tries => tries === 2
    );
    const { groups: before } = await until(
      () => story(broker, "m"),
      ({ groups: rows }) => rows.some(({ group, reason }) => group === "mail" && reason !== undefined)
    );
    expect(before).toMatchObject([
      { group: "mail", state: "waiting", reason: "handler: Error: mail is away" },
      { group: "stock", state: "failed", attempts: 1, reason: "handler: Error: no stock" }
    ]);
    // It fails again: told once more.
    await act("retry", { id: "m", by: "ann" });
    await until(
      async () => told,
      ({ length }) => length === 2
    );
    expect(told[1]).toMatchObject({ id: "m", group: "stock", reason: "handler in group stock at attempt 2: no stock" });
    state.mended = true;
    await act("retry", { id: "m", by: "ann" });
    await until(
      () => rowOf(broker, "m"),
      ({ receipts }) => receipts.stock?.attempt === 3
    );
    letIn();
    const { timeline, groups } = await ends("consumed");
    expect(groups.map(({ group, state: is }) => [group, is]).sort()).toEqual([
      ["mail", "handled"],
      ["stock", "handled"]
    ]);
    const texts = timeline.map(({ what }) => what);
    expect(texts[0]).toMatch(/by shop for (stock, mail|mail, stock)$/);
    expect(texts.filter(text => /^(dead in|retry of) stock/.test(text))).toHaveLength(4);
    expect(told).toHaveLength(2);
  });

  it("a resolve is of that group alone, and the message never is consumed without it", async () => {
    const { broker, letIn, act, ends } = await shop();
    await act("resolve", { id: "m", note: "counted by hand", by: "ann" });
    expect(await rowOf(broker, "m")).toMatchObject({ waiting: ["mail"], failed: [], resolved: ["stock"] });
    letIn();
    const { groups } = await ends("resolved");
    expect(groups.map(({ group, state }) => [group, state]).sort()).toEqual([
      ["mail", "handled"],
      ["stock", "resolved"]
    ]);
  });

  it("nothing is discarded that others are waited for", async () => {
    const { broker, letIn, act, ends } = await shop();
    expect(await act("discard", { status: "dead", note: "a test", by: "ann" })).toMatchObject({
      matched: 0,
      waiting: 1
    });
    expect(await errorOf(act("discard", { id: "m", note: "a test" }))).toMatchObject({
      type: "RELIABLE_ILLEGAL_TRANSITION",
      data: { id: "m", waiting: ["mail"] }
    });
    letIn();
    await until(
      () => rowOf(broker, "m"),
      ({ waiting }) => waiting.length === 0
    );
    await ends("dead");
    expect(await act("discard", { status: "dead", note: "a test", by: "ann" })).toMatchObject({ done: 1 });
    expect(await storeOf(broker).messages.find(["m"])).toEqual([]);
  });
});
