import type { Context } from "moleculer";
import { describe, expect, it } from "vitest";
import type { CommitMessage } from "../../src/emit/emit-options";
import { until } from "../support/brokers";
import { rowOf } from "../support/runtime";
import { errorOf, reaches, story } from "../support/services";
import { asked, LADDER, STRATEGIES, type World, world } from "../support/strategies";

const source = { action: "asked.happened", params: { order: 1 } };

/** A commit that is under way until the test ends it: what the others see of a process that has died in it. */
function stuck() {
  let done: () => void = () => undefined;
  let fail: (_error: Error) => void = () => undefined;
  let begun: () => void = () => undefined;
  const started = new Promise<void>(resolve => (begun = resolve));
  const end = new Promise<void>((resolve, reject) => {
    done = resolve;
    return (fail = reject);
  });
  return {
    started,
    done,
    fail,
    commit: () => {
      begun();
      return end;
    }
  };
}

/** An intent that was never resolved, as a crash leaves it; ended with the test. */
async function crashed({ emit, broker }: World, options: object = {}, payload: unknown = { n: 1 }) {
  const { commit, fail } = stuck();
  const emitted = errorOf(emit("order.created", payload, { id: "order 1", commit, source, ...options }));
  return {
    broker,
    end: () => {
      fail(new Error("ended by the test"));
      return emitted;
    }
  };
}

const note = (broker: World["broker"], id: string) =>
  rowOf(broker, id).then(({ notes }) => notes.map(({ act, note }) => `${act}: ${note}`));

/** Intents: the same of both strategies. */
describe.each(STRATEGIES)("an intent of strategy $name", ({ name, knowsIds }) => {
  const groups = (seen: unknown[]) => ({ stock: (ctx: Context<never>) => void seen.push(ctx.params) });

  it("is followed by the business write, and that by the message", async () => {
    const seen: unknown[] = [];
    const { broker, emit } = await world(name, groups(seen), { more: [asked(() => null)] });
    const commit = async (message: CommitMessage) => {
      expect(message).toEqual({
        id: "order 1",
        event: "order.created",
        payload: { n: 1 },
        barrier: expect.any(Function)
      });
      // Nobody hears of it before it has happened.
      await new Promise(resolve => setImmediate(resolve));
      seen.push("written");
    };
    expect(await emit("order.created", { n: 1 }, { id: "order 1", commit, source, waitFor: "consumed" })).toEqual({
      id: "order 1",
      status: "consumed",
      groups: ["stock"]
    });
    expect(seen).toEqual(["written", { n: 1 }]);
    expect((await rowOf(broker, "order 1")).notes).toEqual([]);
  });

  it("is withdrawn when the business write fails, with its error for the caller, and nothing is sent", async () => {
    const seen: unknown[] = [];
    // Should the question be put all the same: it is the recorded withdrawal that counts. Before it is recorded, which
    // a busy machine may need longer for than for the first check, the source does not know.
    let withdrawn = false;
    const shop = asked(() => (withdrawn ? { n: 1 } : "unknown"));
    const { broker, emit } = await world(name, groups(seen), { more: [shop] });
    const failed = new Error("duplicate key");
    expect(
      await errorOf(emit("order.created", { n: 1 }, { id: "order 1", source, commit: () => Promise.reject(failed) }))
    ).toBe(failed);
    await until(
      () => story(broker, "order 1").catch(() => undefined),
      row => row?.status === "withdrawn"
    );
    withdrawn = true;
    const told = (await note(broker, "order 1")).filter(text => !text.startsWith("asked: "));
    expect(told).toEqual([expect.stringMatching(/^withdraw: commit failed/)]);
    await emit("order.created", { n: 2 }, { id: "later", waitFor: "consumed" });
    await until(
      () => story(broker, "later"),
      row => (row.payload as { n?: number } | null)?.n === 2
    );
    expect(await story(broker, "order 1")).toMatchObject({ status: "withdrawn" });
    expect(seen).toEqual([{ n: 2 }]);
  });

  it("that was withdrawn leaves its id free: the caller tries again with it", async () => {
    const seen: unknown[] = [];
    const { broker, emit } = await world(name, groups(seen), { more: [asked(() => null)] });
    const fail = () => Promise.reject(new Error("no connection"));
    for (const [id, options] of [
      ["again", { source, commit: () => undefined }],
      ["plain", {}]
    ] as const) {
      await errorOf(emit("order.created", { id }, { id, source, commit: fail }));
      await reaches(broker, id, "withdrawn");
      await emit("order.created", { id }, { id, ...options });
      const row = await reaches(broker, id, "consumed");
      expect(row).toMatchObject({ handled: "stock" });
    }
    expect(seen).toEqual([{ id: "again" }, { id: "plain" }]);
  });

  it("that failed leaves its id free at once, within the same millisecond too", async () => {
    const { broker, emit } = await world(name, groups([]), { more: [asked(() => null)] });
    const fail = () => Promise.reject(new Error("no connection"));
    // Alone, an emit and the next one are quicker than a millisecond now and then.
    for (const n of Array.from({ length: 20 }).keys()) {
      const id = `order ${n}`;
      await errorOf(emit("order.created", { id }, { id, source, commit: fail }));
      await emit("order.created", { id }, { id });
      await reaches(broker, id, "consumed");
    }
  });

  it("left by a crash after the business write is sent: the source has the payload", async () => {
    const seen: unknown[] = [];
    const questions: unknown[] = [];
    const made = await world(name, groups(seen), {
      more: [
        asked(params => {
          questions.push(params);
          return { n: "from the source" };
        })
      ]
    });
    const { broker, end } = await crashed(made);
    await reaches(broker, "order 1", "consumed");
    expect(seen).toEqual([{ n: "from the source" }]);
    expect(questions[0]).toEqual({ order: 1 });
    await end();
  });

  it("left by a crash before the business write is withdrawn, and recorded", async () => {
    const seen: unknown[] = [];
    const made = await world(name, groups(seen), { more: [asked(() => null)] });
    const { broker, end } = await crashed(made);
    await reaches(broker, "order 1", "withdrawn");
    expect(await note(broker, "order 1")).toEqual(["withdraw: 'shop' was asked: its business write has not happened"]);
    await end();
    expect(seen).toEqual([]);
    expect(await story(made.broker, "order 1")).toMatchObject({ status: "withdrawn" });
  });

  it("whose source cannot say yet is asked again, along the ladder", async () => {
    const seen: unknown[] = [];
    const times: number[] = [];
    const made = await world(name, groups(seen), {
      more: [
        asked(() => {
          times.push(performance.now());
          return times.length < 3 ? "unknown" : { n: 3 };
        })
      ]
    });
    const { broker, end } = await crashed(made);
    await reaches(broker, "order 1", "consumed");
    expect(seen).toEqual([{ n: 3 }]);
    const [first = 0, second = 0, third = 0] = times;
    expect(second - first).toBeGreaterThan((LADDER[1] as number) * 0.9);
    expect(third - second).toBeGreaterThan((LADDER[2] as number) * 0.9);
    await end();
  });

  it.each<[string, () => unknown, RegExp]>([
    ["that never can say", () => "unknown", /cannot say yet/],
    ["that throws", () => Promise.reject(new Error("orders are locked")), /orders are locked/],
    ["that throws what says nothing", () => Promise.reject(null), /^source/],
    ["that returns a function", () => ({ n: () => 1 }), /function/],
    ["that returns a BigInt", () => ({ n: 1n }), /bigint/],
    ["that returns a payload that is too large", () => "x".repeat(3000), /3002 bytes/]
  ])("with a source %s is dead at the limit, never withdrawn", async (_, answer, reason) => {
    const seen: unknown[] = [];
    let questions = 0;
    const made = await world(name, groups(seen), {
      more: [
        asked(() => {
          questions++;
          return answer();
        })
      ],
      options: { checkDelaysMs: [100, 150, 200], maxPayloadBytes: 2000 }
    });
    const { broker, end } = await crashed(made);
    const row = await reaches(broker, "order 1", "dead");
    expect(row.reason).toMatch(/^source: /);
    expect(row.reason).toMatch(reason);
    expect(questions).toBe(3);
    expect(seen).toEqual([]);
    await end();
    expect(await story(broker, "order 1")).toMatchObject({
      status: "dead",
      failed: "stock",
      payload: name === "outbox" ? { n: 1 } : expect.anything()
    });
  });

  it("with a source that does not exist is dead at the limit", async () => {
    const made = await world(name, groups([]), {
      options: { checkDelaysMs: [100, 150], sources: ["nobody.knows"] }
    });
    const { broker, end } = await crashed(made, { source: { action: "nobody.knows" } });
    expect((await reaches(broker, "order 1", "dead")).reason).toMatch(/^source: .*nobody\.knows/);
    await end();
  });

  it("that is dead is sent when a human says so", async () => {
    const seen: unknown[] = [];
    let answer: unknown = "unknown";
    const made = await world(name, groups(seen), {
      more: [asked(() => answer)],
      options: { checkDelaysMs: [100, 150] }
    });
    const { broker, end } = await crashed(made);
    await reaches(broker, "order 1", "dead");
    answer = { n: 1 };
    await broker.call("reliable.retry", { id: "order 1", note: "it did happen" });
    await reaches(broker, "order 1", "consumed");
    expect(seen).toEqual([{ n: 1 }]);
    await end();
  });

  it("whose business write outlasts the question is announced all the same: no fence, so the write is the truth", async () => {
    const seen: unknown[] = [];
    const { broker, emit } = await world(name, groups(seen), {
      more: [asked(() => null)],
      options: { checkDelaysMs: [100, 20_000] }
    });
    const { commit, started, done } = stuck();
    const emitted = emit("order.created", { n: 1 }, { id: "order 1", commit, source });
    await started;
    await reaches(broker, "order 1", "withdrawn");
    done();
    expect((await emitted).id).toBe("order 1");
    expect(await reaches(broker, "order 1", "consumed")).toMatchObject({ handled: "stock" });
    expect(seen).toEqual([{ n: 1 }]);
  });

  it(
    knowsIds
      ? "with a used id is refused before the business write"
      : "with a used id is the business store's to refuse; the groups handle it once",
    async () => {
      const seen: unknown[] = [];
      let writes = 0;
      const { broker, emit } = await world(name, groups(seen), { more: [asked(() => ({ n: 1 }))] });
      const options = { id: "order 1", source, commit: () => void writes++, waitFor: "consumed" as const };
      await emit("order.created", { n: 1 }, options);
      if (knowsIds)
        expect(await errorOf(emit("order.created", { n: 1 }, options))).toMatchObject({
          type: "RELIABLE_DUPLICATE_ID",
          data: { id: "order 1", status: "consumed" }
        });
      else
        expect(await emit("order.created", { n: 1 }, options)).toEqual({
          id: "order 1",
          status: "consumed",
          groups: ["stock"]
        });
      expect(writes).toBe(knowsIds ? 1 : 2);
      // The first one stays consumed, whatever becomes of the second.
      await errorOf(
        emit("order.created", { n: 1 }, { ...options, commit: () => Promise.reject(new Error("duplicate key")) })
      );
      await emit("order.created", { n: 2 }, { id: "later", waitFor: "consumed" });
      await until(
        () => story(broker, "later"),
        row => (row.payload as { n?: number } | null)?.n === 2
      );
      expect(await story(broker, "order 1")).toMatchObject({ status: "consumed" });
      expect(seen).toEqual([{ n: 1 }, { n: 2 }]);
    }
  );

  it("is closed by the receipts of a message whose sender died before it could say so", async () => {
    const seen: unknown[] = [];
    let open: () => void = () => undefined;
    const gate = new Promise<void>(resolve => (open = resolve));
    // The question comes while the handler is at work, and cannot be answered.
    const { broker, emit } = await world(
      name,
      {
        stock: ctx => {
          seen.push(ctx.params);
          return gate;
        }
      },
      { more: [asked(() => "unknown")], options: { checkDelaysMs: [100, 20_000] } }
    );
    await emit("order.created", { n: 1 }, { id: "order 1", commit: () => undefined, source });
    await until(
      () => story(broker, "order 1").catch(() => undefined),
      row => row !== undefined
    );
    open();
    expect(await reaches(broker, "order 1", "consumed")).toMatchObject({ handled: "stock", waiting: "" });
    expect(seen).toEqual([{ n: 1 }]);
  });
});
